"""What must hold after every restart."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crashing.child import see
from crashing.model import WIDTH, Copy, People, Pipeline, Step, apply, find_nearest, follow, row_of, was_done
from sameface.embed import unit_rows
from sameface.gallery import Gallery
from sameface.gallery.sqlite.database import LARGE_PAGES
from sameface.service.access_file import Access

REACH = 1e-5  # what one sum of products may differ from another by
PAGE = 4096  # bytes
PIECE = 8  # numbers of a row, which no other row has
NAMES = re.compile(rb"person-\d+-\d+-\d{9}")


@dataclass
class Told:
    """What a program told until it ended.

    Attributes:
        people: Who must be enrolled, but for the step in hand.
        copy: The last backup that was acknowledged; None without one.
        hand: That step; None between two.
        gone: Names and hashes of pictures of which no byte may be left.
        counts: Of steps, by what became of them.
        faults: What it told that cannot be.
    """

    people: People
    copy: Copy | None = None
    hand: Step | None = None
    gone: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def replay(cls, people: People, messages: Iterable[tuple[str, Any]], copy: Copy | None = None) -> Told:
        """Return what the messages say of people who were enrolled before, and of the last backup."""
        told = cls(people, copy)
        for word, fact in messages:
            told._take(word, fact)
        told.counts[f"{told.hand[0]}, cut" if told.hand else "between steps"] += 1
        return told

    @property
    def allowed(self) -> list[People]:
        """Who may be enrolled: the step in hand was done whole, or not at all."""
        return [self.people, *([apply(self.people, self.hand)] if self.hand else [])]

    def settle(self, found: People) -> None:
        """Take into account who was found to be enrolled after a step that was not acknowledged."""
        if self.hand is not None:
            done = was_done(self.hand, self.people, found)
            self.copy = follow(self.copy, self.hand, self.people, done=done)
        self.people, self.hand = found, None
        self.gone -= words_of(found)  # which a restore has brought back

    def _take(self, word: str, fact: Any) -> None:
        """Take one message into account."""
        if word == "begin":
            self.hand = fact
        elif word == "done":
            after = apply(self.people, fact)
            self.gone = (self.gone | words_of(self.people)) - words_of(after)
            self.copy = follow(self.copy, fact, self.people, done=True)
            self.people, self.hand = after, None
            self.counts[fact[0]] += 1
        elif word == "failed":
            self.counts[f"{fact[0]}, failed"] += 1
        elif word == "seen":
            self.faults += check_people(fact, self.allowed)
            self.settle(fact)


def words_of(people: People) -> set[str]:
    """Return the names and the hashes that a gallery of these people holds."""
    return people.keys() | {picture for pictures in people.values() for picture in pictures}


def find_faults(path: Path, allowed: list[People], gone: set[str], fresh: set[str]) -> tuple[People, list[str]]:
    """Return who is enrolled in a gallery after a kill, and what is wrong with it.

    Args:
        path: The gallery.
        allowed: Who may be enrolled.
        gone: Names of which no byte may be left.
        fresh: Names and hashes of pictures that went in this run: hashes and rows are looked for too.
    """
    with Gallery.open(path, Pipeline()) as gallery:
        found = see(gallery)
        faults = check_people(found, allowed) + check_answers(gallery, found)
        if path.stat().st_size > LARGE_PAGES * PAGE:  # until then its receipts are not complete
            gallery.compact()
    gone, fresh = gone - words_of(found), fresh - words_of(found)
    return found, faults + check_file(path) + check_log(path) + find_traces(path.parent, gone, fresh)


def check_copies(folder: Path, copy: Copy | None) -> list[str]:
    """Return a fault unless every backup in a folder is whole, and the last one holds whom it must."""
    faults = []
    for file in folder.glob("*.db"):
        with closing(sqlite3.connect(file)) as db:
            checks = [*db.execute("PRAGMA integrity_check"), *db.execute("PRAGMA foreign_key_check")]
        faults += [] if checks == [("ok",)] else [f"the backup {file.name} is not sound: {checks}"]
    if copy is not None:
        faults += check_people(read_copy(folder / copy.file), [copy.held])
    return faults


def read_copy(file: Path) -> People:
    """Return who is in a backup."""
    query = """SELECT name, sha256 FROM faces JOIN people ON people.id = person_id
               JOIN pictures ON pictures.id = picture_id"""
    people: dict[str, set[str]] = {}
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
        for name, picture in db.execute(query):
            people.setdefault(name, set()).add(picture)
    return {name: frozenset(pictures) for name, pictures in people.items()}


def check_people(found: People, allowed: list[People]) -> list[str]:
    """Return a fault unless these are people who may be enrolled."""
    if found in allowed:
        return []
    missing = {name: sorted(pictures) for name, pictures in allowed[0].items() if found.get(name) != pictures}
    surplus = {name: sorted(pictures) for name, pictures in found.items() if allowed[0].get(name) != pictures}
    return [f"missing are {missing}, and there are {surplus}"]


def check_answers(gallery: Gallery, people: People) -> list[str]:
    """Return a fault unless a search finds whom a comparison with every face finds."""
    enrolled = [row_of(min(pictures)) for _, pictures in sorted(people.items())[-3:]]
    stranger = unit_rows(np.random.default_rng(len(people)).random((1, WIDTH), np.float32))
    probes = np.stack([*enrolled, stranger[0]])
    wanted = find_nearest(people, probes)
    answers = [
        [(each.name, each.distance) for each in answer.matches] for answer in gallery.identify(probes, rule="rows")
    ]
    return [] if all(map(is_alike, answers, wanted)) else [f"found were {answers}, wanted {wanted}"]


def is_alike(found: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> bool:
    """Return whether two lists of matches are the same but for rounding."""
    if [name for name, _ in found[:1]] != [name for name, _ in wanted[:1]] or len(found) != len(wanted):
        return False
    return all(abs(one - other) < REACH for (_, one), (_, other) in zip(found, wanted, strict=True))


def check_file(path: Path) -> list[str]:
    """Return a fault unless SQLite finds the file sound, and every row is whole."""
    db = sqlite3.connect(path)
    checks = [*db.execute("PRAGMA integrity_check"), *db.execute("PRAGMA foreign_key_check")]
    rows = db.execute("SELECT sha256, embedding FROM faces JOIN pictures ON pictures.id = picture_id")
    torn = [picture for picture, row in rows if row != row_of(picture).tobytes()]
    empty = db.execute("SELECT name FROM people WHERE id NOT IN (SELECT person_id FROM faces)").fetchall()
    idle = db.execute("SELECT id FROM pictures WHERE id NOT IN (SELECT picture_id FROM faces)").fetchall()
    db.close()
    faults = [] if checks == [("ok",)] else [f"the file is not sound: {checks}"]
    return faults + [f"torn, without faces, without owners: {torn} {empty} {idle}"] * bool(torn + empty + idle)


def check_log(path: Path) -> list[str]:
    """Return a fault unless the audit log is a whole chain, whatever the clock did."""
    access = Access.open(f"{path}.access")
    fault = access.log.verify().fault
    access.close()
    return [] if fault is None else [f"the audit log: {fault}"]


def find_traces(folder: Path, gone: set[str], fresh: set[str]) -> list[str]:
    """Return of whom a byte is left in a folder."""
    data = b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())
    names = {name.decode() for name in NAMES.findall(data)}
    pictures = {word for word in fresh if not NAMES.fullmatch(word.encode())}
    hashes = {word for word in pictures if word.encode() in data}
    rows = {word for word in pictures if row_of(word)[:PIECE].tobytes() in data}
    return [f"a trace of {word}" for word in sorted(names & gone | hashes)] + [f"a row of {word}" for word in rows]
