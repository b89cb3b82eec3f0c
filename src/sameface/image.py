"""Decode a picture into upright RGB, within limits."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.errors import ImageError, ImageTooLargeError
from sameface.picture_files import MAX_BYTES, ImageSource, name_of, read_bytes, resolve_source

MAX_PIXELS = 120_000_000  # phones take pictures of 108 million; decoding needs 7 to 10 bytes per pixel
WEBP_PIXELS = 50_000_000  # decoding needs 16, and no camera writes WebP
BAND = 1_000_000  # pixels converted at a time

# Parts that can make decoding take hours; benchmarks/decoding.py has the rest.
MAX_SCANS = 100  # of a JPEG: 20 MB hold 200,000, each of every pixel; libtiff has the same limit
MAX_COMMENTS = 1000  # of a PPM in plain text: each copies what follows it

# Picture formats only: no PostScript, no fonts, nothing that starts another program. MPO opens as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")

# Pillow's decoders raise all of these on a damaged file.
DECODER_ERRORS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, PIL.Image.DecompressionBombError, struct.error),
)


def read_image(
    source: ImageSource,
    *,
    channels: Literal["rgb", "bgr"] = "rgb",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Read a picture and turn it upright.

    Pillow reads JPEG, PNG, WebP, BMP, TIFF, GIF, PPM and AVIF; pillow-heif, if installed, reads HEIC. The
    orientation tag is applied. Grey, palette, 16-bit and CMYK pictures become RGB; transparent pixels become
    white; of an animation the first frame counts. Colour profiles are ignored.

    Args:
        source: A path, the bytes of a file, an open binary file, a string `data:image/...;base64,`, an array
            `(h, w, 3) uint8`, a PIL image, or a torch tensor `(3, h, w)` or `(h, w, 3)`, uint8 or 0 to 1.
        channels: The order of an array's channels: `bgr` as OpenCV has it.
        max_bytes: The largest file to read.
        max_pixels: The largest picture to decode, width times height. Pillow's limit of 179 million stays, and
            50 million for WebP.

    Returns:
        `(h, w, 3) uint8` RGB.

    Raises:
        ImageError: No picture, a damaged one, or one made to take hours; it names the file.
        ImageTooLargeError: Over one of the two limits; nothing was decoded.
        TypeError, ValueError: Another type, or an array or tensor of another dtype or shape; it says how.
    """
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"channels must be 'rgb' or 'bgr', got {channels!r}")
    resolved = resolve_source(source)
    if channels == "bgr" and not isinstance(source, np.ndarray):
        raise ValueError(f"channels is for arrays, got {type(source).__name__}, which says its channels itself")
    if isinstance(resolved, np.ndarray):
        return np.ascontiguousarray(resolved[:, :, ::-1]) if channels == "bgr" else resolved
    name = name_of(resolved)
    data = read_bytes(resolved, name, max_bytes)
    with warnings.catch_warnings():
        # Errors replace the warnings of Pillow that matter.
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        with open_picture(data, name, max_pixels) as picture:
            return decode_picture(picture, name)


def open_picture(data: bytes, name: str, max_pixels: int) -> PIL.Image.Image:
    """Open a picture without decoding it, and check its size."""
    heic = is_heic(data)
    if heic and not register_heif():
        raise ImageError(name, "HEIC pictures need pillow-heif: pip install 'sameface[heic]'")
    check_parts(data, name)
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=(*FORMATS, "HEIF") if heic else FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise ImageError(name, "not a picture in a format that sameface reads") from error
    except PIL.Image.DecompressionBombError as error:
        size, limit = map(int, re.findall(r"\d+", str(error))[:2])
        raise ImageTooLargeError(name, "pixels", size, min(limit, max_pixels)) from error
    except (*DECODER_ERRORS, MemoryError) as error:
        raise ImageError(name, decoding_reason(error, "damaged file")) from error
    pixels = picture.width * picture.height
    most = min(max_pixels, WEBP_PIXELS) if picture.format == "WEBP" else max_pixels
    if pixels > most:
        raise ImageTooLargeError(name, "pixels", pixels, most)
    return picture


def check_parts(data: bytes, name: str) -> None:
    """Refuse files with more parts than any program writes, if each part costs time for every pixel."""
    scans = data.count(b"\xff\xda") if data.startswith(b"\xff\xd8") else 0
    if scans > MAX_SCANS:
        reason = f"it takes too long to decode: {scans:,} scans, the limit is {MAX_SCANS}"
        raise ImageError(name, reason)
    comments = data.count(b"#") if data[:2] in (b"P1", b"P2", b"P3") else 0
    if comments > MAX_COMMENTS:
        reason = f"it takes too long to decode: {comments:,} comments, the limit is {MAX_COMMENTS:,}"
        raise ImageError(name, reason)


def decode_picture(picture: PIL.Image.Image, name: str) -> Image:
    """Return the upright pixels of an opened picture, `(h, w, 3) uint8` RGB."""
    try:
        picture.load()
        upright(picture)
        return to_rgb(picture)
    except (*DECODER_ERRORS, MemoryError) as error:
        raise ImageError(name, decoding_reason(error, f"damaged or truncated {picture.format} file")) from error


def decoding_reason(error: Exception, fault: str) -> str:
    """Return why a picture cannot be decoded: too little memory, or else `fault`."""
    message = " ".join(str(error).split())
    return "not enough memory to decode it" if is_shortage(error) else f"{fault} ({message})"


def is_shortage(error: Exception) -> bool:
    """Return whether memory ran out; most decoders in C say so in words only."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def is_heic(data: bytes) -> bool:
    """Return whether these bytes begin like a HEIC file; AVIF, which Pillow reads, begins alike."""
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS and b"avif" not in data[8:64]


@functools.cache
def register_heif() -> bool:
    """Register pillow-heif with Pillow; return False if it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def upright(picture: PIL.Image.Image) -> None:
    """Apply the orientation tag; a damaged tag counts as none."""
    with contextlib.suppress(*DECODER_ERRORS):
        PIL.ImageOps.exif_transpose(picture, in_place=True)


def to_rgb(picture: PIL.Image.Image) -> Image:
    """Return the pixels of any mode as `(h, w, 3) uint8` RGB, converted band by band to save memory."""
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    gain = find_gain(picture)
    for top, band in cut_bands(picture):
        pixels = flatten(band) if gain is None else deep_grey_to_rgb(band, gain)
        image[top : top + band.height] = pixels
    return image


def cut_bands(picture: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    """Yield the bands of a picture from top to bottom, each with its first line."""
    lines = max(1, BAND // max(1, picture.width))
    for top in range(0, picture.height, lines):
        yield top, picture.crop((0, top, picture.width, min(top + lines, picture.height)))


def flatten(band: PIL.Image.Image) -> Image:
    """Return pixels of up to 8 bits as RGB, on white."""
    if band.has_transparency_data:
        ground = PIL.Image.new("RGBA", band.size, "white")
        band = PIL.Image.alpha_composite(ground, band.convert("RGBA"))
    return np.asarray(band.convert("RGB"))


def find_gain(picture: PIL.Image.Image) -> float | None:
    """Return the factor that scales grey values of more than 8 bits to 0 to 255; None for other pictures.

    Integers have 16 bits; floats run from 0 to 1, or from 0 to 255 if any is above 1.
    """
    if picture.mode.startswith("I"):
        return 1 / 257
    if picture.mode != "F":
        return None
    return 1 if any(deep_values(band).max(initial=0) > 1 for _, band in cut_bands(picture)) else 255


def deep_values(band: PIL.Image.Image) -> NDArray[np.float32]:
    """Return grey values, 0 to 65,535; NaN becomes 0."""
    return np.clip(np.nan_to_num(np.asarray(band).astype(np.float32)), 0, 65_535)


def deep_grey_to_rgb(band: PIL.Image.Image, gain: float) -> Image:
    """Return grey pixels of more than 8 bits as RGB."""
    grey = np.clip(np.rint(deep_values(band) * np.float32(gain)), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
