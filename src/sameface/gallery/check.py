"""Check a gallery: its file, tables, rows and receipts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sameface.arrays import are_unit_rows
from sameface.atomic import may_others
from sameface.gallery.address import open_backend, parse_address
from sameface.gallery.backend import DATA_ERRORS, SHAPE_ERRORS, Backend, Row
from sameface.gallery.errors import GalleryFileError, MissingKeyError, SealError
from sameface.gallery.keys import NO_KEYS, Keys
from sameface.gallery.receipts import verify_receipts
from sameface.gallery.sqlite.database import SqliteDatabase, migrate, translated
from sameface.sqlite import connect

PAGE = 2000  # faces that are read at once
MOST = 20  # lines of SQLite's own checks
FILES = ("", "-wal", "-shm", ".upgraded", ".access")  # endings of the files of a gallery
UNREADABLE: tuple[type[Exception], ...] = (*DATA_ERRORS, *SHAPE_ERRORS, GalleryFileError, SealError)  # of any row
OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name NOT LIKE '%milvus%'"


@dataclass(frozen=True, slots=True)
class GalleryFault:
    """A fault in a gallery, and in the row of which face of which person it is."""

    check: str  # `integrity`, `references`, `schema`, `numbers`, `row`, `receipts` or `mode`
    text: str
    person: int | None = None
    face: int | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check; true if there are no faults."""

    people: int
    faces: int
    faults: tuple[GalleryFault, ...]
    unchecked: tuple[str, ...] = ()  # what could not be checked, and why

    def __bool__(self) -> bool:
        """Whether no fault was found in what could be checked."""
        return not self.faults


def check_gallery(place: str | os.PathLike[str], keys: Keys = NO_KEYS) -> CheckReport:
    """Check the gallery in a file or at an address; it may be in use.

    Without the key the rows of an encrypted gallery are not checked.

    Raises:
        GalleryFileError: It is missing, not a gallery, or too damaged to be opened.
        WrongKeyError, KeyFileError: The key is not the one that it needs.
        GalleryUnreachableError: The database does not answer.
    """
    path = os.fspath(place)
    faults: list[GalleryFault] = []
    if parse_address(path) is None and Path(path).exists():
        files = [path + ending for ending in FILES if may_others(path + ending)]
        faults = [GalleryFault("mode", f"others may read or write {file!r}: chmod 600") for file in files]
        with translated(path), closing(connect(path)) as db:
            damages = check_file(db)
        if damages:
            return CheckReport(0, 0, (*damages, *faults))
    with closing(open_backend(path, keys, create=False)) as database:
        found = check_tables(database)
        return CheckReport(found.people, found.faces, (*found.faults, *faults), found.unchecked)


def check_tables(database: Backend) -> CheckReport:
    """Check the tables, numbers, rows and receipts of a database."""
    faults = []
    [(last, *used)] = database.read(
        """SELECT last, (SELECT coalesce(max(id), 0) FROM people),
                        (SELECT coalesce(max(id), 0) FROM faces) FROM numbers"""
    )
    if last < max(used):
        faults.append(GalleryFault("numbers", f"the last number is {last}, but {max(used)} is in use"))
    if (broken := verify_receipts(database).fault) is not None:
        faults.append(GalleryFault("receipts", broken))
    if isinstance(database, SqliteDatabase):
        faults += check_schema(database)
    unchecked: tuple[str, ...] = ()
    try:
        database.check_key()
        faults += check_rows(database)
    except MissingKeyError as error:
        unchecked = (f"rows: {error}",)
    [(people, faces)] = database.read("SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces)")
    return CheckReport(int(people), int(faces), tuple(faults), unchecked)


def check_file(db: sqlite3.Connection) -> list[GalleryFault]:
    """Return the damaged pages of a file, and rows with missing references, as SQLite finds them."""
    try:
        damages = [words for (words,) in db.execute(f"PRAGMA integrity_check({MOST})") if words != "ok"]
    except sqlite3.DatabaseError as error:
        damages = [str(error)]
    if damages:
        return [GalleryFault("integrity", f"{words}: restore a backup") for words in damages]
    loose = db.execute("PRAGMA foreign_key_check").fetchmany(MOST)
    return [GalleryFault("references", f"row {row} of {table!r} has no {parent!r}") for table, row, parent, _ in loose]


def check_schema(database: SqliteDatabase) -> Iterator[GalleryFault]:
    """Yield the differences from the tables that this version makes."""
    [(version,)] = database.read("PRAGMA user_version")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for number in range(version):
            migrate(db, number)
        wanted = statements_by_name(db.execute(OBJECTS).fetchall())
    found = statements_by_name(database.read(OBJECTS))
    for kind, name in sorted(wanted.keys() - found.keys()):
        yield GalleryFault("schema", f"{kind} {name!r} is missing: restore a backup")
    for kind, name in sorted(found.keys() - wanted.keys()):
        yield GalleryFault("schema", f"{kind} {name!r} is not one that sameface makes")
    for kind, name in sorted(found.keys() & wanted.keys()):
        if found[kind, name] != wanted[kind, name]:
            yield GalleryFault("schema", f"{kind} {name!r} is not as sameface makes it")


def statements_by_name(objects: Sequence[Row]) -> dict[tuple[str, str], str]:
    """Return the statement that makes each table, index and trigger, by kind and name."""
    return {(kind, name): " ".join(str(sql).split()) for kind, name, sql in objects}


def check_rows(database: Backend) -> Iterator[GalleryFault]:
    """Yield the embeddings that no search can use: damaged, not finite, or not of length 1."""
    query = f"""SELECT faces.id, person_id, name, {database.row_column} FROM faces
                JOIN people ON people.id = person_id WHERE faces.id > ? ORDER BY faces.id LIMIT {PAGE}"""
    [(width,)] = database.read("SELECT dimension FROM pipeline") or [(None,)]
    last = 0
    while True:
        with database.snapshot():
            found = database.read(query, last)
            reasons = check_page(database, found, width)
        for (face, person, name, _), reason in zip(found, reasons, strict=True):
            if reason is not None:
                text = f"face {face} of person {person} ({name!r}): {reason}; no search finds it"
                yield GalleryFault("row", f"{text}: delete it with forget --face", person, face)
        if not found:
            return
        last = found[-1][0]


def check_page(database: Backend, found: Sequence[Row], width: int | None) -> list[str | None]:
    """Return why no search can use each embedding, or None."""
    try:
        rows = database.decode_rows([face for face, *_ in found], [row for *_, row in found])
        if not found or (len(rows[0]) == width and are_unit_rows(np.stack(rows)).all()):
            return [None] * len(found)
    except UNREADABLE:
        pass  # one of them is to blame
    return [check_row(database, face, kept, width) for face, _, _, kept in found]


def check_row(database: Backend, face: int, kept: Any, width: int | None) -> str | None:
    """Return why no search can use an embedding, or None."""
    try:
        [row] = database.decode_rows([face], [kept])
    except UNREADABLE as error:
        return f"its embedding cannot be read ({error})"
    if len(row) != width:
        return f"its embedding has {len(row)} numbers, wanted {width}"
    if not np.isfinite(row).all():
        return "its embedding is not finite"
    if not are_unit_rows(row[None]).all():
        return f"its embedding has length {np.linalg.norm(row.astype(np.float64)):.4g}, wanted 1"
    return None
