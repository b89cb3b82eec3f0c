"""Receipts of deletions and merges: entries of a hash chain, without names, written in the same transaction."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sameface.gallery import hash_chain
from sameface.gallery.backend import SHAPE_ERRORS, Backend, Row, Transaction, expect_type, undamaged
from sameface.gallery.hash_chain import ChainCheck, Ends, Link
from sameface.gallery.records import Erasure, Reason, Receipt

# Copies that no receipt can cover.
NOT_COVERED = (
    "backups and other copies of the gallery",
    "albums, tables, videos and exports that were made with it",
    "runs of embed and cluster that were interrupted (*.unfinished)",
    "albums in the memory of a service, for an hour",
    "the memory of other programs, until they search again",
    "the pictures themselves",
)
DELETION, ERASURE, MERGE = "deletion", "erasure", "merge"  # the kinds of entries
COLUMNS = "number, facts, hash"


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a transaction deleted of one person."""

    person: int  # number of the person
    face: int | None  # number of the face, if it was deleted alone
    faces: int
    crops: int  # of these faces
    pictures: int  # hashes of pictures that showed nobody else


@dataclass(frozen=True, slots=True)
class Merge:
    """What a transaction merged."""

    person: int  # number of the deleted person
    into: int  # number of the person who has the faces now
    faces: int


def write_receipt(db: Transaction, reason: Reason, gone: Deletion, now: float) -> int:
    """Write an entry about a deletion in its transaction, and return the number of the entry."""
    facts = {"kind": DELETION, "reason": reason, "gallery": read_origin(db), "time": now}
    return append(db, facts | asdict(gone))


def write_merge(db: Transaction, merge: Merge, now: float) -> int:
    """Write an entry about a merge in its transaction, and return the number of the entry."""
    none = {"face": None, "crops": 0, "pictures": 0}
    facts = {"kind": MERGE, "reason": MERGE, "gallery": read_origin(db), "time": now}
    return append(db, facts | none | asdict(merge))


def read_origin(db: Transaction) -> str:
    """Return the random number of this gallery."""
    (origin,) = db.execute("SELECT origin FROM numbers").fetchone()
    expect_type(origin, str)
    return str(origin)


def write_erasure(db: Transaction, through: int, places: Mapping[str, bool], now: float) -> None:
    """Write an entry that the bytes of everything deleted up to the entry `through` are gone, unless there is one.

    Args:
        db: The open transaction.
        through: The last entry before the bytes were overwritten; 0 for none.
        places: As in `Erasure`.
        now: Seconds since 1970.
    """
    found = db.execute("SELECT facts FROM receipts WHERE number = ?", (through,)).fetchone()
    if found is None:
        return
    facts = parse_facts(found[0])
    if facts["kind"] != ERASURE or facts["places"] != places:
        append(db, {"kind": ERASURE, "time": now, "through": through, "places": dict(places)})


def erase_traces(database: Backend, clock: Callable[[], float], *, whole: bool) -> None:
    """Remove the bytes of deleted rows, and write down where they are gone."""
    through = last_number(database)
    places = database.pack(whole=whole)
    with database.write() as db, undamaged(database.path, "a receipt"):
        write_erasure(db, through, places, clock())


def append(db: Transaction, facts: Mapping[str, Any]) -> int:
    """Append an entry to the chain, and return its number."""
    link = hash_chain.append_link(db, facts)
    words = json.dumps(facts, sort_keys=True)
    db.execute(f"INSERT INTO receipts ({COLUMNS}) VALUES (?, ?, ?)", (link.number, words, link.hash))
    return link.number


def last_number(database: Backend) -> int:
    """Return the number of the last entry, 0 if there is none."""
    found = database.read("SELECT last FROM chain")
    with undamaged(database.path, "a receipt"):
        [(number,)] = found
        expect_type(number, int)
        return int(number)


def is_unfinished(database: Backend) -> bool:
    """Return whether the last deletion or merge has no entry about its bytes."""
    found = database.read("SELECT facts FROM receipts ORDER BY number DESC LIMIT 1")
    with undamaged(database.path, "a receipt"):
        return bool(found) and parse_facts(found[0][0])["kind"] != ERASURE


def read_receipts(database: Backend, after: int = 0) -> list[Receipt]:
    """Return the receipts behind the entry `after`, in order."""
    found = database.read(f"SELECT {COLUMNS} FROM receipts WHERE number > ? ORDER BY number", after)
    with undamaged(database.path, "a receipt", *SHAPE_ERRORS):
        links = [Link(number, parse_facts(words), hashed) for number, words, hashed in found]
        return list(join_erasures(links))[::-1]


def parse_facts(words: Any) -> dict[str, Any]:
    """Return the JSON object of an entry."""
    expect_type(words, str)
    facts = json.loads(words)
    expect_type(facts, dict)
    return dict(facts)


def join_erasures(links: Sequence[Link]) -> Iterator[Receipt]:
    """Yield the deletions and merges among entries, the last first, each with its erasure.

    That is the next complete erasure that covers it, or else the last one.
    """
    newest: list[tuple[int, Erasure]] = []  # the last entry that each covers, and the erasure
    complete: list[tuple[int, Erasure]] = []
    for link in reversed(links):
        facts = dict(link.facts)
        kind, moment = facts.pop("kind"), datetime.fromtimestamp(facts.pop("time"), UTC)
        if kind != ERASURE:
            nearest = itertools.chain(reversed(complete), newest)
            known = next((erasure for through, erasure in nearest if through >= link.number), None)
            yield Receipt(number=link.number, time=moment, hash=link.hash, erasure=known, **facts)
            continue
        erasure = Erasure(link.number, moment, facts["places"], link.hash)
        newest = newest or [(facts["through"], erasure)]
        if erasure.complete:
            complete.append((facts["through"], erasure))


def read_receipt(database: Backend, number: int) -> Receipt:
    """Return the receipt of this number."""
    return read_receipts(database, number - 1)[0]


def receipt_to_dict(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as a JSON object."""
    erasure = receipt.erasure
    facts = {"complete": erasure is not None and erasure.complete, "not_covered": list(NOT_COVERED)}
    if erasure is not None:
        facts["erasure"] = asdict(erasure) | {"time": erasure.time.isoformat(timespec="milliseconds")}
    return asdict(receipt) | {"time": receipt.time.isoformat(timespec="milliseconds")} | facts


def verify_receipts(database: Backend, expected: Collection[str] = ()) -> ChainCheck:
    """Check the hashes of the receipts; hashes in `expected`, kept elsewhere, must be among them."""
    query = f"SELECT first, anchor, last, head, {COLUMNS} FROM chain LEFT JOIN receipts ON true ORDER BY number"
    found = database.read(query)
    links = (read_link(*row[4:]) for row in found if row[4] is not None)
    with undamaged(database.path, "where the receipts end"):
        ends = read_ends(found[0])
        return hash_chain.verify_links(lambda: ends, links, expected)


def read_ends(row: Row) -> Ends:
    """Return where the chain begins and ends; `ValueError` if a number is none."""
    first, anchor, last, head, *_ = row
    expect_type(first, int)
    expect_type(last, int)
    return Ends(first, anchor, last, head)


def read_link(number: int, words: Any, hashed: str) -> Link:
    """Return an entry of the chain; its words are its only fact if they are no JSON object."""
    try:
        facts = json.loads(words)
    except (TypeError, ValueError):
        facts = None
    return Link(number, facts if isinstance(facts, dict) else {"words": words}, hashed)
