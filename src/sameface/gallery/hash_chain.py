"""A hash chain: each entry carries a hash over the entry before and its own facts.

Changed, removed, inserted or reordered entries no longer fit. A program that can write the whole file can make all
hashes anew: that shows only against a hash that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sameface.gallery.backend import Transaction

START = "0" * 64  # the hash before the first entry

# Where a chain begins and ends. It stands in migrations, and never changes.
TABLE = f"""
    CREATE TABLE chain (
        id integer PRIMARY KEY CHECK (id = 1),
        first bigint NOT NULL, anchor text NOT NULL, last bigint NOT NULL, head text NOT NULL
    );
    INSERT INTO chain VALUES (1, 0, '{START}', 0, '{START}');
"""
ENDS = "SELECT first, anchor, last, head FROM chain"


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a chain begins and ends."""

    first: int  # number of the last entry that was dropped by age; 0 for none
    anchor: str  # its hash
    last: int  # number of the last entry
    head: str  # its hash


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of a chain."""

    number: int  # one more than that of the entry before, unless that came from an earlier version
    facts: Mapping[str, Any]
    hash: str  # SHA-256 over the hash before, the number and the facts


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """The result of checking a chain; true if it is intact.

    Attributes:
        entries: How many there are, up to the first that does not fit.
        head: The hash of the last entry that fits: what to keep elsewhere.
        fault: Which entry does not fit, in words, or None.
        unseen: Expected hashes that are not in the chain.
        unfinished: In an audit log, the numbers of intents that have no outcome.
    """

    entries: int
    head: str
    fault: str | None
    unseen: frozenset[str]
    unfinished: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether every entry fits, and no expected hash is missing."""
        return self.fault is None and not self.unseen


def hash_link(before: str, number: int, facts: Mapping[str, Any]) -> str:
    """Return the hash of an entry: SHA-256 over the hash before it and its canonical JSON.

    A fact that JSON cannot hold was not written here, and is hashed by its `repr`.
    """
    words = json.dumps({"number": number, **facts}, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(f"{before}\n{words}".encode()).hexdigest()


def append_link(db: Transaction, facts: Mapping[str, Any]) -> Link:
    """Advance the end of the chain by an entry, and return it; the caller stores the entry itself."""
    [(number, head)] = db.execute("SELECT last + 1, head FROM chain").fetchall()  # none if somebody deleted the row
    if not isinstance(number, int):
        raise ValueError("the last number of the chain must be an integer")  # noqa: TRY004
    link = Link(number, facts, hash_link(head, number, facts))
    db.execute("UPDATE chain SET last = ?, head = ?", (link.number, link.hash))
    return link


def verify_links(read_ends: Callable[[], Ends], links: Iterable[Link], expected: Collection[str] = ()) -> ChainCheck:
    """Check the hashes of entries.

    Args:
        read_ends: Returns where they begin and end; called before the first and after the last.
        links: The entries, by number.
        expected: Hashes that were kept elsewhere, and must be in the chain.
    """
    ends = read_ends()
    number, head, entries = ends.first, ends.anchor, 0
    unseen = set(expected) - {ends.anchor}
    for link in links:
        fault = fault_of(link, number, head)
        if fault is not None:
            return ChainCheck(entries, head, fault, frozenset(unseen))
        number, head, entries = link.number, link.hash, entries + 1
        unseen.discard(head)
    fault, ends = None, read_ends()
    if (number, head) != (ends.last, ends.head):
        fault = f"entry {ends.last}, the last, is not where the chain ends: it was taken away, or some put in"
    return ChainCheck(entries, head, fault, frozenset(unseen))


def fault_of(link: Link, number: int, head: str) -> str | None:
    """Return why an entry cannot follow the entry `number` with the hash `head`, or None."""
    if link.hash == hash_link(head, link.number, link.facts):
        return None
    if link.number != number + 1:
        return f"entry {link.number} does not fit: before it some are missing or out of order"
    return f"entry {link.number} does not fit: it was changed, put in, or stands in another's place"
