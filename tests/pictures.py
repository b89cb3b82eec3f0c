"""Small test pictures, and the files that hold them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pillow_heif

PLAIN_FORMATS = ("PNG", "TIFF", "BMP", "PPM")  # every pixel comes back as it was
LOSSY_FORMATS = ("JPEG", "WEBP", "AVIF", "GIF", "HEIF")
FORMATS = (*PLAIN_FORMATS, *LOSSY_FORMATS)

QUARTERS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


def draw_quarters(width: int = 48, height: int = 32) -> np.ndarray:
    """Return red, green / blue, yellow quarters, which tell every turn and mirror image apart."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = QUARTERS[:2]
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = QUARTERS[2:]
    return image


def draw_noise(width: int = 30, height: int = 20) -> np.ndarray:
    """Return a picture in which every pixel differs."""
    return np.random.default_rng(8).integers(0, 256, (height, width, 3), np.uint8)


def encode(image: np.ndarray | PIL.Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file that holds the picture."""
    picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    file = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(file, format="HEIF", quality=90, **options)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


def orientation_tag(value: int) -> PIL.Image.Exif:
    """Return EXIF data that says how the camera was held, 1 to 8."""
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


# Which side of the upright picture the stored top row is, and which the stored left column (EXIF 2.32).
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def store_turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return how a camera stores `image` under this orientation, pixel by pixel."""
    height, width = image.shape[:2]
    sides = SIDES[orientation]
    shape = (width, height) if sides[0] in ("left", "right") else (height, width)
    stored = np.zeros((*shape, 3), np.uint8)
    for place in np.ndindex(shape):
        steps = dict(zip(sides, place, strict=True))  # from that side of the upright picture
        x = steps["left"] if "left" in steps else width - 1 - steps["right"]
        y = steps["top"] if "top" in steps else height - 1 - steps["bottom"]
        stored[place] = image[y, x]
    return stored


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG file of a hundred bytes whose header promises `width` times `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100))
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
