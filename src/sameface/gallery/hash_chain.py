"""A chain of entries: each carries a hash over the one before and its own facts.

Whoever changes, removes, inserts or reorders entries leaves a place where the hashes do not fit. Whoever may
write the whole file can make all of them anew: that shows only against a hash that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sameface.gallery.backend import Transaction, expect_type

START = "0" * 64  # stands in the place of a hash before the first entry

# Of a database with a chain: where it begins and where it ends. It stands in migrations, and never changes.
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
    """Where a chain begins and ends.

    Attributes:
        first: The number of the last entry that was let go of by age; 0 for none.
        anchor: Its hash.
        last: The number of the last entry.
        head: Its hash.
    """

    first: int
    anchor: str
    last: int
    head: str


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as the chain sees it.

    Attributes:
        number: Rising; one more than that of the entry before, unless that came from an earlier version.
        facts: Everything that it says.
        hash: SHA-256 over the hash before, the number and the facts.
    """

    number: int
    facts: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What came of looking at a chain; true if it is intact.

    Attributes:
        entries: How many there are, up to the first that does not fit.
        head: The hash of the last that fits: what to keep elsewhere.
        fault: Which entry does not fit, in words; None if all do.
        unseen: The hashes that were expected and are not in the chain.
        unfinished: The numbers of intents that have no outcome, in an audit log.
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

    A fact that JSON has no word for was put there by somebody else, and is hashed as Python writes it.
    """
    words = json.dumps({"number": number, **facts}, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(f"{before}\n{words}".encode()).hexdigest()


def append_link(db: Transaction, facts: Mapping[str, Any]) -> Link:
    """Return the next entry of the chain, and let it end there; the caller keeps the entry itself."""
    found = db.execute("SELECT last + 1, head FROM chain").fetchone()
    expect_type(found, Sequence)  # None where somebody took the row away
    number, head = found
    expect_type(number, int)
    link = Link(int(number), facts, hash_link(head, int(number), facts))
    db.execute("UPDATE chain SET last = ?, head = ?", (link.number, link.hash))
    return link


def verify_links(read_ends: Callable[[], Ends], links: Iterable[Link], expected: Collection[str] = ()) -> ChainCheck:
    """Return whether entries are those that were written, as far as their hashes tell.

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
    """Return why an entry does not come behind the entry `number` with the hash `head`, or None."""
    if link.hash == hash_link(head, link.number, link.facts):
        return None
    if link.number != number + 1:
        return f"entry {link.number} does not fit: before it some are missing or out of order"
    return f"entry {link.number} does not fit: it was changed, put in, or stands in another's place"
