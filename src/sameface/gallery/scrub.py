"""Overwrite what no page of a SQLite file uses: `python scrub.py FILE`, a program of its own.

`secure_delete` overwrites a row where it is deleted, but not copies of it: where SQLite moves rows to another
page as a table or an index grows, a page keeps old bytes in the gap between its list of cells and the cells.
Names and hashes of pictures were found there after they had been deleted; a test shows it. VACUUM writes all
pages anew; this overwrites the gaps only, in a fraction of the time. By the file format a gap means nothing,
so that nobody who reads the file meanwhile can see a difference.

It takes SQLite's write lock itself, so that nobody writes to a page that it overwrites a part of, even if
the program that started it is killed. It is a program of its own because a process that closes a file loses
every lock that it has on it, SQLite's too: here the file is closed last.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

HEADER = struct.Struct(">16sHBBB31xI")  # magic, page size, two versions, bytes kept free, auto-vacuum
PAGE = struct.Struct(">BHHH")  # kind, first free block, cells, where the cells begin
LENGTHS = {2: 12, 5: 12, 10: 8, 13: 8}  # of the header of a page of a table or an index, by kind
FIRST = 100  # bytes of the file's header, on its first page
MOST_PAGES = 1 << 25  # from here on an overflow page could begin like a page of a table
WAIT_SECONDS = 30.0  # for another program's write to end
CHANGED = 3  # the exit code where somebody has written since the log was emptied: empty it and try again


class LayoutError(Exception):
    """The file is laid out in a way that this program does not know."""


def read_page_size(file: BinaryIO) -> tuple[int, int]:
    """Return how large pages are, and how much of each is used.

    Raises:
        LayoutError: It is not a SQLite file, or one whose pages hold other things.
    """
    start = file.read(HEADER.size)
    if len(start) < HEADER.size:
        raise LayoutError
    magic, size, _, _, kept, vacuum = HEADER.unpack(start)
    size = 65536 if size == 1 else size
    pages, rest = divmod(os.fstat(file.fileno()).st_size, size or 1)
    if magic != b"SQLite format 3\0" or vacuum or rest or pages >= MOST_PAGES:
        raise LayoutError
    return size, size - kept


def find_gaps(data: mmap.mmap, size: int, used: int) -> Iterator[tuple[int, int]]:
    """Yield where each gap begins and ends that holds anything but zeros.

    Raises:
        LayoutError: A page is damaged.
    """
    for start in range(0, len(data), size):
        head = start or FIRST
        kind, _, cells, content = PAGE.unpack_from(data, head)
        if kind not in LENGTHS:
            continue
        low, high = head + LENGTHS[kind] + 2 * cells, start + (content or 65536)
        if not low <= high <= start + used:
            raise LayoutError
        if data[low:high].strip(b"\0"):
            yield low, high


def scrub_file(path: str) -> bool:
    """Overwrite the gaps of a file, whose log is empty; False if it is not any more.

    Raises:
        LayoutError, sqlite3.DatabaseError: It is no gallery, damaged, or busy.
    """
    with open(path, "r+b") as file:
        size, used = read_page_size(file)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, closing(connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            log = Path(f"{path}-wal")
            if (log.exists() and log.stat().st_size) or os.fstat(file.fileno()).st_size != len(data):
                return False
            overwrite(file, list(find_gaps(data, size, used)))
            # With this change every connection reads the pages again before it changes one.
            db.execute("UPDATE numbers SET last = last + 1")
            db.execute("COMMIT")
    return True


def connect(path: str) -> sqlite3.Connection:
    """Open a file that is there."""
    place = f"{Path(path).absolute().as_uri()}?mode=rw"
    return sqlite3.connect(place, uri=True, timeout=WAIT_SECONDS, isolation_level=None)


def overwrite(file: BinaryIO, gaps: list[tuple[int, int]]) -> None:
    """Write zeros from the beginning to the end of each gap, to the disk."""
    for low, high in gaps:
        file.seek(low)
        file.write(bytes(high - low))
    file.flush()
    os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        sys.exit(0 if scrub_file(sys.argv[1]) else CHANGED)
    except (LayoutError, sqlite3.DatabaseError):
        sys.exit("not laid out as a gallery")
