"""The access file: one SQLite file with the keys of the service and its audit log."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from sameface.atomic import make_private
from sameface.gallery import hash_chain
from sameface.gallery.names import clean_name
from sameface.service.audit import AuditLog, link_entries
from sameface.service.errors import AccessFileError
from sameface.sqlite import connect, transaction

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
    f"ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT ''; {hash_chain.TABLE.rstrip().rstrip(';')}",
    # `intents`: the entries of acts that have no outcome yet. `requests`: idempotency keys of the last day.
    # `expiries`: which key set the moment at which a person expires.
    """
    CREATE INDEX audit_by_person ON audit (gallery, person) WHERE person IS NOT NULL;
    CREATE TABLE intents (entry INTEGER PRIMARY KEY);
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        key TEXT, target TEXT NOT NULL, time REAL NOT NULL
    );
    CREATE TABLE expiries (
        gallery TEXT NOT NULL, person INTEGER NOT NULL, moment INTEGER NOT NULL, key TEXT,
        PRIMARY KEY (gallery, person)
    )
    """,
)
LINKED = 3  # the version from which on entries are a chain
IN_MEMORY = ":memory:"
PREFIX = "sf_"

Role = Literal["read", "enroll", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the service; `name` is None where the service runs without keys."""

    name: str | None
    role: Role
    made: float = 0.0  # seconds since 1970

    def may(self, role: Role) -> bool:
        """Return whether the key reaches as far as `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


OWNER = ApiKey(name=None, role="admin")  # whoever can write the file, and clients of a service without keys


class Access:
    """The keys of a service, and its audit log as `log`. Threads may share it, and programs the file.

    Only the SHA-256 of a key is kept. A key is 256 random bits, which nobody can try: a slow hash with salt
    would protect nothing more, and would make every request slow.
    """

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self.log = AuditLog(self)
        self._db = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str = IN_MEMORY) -> Self:
        """Open the file, or make one that only its owner may read; `AccessFileError` if that fails."""
        if path == IN_MEMORY:
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        else:
            if not Path(path).exists():
                make_access_file(path)
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
        """Return a new key. It cannot be shown again: only its hash is kept.

        Raises:
            AccessFileError: There is a key of this name.
            BadNameError: The name is empty, too long or not text.
        """
        token = PREFIX + secrets.token_urlsafe(32)
        values = (clean_name(name), role, hash_token(token), time.time())
        try:
            with self._write() as db:
                db.execute("INSERT INTO keys (name, role, hash, made) VALUES (?, ?, ?, ?)", values)
                self.log.append(db, None, "add_key", None, {"name": name, "role": role})
        except sqlite3.IntegrityError as error:
            raise AccessFileError(self.path, f"there is a key named {name!r}: revoke it first") from error
        return token

    def keys(self) -> list[ApiKey]:
        """Return the valid keys, by name."""
        return [ApiKey(*row) for row in self.run("SELECT name, role, made FROM keys ORDER BY name")]

    def revoke_key(self, name: str) -> None:
        """Make a key invalid, for running services too; `AccessFileError` if there is none of this name."""
        with self._write() as db:
            if not db.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount:
                raise AccessFileError(self.path, f"there is no key named {name!r}")
            self.log.append(db, None, "revoke_key", None, {"name": name})

    def find_key(self, token: str) -> ApiKey | None:
        """Return the key that a client sent, or None if it is not valid."""
        found = self.run("SELECT name, role, made FROM keys WHERE hash = ?", hash_token(token))
        return ApiKey(*found[0]) if found else None

    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; what it changes is committed."""
        with self.hold() as db:
            return db.execute(query, values).fetchall()

    @contextmanager
    def hold(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection, and turn errors of SQLite into `AccessFileError`."""
        with self._lock, translated(self.path):
            yield self._db

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self.hold() as db, transaction(db):
            yield db

    def _make_tables(self) -> None:
        """Make the tables of a new file, or check and migrate those of an old one."""
        [(version,)] = self.run("PRAGMA user_version")
        [(owner,)] = self.run("PRAGMA application_id")
        [(tables,)] = self.run("SELECT count(*) FROM sqlite_master")
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


def make_access_file(path: str) -> None:
    """Make an empty file that only its owner may read or write."""
    try:
        make_private(Path(path))
    except OSError as error:
        raise AccessFileError(path, f"cannot make it: {error.strerror}") from error


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
    """Return the hash of a key that is kept."""
    return hashlib.sha256(token.encode()).hexdigest()
