"""One template per person: the mean of their embeddings, normalised to length 1.

Triggers delete a template in the transaction that changes a face of the person, and put the person into
`stale_templates`. It is made again in that transaction, or before the next search, which has the key.
"""

from __future__ import annotations

import threading

import numpy as np

from sameface.arrays import Embeddings, are_unit_rows
from sameface.gallery.backend import Backend, Transaction, expect_type, undamaged
from sameface.gallery.errors import SignatureError
from sameface.gallery.index import EmbeddingTable, FlatIndex
from sameface.gallery.stored_thresholds import parse_thresholds, read_thresholds

SLICE = 1000  # people in a transaction, or in a query
STALE = f"SELECT person_id FROM stale_templates ORDER BY person_id LIMIT {SLICE}"
KEEP = "INSERT INTO templates (person_id, turn, faces, adapted, embedding) VALUES (?, ?, ?, ?, ?)"


def mean_row(rows: Embeddings) -> Embeddings | None:
    """Return the normalised mean, `(d,) float32`, of `(n, d)` rows; None if there are none or they cancel out."""
    total = rows.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length <= len(rows) * np.finfo(np.float32).eps:
        return None
    row: Embeddings = (total / length).astype(np.float32)
    return row


def renew_templates(database: Backend, db: Transaction) -> None:
    """Make the templates of at most `SLICE` people whose faces have changed, in the transaction `db`."""
    query = f"""SELECT person_id, id, {database.adapted_column}, {database.row_column} FROM faces
                WHERE person_id IN ({STALE}) ORDER BY person_id, id"""
    found = db.execute(query).fetchall()
    if found:
        with undamaged(database.path, "an embedding"):
            rows = np.stack(database.decode_rows([face for _, face, *_ in found], [row for *_, row in found]))
        usable, adapted = are_unit_rows(rows), np.array([bool(adapted) for _, _, adapted, _ in found])
        people, starts = np.unique(np.array([person for person, *_ in found], np.int64), return_index=True)
        (turn,) = db.execute("UPDATE numbers SET turn = turn + ? RETURNING turn", (len(people),)).fetchone()
        for place, (person, part) in enumerate(
            zip(people.tolist(), np.split(np.arange(len(rows)), starts[1:]), strict=True)
        ):
            row = mean_row(rows[part][usable[part]])
            if row is not None:
                facts = (turn - place, int(usable[part].sum()), int(adapted[part].any()))
                db.execute(KEEP, (person, *facts, database.encode_template(person, row)))
    db.execute(f"DELETE FROM stale_templates WHERE person_id IN ({STALE})")


def renew_all(database: Backend) -> None:
    """Make every missing template, some at a time, so that other writers get their turns."""
    while database.read("SELECT 1 FROM stale_templates LIMIT 1"):
        with database.write() as db:
            renew_templates(database, db)


class TemplateCache:
    """Holds the templates of a gallery in memory, and reads those that have changed before each search."""

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._table = EmbeddingTable.empty()
        self._turn = 0  # the last change that is in the table
        self._lock = threading.Lock()

    def load(self, signature: str) -> FlatIndex:
        """Return the templates as they are now.

        Raises:
            SignatureError: The rows are not of this pipeline.
        """
        database = self._database
        renew_all(database)
        with self._lock, database.snapshot():
            [(found, width)] = database.read("SELECT signature, dimension FROM pipeline") or [("none", None)]
            if found != signature:
                raise SignatureError(database.path, found, signature)
            self._refresh(width or 0)
            mixed = parse_thresholds(database, "adapted") if self._table.adapted.any() else None
            return FlatIndex(database, self._table, read_thresholds(database), mixed)

    def drop_deleted(self) -> None:
        """Drop templates that were deleted or replaced."""
        with self._lock:
            self._table = self._select_live()

    def _refresh(self, width: int) -> None:
        """Bring the table up to the snapshot; only new templates are read."""
        [(turn,)] = self._database.read("SELECT turn FROM numbers")
        with undamaged(self._database.path, "the turn of the templates"):
            expect_type(turn, int)
        if turn < self._turn or self._table.matrix.shape[1] != width:  # a gallery that was put back, or upgraded
            self._table, self._turn = EmbeddingTable.empty(width), 0
        if turn != self._turn:
            self._table = self._select_live().join(read_templates(self._database, self._turn, width))
            self._turn = turn

    def _select_live(self) -> EmbeddingTable:
        """Return the table without templates that were deleted or replaced."""
        found = self._database.read("SELECT person_id FROM templates WHERE turn <= ?", self._turn)
        kept = np.isin(self._table.keys, np.array(found, np.int64))
        return self._table if kept.all() else self._table.select(kept)


def read_templates(database: Backend, turn: int, width: int) -> EmbeddingTable:
    """Return the templates that were made after a turn."""
    query = f"""SELECT person_id, faces, adapted, {database.row_column} FROM templates
                WHERE turn > ? ORDER BY person_id"""
    found = database.read(query, turn)
    if not found:
        return EmbeddingTable.empty(width)
    people = [person for person, *_ in found]
    with undamaged(database.path, "a template"):
        matrix = np.stack(database.decode_templates(people, [kept for *_, kept in found]))
        if matrix.shape != (len(found), width):
            raise ValueError(f"a template must have {width} numbers, got {matrix.shape[1]}")
        keys, counts, adapted = np.array([facts for *facts, _ in found], np.int64).T
        if counts.min() < 1:
            raise ValueError(f"a template must be the mean of 1 face or more, got {counts.min()}")
    return EmbeddingTable(keys, keys, matrix, counts, adapted.astype(bool))
