"""Copy a gallery file while it is in use, and put such a backup in the place of a gallery."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sameface.atomic import replace_file
from sameface.gallery import hash_chain
from sameface.gallery.address import expect_file
from sameface.gallery.backend import Transaction
from sameface.gallery.check import GalleryFault, check_file, check_tables
from sameface.gallery.errors import BackupError, GalleryBusyError, LastFaceError
from sameface.gallery.hash_chain import Ends, Link
from sameface.gallery.keys import NO_KEYS, Keys
from sameface.gallery.people import delete_face, delete_person, merge_people
from sameface.gallery.receipts import COLUMNS, ERASURE, erase_traces, read_ends, read_link, write_merge, write_receipt
from sameface.gallery.sqlite.database import BUSY_CODES, SqliteDatabase, translated
from sameface.gallery.sqlite.files import (
    delete_companions,
    delete_files,
    make_private_file,
    restoring_path,
    upgraded_path,
)
from sameface.gallery.sqlite.schema import APPLICATION_ID
from sameface.sqlite import connect

Counts = tuple[int, int, int, str]  # people, faces and pictures, and the hash of the last receipt

IN_POSTGRES = (
    "only PostgreSQL can copy its own tables as of one moment while others write: use pg_dump and "
    "pg_restore, as docs/deploy.md shows"
)
IN_MILVUS = "back up or restore its people in {people!r}; Milvus is filled from them"
SPARE = 100_000  # numbers that are passed over where the last used one is not known
COUNTS = """SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces),
                   (SELECT count(*) FROM pictures), (SELECT head FROM chain)"""


@dataclass(frozen=True, slots=True)
class Backup:
    """A verified copy of a gallery."""

    path: str
    people: int
    faces: int
    head: str  # the hash of its last receipt; keep it elsewhere for `audit verify --expect`
    encrypted: bool  # with the key that opens the gallery now
    faults: tuple[GalleryFault, ...]  # as in the gallery itself


@dataclass(frozen=True, slots=True)
class Change:
    """A deletion or a merge in a receipt or an audit log."""

    reason: str  # as in `Receipt`
    person: int
    face: int | None = None  # that was deleted alone
    into: int | None = None  # of a merge: the person who got the faces


@dataclass(frozen=True, slots=True)
class History:
    """What an audit log says of a gallery: changes in any order, and the highest number of a person or face."""

    changes: tuple[Change, ...] = ()
    last: int = 0


@dataclass(frozen=True, slots=True)
class Replaced:
    """What is read from a gallery before a backup takes its place."""

    origin: str
    last: int  # the last number that it gave
    encrypted: bool
    ends: Ends
    receipts: tuple[Link, ...]


@dataclass(slots=True)
class Applied:
    """The changes since a backup, done again in it; people and faces by number."""

    people: list[int] = field(default_factory=list)  # deleted
    faces: list[int] = field(default_factory=list)  # deleted alone
    merged: list[tuple[int, int]] = field(default_factory=list)
    receipts: int = 0  # taken over from the replaced gallery


@dataclass(frozen=True, slots=True)
class Restored:
    """A gallery that was restored."""

    path: str
    people: int
    faces: int
    applied: Applied
    last: int  # the next number is greater
    faults: tuple[GalleryFault, ...]  # as in the backup
    notes: tuple[str, ...]  # what the user must know


def backup_gallery(path: str | os.PathLike[str], output: str | os.PathLike[str], keys: Keys = NO_KEYS) -> Backup:
    """Copy a gallery, which may be in use, to one new file that only its owner may read.

    SQLite's backup interface copies it as of one moment; what is encrypted stays so. The file appears at `output`
    once it is complete, on the disk and verified. Without the keys encrypted rows are not verified one by one.

    Raises:
        BackupError: It is in a database or an upgrade that is not confirmed, something is at `output`, or the
            gallery is damaged.
        GalleryFileError: It is missing or not a gallery, or the disk is full.
    """
    place = Path(output)
    expect_file(path, BackupError, IN_POSTGRES, IN_MILVUS)
    if place.exists():
        raise BackupError(str(place), "there is something here already: choose another name")
    with closing(SqliteDatabase.open(os.fspath(path), keys.encryption, create=False)) as database:
        if database.is_trial:
            raise BackupError(database.path, "it is an upgrade that is not confirmed: back up the gallery itself")
        with replace_file(place) as part:
            return verify_copy(part, keys, copy_file(database.path, part), place)


def copy_file(path: str, part: Path) -> Counts:
    """Copy a database as of one moment into a new private file without a log, and return its counts."""
    make_private_file(str(part))
    with translated(path), closing(connect(path)) as source:
        source.execute("BEGIN")
        counts: Counts = source.execute(COUNTS).fetchone()
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        source.execute("COMMIT")
    return counts


def verify_copy(part: Path, keys: Keys, counts: Counts, place: Path) -> Backup:
    """Return what is in a copy; raise if it is damaged, or differs from the counts of the gallery."""
    with translated(str(part)), closing(sqlite3.connect(part, isolation_level=None)) as db:
        damages = check_file(db)
        if damages:
            raise BackupError(str(part), f"the gallery is damaged ({damages[0].text}): keep the backups you have")
        found = db.execute(COUNTS).fetchone()
        if found != counts:
            raise BackupError(str(part), f"it holds {found}, the gallery {counts}: the disk may be failing")
        copy = SqliteDatabase(str(part), db, keys.encryption)
        report = check_tables(copy)
        return Backup(str(place), report.people, report.faces, counts[-1], copy.is_encrypted, report.faults)


def restore_gallery(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    read_log: Callable[[str], History | None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Put a backup in the place of a gallery, all of it or nothing.

    Before that, delete and merge in it whoever was deleted or merged since, by the receipts of the replaced
    gallery and the audit log. No number that was used since is given again.

    Args:
        backup: The file to restore; it stays as it is.
        path: The gallery, which no program may have open. It may be missing.
        read_log: Returns the history of the gallery of an origin; None without an audit log.
        clock: Seconds since 1970, for receipts.

    Raises:
        BackupError: The backup is missing, damaged or no gallery; or what is at `path` is another gallery, no
            gallery, or has an upgrade beside it. Nothing is changed.
        GalleryBusyError: A program has the gallery open; nothing is changed.
        GalleryFileError: The disk is full or not writable; nothing is changed.
    """
    source, place = os.fspath(backup), os.fspath(path)
    expect_file(place, BackupError, IN_POSTGRES, IN_MILVUS)
    if Path(upgraded_path(place)).exists():
        raise BackupError(place, f"an upgrade was begun in {upgraded_path(place)!r}: confirm it or --discard it first")
    part = restoring_path(place)
    with locked(place) as db:
        replaced = read_replaced(db)
        try:
            delete_files(part)
            copy_backup(source, part)
            restored = bring_up_to_date(part, place, replaced, read_log, clock)
            swap(part, place)
        finally:
            delete_files(part)
    return restored


@contextmanager
def locked(path: str) -> Iterator[sqlite3.Connection]:
    """Lock a gallery file exclusively, without a log; a missing one is made, and deleted on an error."""
    missing = not Path(path).exists()
    if missing:
        delete_files(path)  # the log of an earlier file would be taken for the log of the next
        make_private_file(path)
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as db:
            lock(db, path)
            yield db
    except BaseException:
        if missing:
            delete_files(path)
        raise


def lock(db: sqlite3.Connection, path: str) -> None:
    """Take the file of a gallery for one connection."""
    try:
        [(owner,)] = db.execute("PRAGMA application_id").fetchall()
        [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if tables and owner != APPLICATION_ID:
            raise BackupError(path, "what is there is no gallery: choose another place")
        db.execute("PRAGMA journal_mode = DELETE")  # which SQLite refuses while another program has it open
        db.execute("BEGIN EXCLUSIVE")
        [(mode,)] = db.execute("PRAGMA journal_mode").fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in BUSY_CODES:
            reason = f"what is there cannot be replaced ({error}): move it out of the way first"
            raise BackupError(path, reason) from error
        mode = "busy"
    if mode != "delete":
        raise GalleryBusyError(path, "a program has it open: stop the service and every other program first")


def read_replaced(db: sqlite3.Connection) -> Replaced | None:
    """Return what the replaced gallery says; None if it is new, empty or damaged."""
    try:
        [(origin, last)] = db.execute("SELECT origin, last FROM numbers").fetchall()
        [(keys,)] = db.execute("SELECT count(*) FROM data_keys").fetchall()
        [ends] = map(read_ends, db.execute(hash_chain.ENDS))
        receipts = [read_link(*row) for row in db.execute(f"SELECT {COLUMNS} FROM receipts ORDER BY number")]
    except (sqlite3.DatabaseError, ValueError):
        return None
    return Replaced(origin, last, bool(keys), ends, tuple(receipts)) if last else None


def copy_backup(source: str, part: str) -> None:
    """Copy a backup to `part`; raise if it is missing, damaged, or no gallery."""
    if not Path(source).exists():
        raise BackupError(source, "there is no such file")
    make_private_file(part)
    with (
        closing(sqlite3.connect(f"{Path(source).absolute().as_uri()}?mode=ro", uri=True)) as db,
        closing(sqlite3.connect(part, isolation_level=None)) as copy,
    ):
        try:
            [(owner,)] = db.execute("PRAGMA application_id").fetchall()
        except sqlite3.DatabaseError as error:
            raise BackupError(source, f"it cannot be read ({error})") from error
        if owner != APPLICATION_ID:
            raise BackupError(source, "it is no gallery")
        with translated(part):
            db.backup(copy)
        damages = check_file(copy)
    if damages:
        raise BackupError(source, f"it is damaged ({damages[0].text})")


def bring_up_to_date(
    part: str,
    path: str,
    replaced: Replaced | None,
    read_log: Callable[[str], History | None],
    clock: Callable[[], float],
) -> Restored:
    """Apply the changes since a backup to its copy, and remove their traces from it."""
    with closing(SqliteDatabase.open(part, create=False)) as database:
        if database.is_trial:
            raise BackupError(path, "the backup is an upgrade that was not confirmed")
        [(origin,)] = database.read("SELECT origin FROM numbers")
        if replaced is not None and replaced.origin != origin:
            reason = "it is not the gallery that the backup is of: choose another place, or move it away first"
            raise BackupError(path, reason)
        log = read_log(str(origin))
        with database.write() as db:
            applied = apply_changes(db, replaced, log, clock())
            last = raise_counter(db, replaced, log)
        erase_traces(database, clock, whole=True)
        notes = tuple(find_gaps(database, replaced, log))
        report = check_tables(database)
        database.read("PRAGMA journal_mode = DELETE")
    return Restored(path, report.people, report.faces, applied, last, report.faults, notes)


def apply_changes(db: Transaction, replaced: Replaced | None, log: History | None, now: float) -> Applied:
    """Delete and merge again by receipts and audit log, in the open transaction."""
    since = [] if replaced is None else [change for change in map(change_of, replaced.receipts) if change is not None]
    applied = Applied(receipts=0 if replaced is None else take_over_receipts(db, replaced))
    known = {(change.person, change.face) for change in since if applied.receipts}  # their receipts are here again
    changes = [*(() if log is None else log.changes), *since]
    deleted: dict[int, Any] = {
        change.person: change.reason for change in changes if change.face is None and change.into is None
    }
    merged = {change.person: change.into for change in changes if change.into is not None}
    people = {number for (number,) in db.execute("SELECT id FROM people").fetchall()}
    for person in sorted(people):
        passed = follow_merges(person, merged)
        gone = next((number for number in passed if number in deleted), None)
        last = [number for number in passed if number in people][-1]
        if gone is not None:
            deletion = delete_person(db, person)
            applied.people.append(person)
            if (gone, None) not in known:
                write_receipt(db, deleted[gone], deletion, now)
        elif last != person:
            merge = merge_people(db, person, last)
            applied.merged.append((person, last))
            if (person, None) not in known:
                write_merge(db, merge, now)
    for face in sorted({change.face for change in changes if change.face is not None}):
        delete_again(db, face, known, applied, now)
    return applied


def follow_merges(person: int, merged: dict[int, int]) -> list[int]:
    """Return a person and those who got the person's faces, in turn."""
    passed = [person]
    while (into := merged.get(passed[-1], person)) not in passed:
        passed.append(into)
    return passed


def delete_again(db: Transaction, face: int, known: set[tuple[int, int | None]], applied: Applied, now: float) -> None:
    """Delete a face, and a person who is left without any."""
    found = db.execute("SELECT person_id FROM faces WHERE id = ?", (face,)).fetchone()
    if found is None:
        return
    person = int(found[0])
    try:
        gone = delete_face(db, person, face)
        applied.faces.append(face)
    except LastFaceError:  # the others came after the backup
        gone = delete_person(db, person)
        applied.people.append(person)
    if face not in {number for _, number in known}:
        write_receipt(db, "forget_face", gone, now)


def change_of(link: Link) -> Change | None:
    """Return the deletion or merge that a receipt is of; None for an erasure."""
    facts = link.facts
    if facts.get("kind") == ERASURE or not isinstance(facts.get("person"), int):
        return None
    return Change(str(facts.get("reason")), facts["person"], facts.get("face"), facts.get("into"))


def take_over_receipts(db: Transaction, replaced: Replaced) -> int:
    """Append the receipts since the backup if they continue its chain; return their number."""
    first, _, last, head = db.execute(hash_chain.ENDS).fetchone()
    verdict = hash_chain.verify_links(lambda: replaced.ends, replaced.receipts)
    hashes = {replaced.ends.first: replaced.ends.anchor} | {link.number: link.hash for link in replaced.receipts}
    if verdict.fault is not None or hashes.get(last) != head or first != replaced.ends.first:
        return 0
    since = [link for link in replaced.receipts if link.number > last]
    for link in since:
        values = (link.number, json.dumps(link.facts, sort_keys=True), link.hash)
        db.execute(f"INSERT INTO receipts ({COLUMNS}) VALUES (?, ?, ?)", values)
    db.execute("UPDATE chain SET last = ?, head = ?", (replaced.ends.last, replaced.ends.head))
    return len(since)


def raise_counter(db: Transaction, replaced: Replaced | None, log: History | None) -> int:
    """Raise the last number over all that were used since the backup, and return it."""
    (last,) = db.execute("SELECT last FROM numbers").fetchone()
    last = max(last, 0 if log is None else log.last)
    last = last + SPARE if replaced is None else max(last, replaced.last)
    db.execute("UPDATE numbers SET last = ?", (last,))
    return int(last)


def find_gaps(database: SqliteDatabase, replaced: Replaced | None, log: History | None) -> Iterator[str]:
    """Yield what the user must know of a restored gallery."""
    if replaced is None and log is None:
        yield "no gallery was replaced and no audit log found: who was deleted since is enrolled again"
    elif replaced is None:
        yield "no gallery was replaced: of deletions since the backup only those in the audit log are known"
    if replaced is not None and replaced.encrypted and not database.is_encrypted:
        yield "the gallery that was replaced was encrypted, this one is not: say `sameface gallery encrypt`"
    if database.read("SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'"):
        [(name,)] = database.read("SELECT name FROM milvus_index") or [("",)]
        yield f"its faces are searched by Milvus: drop the collection {name!r} there, it is filled anew"


def swap(part: str, path: str) -> None:
    """Put a complete file in the place of a gallery, and delete the files beside that."""
    with Path(part).open("rb") as file:
        os.fsync(file.fileno())
    delete_companions(path)
    Path(part).replace(path)
