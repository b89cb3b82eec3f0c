"""Pictures to start from: the sample photographs, small, in every format and mode that can be written."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms

from sameface.image import register_heif

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
LONGER = 128  # pixels of a photograph: large enough for a face, small enough for many

SAVED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "JPEG": [
        ("RGB", {"quality": 80}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:1:1", "restart_marker_blocks": 4, "comment": b"a comment"}),
        ("L", {"optimize": True}),
        ("CMYK", {}),
    ],
    "PNG": [
        ("RGB", {"compress_level": 1}),
        ("RGBA", {}),
        ("LA", {}),
        ("L", {"transparency": 7}),
        ("P", {"transparency": b"\x00\x80\xff"}),
        ("1", {}),
        ("I;16", {}),
    ],
    "GIF": [("P", {"transparency": 3}), ("P", {"interlace": False, "comment": b"a comment"})],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGBA", {"quality": 30})],
    "TIFF": [
        ("RGB", {}),
        ("RGB", {"compression": "tiff_lzw"}),
        ("RGB", {"compression": "tiff_adobe_deflate"}),
        ("RGB", {"compression": "jpeg"}),
        ("RGB", {"compression": "packbits", "big_tiff": True}),
        ("1", {"compression": "group4"}),
        ("1", {"compression": "group3"}),
        ("CMYK", {}),
        ("LAB", {}),
        ("I;16", {}),
        ("I", {}),
        ("F", {}),
        ("P", {}),
    ],
    "BMP": [("RGB", {}), ("RGBA", {}), ("P", {}), ("1", {}), ("L", {})],
    "PPM": [("RGB", {}), ("L", {}), ("1", {}), ("I;16", {}), ("F", {})],
    "AVIF": [("RGB", {"speed": 10}), ("RGBA", {"speed": 10})],
    "HEIF": [("RGB", {}), ("RGBA", {}), ("L", {})],
}
ANIMATED = ("GIF", "PNG", "TIFF", "WEBP", "AVIF", "MPO")
WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
SHAPES = ((1, 1), (1, 300), (300, 1), (2, 7))


@dataclass(frozen=True, slots=True)
class Seed:
    """What a case is made from.

    Attributes:
        kind: The format, in Pillow's words.
        data: The bytes of a file.
    """

    kind: str
    data: bytes


def make_seeds() -> list[Seed]:
    """Return the same pictures every time, in a fixed order."""
    photos = [shrunk(path) for path in sorted(SAMPLES.glob("*.jpg"))]
    return [*make_modes(photos), *make_described(photos), *make_animated(photos), *make_odd(photos[0])]


def shrunk(path: Path) -> PIL.Image.Image:
    """Return a sample photograph, small."""
    photo = PIL.Image.open(path)
    photo.thumbnail((LONGER, LONGER))
    return photo


def make_modes(photos: list[PIL.Image.Image]) -> Iterator[Seed]:
    """Yield a photograph in every mode of every format."""
    ways = [(kind, mode, options) for kind, ways in SAVED.items() for mode, options in ways]
    for number, (kind, mode, options) in enumerate(ways):
        yield Seed(kind, encode(convert(photos[number % len(photos)], mode), kind, **options))


def make_described(photos: list[PIL.Image.Image]) -> Iterator[Seed]:
    """Yield photographs with an orientation, a place and a thumbnail in EXIF, and with a colour profile."""
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for number, kind in enumerate(WITH_EXIF):
        exif = make_exif(1 + number)
        yield Seed(kind, encode(photos[number % len(photos)], kind, exif=exif, icc_profile=profile))


def make_exif(orientation: int) -> bytes:
    """Return EXIF data with entries of many types and a folder of entries inside another."""
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x927C] = orientation, "a maker", 72.0, b"note" * 20
    exif.get_ifd(0x8769)[0x9000] = b"0232"
    exif.get_ifd(0x8825)[0x0002] = (48.0, 51.0, 29.6)
    return exif.tobytes()


def make_animated(photos: list[PIL.Image.Image]) -> Iterator[Seed]:
    """Yield all photographs in one file, one after the other."""
    frames = [photo.convert("RGB").resize((64, 80)) for photo in photos]
    for kind in ANIMATED:
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        yield Seed("JPEG" if kind == "MPO" else kind, data)


def make_odd(photo: PIL.Image.Image) -> Iterator[Seed]:
    """Yield pictures of one line, text files of numbers, and structures that Pillow does not write."""
    for kind in SAVED:
        for shape in SHAPES:
            yield Seed(kind, encode(photo.convert("RGB").resize(shape), kind))
    levels = " ".join(map(str, np.asarray(photo.convert("L").resize((16, 16))).ravel()))
    yield Seed("PPM", f"P2 # grey\n16 16\n255\n{levels}\n".encode())
    yield Seed("PPM", f"P3\n4 4 255\n{' '.join(levels.split()[:48])}\n".encode())
    yield Seed("PPM", b"P1\n8 8\n" + b"10 01 " * 16)
    yield Seed("BMP", make_rle_bmp())
    yield Seed("TIFF", make_nested_tiff())
    yield Seed("PNG", make_interlaced_png())


def encode(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a file that holds the picture."""
    register_heif()
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def convert(photo: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """Return a photograph in another mode; half of one with alpha is transparent."""
    if mode == "LAB":
        srgb, lab = PIL.ImageCms.createProfile("sRGB"), PIL.ImageCms.createProfile("LAB")
        changed = PIL.ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")
        assert changed is not None
        return changed
    if mode == "I;16":
        return PIL.Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    picture = photo.convert(mode)
    if mode.endswith("A"):
        picture.putalpha(PIL.Image.linear_gradient("L").resize(photo.size))
    return picture


def make_rle_bmp() -> bytes:
    """Return a BMP whose lines are runs."""
    lines = (b"\x10\x07" + b"\x00\x04\x01\x02\x03\x04" + b"\x0c\x09" + b"\x00\x00") * 31 + b"\x20\x01\x00\x01"
    palette = bytes(range(256)) * 4
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(lines), 0, 0, start)
    size = struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, 8, 1, len(lines), 2835, 2835, 256, 256)
    return head + size + palette + lines


def make_nested_tiff() -> bytes:
    """Return a TIFF whose folders of entries hold each other: its SubIFD and EXIF are the page itself."""
    entries = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 200), (278, 4), (279, 16)]
    packed = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries]
    nested = [struct.pack("<HHII", tag, 4, 1, offset) for tag, offset in ((330, 8), (34665, 8), (34853, 8))]
    page = struct.pack("<H", len(packed) + len(nested)) + b"".join(packed + nested) + struct.pack("<I", 8)
    return (b"II*\x00" + struct.pack("<I", 8) + page).ljust(200, b"\0") + bytes(range(16))


def make_interlaced_png() -> bytes:
    """Return a PNG whose lines come in seven passes."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # width and height of each, of 8 by 8
    lines = b"".join((b"\x00" + bytes(range(3 * width))) * height for width, height in passes)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
