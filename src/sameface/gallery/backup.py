"""Copy a gallery file while it is in use, whole and verified."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sameface.atomic import replace_file
from sameface.gallery.address import MilvusAddress, parse_address
from sameface.gallery.check import Fault, check_file, check_tables
from sameface.gallery.database import Database, connect, make_private_file, translated
from sameface.gallery.errors import BackupError
from sameface.gallery.keys import NO_KEYS, Keys

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
    faults: tuple[Fault, ...]


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
    with closing(Database.open(os.fspath(path), keys.encryption, create=False)) as database:
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
) -> tuple[int, int, str, bool, tuple[Fault, ...]]:
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
        copy = Database(place, db, keys.encryption)
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
