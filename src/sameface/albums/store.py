"""The state of an album: one private SQLite file with its pictures, faces, groups, names and corrections."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.albums.grouping import Link
from sameface.arrays import Embeddings
from sameface.atomic import make_private
from sameface.errors import AlbumError
from sameface.face import Face
from sameface.sqlite import connect, transaction

APPLICATION_ID, VERSION = 0x5A3EEA3, 1
WAIT_SECONDS = 10
TABLES = """
CREATE TABLE album (folder BLOB NOT NULL, pipeline TEXT NOT NULL, signature TEXT NOT NULL, reach REAL NOT NULL);
CREATE TABLE pictures (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, searched INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '');
CREATE TABLE files (
    path BLOB PRIMARY KEY, stamp TEXT NOT NULL, picture_id INTEGER NOT NULL REFERENCES pictures ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX files_by_picture ON files (picture_id);
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY, person_id INTEGER REFERENCES people ON DELETE SET NULL, hidden INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX groups_by_person ON groups (person_id);
CREATE TABLE faces (
    id INTEGER PRIMARY KEY, picture_id INTEGER NOT NULL REFERENCES pictures ON DELETE CASCADE,
    group_id INTEGER REFERENCES groups ON DELETE SET NULL,
    place BLOB NOT NULL, score REAL NOT NULL, quality REAL NOT NULL, embedding BLOB NOT NULL, thumbnail BLOB NOT NULL
);
CREATE INDEX faces_by_picture ON faces (picture_id);
CREATE INDEX faces_by_group ON faces (group_id);
CREATE TABLE links (
    id INTEGER PRIMARY KEY, first INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
    second INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE, same INTEGER NOT NULL
);
CREATE TABLE answers (
    face_id INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
    person_id INTEGER NOT NULL REFERENCES people ON DELETE CASCADE, same INTEGER NOT NULL,
    PRIMARY KEY (face_id, person_id)
) WITHOUT ROWID;
CREATE TABLE history (id INTEGER PRIMARY KEY, time REAL NOT NULL, verb TEXT NOT NULL, undo TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, eq=False)
class StoredFace:
    """One face of an album.

    Attributes:
        number: Its number, which no other face of the album ever had.
        picture: The SHA-256 of the picture.
        files: The paths of the picture within the album's folder.
        face: The box, landmarks and score.
        quality: `Quality.total`, 0 to 1.
        group: The number of its group; None for a face that is too poor to begin one.
        person: The name of the group; None without one.
    """

    number: int
    picture: str
    files: tuple[str, ...]
    face: Face
    quality: float
    group: int | None
    person: str | None


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group of faces.

    Attributes:
        number: Its number.
        person: Its name; None without one.
        faces: How many faces it has.
        best: The number of its face of the highest quality.
        hidden: Whether it is left out of lists.
    """

    number: int
    person: str | None
    faces: int
    best: int
    hidden: bool


class Store:
    """The file of an album, open for one process. Every change is one transaction."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self.path = path

    @classmethod
    def open(cls, path: Path, folder: Path | None = None) -> Self:
        """Open the file, or make it for a folder.

        Args:
            path: The file.
            folder: The folder of photographs; needed where the file is not there yet.

        Raises:
            AlbumError: It is missing, another file, of a later version, or another process writes to it.
        """
        if not path.exists():
            if folder is None:
                raise AlbumError(str(path), "there is no such file: `sameface album scan FOLDER` makes it")
            make_private(path)
        with translated(path):
            store = cls(connect(str(path), WAIT_SECONDS), path)
        try:
            with translated(path):
                store._prepare(folder)
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self, folder: Path | None) -> None:
        [(owner,)] = self._db.execute("PRAGMA application_id").fetchall()
        [(version,)] = self._db.execute("PRAGMA user_version").fetchall()
        [(tables,)] = self._db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if tables and owner != APPLICATION_ID:
            raise AlbumError(str(self.path), "not the state of an album: choose another file with --state")
        if version > VERSION:
            raise AlbumError(str(self.path), "written by a later version of sameface: update the program")
        if not tables:
            if folder is None:
                raise AlbumError(str(self.path), "an empty file: `sameface album scan FOLDER` makes the state")
            with self.change() as db:
                for statement in TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("INSERT INTO album VALUES (?, '', '', 0)", (os.fsencode(folder.resolve()),))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction."""
        with translated(self.path), transaction(self._db):
            yield self._db

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query."""
        with translated(self.path):
            return self._db.execute(query, values).fetchall()

    @property
    def folder(self) -> Path:
        """The folder of photographs."""
        [(folder,)] = self.read("SELECT folder FROM album")
        return Path(os.fsdecode(folder))

    @property
    def signature(self) -> str:
        """The signature of the embeddings; empty before the first scan."""
        [(signature,)] = self.read("SELECT signature FROM album")
        return str(signature)

    def faces(self, condition: str = "1", *values: object) -> list[StoredFace]:
        """Return the faces that meet a condition in SQL, by number."""
        query = f"""SELECT faces.id, sha256, place, score, quality, group_id, name,
                           (SELECT group_concat(hex(path)) FROM files WHERE files.picture_id = pictures.id)
                    FROM faces JOIN pictures ON pictures.id = picture_id LEFT JOIN groups ON groups.id = group_id
                    LEFT JOIN people ON people.id = person_id WHERE {condition} ORDER BY faces.id"""
        return [make_face(row) for row in self.read(query, *values)]

    def face(self, number: int) -> StoredFace:
        """Return one face.

        Raises:
            AlbumError: There is no face of this number.
        """
        found = self.faces("faces.id = ?", number)
        if not found:
            raise AlbumError(str(self.path), f"no face {number}")
        return found[0]

    def groups(self, *, hidden: bool = False) -> list[StoredGroup]:
        """Return the groups: those with a name first, then the larger ones first."""
        query = """SELECT groups.id, name, count(*), hidden,
                          (SELECT id FROM faces WHERE group_id = groups.id ORDER BY quality DESC, id LIMIT 1)
                   FROM groups JOIN faces ON faces.group_id = groups.id LEFT JOIN people ON people.id = person_id
                   WHERE hidden <= ? GROUP BY groups.id ORDER BY name IS NULL, count(*) DESC, groups.id"""
        rows = self.read(query, hidden)
        return [StoredGroup(number, name, faces, best, bool(hide)) for number, name, faces, hide, best in rows]

    def group(self, number: int) -> StoredGroup:
        """Return one group.

        Raises:
            AlbumError: There is no group of this number.
        """
        for group in self.groups(hidden=True):
            if group.number == number:
                return group
        raise AlbumError(str(self.path), f"no group {number}: `sameface album people` lists them")

    def thumbnail(self, number: int) -> bytes:
        """Return the JPEG of a face."""
        [(data,)] = self.read("SELECT thumbnail FROM faces WHERE id = ?", number)
        return bytes(data)

    def rows(self, condition: str = "1", *values: object) -> tuple[NDArray[np.int64], Embeddings]:
        """Return the numbers of faces, `(n,)` rising, and their embeddings, `(n, d)`."""
        found = self.read(f"SELECT id, embedding FROM faces WHERE {condition} ORDER BY id", *values)
        numbers = np.array([number for number, _ in found], np.int64)
        rows = np.frombuffer(b"".join(row for _, row in found), np.float32)
        return numbers, rows.reshape(len(found), -1) if found else np.zeros((0, 0), np.float32)

    def links(self) -> list[Link]:
        """Return the corrections about two faces, the oldest first: their numbers, and whether they are one person."""
        return [
            (first, second, bool(same))
            for first, second, same in self.read("SELECT first, second, same FROM links ORDER BY id")
        ]

    def answers(self) -> list[tuple[int, str, bool]]:
        """Return the answers about a face and a name: its number, the name, and whether it is that person."""
        query = "SELECT face_id, name, same FROM answers JOIN people ON people.id = person_id ORDER BY face_id, name"
        return [(face, name, bool(same)) for face, name, same in self.read(query)]


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = "another program is writing to it: wait" if "locked" in str(error) else str(error)
        raise AlbumError(str(path), reason) from error
    except sqlite3.DatabaseError as error:
        raise AlbumError(str(path), f"{error}: take a backup, or scan into another file") from error


def make_face(row: tuple[Any, ...]) -> StoredFace:
    """Return a face from its columns."""
    number, picture, place, score, quality, group, person, files = row
    numbers = np.frombuffer(place, np.float32)
    paths = sorted(os.fsdecode(bytes.fromhex(path)) for path in (files or "").split(",") if path)
    face = Face(numbers[:4], numbers[4:].reshape(5, 2), score)
    return StoredFace(number, picture, tuple(paths), face, quality, group, person)


def delete_unused(db: sqlite3.Connection) -> None:
    """Delete groups without a face, and names that no group and no answer has."""
    db.execute("DELETE FROM groups WHERE id NOT IN (SELECT group_id FROM faces WHERE group_id IS NOT NULL)")
    db.execute("""DELETE FROM people WHERE id NOT IN (SELECT person_id FROM answers)
                  AND id NOT IN (SELECT person_id FROM groups WHERE person_id IS NOT NULL)""")


def person_number(db: sqlite3.Connection, name: str) -> int:
    """Return the number of a person, who is added if the name is new."""
    db.execute("INSERT INTO people (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()[0])


def place_of(face: Face) -> bytes:
    """Return the bytes of a face's box and landmarks."""
    return np.concatenate([face.box, face.landmarks.ravel()]).astype(np.float32).tobytes()


def keep_links(db: sqlite3.Connection, pairs: Iterable[tuple[int, int]], *, same: bool) -> None:
    """Write a correction about pairs of faces down."""
    db.executemany("INSERT INTO links (first, second, same) VALUES (?, ?, ?)", [(a, b, same) for a, b in pairs])


def keep_answer(db: sqlite3.Connection, faces: Sequence[int], person: int, *, same: bool) -> None:
    """Write down whether faces are a person; who is one person is no other."""
    if same:
        db.executemany("DELETE FROM answers WHERE face_id = ? AND same", [(face,) for face in faces])
    db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [(face, person, same) for face in faces])
