"""Overwrite what no page of a SQLite file uses: `python scrub.py FILE`, a program of its own.

`secure_delete` overwrites rows where they are deleted, but where SQLite moves rows between pages, a page
keeps old bytes in the gap between its list of cells and the cells. VACUUM writes all pages anew; this
overwrites the gaps only, in a fraction of the time. By SQLite's file format a gap means nothing, so that
nobody who reads the file meanwhile can see a difference.

The caller holds SQLite's write lock and has emptied the log. It cannot do this itself: a process that closes
a file loses every lock that it has on it, SQLite's too.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

HEADER = struct.Struct(">16sHBBB31xI")  # magic, page size, two versions, bytes kept free, auto-vacuum
PAGE = struct.Struct(">BHHH")  # kind, first free block, cells, where the cells begin
LENGTHS = {2: 12, 5: 12, 10: 8, 13: 8}  # of the header of a page of a table or an index, by kind
FIRST = 100  # bytes of the file's header, on its first page
MOST_PAGES = 1 << 25  # from here on an overflow page could begin like a page of a table


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


def overwrite_gaps(path: str) -> None:
    """Overwrite the gaps of a file with zeros, once all of them are known to be gaps."""
    with open(path, "r+b") as file:
        size, used = read_page_size(file)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            gaps = list(find_gaps(data, size, used))
        for low, high in gaps:
            file.seek(low)
            file.write(bytes(high - low))
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        overwrite_gaps(sys.argv[1])
    except LayoutError:
        sys.exit("not laid out as a gallery")
