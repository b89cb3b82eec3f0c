"""Who may use the service, and who did what: one small SQLite file."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

from sameface.errors import AccessFileError, GalleryFileError
from sameface.gallery import chain
from sameface.gallery.chain import Ends, Link, Verdict
from sameface.gallery.database import connect, make_private_file, transaction
from sameface.gallery.names import clean_name

APPLICATION_ID = 0x5A3E4EE5  # marks the file as ours
# Each entry takes the file from the version before it to its own: the first makes version 1. Entries are
# never changed, only added.
MIGRATIONS = (
    """
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE, made REAL NOT NULL
    );
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, key TEXT, action TEXT NOT NULL, person TEXT,
        detail TEXT NOT NULL
    );
    """,
    # Version 1 had names of people, which outlived them: they are dropped.
    """
    UPDATE audit SET detail = '{}' WHERE action IN ('rename', 'merge');
    ALTER TABLE audit DROP COLUMN person;
    ALTER TABLE audit ADD COLUMN gallery TEXT;
    ALTER TABLE audit ADD COLUMN person INTEGER;
    """,
    # The entries that are there get their hashes from `link_entries`.
    f"ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT ''; {chain.TABLE.rstrip().rstrip(';')}",
)
LINKED = 3  # the version from which on entries are a chain
IN_MEMORY = ":memory:"
PREFIX = "sf_"
DAY = 86_400
COLUMNS = "id, time, key, action, gallery, person, detail, hash"
FACTS = ("time", "key", "action", "gallery", "person", "detail")  # of an entry, as the chain has them
MOST_ENTRIES = 1_000_000

Role = Literal["read", "enroll", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
Whom: TypeAlias = tuple[str, int]  # the origin of a gallery's numbers, and the number of a person in it


@dataclass(frozen=True, slots=True)
class Key:
    """Who is asking.

    Attributes:
        name: What the key is called; None without keys.
        role: What it may do.
        made: When it was made, in seconds since 1970.
    """

    name: str | None
    role: Role
    made: float = 0.0

    def may(self, role: Role) -> bool:
        """Return whether the key reaches as far as `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


OWNER = Key(name=None, role="admin")  # whoever can write the file, and whoever reaches a service without keys


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done. It holds no name of a person: who is gone from the gallery is gone from here.

    Attributes:
        number: Rising.
        time: In seconds since 1970.
        key: The name of the key; None without keys.
        action: Such as `enroll`.
        person: Whom it was done to; None for nobody in particular.
        detail: Numbers, and the names of keys.
        hash: Over the entry before and everything in this one.
    """

    number: int
    time: float
    key: str | None
    action: str
    person: Whom | None
    detail: dict[str, Any]
    hash: str

    @property
    def moment(self) -> str:
        """The time in words (ISO 8601, UTC)."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")


class Access:
    """The keys and the audit log of a service. Threads may share it, and programs the file.

    Only the SHA-256 of a key is kept. A key is 256 random bits, not a password: nobody can try them all, so
    that a slow hash with salt would protect nothing more, and would make every request slow.
    """

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str = IN_MEMORY) -> Self:
        """Open the file, or make one that only its owner may read.

        Raises:
            AccessFileError: It is something else, or cannot be made.
        """
        if path == IN_MEMORY:
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        else:
            if not Path(path).exists():
                make_private_access_file(path)
            with translated(path):
                connection = connect(path)
        access = cls(path, connection)
        try:
            access._make_tables()
        except BaseException:
            connection.close()
            raise
        return access

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def make_key(self, name: str, role: Role) -> str:
        """Return a new key. It is shown this once: what is kept of it cannot be turned back.

        Raises:
            AccessFileError: There is a key of this name.
            BadNameError: The name is empty, too long or not text.
        """
        token = PREFIX + secrets.token_urlsafe(32)
        values = (clean_name(name), role, hash_token(token), time.time())
        try:
            self._run("INSERT INTO keys (name, role, hash, made) VALUES (?, ?, ?, ?)", *values)
        except sqlite3.IntegrityError as error:
            raise AccessFileError(self.path, f"there is a key named {name!r}: revoke it first") from error
        self.record(OWNER, "add_key", [], {"name": name, "role": role})
        return token

    def keys(self) -> list[Key]:
        """Return the keys that hold, by name."""
        return [Key(*row) for row in self._run("SELECT name, role, made FROM keys ORDER BY name")]

    def revoke_key(self, name: str) -> None:
        """Make a key invalid, for running services too.

        Raises:
            AccessFileError: There is none of this name.
        """
        if not self._run("DELETE FROM keys WHERE name = ? RETURNING id", name):
            raise AccessFileError(self.path, f"there is no key named {name!r}")
        self.record(OWNER, "revoke_key", [], {"name": name})

    def find_key(self, token: str) -> Key | None:
        """Return the key that this is, or None."""
        found = self._run("SELECT name, role, made FROM keys WHERE hash = ?", hash_token(token))
        return Key(*found[0]) if found else None

    def record(self, key: Key, action: str, people: Sequence[Whom], detail: dict[str, Any]) -> None:
        """Write down what was done to each of these people, or, with none, in general."""
        whom: list[tuple[str | None, int | None]] = [*people] or [(None, None)]
        with self._write() as db:
            self._read_ends(db)
            for person in whom:
                values = (time.time(), key.name, action, *person, json.dumps(detail))
                link = chain.append_link(db, dict(zip(FACTS, values, strict=True)))
                insert = f"INSERT INTO audit ({COLUMNS}) VALUES ({', '.join('?' * 8)})"
                db.execute(insert, (link.number, *values, link.hash))

    def entries(self, limit: int, before: int | None = None) -> list[Entry]:
        """Return what was done, the latest first; `before` is the number of an entry to go on from."""
        query = f"SELECT {COLUMNS} FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?"
        rows = self._run(query, 2**63 - 1 if before is None else before, limit)
        return [read_entry(row) for row in rows]

    def entries_of(self, person: Whom) -> list[Entry]:
        """Return what was done to a person, the first entry first."""
        query = f"SELECT {COLUMNS} FROM audit WHERE gallery = ? AND person = ? ORDER BY id"
        return [read_entry(row) for row in self._run(query, *person)]

    def forget_entries(self, days: int) -> None:
        """Delete what was done longer ago, and all but the last million entries; the rest stays a chain.

        An entry behind which a younger one stands stays as long as that one.
        """
        with self._write() as db:
            query = "SELECT ifnull(min(id), ?) FROM audit WHERE time >= ?"
            (kept,) = db.execute(query, (2**63 - 1, time.time() - days * DAY)).fetchone()
            query = """SELECT id, hash FROM audit WHERE id < ? OR id <= (SELECT max(id) FROM audit) - ?
                       ORDER BY id DESC LIMIT 1"""
            gone = db.execute(query, (kept, MOST_ENTRIES)).fetchone()
            if gone is not None:
                db.execute("DELETE FROM audit WHERE id <= ?", gone[:1])
                db.execute("UPDATE chain SET first = ?, anchor = ?", gone)

    def verify(self, expected: Collection[str] = ()) -> Verdict:
        """Return whether the log is as it was written, as far as its hashes tell.

        Args:
            expected: Hashes that were kept elsewhere, and must be in it.
        """
        with self._write() as db:  # so that nobody adds to it meanwhile
            ends = self._read_ends(db)
            found = db.execute(f"SELECT {COLUMNS} FROM audit ORDER BY id")
            return chain.verify_links(ends, map(read_link, found), expected)

    def _read_ends(self, db: sqlite3.Connection) -> Ends:
        """Return where the chain of the log begins and ends.

        Raises:
            AccessFileError: That is gone, so that nothing can be added or verified.
        """
        found = db.execute(chain.ENDS).fetchone()
        if found is None or list(map(type, found)) != [int, str, int, str]:
            raise AccessFileError(self.path, "damaged: it does not say where its log ends: take a backup")
        return Ends(*found)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction: all of it is committed, or on an error nothing."""
        with self._lock, translated(self.path), transaction(self._db):
            yield self._db

    def _run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; what it changes is committed."""
        with self._lock, translated(self.path):
            return self._db.execute(query, values).fetchall()

    def _make_tables(self) -> None:
        """Make the tables of a new file, or check those of an old one."""
        [(version,)] = self._run("PRAGMA user_version")
        [(owner,)] = self._run("PRAGMA application_id")
        [(tables,)] = self._run("SELECT count(*) FROM sqlite_master")
        if tables and (owner != APPLICATION_ID or version > len(MIGRATIONS)):
            raise AccessFileError(self.path, "not a file of keys that this version reads")
        if version < len(MIGRATIONS):
            with self._write() as db:
                migrate(db)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables to this version, unless another program has done so meanwhile."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for statement in ";".join(MIGRATIONS[version:]).split(";"):
        db.execute(statement)
    if version < LINKED:
        link_entries(db)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def link_entries(db: sqlite3.Connection) -> None:
    """Make a chain of the entries of an earlier version, as they are found."""
    rows = db.execute(f"SELECT {COLUMNS} FROM audit ORDER BY id").fetchall()
    (used,) = db.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    first, last, head = 0 if rows else used, used, chain.START
    for row in rows:
        last, head = row[0], chain.hash_link(head, row[0], read_link(row).facts)
        db.execute("UPDATE audit SET hash = ? WHERE id = ?", (head, last))
    db.execute("UPDATE chain SET first = ?, last = ?, head = ?", (first, last, head))


def read_entry(row: tuple[Any, ...]) -> Entry:
    """Return an entry of the audit log from its columns."""
    number, when, key, action, gallery, person, detail, hashed = row
    whom = None if person is None else (gallery, person)
    return Entry(number, when, key, action, whom, json.loads(detail), hashed)


def tell_person(entry: Entry) -> dict[str, Any]:
    """Return what an entry says to the person it is about: not by whose key it was done."""
    return {"number": entry.number, "time": entry.moment, "action": entry.action, "detail": entry.detail}


def read_link(row: tuple[Any, ...]) -> Link:
    """Return an entry as the chain has it, from its columns."""
    number, *facts, hashed = row
    return Link(number, dict(zip(FACTS, facts, strict=True)), hashed)


def make_private_access_file(path: str) -> None:
    """Make an empty file that only its owner may read or write."""
    try:
        make_private_file(path)
    except GalleryFileError as error:
        raise AccessFileError(path, error.reason) from error


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, except those that the caller looks at."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise AccessFileError(path, str(error)) from error


def hash_token(token: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(token.encode()).hexdigest()
