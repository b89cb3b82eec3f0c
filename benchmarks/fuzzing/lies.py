"""Pictures that lie: sizes, counts and offsets that are wrong just where a decoder believes them."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

from fuzzing.mutate import LARGE, NUMBERS, mutate
from fuzzing.seeds import Seed, make_exif, png_chunk

Lie: TypeAlias = Callable[[bytes, random.Random], bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FRAMES = re.compile(rb"\xff[\xc0-\xc2\xc4\xda\xdb]")  # the headers of a JPEG's frame, tables and scans
TAGS = (256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 330, 338, 339, 347)


def change(seed: Seed, seeds: list[Seed], rng: random.Random) -> bytes:
    """Return the picture of a case: a seed damaged anywhere, or with a lie that suits its format."""
    dice = rng.random()
    if dice < 0.002:
        return make_bomb(rng)
    if dice < 0.04 and seed.kind == "JPEG":
        return with_exif(seed.data, rng)
    if dice < 0.4 and seed.kind in LIES:
        return LIES[seed.kind](seed.data, rng)
    return mutate(seed.data, rng, rng.choice(seeds).data)


def number(rng: random.Random) -> int:
    """Return a number that is often wrong."""
    return rng.choice(NUMBERS + LARGE) if rng.random() < 0.7 else rng.randrange(20_000)


def lie_in_jpeg(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes of a frame's, a table's or a scan's header, or write such a part many times."""
    changed = bytearray(data)
    [start] = rng.choices([found.start() for found in FRAMES.finditer(data)] or [2])
    length = 2 + struct.unpack(">H", data[start + 2 : start + 4].rjust(2, b"\0"))[0]
    if rng.random() < 0.3:
        changed[start:start] = data[start : start + length] * rng.choice((1, 5, 150))
    else:
        at = start + 2 + rng.randrange(min(length, 18))
        changed[at : at + 2] = struct.pack(">H", number(rng) % 65_536)
    return bytes(changed)


def with_exif(data: bytes, rng: random.Random) -> bytes:
    """Give a JPEG EXIF data that is damaged."""
    exif = mutate(make_exif(rng.randrange(12)), rng, data)[:65_000]
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def lie_in_png(data: bytes, rng: random.Random) -> bytes:
    """Change, lose, double or mix up chunks, all with the checksum that fits."""
    chunks, at = [], len(SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    where = rng.randrange(len(chunks))
    kind, body = chunks[where]
    match rng.choice(("body", "size", "stream", "lose", "double", "mix")):
        case "size":
            sizes = struct.pack(">II", number(rng), rng.randrange(300))
            chunks[0] = (b"IHDR", sizes + rng.choice((chunks[0][1][8:], rng.randbytes(5))))
        case "stream" if kind == b"IDAT":
            chunks[where] = (kind, zlib.compress(rng.randbytes(rng.randrange(90)) * rng.randrange(1, 400)))
        case "lose":
            del chunks[where]
        case "double":
            chunks[where:where] = [(kind, body)] * rng.choice((1, 2, 300))
        case "mix":
            rng.shuffle(chunks)
        case _:
            chunks[where] = (kind, mutate(body, rng, data))
    return SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def lie_in_tiff(data: bytes, rng: random.Random) -> bytes:
    """Change tag, type, count or value of entries in the first folder, or where the next folder is."""
    order = "<" if data[:2] == b"II" else ">"
    start, count = first_folder(data, order)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = start + 2 + 12 * rng.randrange(max(count, 1))
        match rng.choice(("tag", "type", "count", "value", "next", "self")):
            case "tag":
                changed[at : at + 2] = struct.pack(f"{order}H", rng.choice(TAGS))
            case "type":
                changed[at + 2 : at + 4] = struct.pack(f"{order}H", rng.randrange(20))
            case "count":
                changed[at + 4 : at + 8] = struct.pack(f"{order}I", number(rng))
            case "value":
                changed[at + 8 : at + 12] = struct.pack(f"{order}I", number(rng))
            case "next":
                after = start + 2 + 12 * count
                changed[after : after + 4] = struct.pack(f"{order}I", rng.choice((start, number(rng))))
            case "self":
                changed[at + 8 : at + 12] = struct.pack(f"{order}I", start)
    return bytes(changed)


def first_folder(data: bytes, order: str) -> tuple[int, int]:
    """Return where the first folder of a TIFF is, and how many entries it has; of a BigTIFF roughly."""
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack(f"{order}{'Q' if big else 'I'}", data[8:16] if big else data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2].ljust(2, b"\0"))
    return start, count


def lie_in_text(data: bytes, rng: random.Random) -> bytes:
    """Put another number in the place of one in the text at the head of a PPM."""
    found = list(re.finditer(rb"-?[\d.]+", data[:40]))[1:]
    [place] = rng.choices(found)
    word = rng.choice((str(number(rng)), "-1", "0.5", "1e9", "nan", "9" * 30, "", "#", "\n\n", "\x00"))
    return data[: place.start()] + word.encode() + data[place.end() :]


def lie_in_boxes(data: bytes, rng: random.Random) -> bytes:
    """Change a size or a field in the boxes of AVIF and HEIC, or in the chunks of WebP."""
    names = list(re.finditer(rb"ispe|iloc|ipco|ipma|pixi|irot|imir|auxC|iinf|iref|hvcC|av1C|VP8|ANMF|EXIF|ICCP", data))
    if not names:
        return mutate(data, rng, data)
    at = rng.choice(names).start() + rng.choice((-4, 4, 8, 10, 12, 16))
    changed = bytearray(data)
    changed[at : at + 4] = struct.pack(rng.choice((">I", "<I")), number(rng))
    return bytes(changed)


def make_bomb(rng: random.Random) -> bytes:
    """Return a small file of a picture with up to 200 million pixels, all alike."""
    width = int(10 ** rng.uniform(2, 4.5))
    height = max(1, int(10 ** rng.uniform(5, 8.3)) // width)
    form, samples = rng.choice(((0, 1), (2, 3), (6, 4), (4, 2)))
    packer, left = zlib.compressobj(1), height * (1 + width * samples)
    body = b"".join(packer.compress(bytes(min(left - start, 1 << 20))) for start in range(0, left, 1 << 20))
    body += packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, form, 0, 0, 0)
    return SIGNATURE + b"".join(png_chunk(*chunk) for chunk in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")))


LIES: dict[str, Lie] = {
    "JPEG": lie_in_jpeg,
    "PNG": lie_in_png,
    "TIFF": lie_in_tiff,
    "PPM": lie_in_text,
    "WEBP": lie_in_boxes,
    "AVIF": lie_in_boxes,
    "HEIF": lie_in_boxes,
}
