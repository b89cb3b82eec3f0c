"""Damage to the bytes of a file, at random but the same for the same random numbers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import TypeAlias

Edit: TypeAlias = Callable[[bytearray, random.Random], None]

HEAD = 160  # bytes in which most formats keep their sizes and counts
NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4095, 32_767, 32_768, 65_535, 65_536, 10_001)
LARGE = (1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 100_000_000, 40_000, 0x01000100)


def mutate(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Return `data` with one to five edits.

    Args:
        data: A file.
        rng: Decides everything.
        other: A file of which a part may be put in.
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        rng.choice(EDITS)(changed, rng)
    if rng.random() < 0.02:
        nest(changed, rng)
    if rng.random() < 0.05:
        splice(changed, rng, other)
    return bytes(changed)


def place(data: bytearray, rng: random.Random) -> int:
    """Return a position, every other time near the beginning."""
    end = max(len(data), 1)
    return rng.randrange(min(HEAD, end) if rng.random() < 0.5 else end)


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Flip one to eight bits."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[place(data, rng)] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, rng: random.Random) -> None:
    """Put noise, or one value again and again, in the place of up to 16 bytes."""
    start, length = place(data, rng), rng.randint(1, 16)
    noise = rng.randbytes(length) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 128))]) * length
    data[start : start + length] = noise


def set_number(data: bytearray, rng: random.Random) -> None:
    """Put a number that is often wrong in the place of another: a size, a count or an offset."""
    start, value = place(data, rng), rng.choice(NUMBERS + LARGE)
    form = rng.choice((">H", "<H", ">I", "<I", ">I", "<I", ">Q", "<Q"))
    size = struct.calcsize(form)
    data[start : start + size] = struct.pack(form, value % (1 << 8 * size))


def truncate(data: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del data[rng.randrange(len(data) + 1) :]


def delete(data: bytearray, rng: random.Random) -> None:
    """Take a block out."""
    start = place(data, rng)
    del data[start : start + rng.choice((1, 2, 4, 64, 1024))]


def insert(data: bytearray, rng: random.Random) -> None:
    """Put noise in between."""
    start = place(data, rng)
    data[start:start] = rng.randbytes(rng.choice((1, 2, 4, 64, 1024)))


def repeat(data: bytearray, rng: random.Random) -> None:
    """Put a block there twice or many times."""
    start, length = place(data, rng), rng.choice((1, 8, 64, 512))
    data[start:start] = data[start : start + length] * rng.choice((1, 1, 2, 30))


def swap(data: bytearray, rng: random.Random) -> None:
    """Let two blocks change places."""
    a, b, length = place(data, rng), place(data, rng), rng.choice((1, 4, 32))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]


def nest(data: bytearray, rng: random.Random) -> None:
    """Open very many brackets, of which text is made that holds text."""
    start = place(data, rng)
    data[start:start] = rng.choice((b"[", b"(", b"{", b'{"a":', b"a.")) * 20_000


def splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    """Go on as another file from some place on."""
    data[place(data, rng) :] = other[rng.randrange(len(other) + 1) :]


EDITS: tuple[Edit, ...] = (
    flip_bits,
    flip_bits,
    set_bytes,
    set_number,
    set_number,
    truncate,
    delete,
    insert,
    repeat,
    swap,
)
