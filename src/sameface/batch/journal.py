"""What a batch has done, in one private SQLite file, so that a run that was ended goes on later."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sameface.batch.finder import Failure, Found, Outcome
from sameface.errors import BatchError
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


BLOBS = "count, width, size, faces, embeddings, crops"  # what `unpack` takes


class JournalError(BatchError):
    """The journal of an unfinished run is another kind of file, in use, or cannot be written."""

    code = "bad_journal"
    message = "cannot keep what is done in {path!r}: {reason}"
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What became of one picture.

    Attributes:
        picture: What it is called.
        sha256: Of its content; empty if it could not be read.
        outcome: Its faces, or why there are none.
        same_as: The earlier picture that has the same content; empty if there is none.
    """

    picture: str
    sha256: str
    outcome: Outcome
    same_as: str = ""


class Journal:
    """What was found, by content, and the pictures of the run that goes on, in order.

    The rows are biometric data: the file is readable by its owner only. One process has it open at a time.
    """

    def __init__(self, db: sqlite3.Connection, path: Path | None) -> None:
        self._db = db
        self._path = path

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Open the file, or make it; without a path it is one that nobody sees, gone with the process.

        Raises:
            JournalError: It is something else, another process has it, or the disk is full.
        """
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect("" if path is None else path, isolation_level=None, timeout=1)
        journal = cls(db, path)
        try:
            with journal._told():
                prepare(db)
        except JournalError:
            db.close()
            raise
        return journal

    def hash_of(self, name: str, stamp: str) -> str | None:
        """Return the SHA-256 that a picture had when its file looked like this; None if that is not known."""
        query = "SELECT sha256 FROM hashes WHERE name = ? AND stamp = ?"
        found = self._ask(query, to_bytes(name), stamp) if stamp else []
        return found[0][0] if found else None

    def keep_hash(self, name: str, stamp: str, sha256: str) -> None:
        """Remember the SHA-256 of a picture."""
        if stamp:
            self._ask("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", to_bytes(name), stamp, sha256)

    def holds(self, pipeline: str, sha256: str) -> bool:
        """Return whether a content was searched by this pipeline."""
        return bool(self._ask("SELECT 1 FROM found WHERE pipeline = ? AND sha256 = ?", pipeline, sha256))

    def find(self, pipeline: str, sha256: str) -> Found | None:
        """Return what this pipeline found in a content; None if it has not searched it."""
        query = f"SELECT {BLOBS} FROM found WHERE pipeline = ? AND sha256 = ?"
        found = self._ask(query, pipeline, sha256)
        return unpack(*found[0]) if found else None

    def keep(self, pipeline: str, sha256: str, found: Found) -> None:
        """Remember what was found in a content."""
        self._ask("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)", pipeline, sha256, *pack(found))

    def begin(self) -> None:
        """Forget the order of the run before."""
        self._ask("DELETE FROM pictures")

    def add(self, entry: Entry) -> None:
        """Write the next picture down. What was found in it is kept already."""
        failed = entry.outcome if isinstance(entry.outcome, Failure) else Failure("", "")
        self._ask(
            "INSERT INTO pictures (name, sha256, code, reason, same_as) VALUES (?, ?, ?, ?, ?)",
            to_bytes(entry.picture),
            entry.sha256,
            failed.code,
            failed.reason.encode(errors="backslashreplace").decode(),
            to_bytes(entry.same_as),
        )

    def first_of(self, sha256: str) -> str:
        """Return the first picture of this run with this content, empty if none of them gave a result."""
        query = "SELECT name FROM pictures WHERE sha256 = ? AND code = '' ORDER BY number LIMIT 1"
        found = self._ask(query, sha256)
        return os.fsdecode(found[0][0]) if found else ""

    def entries(self, pipeline: str) -> Iterator[Entry]:
        """Yield what became of every picture of the run, in order; few of them are in memory at a time."""
        query = f"""SELECT name, pictures.sha256, code, reason, same_as, {BLOBS} FROM pictures
                   LEFT JOIN found ON found.pipeline = ? AND found.sha256 = pictures.sha256 ORDER BY number"""
        with self._told():
            for name, sha256, code, reason, same_as, *packed in self._db.execute(query, (pipeline,)):
                outcome = Failure(code, reason) if code else unpack(*packed)
                yield Entry(os.fsdecode(name), sha256, outcome, os.fsdecode(same_as))

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and delete it if its work is done."""
        self._db.close()
        if remove and self._path is not None:
            self._path.unlink()

    def _ask(self, query: str, *values: object) -> list[Any]:
        with self._told():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the errors of SQLite into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(str(self._path or "a temporary file"), explain(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare(db: sqlite3.Connection) -> None:
    """Take hold of the file and make its tables, if they are not there.

    Raises:
        sqlite3.DatabaseError: It is another file, or another process holds it.
    """
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
    """Return what is wrong with the file, and the way out."""
    told = str(error)
    if "locked" in told:
        return "another run is writing there: wait for it"
    if "not a database" in told or "malformed" in told:
        return "not what an unfinished run leaves: move it away, or choose another output"
    return told


def to_bytes(name: str) -> bytes:
    """Return a name as the system has it: it need not be text."""
    return os.fsencode(name)


def pack(found: Found) -> tuple[int, int, int, bytes, bytes, bytes]:
    """Return how many faces were found, the width of rows and of crops, and the bytes of all three."""
    faces = [(*face.box, face.score, *face.landmarks.ravel()) for face in found.faces]
    sizes = (len(faces), found.rows.shape[1], found.crops.shape[1])
    return *sizes, np.array(faces, np.float32).tobytes(), found.rows.tobytes(), found.crops.tobytes()


def unpack(count: int, width: int, size: int, *blobs: bytes) -> Found:
    """Return what `pack` made bytes of."""
    faces = np.frombuffer(blobs[0], np.float32).reshape(count, 15)
    rows = np.frombuffer(blobs[1], np.float32).reshape(count, width)
    crops = np.frombuffer(blobs[2], np.uint8)
    return Found(
        tuple(Face(row[:4], row[5:].reshape(5, 2), float(row[4])) for row in faces),
        rows,
        crops.reshape(-1, size, size, 3),
    )
