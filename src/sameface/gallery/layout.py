"""What stands where in an index file.

A header, the coder on the pages behind it, then blocks of `BLOCK` faces: their numbers, 8 bytes each and
ascending, then their codes, `TILE` faces in a tile. The header says how many faces count, and which change of
the gallery was the last that is in here.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass
from typing import Self, TypeAlias

import numpy as np

from sameface.gallery.codes import EXTRA, TILE, Coder, Errors, Frame

MAGIC = b"sameface codes 2"
BLOCK = 1 << 17  # faces
NUMBER = 8  # bytes
PAGE = 4096
FACTS = struct.Struct("<16s32sIIqqQQddd")  # the header
STEPS = struct.Struct("<dddd")  # of the coder, before its frame
SUM = struct.Struct("<I")

Cursor: TypeAlias = tuple[int, int]  # the number of a change of the gallery, and its stamp


class UnusableIndexError(Exception):
    """The file is not there, not a whole index, or not of this gallery any more: make it anew."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an index file says of itself.

    Attributes:
        signature: Which pipeline made the rows.
        width: How many numbers a row has.
        axes: How many axes its coder has.
        cursor: The last change that is in here.
        count: How many faces there are, erased ones too.
        erased: How many of them are erased.
        errors: How wrong the codes are.
    """

    signature: bytes
    width: int
    axes: int
    cursor: Cursor
    count: int
    erased: int
    errors: Errors

    @property
    def coder_size(self) -> int:
        """How many bytes the coder has."""
        return STEPS.size + 4 * self.width * (1 + self.axes) + SUM.size

    @property
    def size(self) -> int:
        """Where the first block begins; the coder stands on the pages behind the first."""
        return PAGE + -(-self.coder_size // PAGE) * PAGE

    @property
    def tile_size(self) -> int:
        """How many bytes a tile has."""
        return TILE * (self.axes + EXTRA)

    @property
    def block_size(self) -> int:
        """How many bytes a block has."""
        return BLOCK * NUMBER + BLOCK // TILE * self.tile_size

    @property
    def end(self) -> int:
        """Where the last block ends."""
        return self.size + -(-self.count // BLOCK) * self.block_size

    def pack(self) -> bytes:
        """Return the header as bytes, with a check sum."""
        shape, counts = (self.width, self.axes), (self.count, self.erased)
        facts = FACTS.pack(MAGIC, self.signature, *shape, *self.cursor, *counts, *astuple(self.errors))
        return facts + SUM.pack(zlib.crc32(facts))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a header from the beginning of a file.

        Raises:
            UnusableIndexError: It is none.
        """
        facts = checked(data[: FACTS.size + SUM.size])
        if len(facts) != FACTS.size or not facts.startswith(MAGIC):
            raise UnusableIndexError
        _, signature, width, axes, change, stamp, count, erased, *errors = FACTS.unpack(facts)
        return cls(signature, width, axes, (change, stamp), count, erased, Errors(*errors))


def pack_coder(coder: Coder) -> bytes:
    """Return a coder as bytes, with a check sum."""
    arrays = (coder.frame.center, coder.frame.axes)
    data = STEPS.pack(*coder.steps.tolist()) + b"".join(each.astype("<f4").tobytes() for each in arrays)
    return data + SUM.pack(zlib.crc32(data))


def parse_coder(data: bytes, header: Header) -> Coder:
    """Read the coder of a file.

    Raises:
        UnusableIndexError: It is none.
    """
    numbers = np.frombuffer(checked(data), "<f4", offset=STEPS.size).astype(np.float32)
    center, axes = numbers[: header.width], numbers[header.width :].reshape(header.axes, header.width)
    return Coder(Frame(center, axes), np.array(STEPS.unpack_from(data)))


def checked(data: bytes) -> bytes:
    """Return what stands before a check sum.

    Raises:
        UnusableIndexError: The sum is another.
    """
    facts = data[: -SUM.size]
    if data[-SUM.size :] != SUM.pack(zlib.crc32(facts)):
        raise UnusableIndexError
    return facts
