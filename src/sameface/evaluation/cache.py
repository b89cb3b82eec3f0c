"""Embeddings that were computed once, in one private SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.errors import ProtocolError

APPLICATION_ID = 0x5A3EEA1  # marks the file as ours
TABLE = """
CREATE TABLE rows (
    pipeline TEXT NOT NULL, picture TEXT NOT NULL, embedding BLOB NOT NULL, box BLOB NOT NULL,
    PRIMARY KEY (pipeline, picture)
) WITHOUT ROWID
"""
EVERY = 64  # pictures per commit


class EmbeddingCache:
    """Embeddings by pipeline and picture. A picture without a face is kept too, as an empty row.

    The rows are biometric data: the file is readable by its owner only, and can be deleted at any time.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._unsaved = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the file, or make it.

        Raises:
            ProtocolError: The file is something else.
        """
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(Path(path))
        connection.execute("PRAGMA temp_store = MEMORY")  # else VACUUM leaves rows in the temporary folder
        try:
            [(owner,)] = connection.execute("PRAGMA application_id").fetchall()
            [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except sqlite3.DatabaseError as error:
            connection.close()
            raise ProtocolError(os.fspath(path), "not a cache of embeddings: choose another file") from error
        if tables and owner != APPLICATION_ID:
            connection.close()
            raise ProtocolError(os.fspath(path), "not a cache of embeddings: choose another file")
        if not tables:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(TABLE)
        return cls(connection)

    def get(self, pipeline: str, picture: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return `(d,)` row and `(4,)` box of a picture, both empty if it has no face; None if unknown."""
        query = "SELECT embedding, box FROM rows WHERE pipeline = ? AND picture = ?"
        found = self._db.execute(query, (pipeline, picture)).fetchone()
        return None if found is None else (np.frombuffer(found[0], np.float32), np.frombuffer(found[1], np.float32))

    def put(self, pipeline: str, picture: str, row: NDArray[np.float32], box: NDArray[np.float32]) -> None:
        """Keep row and box of a picture."""
        values = (pipeline, picture, row.astype(np.float32).tobytes(), box.astype(np.float32).tobytes())
        self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", values)
        self._unsaved += 1
        if self._unsaved >= EVERY:
            self.save()

    def forget(self, pictures: Collection[str]) -> int:
        """Delete and overwrite the rows of pictures by SHA-256, those of degraded ones too; return how many."""
        self.save()
        self._db.execute("PRAGMA secure_delete = ON")
        query = "DELETE FROM rows WHERE substr(picture, 1, 64) = ?"
        gone = sum(self._db.execute(query, (picture,)).rowcount for picture in pictures)
        self.save()
        if gone:
            self._db.execute("VACUUM")
        return gone

    def save(self) -> None:
        """Write the rows that were put."""
        self._db.commit()
        self._unsaved = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()
        self._db.close()
