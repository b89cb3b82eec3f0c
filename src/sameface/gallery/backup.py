"""Copy a gallery file while it is in use, whole and verified."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sameface.atomic import replace_file
from sameface.gallery import hash_chain
from sameface.gallery.address import MilvusAddress, parse_address
from sameface.gallery.backend import Transaction
from sameface.gallery.check import GalleryFault, check_file, check_tables
from sameface.gallery.errors import BackupError, GalleryBusyError, LastFaceError
from sameface.gallery.gallery import Gallery
from sameface.gallery.hash_chain import Ends, Link
from sameface.gallery.keys import NO_KEYS, Keys
from sameface.gallery.people import delete_face, delete_person, merge_people
from sameface.gallery.receipts import COLUMNS, ERASURE, read_ends, read_link, write_merge, write_receipt
from sameface.gallery.records import Reason
from sameface.gallery.sqlite.database import (
    BUSY_CODES,
    SqliteDatabase,
    delete_companions,
    delete_files,
    make_private_file,
    restoring_path,
    translated,
)
from sameface.gallery.sqlite.schema import APPLICATION_ID
from sameface.gallery.upgrade import upgraded_path
from sameface.sqlite import connect

COUNTS = """SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces),
                   (SELECT count(*) FROM pictures), (SELECT head FROM chain)"""


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a gallery.

    Attributes:
        path: The file.
        people: How many people are in it.
        faces: How many faces.
        head: The hash of its last receipt; keep it elsewhere for `audit verify --expect`.
        encrypted: Its embeddings and crops are encrypted, with the key that opens the gallery now.
        faults: What `check` finds wrong with it, as with the gallery itself.
    """

    path: str
    people: int
    faces: int
    head: str
    encrypted: bool
    faults: tuple[GalleryFault, ...]


def backup_gallery(path: str | os.PathLike[str], output: str | os.PathLike[str], keys: Keys = NO_KEYS) -> Backup:
    """Copy a gallery, which may be in use, to one new file that only its owner may read.

    It is a copy as of one moment, by SQLite's backup interface. What is encrypted stays so. The file appears
    at `output` once it is whole, on the disk and verified.

    Args:
        path: The gallery.
        output: The file to make.
        keys: What opens it; without them encrypted rows are copied, but not verified one by one.

    Raises:
        BackupError: It is in a database or an upgrade that is not confirmed, something is at `output`, or the
            gallery is damaged.
        GalleryFileError: It is missing or not a gallery, or the disk is full.
    """
    place = Path(output)
    check_local(path)
    if place.exists():
        raise BackupError(str(place), "there is something here already: choose another name")
    with closing(SqliteDatabase.open(os.fspath(path), keys.encryption, create=False)) as database:
        if database.is_trial:
            raise BackupError(database.path, "it is an upgrade that is not confirmed: back up the gallery itself")
        with replace_file(place) as part:
            counts = copy_file(database.path, part)
            backup = verify_copy(part, keys, counts)
    return Backup(str(place), *backup)


def copy_file(path: str, part: Path) -> tuple[int, int, int, str]:
    """Copy a database as of one moment into a new private file without a log, and return its counts."""
    make_private_file(str(part))
    with translated(path), closing(connect(path)) as source:
        source.execute("BEGIN")
        counts: tuple[int, int, int, str] = source.execute(COUNTS).fetchone()
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        source.execute("COMMIT")
    return counts


def verify_copy(
    part: Path, keys: Keys, counts: tuple[int, int, int, str]
) -> tuple[int, int, str, bool, tuple[GalleryFault, ...]]:
    """Return what is in a copy, and what `check` finds wrong with it.

    Raises:
        BackupError: It is damaged, or does not hold what was counted in the gallery.
    """
    place = str(part)
    with translated(place), closing(sqlite3.connect(part, isolation_level=None)) as db:
        damages = check_file(db)
        if damages:
            raise BackupError(place, f"the gallery is damaged ({damages[0].text}): keep the backups you have")
        found = db.execute(COUNTS).fetchone()
        if found != counts:
            raise BackupError(place, f"it holds {found}, the gallery {counts}: the disk may be failing")
        copy = SqliteDatabase(place, db, keys.encryption)
        report = check_tables(copy)
        return report.people, report.faces, counts[-1], copy.vault.is_sealed, report.faults


def check_local(path: str | os.PathLike[str]) -> None:
    """Raise unless a gallery is in a file.

    Raises:
        BackupError: It is in a database.
    """
    address = parse_address(os.fspath(path))
    if isinstance(address, MilvusAddress) and not address.in_postgres:
        reason = f"back up or restore its people in {address.people!r}; Milvus is filled from them"
        raise BackupError(address.shown, reason)
    if address is not None:
        reason = (
            "only PostgreSQL can copy its own tables as of one moment while others write: use pg_dump and "
            "pg_restore, as docs/deploy.md shows"
        )
        raise BackupError(address.shown, reason)


SPARE = 100_000  # numbers that are passed over where nobody knows the last one that was given


@dataclass(frozen=True, slots=True)
class Change:
    """A deletion or a merge that a receipt or an audit log knows of.

    Attributes:
        reason: As in `Receipt`; `merge` for two people who were made one.
        person: The number of the person.
        face: The number of the face that was deleted alone, or None.
        into: Of a merge: the number of the person who got the faces.
    """

    reason: str
    person: int
    face: int | None = None
    into: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What an audit log knows of a gallery.

    Attributes:
        changes: Deletions and merges, in any order.
        last: The highest number of a person or a face in it, 0 for none.
    """

    changes: tuple[Change, ...] = ()
    last: int = 0


@dataclass(frozen=True, slots=True)
class Replaced:
    """What is read from a gallery before a backup takes its place.

    Attributes:
        origin: What its numbers are told by.
        last: The last number that it gave.
        encrypted: Its embeddings are encrypted.
        ends: Where its chain of receipts begins and ends.
        links: Its receipts, in order.
    """

    origin: str
    last: int
    encrypted: bool
    ends: Ends
    links: tuple[Link, ...]


@dataclass(slots=True)
class Applied:
    """What was done to a backup before it took the place of a gallery.

    Attributes:
        people: The numbers of the people who were deleted again.
        faces: Those of the faces that were deleted again alone.
        merged: Who was merged into whom again, by number.
        receipts: How many receipts were taken over from the gallery that was replaced.
    """

    people: list[int] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    merged: list[tuple[int, int]] = field(default_factory=list)
    receipts: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """A gallery that was restored.

    Attributes:
        path: The gallery.
        people: How many people are enrolled.
        faces: How many faces.
        applied: What was done again that had been done since the backup.
        last: The number after which the next are given.
        faults: What `check` finds wrong with it, as with the backup.
        notes: What to know of it, in words.
    """

    path: str
    people: int
    faces: int
    applied: Applied
    last: int
    faults: tuple[GalleryFault, ...]
    notes: tuple[str, ...]


def restore_gallery(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    read_log: Callable[[str], History | None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Put a backup in the place of a gallery, all of it or nothing.

    Whoever was deleted since the backup was made is deleted from it first, as the receipts of the gallery
    that is replaced and the audit log tell; who was merged is merged. Numbers that were given since are not
    given again. The log of the replaced file is deleted.

    Args:
        backup: The file to restore; it stays as it is.
        path: The gallery, which nobody may have open. It may be missing.
        read_log: Returns what the audit log knows of the gallery of an origin; None without a log.
        clock: Seconds since 1970, for receipts.

    Raises:
        BackupError: The backup is missing, damaged or no gallery; or what is at `path` is another gallery, no
            gallery, or has an upgrade beside it. Nothing is changed.
        GalleryBusyError: A program has the gallery open; nothing is changed.
        GalleryFileError: The disk is full or not writable; nothing is changed.
    """
    source, place = os.fspath(backup), os.fspath(path)
    check_local(place)
    if Path(upgraded_path(place)).exists():
        reason = f"an upgrade was begun in {upgraded_path(place)!r}: confirm it or --discard it first"
        raise BackupError(place, reason)
    part = restoring_path(place)
    with held(place) as db:
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
def held(path: str) -> Iterator[sqlite3.Connection]:
    """Hold a gallery so that nobody can open it, in one file without a log; an empty one if it is missing.

    Raises:
        GalleryBusyError: A program has it open.
        BackupError: It is not a database that SQLite can open.
    """
    missing = not Path(path).exists()
    if missing:
        delete_files(path)  # a log that a file left behind would be taken for the log of the next
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
    """Take the whole file for this connection."""
    try:
        check_owner(db, path)
        db.execute("PRAGMA journal_mode = DELETE")  # which SQLite refuses while anybody else has it open
        db.execute("BEGIN EXCLUSIVE")
        [(mode,)] = db.execute("PRAGMA journal_mode").fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in BUSY_CODES:
            reason = f"what is there cannot be replaced ({error}): move it out of the way first"
            raise BackupError(path, reason) from error
        mode = "busy"
    if mode != "delete":
        raise GalleryBusyError(path, "a program has it open: stop the service and every other program first")


def check_owner(db: sqlite3.Connection, path: str) -> None:
    """Raise if a database holds something else than a gallery.

    Raises:
        BackupError: It does.
    """
    [(owner,)] = db.execute("PRAGMA application_id").fetchall()
    [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
    if tables and owner != APPLICATION_ID:
        raise BackupError(path, "what is there is no gallery: choose another place")


def read_replaced(db: sqlite3.Connection) -> Replaced | None:
    """Return what is known of the gallery that is replaced; None if it is new, empty or damaged."""
    try:
        [(origin, last)] = db.execute("SELECT origin, last FROM numbers").fetchall()
        [(sealed,)] = db.execute("SELECT count(*) FROM data_keys").fetchall()
        [ends] = map(read_ends, db.execute(hash_chain.ENDS))
        links = [read_link(*row) for row in db.execute(f"SELECT {COLUMNS} FROM receipts ORDER BY number")]
    except (sqlite3.DatabaseError, ValueError):
        return None
    return Replaced(origin, last, bool(sealed), ends, tuple(links)) if last else None


def copy_backup(source: str, part: str) -> None:
    """Copy a backup to where a gallery is put together.

    Raises:
        BackupError: It is missing, damaged, or no gallery.
    """
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
    """Apply to a copy of a backup what was done since, and return what it is then."""
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
        notes = tuple(describe_gaps(database, replaced, log))
    with Gallery.open(part, clock=clock) as gallery:
        gallery.compact()
    with closing(SqliteDatabase.open(part, create=False)) as database:
        report = check_tables(database)
        database.read("PRAGMA journal_mode = DELETE")
    return Restored(path, report.people, report.faces, applied, last, report.faults, notes)


def apply_changes(db: Transaction, replaced: Replaced | None, log: History | None, now: float) -> Applied:
    """Delete and merge again whom receipts and audit log tell, in the open transaction."""
    applied = Applied()
    changes = [] if log is None else list(log.changes)
    known: set[tuple[int, int | None]] = set()
    if replaced is not None:
        since = [change for change in map(change_of, replaced.links) if change is not None]
        changes += since
        applied.receipts = take_over_receipts(db, replaced)
        if applied.receipts:
            known = {(change.person, change.face) for change in since}
    people = {number for (number,) in db.execute("SELECT id FROM people").fetchall()}
    for person, end, reason in sorted(find_ends(people, changes)):
        if reason is not None:
            gone = delete_person(db, person)
            applied.people.append(person)
            if (end, None) not in known:
                write_receipt(db, reason, gone, now)
        else:
            merge = merge_people(db, person, end)
            applied.merged.append((person, end))
            if (person, None) not in known:
                write_merge(db, merge, now)
    for face in sorted({change.face for change in changes if change.face is not None}):
        delete_again(db, face, known, applied, now)
    return applied


def find_ends(people: set[int], changes: Sequence[Change]) -> Iterator[tuple[int, int, Reason | None]]:
    """Yield who among people was deleted or merged: the number, whose faces they became, why these went.

    The reason is None for a merge: it goes to the last of those whose faces they became who is among people.
    """
    deleted: dict[int, Any] = {
        change.person: change.reason for change in changes if change.face is None and change.into is None
    }
    merged = {change.person: change.into for change in changes if change.into is not None}
    for person in people:
        end, passed = person, [person]
        while end in merged and merged[end] not in passed:
            end = merged[end]
            passed.append(end)
        gone = next((number for number in passed if number in deleted), None)
        if gone is not None:
            yield person, gone, deleted[gone]
            continue
        last = next(number for number in reversed(passed) if number in people)
        if last != person:
            yield person, last, None


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
    """Return what a receipt says was deleted or merged; None for one that says that bytes are gone."""
    facts = link.facts
    if facts.get("kind") == ERASURE or not isinstance(facts.get("person"), int):
        return None
    return Change(str(facts.get("reason")), facts["person"], facts.get("face"), facts.get("into"))


def take_over_receipts(db: Transaction, replaced: Replaced) -> int:
    """Put the receipts since the backup behind its own, if the chains are one; return how many."""
    first, _, last, head = db.execute(hash_chain.ENDS).fetchone()
    verdict = hash_chain.verify_links(lambda: replaced.ends, replaced.links)
    hashes = {replaced.ends.first: replaced.ends.anchor} | {link.number: link.hash for link in replaced.links}
    if verdict.fault is not None or hashes.get(last) != head or first != replaced.ends.first:
        return 0
    since = [link for link in replaced.links if link.number > last]
    for link in since:
        values = (link.number, json.dumps(link.facts, sort_keys=True), link.hash)
        db.execute(f"INSERT INTO receipts ({COLUMNS}) VALUES (?, ?, ?)", values)
    db.execute("UPDATE chain SET last = ?, head = ?", (replaced.ends.last, replaced.ends.head))
    return len(since)


def raise_counter(db: Transaction, replaced: Replaced | None, log: History | None) -> int:
    """Let the next number be one that nobody had since the backup either, and return the last."""
    (last,) = db.execute("SELECT last FROM numbers").fetchone()
    last = max(last, 0 if log is None else log.last)
    last = last + SPARE if replaced is None else max(last, replaced.last)
    db.execute("UPDATE numbers SET last = ?", (last,))
    return int(last)


def describe_gaps(database: SqliteDatabase, replaced: Replaced | None, log: History | None) -> Iterator[str]:
    """Yield what the user has to know of a gallery that was restored."""
    if replaced is None and log is None:
        yield "no gallery was replaced and no audit log found: who was deleted since is enrolled again"
    elif replaced is None:
        yield "no gallery was replaced: of deletions since the backup only those in the audit log are known"
    if replaced is not None and replaced.encrypted and not database.vault.is_sealed:
        yield "the gallery that was replaced was encrypted, this one is not: say `sameface gallery encrypt`"
    if database.read("SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'"):
        [(name,)] = database.read("SELECT name FROM milvus_index") or [("",)]
        yield f"its faces are searched by Milvus: drop the collection {name!r} there, it is filled anew"


def swap(part: str, path: str) -> None:
    """Put a file that is whole in the place of a gallery, of which nothing stays beside it."""
    with Path(part).open("rb") as file:
        os.fsync(file.fileno())
    delete_companions(path)
    Path(part).replace(path)
