"""The private SQLite file that keeps the results of a batch, so that an interrupted run can resume."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from sameface.arrays import Crops, Embeddings
from sameface.errors import BatchError, SamefaceError
from sameface.face import Face

APPLICATION_ID = 0x5A3EEA2  # marks the file as ours
TABLES = """
CREATE TABLE found (
    pipeline TEXT NOT NULL, sha256 TEXT NOT NULL,
    count INTEGER NOT NULL, width INTEGER NOT NULL, size INTEGER NOT NULL,
    faces BLOB NOT NULL, embeddings BLOB NOT NULL, crops BLOB NOT NULL,
    PRIMARY KEY (pipeline, sha256)
);
CREATE TABLE hashes (name BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY, name BLOB NOT NULL, sha256 TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, same_as BLOB NOT NULL
);
CREATE INDEX pictures_by_content ON pictures (sha256, number) WHERE code = '';
"""
BLOBS = "count, width, size, faces, embeddings, crops"  # the arguments of `unpack`


class JournalError(BatchError):
    """The journal of an unfinished run is another kind of file, in use, or cannot be written."""

    code = "bad_journal"
    message = "cannot keep what is done in {path!r}: {reason}"
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """The faces of one picture."""

    faces: tuple[Face, ...]  # the highest score first
    rows: Embeddings  # `(n, d) float32` their embeddings
    crops: Crops  # `(n, size, size, 3) uint8` RGB, or `(0, size, size, 3)` where crops were not asked for


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a picture has no result."""

    code: str  # of the error
    reason: str  # its message, which names the picture

    @classmethod
    def of(cls, error: SamefaceError) -> Self:
        """Return code and message of an error."""
        return cls(error.code, str(error))


Outcome: TypeAlias = FoundFaces | Failure


@dataclass(frozen=True, slots=True, eq=False)
class JournalEntry:
    """The result for one picture."""

    picture: str
    sha256: str  # of its content; empty if it could not be read
    outcome: Outcome
    same_as: str = ""  # the earlier picture with the same content; empty if there is none


class Journal:
    """The results by content, and the pictures of the current run in order.

    Embeddings are biometric data: only the owner may read the file. One process has it open at a time.
    """

    def __init__(self, db: sqlite3.Connection, path: Path | None) -> None:
        self._db = db
        self._path = path

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Open or create the file, or raise `JournalError`; without a path it is temporary."""
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect("" if path is None else path, isolation_level=None, timeout=1)
        journal = cls(db, path)
        try:
            with journal._translated_errors():
                prepare(db)
        except JournalError:
            db.close()
            raise
        return journal

    def hash_of(self, name: str, stamp: str) -> str | None:
        """Return the SHA-256 of a picture whose file had this stamp; None if unknown."""
        query = "SELECT sha256 FROM hashes WHERE name = ? AND stamp = ?"
        found = self._ask(query, os.fsencode(name), stamp) if stamp else []
        return found[0][0] if found else None

    def keep_hash(self, name: str, stamp: str, sha256: str) -> None:
        """Keep the SHA-256 of a picture."""
        if stamp:
            self._ask("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", os.fsencode(name), stamp, sha256)

    def holds(self, pipeline: str, sha256: str) -> bool:
        """Return whether this pipeline has a result for a content."""
        return bool(self._ask("SELECT 1 FROM found WHERE pipeline = ? AND sha256 = ?", pipeline, sha256))

    def find(self, pipeline: str, sha256: str) -> FoundFaces | None:
        """Return the result of this pipeline for a content, or None."""
        query = f"SELECT {BLOBS} FROM found WHERE pipeline = ? AND sha256 = ?"
        found = self._ask(query, pipeline, sha256)
        return unpack(*found[0]) if found else None

    def keep(self, pipeline: str, sha256: str, found: FoundFaces) -> None:
        """Keep the result for a content."""
        self._ask("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)", pipeline, sha256, *pack(found))

    def begin(self) -> None:
        """Clear the list of the previous run."""
        self._ask("DELETE FROM pictures")

    def add(self, entry: JournalEntry) -> None:
        """Add the next picture, whose faces are kept already."""
        failed = entry.outcome if isinstance(entry.outcome, Failure) else Failure("", "")
        self._ask(
            "INSERT INTO pictures (name, sha256, code, reason, same_as) VALUES (?, ?, ?, ?, ?)",
            os.fsencode(entry.picture),
            entry.sha256,
            failed.code,
            failed.reason.encode(errors="backslashreplace").decode(),
            os.fsencode(entry.same_as),
        )

    def first_of(self, sha256: str) -> str:
        """Return the first picture of this run with this content and faces, or an empty name."""
        query = "SELECT name FROM pictures WHERE sha256 = ? AND code = '' ORDER BY number LIMIT 1"
        found = self._ask(query, sha256)
        return os.fsdecode(found[0][0]) if found else ""

    def entries(self, pipeline: str) -> Iterator[JournalEntry]:
        """Yield every picture of the run, in order; few of them are in memory at a time."""
        query = f"""SELECT name, pictures.sha256, code, reason, same_as, {BLOBS} FROM pictures
                   LEFT JOIN found ON found.pipeline = ? AND found.sha256 = pictures.sha256 ORDER BY number"""
        with self._translated_errors():
            for name, sha256, code, reason, same_as, *packed in self._db.execute(query, (pipeline,)):
                outcome = Failure(code, reason) if code else unpack(*packed)
                yield JournalEntry(os.fsdecode(name), sha256, outcome, os.fsdecode(same_as))

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and delete it if the run is complete."""
        self._db.close()
        if remove and self._path is not None:
            self._path.unlink()

    def _ask(self, query: str, *values: object) -> list[Any]:
        with self._translated_errors():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn errors of SQLite into `JournalError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(str(self._path or "a temporary file"), explain(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def prepare(db: sqlite3.Connection) -> None:
    """Lock the file, and create missing tables; `sqlite3.DatabaseError` if it is another kind of file, or locked."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    [(owner,)] = db.execute("PRAGMA application_id").fetchall()
    [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
    if tables and owner != APPLICATION_ID:
        raise sqlite3.DatabaseError("file is not a database of ours")
    db.execute("PRAGMA journal_mode = WAL")  # a killed process loses nothing that was written
    db.execute("PRAGMA synchronous = NORMAL")
    if not tables:
        db.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {TABLES} COMMIT;")
    db.execute("BEGIN IMMEDIATE")  # the lock is taken when something is written
    db.execute("COMMIT")


def explain(error: sqlite3.Error) -> str:
    """Return the fault of the file, and the way out."""
    message = str(error)
    if "locked" in message:
        return "another run is writing there: wait for it"
    if "not a database" in message or "malformed" in message:
        return "not what an unfinished run leaves: move it away, or choose another output"
    return message


def pack(found: FoundFaces) -> tuple[int, int, int, bytes, bytes, bytes]:
    """Return the number of faces, the widths of rows and crops, and the bytes of all three."""
    faces = [(*face.box, face.score, *face.landmarks.ravel()) for face in found.faces]
    sizes = (len(faces), found.rows.shape[1], found.crops.shape[1])
    return *sizes, np.array(faces, np.float32).tobytes(), found.rows.tobytes(), found.crops.tobytes()


def unpack(count: int, width: int, size: int, *blobs: bytes) -> FoundFaces:
    """Return the result of the bytes from `pack`."""
    faces = np.frombuffer(blobs[0], np.float32).reshape(count, 15)
    rows = np.frombuffer(blobs[1], np.float32).reshape(count, width)
    crops = np.frombuffer(blobs[2], np.uint8)
    return FoundFaces(
        tuple(Face(row[:4], row[5:].reshape(5, 2), float(row[4])) for row in faces),
        rows,
        crops.reshape(-1, size, size, 3),
    )
