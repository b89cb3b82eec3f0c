"""The index of a large gallery: opened, made, and kept up with every change, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, are_unit_rows
from sameface.gallery.backend import Row
from sameface.gallery.codes import REST, Coder, Codes, Errors, Frame
from sameface.gallery.indexfile import IndexAheadError, IndexFile, await_others, sign
from sameface.gallery.layout import BLOCK, Cursor, Header, UnusableIndexError

SUFFIX = "-codes"
PAGE = 32_768  # rows that are read at once
CODE_ROUNDING = 1  # steps that rows coded together or alone may differ by
SAMPLES, SAMPLE = 64, 512  # rows from which the directions are found
LATEST = "SELECT id, stamp FROM changes ORDER BY id DESC LIMIT 1"
ROWS = "SELECT id, embedding FROM faces WHERE id > ? ORDER BY id LIMIT ?"


class Snapshot(Protocol):
    """A gallery in SQLite, read as of one moment."""

    @property
    def path(self) -> str:
        """Where it is."""

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query."""

    def stack_rows(self, numbers: Sequence[int], kept: Sequence[bytes], width: int) -> Embeddings:
        """Return the rows of the faces of these numbers, `(n, width) float32`, from what is kept of them."""


class Index:
    """The index of a gallery file: beside it, or, if nobody may see the codes, hidden in memory."""

    def __init__(self, gallery: str, *, hidden: bool = False) -> None:
        self.path = Path(gallery + SUFFIX)
        self.hidden = hidden
        self.file: IndexFile | None = None

    @property
    def position(self) -> int | None:
        """The number of the last change that is in the index; None without one."""
        return None if self.file is None else self.file.header.cursor[0]

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def catch_up(self, gallery: Snapshot, signature: str) -> IndexFile:
        """Return the index as of the snapshot.

        Raises:
            UnusableIndexError: It must be made anew.
            IndexAheadError: The snapshot is too old for it.
            OSError: The file cannot be read or written.
        """
        [latest] = gallery.read(LATEST)
        file = self._open()
        if file.header.signature != sign(signature):
            raise UnusableIndexError
        if file.header.cursor != latest:
            with file.locked():
                apply_changes(file, gallery, latest)
        return file

    def rebuild(self, gallery: Snapshot, signature: str) -> IndexFile:
        """Return an index that was made anew, as of the snapshot.

        Raises:
            OSError: It cannot be written.
        """
        self.close()
        [latest] = gallery.read(LATEST)
        coder = fit_coder(gallery)
        axes, width = coder.frame.axes.shape
        header = Header(sign(signature), width, axes, latest, 0, 0, Errors())
        made = IndexFile.make_hidden(header, coder) if self.hidden else IndexFile.make(self.path, header, coder)
        with made as file:
            append_rows(file, gallery)
            file.commit(latest)
        self.file = file
        return file

    def erase(self, gallery: Snapshot) -> None:
        """Erase the codes of faces that are no more, or delete an index that does not tell which these are.

        Raises:
            IndexAheadError: The snapshot is too old for it.
            OSError: The file cannot be read or written.
        """
        if not self._is_there():
            return
        found = gallery.read("SELECT signature FROM pipeline")
        try:
            self.catch_up(gallery, str(found[0][0]) if found else "")
        except UnusableIndexError:
            self.discard()

    def find_fault(self, gallery: Snapshot, signature: str) -> str | None:
        """Return where the index, brought up to the snapshot, differs from its rows; None if nowhere.

        An index that would be made anew by the next search has no fault.

        Raises:
            IndexAheadError: The snapshot is too old for it.
        """
        try:
            return compare_codes(self.catch_up(gallery, signature), gallery)
        except UnusableIndexError:
            return None

    def discard(self) -> None:
        """Delete the index."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> IndexFile:
        """Return the file that is at the path now."""
        if self.file is not None and not self.file.is_current:
            self.close()
        if self.file is None and self.hidden:
            raise UnusableIndexError
        if self.file is None:
            self.file = IndexFile.open(self.path)
        return self.file

    def _is_there(self) -> bool:
        """Return whether there is an index, once nobody makes one any more."""
        if self.hidden:
            return self.file is not None
        await_others(self.path)
        return self.path.exists()


def apply_changes(file: IndexFile, gallery: Snapshot, latest: Cursor) -> None:
    """Bring an index, whose lock is held, from the change that it was at to the latest."""
    change, stamp = file.header.cursor
    if file.header.cursor == latest:  # another program was faster
        return
    if change > latest[0]:
        raise IndexAheadError
    if gallery.read("SELECT stamp FROM changes WHERE id = ?", change) != [(stamp,)]:
        raise UnusableIndexError  # of another gallery, or of one that was put back, or too long ago
    query = "SELECT DISTINCT face_id FROM changes WHERE id > ? AND face_id <= ? ORDER BY face_id"
    changed = [number for (number,) in gallery.read(query, change, file.last_number)]
    if changed:
        renew_rows(file, gallery, changed)
    append_rows(file, gallery)
    file.commit(latest)
    header = file.header
    if header.errors.error > 2 * file.coder.usual_error or header.erased > header.count // 4 + BLOCK:
        raise UnusableIndexError


def renew_rows(file: IndexFile, gallery: Snapshot, numbers: list[int]) -> None:
    """Code the rows of some faces again, and erase those of faces that are no more.

    Raises:
        UnusableIndexError: A face is enrolled under a number that was passed over.
    """
    query = "SELECT embedding FROM faces WHERE id = ?"
    found = {number: gallery.read(query, number) for number in numbers}
    places = file.find(numbers)
    if any(rows and number not in places for number, rows in found.items()):
        raise UnusableIndexError
    gone = [places[number] for number, rows in found.items() if number in places and not rows]
    file.rewrite(gone, np.zeros((len(gone), file.coder.width), np.int8), Errors())
    kept = [number for number, rows in found.items() if rows]
    if kept:
        rows = gallery.stack_rows(kept, [found[number][0][0] for number in kept], file.header.width)
        codes, errors = encode_usable(file.coder, rows)
        file.rewrite([places[number] for number in kept], codes, errors)


def append_rows(file: IndexFile, gallery: Snapshot) -> None:
    """Code the rows of the faces behind the last in the index."""
    for numbers, rows in read_pages(gallery, file.last_number):
        file.append(numbers, *encode_usable(file.coder, rows))


def encode_usable(coder: Coder, rows: Embeddings) -> tuple[Codes, Errors]:
    """Code rows; those that no search may find get zeros, as those of deleted faces."""
    usable = are_unit_rows(rows)
    codes = np.zeros((len(rows), coder.width), np.int8)
    codes[usable], errors = coder.encode(rows[usable])
    return codes, errors


def compare_codes(file: IndexFile, gallery: Snapshot) -> str | None:
    """Return where the codes of an index differ from those of the rows."""
    codes = np.concatenate([tiles.transpose(0, 2, 1).reshape(-1, file.coder.width) for tiles in file.tiles()])
    live = int(np.count_nonzero(codes[: file.header.count, REST]))
    wanted = 0
    for numbers, rows in read_pages(gallery, 0):
        usable = are_unit_rows(rows)
        found = file.find(numbers.tolist())
        places = np.array([found.get(number, -1) for number in numbers[usable].tolist()], np.int64)
        if (places < 0).any():
            return f"face {numbers[usable][int(places.argmin())]} is not in it: delete {str(file.path)!r}"
        right, _ = file.coder.encode(rows[usable])
        wrong = np.abs(codes[places].astype(np.int16) - right).max(axis=1, initial=0) > CODE_ROUNDING
        if wrong.any():
            return f"face {numbers[usable][wrong][0]} has another code in it: delete {str(file.path)!r}"
        wanted += len(places)
    extra = f"{live - wanted} faces are in it that are not enrolled: delete {str(file.path)!r}"
    return None if live == wanted else extra


def fit_coder(gallery: Snapshot) -> Coder:
    """Return a coder that reaches every row there is."""
    rows = sample_rows(gallery)
    frame = Frame.fit(rows)
    farthest = frame.turn(rows).farthest
    for _, rows in read_pages(gallery, 0):
        farthest = np.maximum(farthest, frame.turn(rows[are_unit_rows(rows)]).farthest)
    return Coder.fit(frame, farthest)


def sample_rows(gallery: Snapshot) -> Embeddings:
    """Return rows from all over the gallery, some of them twice if there are few."""
    [(last,)] = gallery.read("SELECT ifnull(max(id), 0) FROM faces")
    starts = np.linspace(0, last, SAMPLES, endpoint=False, dtype=np.int64)
    rows = np.concatenate([read_page(gallery, start, SAMPLE)[1] for start in starts.tolist()])
    return rows[are_unit_rows(rows)]


def read_pages(gallery: Snapshot, last: int) -> Iterator[tuple[NDArray[np.int64], Embeddings]]:
    """Yield the numbers and the rows of the faces behind the face `last`, some at a time."""
    while True:
        numbers, rows = read_page(gallery, last, PAGE)
        if not len(numbers):
            return
        yield numbers, rows
        last = int(numbers[-1])


def read_page(gallery: Snapshot, last: int, count: int) -> tuple[NDArray[np.int64], Embeddings]:
    """Return the numbers and the rows of some faces behind the face `last`."""
    [(width,)] = gallery.read("SELECT dimension FROM pipeline")
    page = gallery.read(ROWS, last, count)
    numbers = [number for number, _ in page]
    rows = gallery.stack_rows(numbers, [row for _, row in page], width or 1)
    return np.array(numbers, np.int64), rows
