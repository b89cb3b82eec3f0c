"""The embeddings of all faces of a gallery file in memory, brought up to date before each search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.backend import undamaged
from sameface.gallery.errors import SignatureError
from sameface.gallery.index import EmbeddingTable, FlatIndex
from sameface.gallery.search import NOBODY, leave_out_unusable
from sameface.gallery.thresholds import parse_thresholds, read_thresholds

if TYPE_CHECKING:
    from sameface.gallery.sqlite.database import SqliteDatabase

PAGE = 32_768  # rows that are read at once
LATEST = "SELECT id, stamp FROM changes ORDER BY id DESC LIMIT 1"
ROWS = "SELECT embedding FROM json_each(?) AS wanted CROSS JOIN faces ON faces.id = wanted.value ORDER BY faces.id"


class RowCache:
    """Holds the rows of a gallery file in memory, and reads those that have changed before each search."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.clear()

    def clear(self) -> None:
        """Drop the rows."""
        self._index: FlatIndex | None = None
        self._version = self._change = (-1, -1)

    def load(self, signature: str) -> FlatIndex:
        """Return the rows as they are now.

        Raises:
            SignatureError: They are not of this pipeline.
        """
        database = self._database
        with database.lock:
            [(found,)] = database.read("SELECT signature FROM pipeline")
            if found != signature:
                raise SignatureError(database.path, found, signature)
            version = database.version_of_data()
            if self._index is None or self._version != version:
                with database.snapshot():
                    self._index = self._refresh()
                self._version = version
            return self._index

    def _refresh(self) -> FlatIndex:
        """Return the rows as of the snapshot."""
        database = self._database
        [(width,)] = database.read("SELECT dimension FROM pipeline")
        known = EmbeddingTable.empty(width or 0) if self._index is None else self._index.table
        (change, stamp), [latest] = self._change, database.read(LATEST) or [(-1, -1)]
        found = database.read("SELECT stamp FROM changes WHERE id = ?", change)
        if found != [(stamp,)] or known.matrix.shape[1] != width:  # a gallery that was put back, or upgraded
            known = EmbeddingTable.empty(width or 0)
        changed = database.read("SELECT face_id FROM changes WHERE id > ?", change)
        table = update_table(database, known, np.array(changed, np.int64).ravel())
        mixed = parse_thresholds(database, "adapted") if table.adapted.any() else None
        index = FlatIndex(database, table, read_thresholds(database), mixed)
        self._change = latest
        return index


def update_table(database: SqliteDatabase, known: EmbeddingTable, changed: NDArray[np.int64]) -> EmbeddingTable:
    """Return the rows as they are now; only those that are new or have changed are read."""
    with undamaged(database.path, "a face"):
        faces = np.array(database.read("SELECT id, person_id FROM faces"), np.int64).reshape(-1, 2)
    keys, owners = faces[np.argsort(faces[:, 0])].T
    kept = np.isin(known.keys, np.setdiff1d(keys, changed))
    table = known if kept.all() else known.select(kept)
    table = table.join(read_rows(database, np.setdiff1d(keys, table.keys), known.matrix.shape[1]))
    owners = np.where(table.owners == NOBODY, NOBODY, owners)
    adapted = np.isin(keys, np.array(database.read("SELECT id FROM faces WHERE adapted"), np.int64))
    return EmbeddingTable(table.keys, owners, table.matrix, table.counts, adapted)


def read_rows(database: SqliteDatabase, keys: NDArray[np.int64], width: int) -> EmbeddingTable:
    """Return the rows of faces; the owner is `NOBODY` if a row is unusable, else not known."""
    matrix, owners = np.empty((len(keys), width), np.float32), np.full(len(keys), NOBODY + 1)
    for start in range(0, len(keys), PAGE):
        page = slice(start, start + PAGE)
        numbers = keys[page].tolist()
        blobs = [blob for (blob,) in database.read(ROWS, json.dumps(numbers))]
        matrix[page] = database.stack_rows(numbers, blobs, width)
    matrix, owners = leave_out_unusable(matrix, owners)
    return EmbeddingTable(keys, owners, matrix, np.ones(len(keys), np.int64), np.zeros(len(keys), np.bool_))
