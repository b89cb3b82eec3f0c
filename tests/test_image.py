"""Reading pictures: every format, mode and orientation, the limits, and everything that can be broken."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import (
    FORMATS,
    LOSSY_FORMATS,
    PLAIN_FORMATS,
    SIDES,
    draw_noise,
    draw_quarters,
    encode,
    orientation_tag,
    png_that_claims,
    store_turned,
)

import sameface.image
from sameface.errors import ImageError, ImageTooLargeError
from sameface.image import MAX_COMMENTS, MAX_SCANS, WEBP_PIXELS, read_image, register_heif
from sameface.picture_files import find_pictures, hash_image

CORNERS = ([4, 4, -5, -5], [4, -5, 4, -5])  # a pixel inside each quarter: rows, columns


def grey(levels: object, mode: str | None = None) -> PIL.Image.Image:
    """Return a grey picture of these levels."""
    picture = PIL.Image.fromarray(np.array(levels))
    return picture if mode is None else picture.convert(mode)


# Formats and sources


@pytest.mark.parametrize("kind", PLAIN_FORMATS)
def test_a_format_without_loss_gives_every_pixel_back(kind):
    image = draw_noise()
    assert read_image(encode(image, kind)).tolist() == image.tolist()


@pytest.mark.parametrize("kind", LOSSY_FORMATS)
def test_a_format_with_loss_gives_nearly_the_same_picture(kind):
    image = draw_quarters()
    read = read_image(encode(image, kind))
    assert (read.shape, read.dtype) == (image.shape, np.uint8)
    assert np.abs(read[CORNERS].astype(int) - image[CORNERS]).max() <= 12


def test_a_photograph_with_depth_data_is_a_picture():
    pair = encode(draw_quarters(), "MPO", save_all=True, append_images=[PIL.Image.new("RGB", (48, 32))])
    assert np.abs(read_image(pair)[CORNERS].astype(int) - draw_quarters()[CORNERS]).max() <= 12


def test_a_path_a_string_bytes_and_an_open_file_give_the_same_picture(tmp_path):
    image, path = draw_noise(), tmp_path / "noise.png"
    path.write_bytes(encode(image, "PNG"))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes())]
        assert all(read_image(source).tolist() == image.tolist() for source in sources)


def test_an_array_is_handed_back():
    image = draw_noise()
    assert read_image(image) is image


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 4), np.uint8), ValueError, r"image must have shape \('h', 'w', 3\), got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"got \(4, 4, 4\)"),
        (np.zeros((4, 4, 3)), TypeError, "image must be uint8, got float64"),
    ],
)
def test_an_array_of_another_kind_is_refused(array, error, message):
    with pytest.raises(error, match=message):
        read_image(array)


def test_an_open_file_is_left_where_it_was():
    file = io.BytesIO(b"before" + encode(draw_noise(), "PNG"))
    file.seek(6)
    assert read_image(file).tolist() == draw_noise().tolist()
    assert file.tell() == 6


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 95})],
)
def test_of_several_pictures_in_a_file_the_first_counts(kind, options):
    frames = [PIL.Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(read_image(data).astype(int) - [255, 0, 0]).max() <= 4


# Orientation


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", SIDES)
def test_every_orientation_is_turned_upright_pixel_by_pixel(kind, orientation):
    image = draw_noise()
    data = encode(store_turned(image, orientation), kind, exif=orientation_tag(orientation))
    assert read_image(data).tolist() == image.tolist()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", SIDES)
def test_every_orientation_is_turned_upright_in_photographs(kind, orientation):
    image = draw_quarters()
    stored = encode(store_turned(image, orientation), kind, exif=orientation_tag(orientation).tobytes())
    read = read_image(stored)
    assert read.shape == image.shape
    assert np.abs(read[CORNERS].astype(int) - image[CORNERS]).max() <= 12


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_counts_as_none(orientation):
    data = encode(draw_noise(), "PNG", exif=orientation_tag(orientation))
    assert read_image(data).tolist() == draw_noise().tolist()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\x40\0",
        b"Exif\0\0" + orientation_tag(6).tobytes()[6:16],
    ],
)
def test_broken_exif_data_counts_as_none(exif):
    read = read_image(encode(draw_quarters(), "JPEG", exif=exif))
    assert read.shape == draw_quarters().shape


def test_an_orientation_of_a_wrong_type_counts_as_none():
    exif = orientation_tag(6).tobytes().replace(b"\x12\x01\x03\x00", b"\x12\x01\x02\x00")
    exif = exif.replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02")
    assert read_image(encode(draw_quarters(), "JPEG", exif=exif)).shape == draw_quarters().shape


# Modes


LEVELS = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)
THREE = np.repeat(LEVELS[:, :, None], 3, axis=2).tolist()
BLACK_AND_WHITE = [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("kind", PLAIN_FORMATS)
def test_grey_becomes_three_equal_channels(kind):
    assert read_image(encode(grey(LEVELS), kind)).tolist() == THREE


@pytest.mark.parametrize("kind", PLAIN_FORMATS)
def test_one_bit_is_black_and_white(kind):
    assert read_image(encode(grey(np.array([[0, 255]], np.uint8), "1"), kind)).tolist() == BLACK_AND_WHITE


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_keeps_the_upper_8(kind):
    deep = grey(LEVELS.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert read_image(encode(deep, kind)).tolist() == THREE


def test_grey_of_16_bits_is_rounded():
    assert read_image(encode(grey(np.array([[128, 129]], np.uint16)), "PNG"))[0, :, 0].tolist() == [0, 1]


def test_grey_of_32_bits_is_read_as_16_and_cut():
    deep = grey(np.array([[-5, 0, 257, 65_535, 1_000_000]], np.int32))
    assert read_image(encode(deep, "TIFF"))[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_a_deep_grey_picture_is_turned_upright():
    deep = grey(np.array([[0, 65_535]], np.uint16))
    read = read_image(encode(deep, "PNG", exif=orientation_tag(3)))
    assert read[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0.5, 255], [0, 0, 255]),
        ([-1, 300, np.nan], [0, 255, 0]),
        ([np.inf, -np.inf, 7], [255, 0, 7]),
        ([-3e38, 0.5, 1], [0, 128, 255]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
def test_real_values_are_read_as_0_to_1_or_as_0_to_255(values, levels):
    data = encode(grey(np.array([values], np.float32)), "TIFF")
    assert read_image(data)[0, :, 0].tolist() == levels


def test_colours_of_16_bits_keep_the_upper_8():
    line = b"P6 2 1 65535\n" + np.array([[[0, 257, 32_896], [65_535, 65_279, 128]]], ">u2").tobytes()
    assert np.abs(read_image(line).astype(int) - [[[0, 1, 128], [255, 254, 0]]]).max() <= 1


def test_cmyk_becomes_rgb():
    data = encode(PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert np.abs(read_image(data).astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize(
    ("alpha", "level"),
    [(255, 100), (0, 255), (128, 177)],  # 128 of 255 is half: (100 * 128 + 255 * 127) / 255
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparent_pixels_lie_on_white(kind, mode, alpha, level):
    colour = (100, 100, 100, alpha) if mode == "RGBA" else (100, alpha)
    read = read_image(encode(PIL.Image.new(mode, (3, 2), colour), kind))
    assert np.abs(read.astype(int) - level).max() <= 1


def paletted() -> PIL.Image.Image:
    """Return red and blue pixels with a palette."""
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    return picture


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colours(kind):
    assert read_image(encode(paletted(), kind)).tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(kind):
    data = encode(paletted(), kind, transparency=1)
    assert read_image(data).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_half_transparent_palette_lies_on_white():
    data = encode(paletted(), "PNG", transparency=b"\xff\x80")
    assert read_image(data).tolist() == [[[255, 0, 0], [127, 127, 255]]]


def test_the_transparent_colour_of_a_picture_without_alpha_is_white():
    data = encode(draw_quarters(), "PNG", transparency=(200, 30, 30))
    assert read_image(data)[CORNERS].tolist()[:2] == [[255, 255, 255], [30, 200, 30]]


# Limits


def test_a_file_of_just_the_limit_is_read():
    data = encode(draw_noise(), "PNG")
    assert read_image(data, max_bytes=len(data)).shape == (20, 30, 3)


@pytest.mark.parametrize("wrap", [lambda path: path, Path.read_bytes, lambda path: io.BytesIO(path.read_bytes())])
def test_a_file_past_the_limit_is_refused(tmp_path, wrap):
    path = tmp_path / "noise.png"
    path.write_bytes(encode(draw_noise(), "PNG"))
    with pytest.raises(ImageTooLargeError, match=r"the limit is 100 \(max_bytes\)") as caught:
        read_image(wrap(path), max_bytes=100)
    assert (caught.value.unit, caught.value.limit) == ("bytes", 100)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
def test_a_device_without_end_is_refused():
    with pytest.raises(ImageTooLargeError, match="max_bytes"):
        read_image("/dev/zero", max_bytes=1_000)


def test_a_picture_of_just_the_limit_is_read():
    assert read_image(encode(draw_noise(), "PNG"), max_pixels=600).shape == (20, 30, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_past_the_limit_is_refused(kind):
    with pytest.raises(ImageTooLargeError, match=r"it has 600 pixels, the limit is 599 \(max_pixels\)"):
        read_image(encode(draw_noise(), kind), max_pixels=599)


@pytest.mark.parametrize(("width", "height"), [(12_000, 10_001), (20_000, 9_000), (2**31 - 1, 2**31 - 1)])
def test_a_header_that_promises_too_many_pixels_is_refused_before_anything_is_decoded(width, height):
    with pytest.raises(ImageTooLargeError, match=r"max_pixels") as caught:
        read_image(png_that_claims(width, height))
    assert (caught.value.size, caught.value.limit) == (width * height, 120_000_000)


def test_a_picture_of_a_telephone_with_108_million_pixels_is_within_the_limit():
    with pytest.raises(ImageError, match="truncated") as caught:  # only its pixels are missing
        read_image(png_that_claims(12_000, 9_000))
    assert not isinstance(caught.value, ImageTooLargeError)


COUNT_MEMORY = """
import sys
from pathlib import Path
from sameface.errors import ImageTooLargeError
from sameface.image import read_image
def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
before = peak()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the largest memory")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_a_picture_takes_the_memory_of_its_pixels_twice_and_no_more(tmp_path, mode):
    path = tmp_path / "large.png"
    PIL.Image.new(mode, (6_000, 4_000)).save(path, compress_level=1)
    code = COUNT_MEMORY + "read_image(sys.argv[1]); print(peak() - before)"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 9 * 6_000 * 4_000  # 4 in Pillow, 3 in the array, and the code that is loaded


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the largest memory")
def test_a_webp_that_takes_too_much_memory_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "large.webp"
    PIL.Image.new("L", (8_000, 6_251)).save(path, lossless=True, method=0, quality=0)
    code = (
        COUNT_MEMORY
        + """
try:
    read_image(sys.argv[1])
except ImageTooLargeError as error:
    print(error.size, error.limit, peak() - before)
"""
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    size, limit, taken = map(int, done.stdout.split())
    assert (size, limit) == (50_008_000, WEBP_PIXELS)
    assert taken < size


def test_a_picture_of_many_bands_is_the_same_as_of_one(monkeypatch):
    colours, levels = PIL.Image.fromarray(draw_noise()), draw_noise()[:, :, 0]
    deep = [grey(levels.astype(np.uint16) * 257), grey(levels.astype(np.float32))]
    pictures = [*map(colours.convert, ("RGB", "RGBA", "LA", "P", "L", "1")), *deep]
    data = [encode(picture, "TIFF" if picture.mode == "F" else "PNG") for picture in pictures]
    whole = [read_image(each).tolist() for each in data]
    monkeypatch.setattr(sameface.image, "BAND", 70)  # two lines and a bit
    assert [read_image(each).tolist() for each in data] == whole


def test_pillows_own_limit_stays_above_ours():
    with pytest.raises(ImageTooLargeError) as caught:
        read_image(png_that_claims(20_000, 9_000), max_pixels=10**12)
    assert caught.value.limit == 2 * PIL.Image.MAX_IMAGE_PIXELS


def test_a_picture_between_pillows_warning_and_its_limit_is_read_without_a_word(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 599)
    assert read_image(encode(draw_noise(), "PNG")).shape == (20, 30, 3)


@pytest.mark.parametrize(("scans", "read"), [(10, True), (MAX_SCANS, True), (MAX_SCANS + 1, False)])
def test_a_jpeg_of_too_many_scans_is_refused(scans: int, read: bool):
    jpeg = encode(draw_noise(64, 48), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    picture = jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]
    if read:
        assert read_image(picture).size
    else:
        with pytest.raises(ImageError, match=f"too long to decode: {scans} scans, the limit is {MAX_SCANS}"):
            read_image(picture)


@pytest.mark.parametrize("kind", ["P1", "P2", "P3"])
def test_a_plain_ppm_of_too_many_comments_is_refused(kind: str):
    head = f"{kind} 1 1 " + ("" if kind == "P1" else "1 ")
    for comments in (0, MAX_COMMENTS):
        assert read_image((head + "#\n" * comments + "0 0 0 ").encode()).size == 3
    with pytest.raises(ImageError, match="too long to decode: 1,001 comments, the limit is 1,000"):
        read_image((head + "#\n" * (MAX_COMMENTS + 1) + "0 0 0 ").encode())


def test_a_header_that_lies_within_the_limit_is_a_damaged_file():
    with pytest.raises(ImageError, match="damaged or truncated PNG file"):
        read_image(png_that_claims(100, 100))


# What is broken


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_an_error(kind, part):
    data = encode(draw_noise(60, 50), kind)
    with pytest.raises(ImageError, match="cannot read the picture: "):
        read_image(data[: int(part * len(data))])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1_000,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF",
        b"\xff\xd8\xff",
        encode(draw_noise(), "ICO"),
        encode(draw_noise(), "JPEG2000"),
    ],
    ids=["empty", "zeros", "postscript", "pdf", "svg", "gif head", "jpeg head", "icon", "jpeg 2000"],
)
def test_what_is_no_picture_of_our_formats_is_an_error(data):
    with pytest.raises(ImageError, match="cannot read the picture: "):
        read_image(data)


def test_an_error_names_the_whole_path_in_one_line(tmp_path):
    path = tmp_path / "broken.heic"
    path.write_bytes(encode(draw_noise(), "HEIF")[:-100])
    for source in (path, str(path)):
        with pytest.raises(ImageError) as caught:
            read_image(source)
        assert str(caught.value).startswith(f"cannot read {str(path)!r}: damaged or truncated HEIF file")
        assert "\n" not in str(caught.value)


def test_an_error_names_an_open_file(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with path.open("rb") as file, pytest.raises(ImageError, match=r"cannot read '.*empty\.jpg'"):
        read_image(file)


def test_an_error_of_a_file_without_a_name_says_the_picture(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file, pytest.raises(ImageError, match="the picture"):
        read_image(file)


@pytest.mark.parametrize(
    ("name", "reason"), [("gone.jpg", "no such file or directory"), (".", "is a directory"), ("a\0b", "not a path")]
)
def test_a_path_without_a_file_is_an_error_that_says_why(tmp_path, name, reason):
    for call in (read_image, hash_image):
        with pytest.raises(ImageError, match=reason):
            call(f"{tmp_path}/{name}")


def test_a_stream_that_cannot_be_read_twice_is_refused():
    reader, writer = os.pipe()
    os.write(writer, encode(draw_noise(), "PNG"))
    os.close(writer)
    with os.fdopen(reader, "rb") as file, pytest.raises(ImageError, match="give its bytes"):
        read_image(file)


def test_no_warning_of_pillow_gets_out(recwarn):
    with pytest.raises(ImageError):
        read_image(encode(draw_quarters(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0")[:80])
    read_image(encode(draw_quarters(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0"))
    assert list(recwarn) == []


@pytest.fixture
def without_heif(monkeypatch):
    """A Python where pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    register_heif.cache_clear()
    yield
    register_heif.cache_clear()


def test_heic_without_pillow_heif_says_what_to_install(without_heif, tmp_path):
    path = tmp_path / "phone.heic"
    path.write_bytes(encode(draw_noise(), "HEIF"))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = f"cannot read {str(path)!r}: HEIC pictures need pillow-heif: pip install 'sameface[heic]'"
    assert str(caught.value) == message


def test_avif_needs_no_pillow_heif_whatever_its_first_brand(without_heif):
    data = encode(draw_noise(), "AVIF")
    assert data[4:12] == b"ftypavif"
    assert b"avif" in data[12:40]
    assert read_image(data[:8] + b"mif1" + data[12:]).shape == (20, 30, 3)


SEEDS = {
    "JPEG": encode(draw_quarters(16, 12), "JPEG", exif=orientation_tag(6)),
    "PNG": encode(draw_quarters(16, 12), "PNG", exif=orientation_tag(6)),
    "WEBP": encode(draw_quarters(16, 12), "WEBP", exif=orientation_tag(6)),
    "TIFF": encode(draw_quarters(16, 12), "TIFF", exif=orientation_tag(6)),
    "GIF": encode(draw_quarters(16, 12), "GIF"),
}


@pytest.mark.parametrize("kind", SEEDS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_ends_in_anything_but_a_picture_or_an_error_of_ours(kind, data):
    damaged = bytearray(SEEDS[kind])
    places = st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=8)
    for place, value in data.draw(places):
        damaged[place] = value
    cut = data.draw(st.none() | st.integers(0, len(damaged)))
    try:
        read = read_image(bytes(damaged[:cut]), max_pixels=1_000_000)
    except ImageError:
        return
    assert (read.ndim, read.shape[2], read.dtype) == (3, 3, np.uint8)


# Hashes and folders


def test_a_hash_is_that_of_the_bytes_whatever_the_source(tmp_path):
    data = encode(draw_noise(), "PNG")
    path = tmp_path / "noise.png"
    path.write_bytes(data)
    hashes = {hash_image(source) for source in (path, str(path), data, io.BytesIO(data))}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64


def test_another_byte_is_another_hash():
    data = encode(draw_noise(), "PNG")
    assert hash_image(data) != hash_image(data + b"\0")


def test_the_hash_of_an_array_knows_its_shape_and_its_pixels():
    image = draw_noise()
    other = image.copy()
    other[0, 0, 0] ^= 1
    different = [image, other, image.reshape(10, 60, 3)]
    assert len({hash_image(each) for each in different}) == 3
    assert hash_image(image) == hash_image(np.asfortranarray(image)) == hash_image(image.copy())


def test_pictures_are_found_in_a_fixed_order_below_a_folder(tmp_path):
    names = ["b.JPG", "a.png", "c/z.Heic", "c/d/e.webp", "B/one.tiff", "a/x.mpo"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["a.png", "b.JPG", "B/one.tiff", "a/x.mpo", "c/z.Heic", "c/d/e.webp"]


@pytest.mark.parametrize("name", [".hidden.jpg", ".folder/a.jpg", "a.txt", "jpg", "a.jpg.part", "a.pdf", "a"])
def test_hidden_files_and_other_files_are_left_out(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert list(find_pictures(str(tmp_path))) == []
