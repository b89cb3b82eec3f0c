"""The codes of a gallery's rows in a file beside it, mapped into memory.

A header, then blocks of `BLOCK` faces: their numbers, 8 bytes each and ascending, then their codes. The
header says how many faces count, and which change of the gallery was the last that is in here. It is written
last, when what it speaks of is on the disk: whatever is interrupted is done again, with the same result.
Codes of a deleted face are overwritten with zeros.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.codes import Coder, Codes, Errors

try:
    import fcntl
except ImportError:  # Windows, where a gallery of any size is searched in memory
    fcntl = None  # type: ignore[assignment]
MAGIC = b"sameface codes 1"
BLOCK = 1 << 17  # faces
NUMBER = 8  # bytes
PAGE = 4096
FACTS = struct.Struct("<16s32sIqqQQddd")  # what the header holds before the center
SUM = struct.Struct("<I")
NEW = ".new"

Cursor: TypeAlias = tuple[int, int]  # the number of a change of the gallery, and its stamp
Blocks: TypeAlias = list[tuple[NDArray[np.int64], Codes]]


class UnusableIndexError(Exception):
    """The file is not there, not a whole index, or not of this gallery any more: make it anew."""


class IndexAheadError(Exception):
    """Another program has brought the index to a later moment than ours: look again."""


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What an index file says of itself.

    Attributes:
        signature: Which pipeline made the rows.
        cursor: The last change that is in here.
        count: How many faces there are, erased ones too.
        erased: How many of them are erased.
        coder: How their rows became codes.
        errors: How wrong the codes are.
    """

    signature: bytes
    cursor: Cursor
    count: int
    erased: int
    coder: Coder
    errors: Errors

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return len(self.coder.center)

    @property
    def size(self) -> int:
        """Where the first block begins."""
        return -(-(FACTS.size + 4 * self.width + SUM.size) // PAGE) * PAGE

    @property
    def block_size(self) -> int:
        """How many bytes a block has."""
        return BLOCK * (NUMBER + self.width)

    def pack(self) -> bytes:
        """Return the header as bytes, with a check sum."""
        facts = FACTS.pack(
            MAGIC,
            self.signature,
            self.width,
            *self.cursor,
            self.count,
            self.erased,
            self.coder.step,
            self.errors.error,
            self.errors.radius,
        )
        data = facts + self.coder.center.astype("<f4").tobytes()
        return (data + SUM.pack(zlib.crc32(data))).ljust(self.size, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a header from the beginning of a file.

        Raises:
            UnusableIndexError: It is none.
        """
        if len(data) < FACTS.size or not data.startswith(MAGIC):
            raise UnusableIndexError
        _, signature, width, change, stamp, count, erased, step, error, radius = FACTS.unpack_from(data)
        end = FACTS.size + 4 * width
        if len(data) < end + SUM.size or SUM.unpack_from(data, end) != (zlib.crc32(data[:end]),):
            raise UnusableIndexError
        center = np.frombuffer(data[FACTS.size : end], "<f4").astype(np.float32)
        coder = Coder(center, step)
        return cls(signature, (change, stamp), count, erased, coder, Errors(error, radius))


class IndexFile:
    """An index that is open. Who writes holds its lock; readers see faces up to the count that they read."""

    def __init__(self, path: Path, descriptor: int, header: Header) -> None:
        self.path = path
        self.header = header
        self._descriptor = descriptor
        self._blocks: Blocks = []  # of what is mapped into memory

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the index at a path.

        Raises:
            UnusableIndexError: There is none, or it is not whole.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError as error:
            raise UnusableIndexError from error
        try:
            return cls(path, descriptor, read_header(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    @contextmanager
    def make(cls, path: Path, header: Header) -> Iterator[Self]:
        """Give an empty index to fill and to `commit`; then it takes its place at the path.

        It is built beside it, by one program at a time; what a killed one has left there the next overwrites.

        Raises:
            IndexAheadError: Another program has just made one.
        """
        part = new_path(path)
        made = cls(part, os.open(part, os.O_CREAT | os.O_RDWR, 0o600), header)
        try:
            fcntl.flock(made._descriptor, fcntl.LOCK_EX)
            if not made.is_current:
                raise IndexAheadError
            os.ftruncate(made._descriptor, 0)
            yield made
            part.replace(path)
            made.path = path
            fcntl.flock(made._descriptor, fcntl.LOCK_UN)
        except BaseException:
            if made.is_current:
                part.unlink()
            made.close()
            raise

    @classmethod
    @contextmanager
    def make_hidden(cls, header: Header) -> Iterator[Self]:
        """Give an empty index to fill and to `commit` that is in memory only, and in no folder."""
        descriptor = os.memfd_create("sameface codes")
        made = cls(Path(f"/proc/self/fd/{descriptor}"), descriptor, header)
        try:
            yield made
        except BaseException:
            made.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._blocks = []  # who still searches in it has views of their own
        os.close(self._descriptor)

    @property
    def is_current(self) -> bool:
        """Whether this very file, and no other, is at the path."""
        return is_at(self.path, self._descriptor)

    @property
    def last_number(self) -> int:
        """The number of the last face, erased or not; 0 without faces."""
        if not self.header.count:
            return 0
        block, place = divmod(self.header.count - 1, BLOCK)
        start = self.header.size + block * self.header.block_size + NUMBER * place
        return int.from_bytes(os.pread(self._descriptor, NUMBER, start), "little")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of those who write, and read the header again."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            self.header = read_header(self._descriptor)
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def commit(self, cursor: Cursor) -> None:
        """Say what is in the file, once that is on the disk."""
        self.header = replace(self.header, cursor=cursor)
        os.fsync(self._descriptor)
        self._write(0, self.header.pack())

    def append(self, numbers: NDArray[np.int64], codes: Codes, errors: Errors) -> None:
        """Write faces behind the last; their numbers ascend. They count for others once committed."""
        header, written = self.header, 0
        while written < len(numbers):
            block, place = divmod(header.count + written, BLOCK)
            part = slice(written, written + BLOCK - place)
            start = header.size + block * header.block_size
            self._reserve(start + header.block_size)
            self._write(start + NUMBER * place, numbers[part].astype("<i8").tobytes())
            self._write(start + NUMBER * BLOCK + header.width * place, codes[part].tobytes())
            written += len(numbers[part])
        self.header = replace(header, count=header.count + written, errors=header.errors.widen(errors))

    def rewrite(self, places: Sequence[int], codes: Codes, errors: Errors) -> None:
        """Put other codes in the place of those of some faces; zeros erase them."""
        header = self.header
        for whole, code in zip(places, codes, strict=True):
            block, place = divmod(whole, BLOCK)
            start = header.size + block * header.block_size + NUMBER * BLOCK
            self._write(start + header.width * place, code.tobytes())
        erased = sum(int(np.count_nonzero(codes[:, 0] == 0)) for _, codes in self.blocks())
        self.header = replace(header, erased=erased, errors=header.errors.widen(errors))

    def blocks(self) -> Blocks:
        """Return the numbers `(n,)` and the codes `(n, d)` of all faces, block by block, as they stand."""
        header = self.header
        known = sum(len(numbers) for numbers, _ in self._blocks)
        if known == header.count:
            return self._blocks
        end = header.size + -(-header.count // BLOCK) * header.block_size
        mapped = mmap.mmap(self._descriptor, end, access=mmap.ACCESS_READ)
        self._blocks = []
        for first in range(0, header.count, BLOCK):
            count = min(BLOCK, header.count - first)
            start = header.size + first // BLOCK * header.block_size
            numbers = np.frombuffer(mapped, "<i8", count, start)
            codes = np.frombuffer(mapped, np.uint8, count * header.width, start + NUMBER * BLOCK)
            self._blocks.append((numbers, codes.reshape(count, header.width)))
        return self._blocks

    def numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the faces at some places."""
        blocks = self.blocks()
        return np.array([blocks[place // BLOCK][0][place % BLOCK] for place in places.tolist()], np.int64)

    def find(self, numbers: list[int]) -> dict[int, int]:
        """Return where the faces of these numbers stand; those that are not here are left out."""
        blocks = self.blocks()
        firsts = [int(each[0]) for each, _ in blocks]
        found = {}
        for number in numbers:
            block = bisect_right(firsts, number) - 1
            if block < 0:
                continue
            here = blocks[block][0]
            place = int(np.searchsorted(here, number))
            if place < len(here) and here[place] == number:
                found[number] = block * BLOCK + place
        return found

    def _reserve(self, end: int) -> None:
        """Make the file so long: what is mapped but not there would end the process."""
        if os.fstat(self._descriptor).st_size < end:
            os.ftruncate(self._descriptor, end)

    def _write(self, start: int, data: bytes) -> None:
        """Write all of the data, or raise as a full disk does."""
        if os.pwrite(self._descriptor, data, start) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


def read_header(descriptor: int) -> Header:
    """Read the header of an open file, and check that what it speaks of is there.

    Raises:
        UnusableIndexError: It is no index, or cut off.
    """
    size = os.fstat(descriptor).st_size
    start = os.pread(descriptor, FACTS.size, 0)
    if len(start) < FACTS.size:
        raise UnusableIndexError
    width = FACTS.unpack(start)[2]
    header = Header.parse(os.pread(descriptor, min(size, FACTS.size + 4 * width + SUM.size), 0))
    if size < header.size + -(-header.count // BLOCK) * header.block_size:
        raise UnusableIndexError
    return header


def new_path(path: Path) -> Path:
    """Return where the index at a path is built."""
    return path.with_name(path.name + NEW)


def await_others(path: Path) -> None:
    """Wait until an index that is just being made is done; delete what a killed program has left of one."""
    part = new_path(path)
    try:
        descriptor = os.open(part, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_at(part, descriptor):
            part.unlink()
    finally:
        os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file, and no other, is at a path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def sign(signature: str) -> bytes:
    """Return 32 bytes that stand for a signature."""
    return hashlib.sha256(signature.encode()).digest()
