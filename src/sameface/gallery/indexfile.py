"""The codes of a gallery's rows in a file beside it, mapped into memory.

The header is written last, when what it speaks of is on the disk: whatever is interrupted is done again, with
the same result. Codes of a deleted face are overwritten with zeros.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.codes import REST, TILE, Coder, Codes, Errors, Tiles
from sameface.gallery.layout import (
    BLOCK,
    FACTS,
    NUMBER,
    PAGE,
    SUM,
    Cursor,
    Header,
    UnusableIndexError,
    pack_coder,
    parse_coder,
)

try:
    import fcntl
except ImportError:  # Windows, where a gallery of any size is searched in memory
    fcntl = None  # type: ignore[assignment]
NEW = ".new"


class IndexAheadError(Exception):
    """Another program has brought the index to a later moment than ours: look again."""


class IndexFile:
    """An index that is open. Who writes holds its lock; readers see faces up to the count that they read."""

    def __init__(self, path: Path, descriptor: int, header: Header, coder: Coder) -> None:
        self.path = path
        self.header = header
        self.coder = coder
        self._descriptor = descriptor
        self._numbers: list[NDArray[np.int64]] = []  # block by block, of what is mapped into memory
        self._tiles: list[Tiles] = []

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
            header = read_header(descriptor)
            coder = parse_coder(os.pread(descriptor, header.coder_size, PAGE), header)
            return cls(path, descriptor, header, coder)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    @contextmanager
    def make(cls, path: Path, header: Header, coder: Coder) -> Iterator[Self]:
        """Give an empty index to fill and to `commit`; then it takes its place at the path.

        It is built beside it, by one program at a time; what a killed one has left there the next overwrites.

        Raises:
            IndexAheadError: Another program has just made one.
        """
        part = new_path(path)
        made = cls(part, os.open(part, os.O_CREAT | os.O_RDWR, 0o600), header, coder)
        try:
            fcntl.flock(made._descriptor, fcntl.LOCK_EX)
            if not made.is_current:
                raise IndexAheadError
            os.ftruncate(made._descriptor, 0)
            made._write(PAGE, pack_coder(coder))
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
    def make_hidden(cls, header: Header, coder: Coder) -> Iterator[Self]:
        """Give an empty index to fill and to `commit` that is in memory only, and in no folder."""
        descriptor = os.memfd_create("sameface codes")
        made = cls(Path(f"/proc/self/fd/{descriptor}"), descriptor, header, coder)
        try:
            made._write(PAGE, pack_coder(coder))
            yield made
        except BaseException:
            made.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._numbers, self._tiles = [], []  # who still searches in it has views of their own
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
        self._clear_behind()
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
            self._put(header.count + written, codes[part])
            written += len(numbers[part])
        self.header = replace(header, count=header.count + written, errors=header.errors.widen(errors))

    def rewrite(self, places: Sequence[int], codes: Codes, errors: Errors) -> None:
        """Put other codes in the place of those of some faces; zeros erase them."""
        header = self.header
        for place, code in zip(places, codes, strict=True):
            self._put(place, code[None])
        live = sum(int(np.count_nonzero(tiles[:, REST])) for tiles in self.tiles())
        self.header = replace(header, erased=header.count - live, errors=header.errors.widen(errors))

    def tiles(self) -> list[Tiles]:
        """Return the codes of all faces in order, as they stand; columns of zeros fill the last tile."""
        self._map()
        whole, rest = divmod(self.header.count % BLOCK, TILE)
        if not rest:
            return self._tiles
        *blocks, last = self._tiles
        end = last[whole:].copy()  # others may be writing behind the last face
        end[:, :, rest:] = 0
        return [*blocks, last[:whole], end]

    def numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the faces at some places."""
        self._map()
        return np.array([self._numbers[place // BLOCK][place % BLOCK] for place in places.tolist()], np.int64)

    def find(self, numbers: list[int]) -> dict[int, int]:
        """Return where the faces of these numbers stand; those that are not here are left out."""
        self._map()
        firsts = [int(each[0]) for each in self._numbers]
        found = {}
        for number in numbers:
            block = bisect_right(firsts, number) - 1
            if block < 0:
                continue
            here = self._numbers[block]
            place = int(np.searchsorted(here, number))
            if place < len(here) and here[place] == number:
                found[number] = block * BLOCK + place
        return found

    def _map(self) -> None:
        """Map what the header speaks of into memory, unless it is."""
        header = self.header
        if sum(map(len, self._numbers)) == header.count:
            return
        mapped = mmap.mmap(self._descriptor, header.end, access=mmap.ACCESS_READ)
        self._numbers, self._tiles = [], []
        for first in range(0, header.count, BLOCK):
            count = min(BLOCK, header.count - first)
            start = header.size + first // BLOCK * header.block_size
            self._numbers.append(np.frombuffer(mapped, "<i8", count, start))
            size = -(-count // TILE) * header.tile_size
            codes = np.frombuffer(mapped, np.int8, size, start + NUMBER * BLOCK)
            self._tiles.append(codes.reshape(-1, self.coder.width, TILE))

    def _put(self, place: int, codes: Codes) -> None:
        """Write the codes of faces at a place and behind it, inside one block."""
        first = place % TILE
        columns = self._read(place, first + len(codes))
        columns[first : first + len(codes)] = codes
        tiles = columns.reshape(-1, TILE, self.coder.width).transpose(0, 2, 1)
        self._write(self._start_of(place), tiles.tobytes())

    def _read(self, place: int, count: int) -> Codes:
        """Return the codes of whole tiles of one block, from that of a place on: `count` faces or more."""
        size = -(-count // TILE) * self.header.tile_size
        data = os.pread(self._descriptor, size, self._start_of(place)).ljust(size, b"\0")
        tiles = np.frombuffer(data, np.int8).reshape(-1, self.coder.width, TILE)
        return np.array(tiles.transpose(0, 2, 1), order="C").reshape(-1, self.coder.width)

    def _start_of(self, place: int) -> int:
        """Return where the tile of a place begins."""
        header, (block, within) = self.header, divmod(place, BLOCK)
        codes = header.size + block * header.block_size + NUMBER * BLOCK
        return codes + within // TILE * header.tile_size

    def _clear_behind(self) -> None:
        """Erase what a killed program has written behind the last face."""
        place = self.header.count
        while self._read(place, 1)[place % TILE :].any():
            rest = TILE - place % TILE
            self._put(place, np.zeros((rest, self.coder.width), np.int8))
            place += rest

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
    header = Header.parse(os.pread(descriptor, FACTS.size + SUM.size, 0))
    if os.fstat(descriptor).st_size < header.end:
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
