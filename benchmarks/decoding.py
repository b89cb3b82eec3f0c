"""Decode the largest pictures within the limits of the service, and those that were made to decode slowly.

    python benchmarks/decoding.py

Each is made here: 20 MB or 50 million pixels of the dearest that a format has. Seconds are of one core. Exit
code 1 if one takes longer than a picture may wait for its turn (`ServiceConfig.wait_seconds`).
"""

from __future__ import annotations

import io
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image

from report import Target, print_table, print_targets
from sameface.errors import ImageError
from sameface.image import MAX_SCANS, read_image
from sameface.service.config import ServiceConfig

LIMITS = ServiceConfig()
SIDE = int(LIMITS.picture_pixels**0.5) // 16 * 16
ROOM = LIMITS.picture_bytes - 100_000  # for what is repeated
TILE = 16


def stripes(size: int = SIDE) -> PIL.Image.Image:
    """Return a picture with some detail."""
    rows = np.random.default_rng(0).integers(0, 256, (size, 1, 3), np.uint8)
    return PIL.Image.fromarray(np.repeat(rows, size, axis=1))


def save(picture: PIL.Image.Image, kind: str, **choices: Any) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **choices)
    return file.getvalue()


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """Return a progressive JPEG with its last scan again and again, until it has so many."""
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def tiled_tiff(tile: bytes) -> bytes:
    """Return a TIFF all of whose tiles are one and the same JPEG."""
    count = (SIDE // TILE) ** 2
    places, sizes = struct.pack("<I", 8) * count, struct.pack("<I", len(tile)) * count
    places_at = 8 + len(tile) + len(tile) % 2
    depths_at = places_at + len(places) + len(sizes)
    fields = [
        (256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 3, depths_at), (259, 3, 1, 7), (262, 3, 1, 6),
        (277, 3, 1, 3), (322, 4, 1, TILE), (323, 4, 1, TILE), (324, 4, count, places_at),
        (325, 4, count, places_at + len(places)),
    ]  # fmt: skip
    listed = b"".join(struct.pack("<HHII", *field) for field in fields)
    body = tile + b"\0" * (len(tile) % 2) + places + sizes + struct.pack("<4H", 8, 8, 8, 0)
    head = b"II*\0" + struct.pack("<I", depths_at + 8)
    return head + body + struct.pack("<H", len(fields)) + listed + bytes(4)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pictures() -> Iterator[tuple[str, bytes]]:
    """Yield pictures, with what they are."""
    flat, detailed = PIL.Image.new("RGB", (SIDE, SIDE), "grey"), stripes()
    tiny = save(PIL.Image.new("RGB", (TILE, TILE)), "JPEG", progressive=True)
    small = save(PIL.Image.new("RGB", (TILE, TILE)), "PNG")
    yield "JPEG", save(detailed, "JPEG", quality=60)
    yield "JPEG, progressive", save(detailed, "JPEG", quality=60, progressive=True)
    yield "WebP", save(detailed, "WEBP", quality=50, method=0)
    yield "AVIF", save(detailed, "AVIF", quality=50, speed=10)
    yield "PNG", save(detailed, "PNG")
    yield f"JPEG of {MAX_SCANS} scans", with_scans(save(flat, "JPEG", progressive=True), MAX_SCANS)
    yield f"JPEG of {MAX_SCANS + 1} scans", with_scans(save(flat, "JPEG", progressive=True), MAX_SCANS + 1)
    yield "JPEG of empty markers", tiny[:2] + b"\xff\xe5\0\2" * (ROOM // 4) + tiny[2:]
    yield "JPEG of filling bytes", tiny[:2] + b"\xff" * ROOM + tiny[2:]
    yield "PNG of empty chunks", small[:33] + png_chunk(b"abCd", b"") * (ROOM // 12) + small[33:]
    yield "TIFF of JPEG tiles, 95 scans", tiled_tiff(with_scans(tiny, 95))
    yield "PPM of comments", b"P3 9 9 255\n" + b"#\n" * (ROOM // 2)
    yield "PPM of 16 bits", b"P6 1800 1800 65535\n" + bytes(1800 * 1800 * 6)
    yield "BMP of short runs", bmp_of_runs(4000, ROOM // 8000)


def bmp_of_runs(width: int, height: int) -> bytes:
    """Return a BMP in which every pixel is a run of its own."""
    body = b"\1\1" * (width * height) + b"\0\1"
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + sizes + bytes(1024) + body


def measure(data: bytes) -> tuple[float, str]:
    """Return the seconds that a picture takes, and what came of it."""
    begun = time.thread_time()
    try:
        height, width = read_image(data, max_bytes=LIMITS.picture_bytes, max_pixels=LIMITS.picture_pixels).shape[:2]
    except ImageError as error:
        return time.thread_time() - begun, str(error).partition(": ")[2][:60]
    return time.thread_time() - begun, f"{width} x {height}"


def main() -> int:
    """Print the table."""
    rows, slowest = [], 0.0
    for name, data in pictures():
        seconds, outcome = measure(data)
        slowest = max(slowest, seconds)
        rows.append([name, f"{len(data) / 1e6:.1f}", f"{seconds:.1f}", outcome])
    print_table(["picture", "MB", "seconds", "becomes"], rows)
    print()
    return print_targets([Target("seconds of the slowest picture", slowest, LIMITS.wait_seconds)])


if __name__ == "__main__":
    sys.exit(main())
