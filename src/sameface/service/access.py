"""Who may use the service, and who did what: one small SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

from sameface.atomic import make_private
from sameface.gallery import hash_chain
from sameface.gallery.hash_chain import ChainCheck, Ends, Link
from sameface.gallery.names import clean_name
from sameface.service.errors import AccessFileError, RequestError
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
DAY = 86_400
COLUMNS = "id, time, key, action, gallery, person, detail, hash"
FACTS = ("time", "key", "action", "gallery", "person", "detail")  # of an entry, as the chain has them
MOST_ENTRIES = 1_000_000
MOST_REQUESTS = 100_000  # idempotency keys that are remembered
REQUEST_SECONDS = DAY  # and for how long
SLICE = 1000  # entries that are read at a time, so that writes get their turn in between
OLD_SLICE = 200  # entries that are deleted at a time, which takes longer
INTENT = "intent"  # the action of the entry that is written before an act
# An intent is listed as long as the act has no outcome.
LISTED = f"(action <> '{INTENT}' OR id IN (SELECT entry FROM intents))"

Role = Literal["read", "enroll", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
PersonRef: TypeAlias = tuple[str, int]  # the origin of a gallery's numbers, and the number of a person in it


@dataclass(frozen=True, slots=True)
class ApiKey:
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


OWNER = ApiKey(name=None, role="admin")  # whoever can write the file, and whoever reaches a service without keys


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that was done. It holds no name of a person: who is gone from the gallery is gone from here.

    Attributes:
        number: Rising.
        time: In seconds since 1970.
        key: The name of the key; None without keys.
        action: Such as `enroll`.
        person: PersonRef it was done to; None for nobody in particular.
        detail: Numbers, and the names of keys.
        hash: Over the entry before and everything in this one.
    """

    number: int
    time: float
    key: str | None
    action: str
    person: PersonRef | None
    detail: dict[str, Any]
    hash: str

    @property
    def moment(self) -> str:
        """The time in words (ISO 8601, UTC)."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class AuditAction:
    """Something that is about to be done.

    Attributes:
        key: Whose request it is.
        action: Such as `enroll`.
        person: To whom; None for nobody in particular.
        detail: Numbers that are known before.
    """

    key: ApiKey
    action: str
    person: PersonRef | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """The idempotency key of a request: a client sends the same one with every repetition.

    Attributes:
        id: As the client sent it.
        target: Method, path and what else tells the request from others.
    """

    id: str
    target: str


@dataclass(frozen=True, slots=True)
class Intent:
    """The entry of an act that has no outcome yet.

    Attributes:
        act: What is about to be done.
        number: Of the entry.
        repeated: The request was begun before, with the same idempotency key.
    """

    act: AuditAction
    number: int
    repeated: bool


class Access:
    """The keys and the audit log of a service. Threads may share it, and programs the file.

    An act that changes something has two entries: `begin` writes the intent before it, `finish` the outcome.
    Both stay in the chain. An intent without outcome means an act that is under way or was interrupted.

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
            with self._write() as db:
                db.execute("INSERT INTO keys (name, role, hash, made) VALUES (?, ?, ?, ?)", values)
                self._append(db, OWNER, "add_key", None, {"name": name, "role": role})
        except sqlite3.IntegrityError as error:
            raise AccessFileError(self.path, f"there is a key named {name!r}: revoke it first") from error
        return token

    def keys(self) -> list[ApiKey]:
        """Return the keys that hold, by name."""
        return [ApiKey(*row) for row in self._run("SELECT name, role, made FROM keys ORDER BY name")]

    def revoke_key(self, name: str) -> None:
        """Make a key invalid, for running services too.

        Raises:
            AccessFileError: There is none of this name.
        """
        with self._write() as db:
            if not db.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount:
                raise AccessFileError(self.path, f"there is no key named {name!r}")
            self._append(db, OWNER, "revoke_key", None, {"name": name})

    def find_key(self, token: str) -> ApiKey | None:
        """Return the key that this is, or None."""
        found = self._run("SELECT name, role, made FROM keys WHERE hash = ?", hash_token(token))
        return ApiKey(*found[0]) if found else None

    def record(self, key: ApiKey, action: str, people: Sequence[PersonRef], detail: Mapping[str, Any]) -> None:
        """Write down what was done to each of these people, or in general."""
        everyone: Sequence[PersonRef | None] = people or [None]
        with self._write() as db:
            for person in everyone:
                self._append(db, key, action, person, detail)

    def begin(self, act: AuditAction, request: IdempotentRequest | None = None) -> Intent:
        """Write down what is about to be done, and return what `finish` wants.

        Raises:
            RequestError: The idempotency key came with another request before.
        """
        with self._write() as db:
            repeated = request is not None and remember_request(db, act.key, request)
            number = self._append(db, act.key, INTENT, act.person, {"action": act.action, **act.detail})
            db.execute("INSERT INTO intents VALUES (?)", (number,))
        return Intent(act, number, repeated)

    def finish(
        self,
        intent: Intent,
        outcomes: Sequence[tuple[PersonRef | None, Mapping[str, Any]]],
        expires: int | None = None,
    ) -> None:
        """Write down what came of an act.

        Args:
            intent: Of the act.
            outcomes: To whom, and numbers; one entry each, at least one.
            expires: The moment at which these people expire, if the act set it; seconds since 1970.
        """
        key, action = intent.act.key, intent.act.action
        with self._write() as db:
            for person, detail in outcomes:
                self._append(db, key, action, person, {**detail, INTENT: intent.number})
                if person is not None and expires is not None:
                    db.execute("INSERT OR REPLACE INTO expiries VALUES (?, ?, ?, ?)", (*person, expires, key.name))
            db.execute("DELETE FROM intents WHERE entry = ?", (intent.number,))

    def move_expiry(self, source: PersonRef, into: PersonRef, moment: int) -> None:
        """Remember for `into` who set the moment at which `source` expired, if it is this moment."""
        query = "UPDATE OR REPLACE expiries SET person = ? WHERE gallery = ? AND person = ? AND moment = ?"
        self._run(query, into[1], *source, moment)

    def expiry_key(self, whom: PersonRef, moment: int) -> str | None:
        """Return the name of the key that set this moment for a person; None if none of this file did."""
        query = "SELECT key FROM expiries WHERE gallery = ? AND person = ? AND moment = ?"
        found = self._run(query, *whom, moment)
        return found[0][0] if found else None

    def entries(self, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Return what was done, the latest first; `before` is the number of an entry to go on from.

        The intent of an act is among them as long as the act has no outcome.
        """
        query = f"SELECT {COLUMNS} FROM audit WHERE id < ? AND {LISTED} ORDER BY id DESC LIMIT ?"
        rows = self._slices(query, (), 2**63 - 1 if before is None else before)
        return [read_entry(row) for row in itertools.islice(rows, limit)]

    def entries_of(self, person: PersonRef) -> list[AuditEntry]:
        """Return what was done to a person, the first entry first."""
        query = f"""SELECT {COLUMNS} FROM audit
                    WHERE gallery = ? AND person = ? AND id > ? AND {LISTED} ORDER BY id LIMIT ?"""
        return [read_entry(row) for row in self._slices(query, person, 0)]

    def forget_entries(self, days: int) -> bool:
        """Delete a slice of what was done longer ago, or before the last million entries.

        The rest stays a chain. An entry behind which a younger one stands stays as long as that one.

        Returns:
            Whether there may be more to delete.
        """
        now = time.time()
        query = """SELECT id, hash, time < ? OR id <= (SELECT max(id) FROM audit) - ? FROM audit
                   ORDER BY id LIMIT ?"""
        with self._write() as db:
            rows = db.execute(query, (now - days * DAY, MOST_ENTRIES, OLD_SLICE)).fetchall()
            old = [*itertools.takewhile(lambda row: row[2], rows)]
            if old:
                last, hashed, _ = old[-1]
                db.execute("DELETE FROM audit WHERE id <= ?", (last,))
                db.execute("DELETE FROM intents WHERE entry <= ?", (last,))
                db.execute("UPDATE chain SET first = ?, anchor = ?", (last, hashed))
            db.execute("DELETE FROM requests WHERE time < ?", (now - REQUEST_SECONDS,))
            db.execute("DELETE FROM expiries WHERE moment < ?", (now - days * DAY,))
        return len(old) == OLD_SLICE

    def ends(self) -> Ends:
        """Return where the chain of the log begins and ends."""
        with self._lock, translated(self.path):
            return self._read_ends(self._db)

    def verify(self, expected: Collection[str] = ()) -> ChainCheck:
        """Return whether the log is as it was written, as far as its hashes tell.

        It is read in slices, so that who writes meanwhile waits for one of them at most.

        Args:
            expected: Hashes that were kept elsewhere, and must be in it.
        """
        while True:
            reading = LogReader(self._read_slice)
            verdict = hash_chain.verify_links(reading.ends, map(read_link, reading), expected)
            if verdict.fault is None or self.ends().first == reading.first:
                return replace(verdict, unfinished=tuple(sorted(reading.unfinished)))
            # else entries went by age meanwhile

    def _read_slice(self, after: int) -> tuple[Ends, list[tuple[Any, ...]]]:
        """Return where the chain begins and ends, and the entries behind `after`, as of one moment."""
        query = f"SELECT {COLUMNS} FROM audit WHERE id > ? ORDER BY id LIMIT ?"
        with self._lock, translated(self.path), transaction(self._db, "BEGIN"):
            return self._read_ends(self._db), self._db.execute(query, (after, SLICE)).fetchall()

    def _slices(self, query: str, values: Sequence[object], after: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that ends with the number to go on from and a limit, slice by slice."""
        while True:
            rows = self._run(query, *values, after, SLICE)
            yield from rows
            if len(rows) < SLICE:
                return
            after = rows[-1][0]

    def _append(
        self, db: sqlite3.Connection, key: ApiKey, action: str, person: PersonRef | None, detail: Mapping[str, Any]
    ) -> int:
        """Add an entry to the chain in the open transaction, and return its number."""
        self._read_ends(db)
        values = (time.time(), key.name, action, *(person or (None, None)), json.dumps(detail))
        link = hash_chain.append_link(db, dict(zip(FACTS, values, strict=True)))
        insert = f"INSERT INTO audit ({COLUMNS}) VALUES ({', '.join('?' * 8)})"
        db.execute(insert, (link.number, *values, link.hash))
        return link.number

    def _read_ends(self, db: sqlite3.Connection) -> Ends:
        """Return where the chain of the log begins and ends.

        Raises:
            AccessFileError: That is gone, so that nothing can be added or verified.
        """
        found = db.execute(hash_chain.ENDS).fetchone()
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


class LogReader:
    """The entries of the log, read slice by slice, and what is known once the last one is read.

    Attributes:
        unfinished: The intents without an outcome among the entries so far.
    """

    def __init__(self, read: Callable[[int], tuple[Ends, list[tuple[Any, ...]]]]) -> None:
        self._read = read
        self._ends, self._rows = read(-(2**63))
        self.first = self._ends.first
        self.unfinished: set[int] = set()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while True:
            for row in self._rows:
                self._follow(*row)
                yield row
            if len(self._rows) < SLICE:
                return
            self._ends, self._rows = self._read(self._rows[-1][0])

    def ends(self) -> Ends:
        """Return where the chain begins and ends, as of the slice that was read last."""
        return self._ends

    def _follow(self, number: int, *facts: Any) -> None:
        """Take the intent that an entry is or finishes."""
        _, _, action, _, _, detail, _ = facts
        if action == INTENT:
            self.unfinished.add(number)
        elif isinstance(detail, str) and f'"{INTENT}"' in detail:
            with contextlib.suppress(ValueError, TypeError, KeyError):  # changed by somebody else
                self.unfinished.discard(json.loads(detail)[INTENT])


def remember_request(db: sqlite3.Connection, key: ApiKey, request: IdempotentRequest) -> bool:
    """Keep an idempotency key, and return whether it was there already.

    Raises:
        RequestError: It came with another request, or with that of another key.
    """
    since = time.time() - REQUEST_SECONDS
    query = "SELECT key, target FROM requests WHERE id = ? AND time >= ?"
    found = db.execute(query, (request.id, since)).fetchone()
    if found is None:
        values = (request.id, key.name, request.target, time.time())
        insert = "INSERT OR REPLACE INTO requests (id, key, target, time) VALUES (?, ?, ?, ?)"
        number = db.execute(insert, values).lastrowid or 0
        db.execute("DELETE FROM requests WHERE number <= ?", (number - MOST_REQUESTS,))
        return False
    if found != (key.name, request.target):
        raise RequestError("this Idempotency-Key was sent with another request: take a new one for each")
    return True


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
    first, last, head = 0 if rows else used, used, hash_chain.START
    for row in rows:
        last, head = row[0], hash_chain.hash_link(head, row[0], read_link(row).facts)
        db.execute("UPDATE audit SET hash = ? WHERE id = ?", (head, last))
    db.execute("UPDATE chain SET first = ?, last = ?, head = ?", (first, last, head))


def read_entry(row: tuple[Any, ...]) -> AuditEntry:
    """Return an entry of the audit log from its columns."""
    number, when, key, action, gallery, person, detail, hashed = row
    whom = None if person is None else (gallery, person)
    return AuditEntry(number, when, key, action, whom, json.loads(detail), hashed)


def tell_person(entry: AuditEntry) -> dict[str, Any]:
    """Return what an entry says to the person it is about: not by whose key it was done."""
    return {"number": entry.number, "time": entry.moment, "action": entry.action, "detail": entry.detail}


def read_link(row: tuple[Any, ...]) -> Link:
    """Return an entry as the chain has it, from its columns."""
    number, *facts, hashed = row
    return Link(number, dict(zip(FACTS, facts, strict=True)), hashed)


def make_private_access_file(path: str) -> None:
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
    """Return what is kept of a key."""
    return hashlib.sha256(token.encode()).hexdigest()
