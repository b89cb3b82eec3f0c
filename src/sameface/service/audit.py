"""The audit log: entries in a hash chain, and the witness that keeps the last hash elsewhere.

An act that changes something has two entries: an intent before it and an outcome after it. Both stay in the
chain. An intent without an outcome is an act that is under way or was interrupted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sameface.gallery import hash_chain
from sameface.gallery.hash_chain import ChainCheck, Ends, Link
from sameface.service.errors import AccessFileError, RequestError
from sameface.sqlite import transaction

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
WITNESS_SECONDS = 10.0  # for the URL of a witness to answer

PersonRef: TypeAlias = tuple[str, int]  # the origin of a gallery's numbers, and the number of a person in it
Row: TypeAlias = tuple[Any, ...]


class AccessDatabase(Protocol):
    """The SQLite file that holds the log; `Access` is one."""

    path: str

    def run(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a statement; what it changes is committed."""

    def hold(self) -> AbstractContextManager[sqlite3.Connection]:
        """Hold the connection, and turn errors of SQLite into `AccessFileError`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the log. It holds no name of a person, so that a deleted person is gone from here too."""

    number: int  # rising
    time: float  # in seconds since 1970
    key: str | None  # the name of the key; None without keys
    action: str  # such as `enroll`
    person: PersonRef | None  # None if it concerns no one person
    detail: dict[str, Any]  # numbers, and the names of keys
    hash: str  # over the entry before and everything in this one

    @property
    def moment(self) -> str:
        """The time in words (ISO 8601, UTC)."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class AuditAction:
    """An act that is about to be done."""

    key: str | None  # the name of the key
    action: str  # such as `enroll`
    person: PersonRef | None = None  # None if it concerns no one person
    detail: Mapping[str, Any] = field(default_factory=dict)  # numbers that are known before


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """The idempotency key of a request: a client sends the same one with every repetition."""

    id: str  # as the client sent it
    target: str  # method, path and what else tells the request from others


@dataclass(frozen=True, slots=True)
class Intent:
    """The entry of an act that has no outcome yet."""

    act: AuditAction
    number: int  # of the entry
    repeated: bool  # the request was begun before, with the same idempotency key


class AuditLog:
    """The audit log in an access file. Threads may share it, and programs the file."""

    def __init__(self, database: AccessDatabase) -> None:
        self._database = database

    def record(self, key: str | None, action: str, people: Sequence[PersonRef], detail: Mapping[str, Any]) -> None:
        """Write an entry for each of these people, or one in general."""
        everyone: Sequence[PersonRef | None] = people or [None]
        with self._write() as db:
            for person in everyone:
                self.append(db, key, action, person, detail)

    def begin(self, act: AuditAction, request: IdempotentRequest | None = None) -> Intent:
        """Write the intent of an act, and return what `finish` wants.

        Raises:
            RequestError: The idempotency key came with another request before.
        """
        with self._write() as db:
            repeated = request is not None and remember_request(db, act.key, request)
            number = self.append(db, act.key, INTENT, act.person, {"action": act.action, **act.detail})
            db.execute("INSERT INTO intents VALUES (?)", (number,))
        return Intent(act, number, repeated)

    def finish(
        self,
        intent: Intent,
        outcomes: Sequence[tuple[PersonRef | None, Mapping[str, Any]]],
        expires: int | None = None,
    ) -> None:
        """Write the outcome of an act.

        Args:
            intent: Of the act.
            outcomes: Person and numbers; one entry each, at least one.
            expires: When these people expire, if the act set it; seconds since 1970.
        """
        key, action = intent.act.key, intent.act.action
        with self._write() as db:
            for person, detail in outcomes:
                self.append(db, key, action, person, {**detail, INTENT: intent.number})
                if person is not None and expires is not None:
                    db.execute("INSERT OR REPLACE INTO expiries VALUES (?, ?, ?, ?)", (*person, expires, key))
            db.execute("DELETE FROM intents WHERE entry = ?", (intent.number,))

    def append(
        self, db: sqlite3.Connection, key: str | None, action: str, person: PersonRef | None, detail: Mapping[str, Any]
    ) -> int:
        """Add an entry to the chain in the open transaction, and return its number."""
        self._read_ends(db)
        values = (time.time(), key, action, *(person or (None, None)), json.dumps(detail))
        link = hash_chain.append_link(db, dict(zip(FACTS, values, strict=True)))
        insert = f"INSERT INTO audit ({COLUMNS}) VALUES ({', '.join('?' * 8)})"
        db.execute(insert, (link.number, *values, link.hash))
        return link.number

    def move_expiry(self, source: PersonRef, into: PersonRef, moment: int) -> None:
        """Give `into` the record of the key that set the expiry of `source`, if it is this moment."""
        query = "UPDATE OR REPLACE expiries SET person = ? WHERE gallery = ? AND person = ? AND moment = ?"
        self._database.run(query, into[1], *source, moment)

    def expiry_key(self, person: PersonRef, moment: int) -> str | None:
        """Return the name of the key that set this expiry of a person; None if no key of this file did."""
        query = "SELECT key FROM expiries WHERE gallery = ? AND person = ? AND moment = ?"
        found = self._database.run(query, *person, moment)
        return found[0][0] if found else None

    def entries(self, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Return the latest entries first, from before the entry of number `before` on.

        The intent of an act is among them as long as the act has no outcome.
        """
        query = f"SELECT {COLUMNS} FROM audit WHERE id < ? AND {LISTED} ORDER BY id DESC LIMIT ?"
        rows = self._slices(query, (), 2**63 - 1 if before is None else before)
        return [read_entry(row) for row in itertools.islice(rows, limit)]

    def entries_of(self, person: PersonRef) -> list[AuditEntry]:
        """Return the entries about a person, the first one first."""
        query = f"""SELECT {COLUMNS} FROM audit
                    WHERE gallery = ? AND person = ? AND id > ? AND {LISTED} ORDER BY id LIMIT ?"""
        return [read_entry(row) for row in self._slices(query, person, 0)]

    def forget_entries(self, days: int) -> bool:
        """Delete a slice of the entries that are older, or before the last million.

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
        with self._database.hold() as db:
            return self._read_ends(db)

    def verify(self, expected: Collection[str] = ()) -> ChainCheck:
        """Check the hashes of the chain. It is read in slices, so that writers wait for one of them at most.

        Args:
            expected: Hashes that were kept elsewhere, and must be in it.
        """
        while True:
            reading = LogReader(self._read_slice)
            verdict = hash_chain.verify_links(reading.ends, map(read_link, reading), expected)
            if verdict.fault is None or self.ends().first == reading.first:
                return replace(verdict, unfinished=tuple(sorted(reading.unfinished)))
            # else old entries were deleted meanwhile

    def _read_slice(self, after: int) -> tuple[Ends, list[Row]]:
        """Return where the chain begins and ends, and the entries behind `after`, as of one moment."""
        query = f"SELECT {COLUMNS} FROM audit WHERE id > ? ORDER BY id LIMIT ?"
        with self._database.hold() as db, transaction(db, "BEGIN"):
            return self._read_ends(db), db.execute(query, (after, SLICE)).fetchall()

    def _slices(self, query: str, values: Sequence[object], after: int) -> Iterator[Row]:
        """Yield the rows of a query that ends with the number to continue from and a limit, slice by slice."""
        while True:
            rows = self._database.run(query, *values, after, SLICE)
            yield from rows
            if len(rows) < SLICE:
                return
            after = rows[-1][0]

    def _read_ends(self, db: sqlite3.Connection) -> Ends:
        """Return where the chain begins and ends; `AccessFileError` if that is gone."""
        found = db.execute(hash_chain.ENDS).fetchone()
        if found is None or list(map(type, found)) != [int, str, int, str]:
            reason = "damaged: it does not say where its log ends: take a backup"
            raise AccessFileError(self._database.path, reason)
        return Ends(*found)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._database.hold() as db, transaction(db):
            yield db


class LogReader:
    """Reads the log slice by slice, and collects `unfinished`, the intents without an outcome so far."""

    def __init__(self, read: Callable[[int], tuple[Ends, list[Row]]]) -> None:
        self._read = read
        self._ends, self._rows = read(-(2**63))
        self.first = self._ends.first
        self.unfinished: set[int] = set()

    def __iter__(self) -> Iterator[Row]:
        while True:
            for row in self._rows:
                self._follow(*row)
                yield row
            if len(self._rows) < SLICE:
                return
            self._ends, self._rows = self._read(self._rows[-1][0])

    def ends(self) -> Ends:
        """Return where the chain begins and ends, as of the last slice."""
        return self._ends

    def _follow(self, number: int, *facts: Any) -> None:
        """Note the intent that an entry is or finishes."""
        _, _, action, _, _, detail, _ = facts
        if action == INTENT:
            self.unfinished.add(number)
        elif isinstance(detail, str) and f'"{INTENT}"' in detail:
            with contextlib.suppress(ValueError, TypeError, KeyError):  # the entry was tampered with
                self.unfinished.discard(json.loads(detail)[INTENT])


def remember_request(db: sqlite3.Connection, key: str | None, request: IdempotentRequest) -> bool:
    """Keep an idempotency key, and return whether it was there already.

    Raises:
        RequestError: It came with another request, or with that of another key.
    """
    since = time.time() - REQUEST_SECONDS
    query = "SELECT key, target FROM requests WHERE id = ? AND time >= ?"
    found = db.execute(query, (request.id, since)).fetchone()
    if found is None:
        values = (request.id, key, request.target, time.time())
        insert = "INSERT OR REPLACE INTO requests (id, key, target, time) VALUES (?, ?, ?, ?)"
        number = db.execute(insert, values).lastrowid or 0
        db.execute("DELETE FROM requests WHERE number <= ?", (number - MOST_REQUESTS,))
        return False
    if found != (key, request.target):
        raise RequestError("this Idempotency-Key was sent with another request: take a new one for each")
    return True


def link_entries(db: sqlite3.Connection) -> None:
    """Make a chain of the entries of an earlier version, as they are found."""
    rows = db.execute(f"SELECT {COLUMNS} FROM audit ORDER BY id").fetchall()
    (used,) = db.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    first, last, head = 0 if rows else used, used, hash_chain.START
    for row in rows:
        last, head = row[0], hash_chain.hash_link(head, row[0], read_link(row).facts)
        db.execute("UPDATE audit SET hash = ? WHERE id = ?", (head, last))
    db.execute("UPDATE chain SET first = ?, last = ?, head = ?", (first, last, head))


def read_entry(row: Row) -> AuditEntry:
    """Return an entry from its columns."""
    number, when, key, action, gallery, person, detail, hashed = row
    ref = None if person is None else (gallery, person)
    return AuditEntry(number, when, key, action, ref, json.loads(detail), hashed)


def read_link(row: Row) -> Link:
    """Return a link of the chain from the columns of an entry."""
    number, *facts, hashed = row
    return Link(number, dict(zip(FACTS, facts, strict=True)), hashed)


def entry_for_person(entry: AuditEntry) -> dict[str, Any]:
    """Return what an entry shows to the person it is about: not the key."""
    return {"number": entry.number, "time": entry.moment, "action": entry.action, "detail": entry.detail}


@dataclass(frozen=True, slots=True)
class LogHead:
    """The last entry of the log at a moment, as a witness keeps it.

    Whoever may write the log can make its whole chain anew. A place that only takes new lines, on another
    machine or in a file that may only be appended to, shows that later.
    """

    number: int
    hash: str
    time: str  # ISO 8601, UTC


def is_url(place: str) -> bool:
    """Return whether a witness is reached over HTTP."""
    return place.startswith(("http://", "https://"))


def read_head(log: AuditLog) -> LogHead:
    """Return the last entry of a log, as of now."""
    ends = log.ends()
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    return LogHead(ends.last, ends.head, now)


def write_head(place: str, head: LogHead) -> None:
    """Send a head to a witness: a line at the end of a file, or a POST of JSON to a URL.

    Raises:
        OSError: The witness cannot be reached, or refuses.
    """
    line = json.dumps(asdict(head)).encode()
    if is_url(place):
        read_url(urllib.request.Request(place, line, {"Content-Type": "application/json"}))
        return
    file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(file, line + b"\n") <= len(line):
            raise OSError(f"{place}: the line was cut, the disk may be full")
        os.fsync(file)
    finally:
        os.close(file)


def read_heads(place: str) -> list[LogHead]:
    """Return what a witness keeps: the lines of a file, or of the answer to a GET of a URL.

    Raises:
        AccessFileError: It cannot be read, or holds something else.
    """
    try:
        data = read_url(urllib.request.Request(place)) if is_url(place) else Path(place).read_bytes()
    except OSError as error:
        raise AccessFileError(place, f"the witness cannot be read: {error}") from error
    return [parse_head(place, number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]


def parse_head(place: str, number: int, line: bytes) -> LogHead:
    """Return the head in a line of a witness."""
    try:
        facts: dict[str, Any] = json.loads(line)
        return LogHead(int(facts["number"]), str(facts["hash"]), str(facts["time"]))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"line {number} is not from a witness: it wants number, hash and time as JSON"
        raise AccessFileError(place, reason) from error


def read_url(request: urllib.request.Request) -> bytes:
    """Return the answer to a request; `OSError` if there is none, or it is an error."""
    try:
        with urllib.request.urlopen(request, timeout=WITNESS_SECONDS) as answer:
            found: bytes = answer.read()
    except HTTPException as error:
        raise OSError(f"{request.full_url}: {error!r}") from error
    return found
