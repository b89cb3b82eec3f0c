"""Programs that change the keys of a gallery and move it to another pipeline, and are killed meanwhile."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from crashing.child import BOX
from crashing.model import Pipeline, row_of
from sameface.errors import SamefaceError
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.file_encryption import decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, Keys, KeyText
from sameface.gallery.sqlite import files
from sameface.gallery.sqlite.files import upgraded_path
from sameface.gallery.upgrade import Upgrade, confirm_upgrade, discard_upgrade

FACES = 400
REST = 0.02  # seconds after a step that failed
KEYS = [KeyText(Key(bytes([number]) * 32).text, f"key {number}") for number in range(1, 4)]


@dataclass(frozen=True)
class State:
    """What a gallery must be.

    Attributes:
        key: The number of the key that opens it; None if it is not encrypted.
        generation: How often it was moved to another pipeline.
    """

    key: int | None = None
    generation: int = 0

    @property
    def source(self) -> KeyText | None:
        """The key."""
        return None if self.key is None else KEYS[self.key]


@dataclass
class Changing(Pipeline):
    """The pipeline of a generation."""

    generation: int = 0

    @property
    def signature(self) -> str:  # type: ignore[override]
        """Another one for each generation."""
        return f"noise {self.generation}"


def picture_of(number: int) -> str:
    """Return the hash of a picture."""
    return f"{number:064x}"


def row_at(picture: str, generation: int) -> Any:
    """Return the row of a picture in a generation, `(WIDTH,) float32`."""
    return row_of(f"{int(picture, 16) + 1_000_000 * (generation + 1):064x}")


def make_gallery(path: Path) -> None:
    """Make a plain gallery of a person with so many faces."""
    with Gallery.open(path, Changing()) as gallery:
        pictures = [picture_of(number) for number in range(FACES)]
        gallery.enroll("Ann", [Template(each, BOX, 1.0, row_at(each, 0)) for each in pictures])


def choose(state: State, rng: random.Random, path: Path) -> tuple[str, State]:
    """Return the next step, and what the gallery is after it."""
    moved = replace(state, generation=state.generation + 1)
    if Path(upgraded_path(path)).exists():  # no key may be changed
        return rng.choice([("discard", state), ("upgrade", moved)])
    if state.key is None:
        return rng.choice([("encrypt", replace(state, key=0)), ("upgrade", moved)])
    other = replace(state, key=(state.key + 1) % len(KEYS))
    return rng.choice(
        [("rotate-key", other), ("rotate-data-key", state), ("decrypt", replace(state, key=None)), ("upgrade", moved)]
    )


def take(path: Path, step: str, before: State, after: State) -> None:
    """Do a step."""
    old, new = before.source, after.source
    if step == "upgrade":
        move(path, before, after)
    elif step == "discard":
        discard_upgrade(path)
    elif step == "encrypt" and new is not None:
        encrypt_gallery(path, new)
    elif old is not None and step == "decrypt":
        decrypt_gallery(path, old)
    elif old is not None and step == "rotate-data-key":
        rotate_data_key(path, old)
    elif old is not None and new is not None:
        rotate_key(path, old, new)


def move(path: Path, before: State, after: State) -> None:
    """Move a gallery to the next pipeline."""
    keys = Keys(before.source)
    with Upgrade.open(path, Changing(after.generation).signature, keys) as begun:
        for picture, faces in begun.pending().items():
            begun.put(faces, row_at(picture, after.generation)[None])
            break  # one by itself, so that a kill finds it half done
        rest = [(face, picture) for picture, faces in begun.pending().items() for face in faces]
        if rest:
            rows = np.stack([row_at(picture, after.generation) for _, picture in rest])
            begun.put([face for face, _ in rest], rows)
    confirm_upgrade(path)


def live_with_keys(path: Path, state: State, seed: int, pipe: Connection) -> None:
    """Take steps until the end; tell of each before and after, and after a failure what the gallery is."""
    rng = random.Random(seed)
    if seed // 2 % 2:  # nothing is refused beforehand, so that the disk is full in the middle of a step
        files.COPIES = files.LEAST = 0
    while True:
        step, after = choose(state, rng, path)
        pipe.send(("begin", (step, after)))
        try:
            take(path, step, state, after)
        except SamefaceError as error:
            pipe.send(("failed", (step, str(error))))
            state = wait_for_state(path, (state, after))
            pipe.send(("seen", state))
        else:
            state = after
            pipe.send(("done", (step, after)))


def wait_for_state(path: Path, allowed: tuple[State, State]) -> State:
    """Return what a gallery is, as soon as that can be read."""
    while True:
        time.sleep(REST)
        for state in allowed:
            if not wrong_with(path, state):
                return state


def wrong_with(path: Path, state: State) -> str | None:
    """Return why a gallery is not in a state; None if it is."""
    try:
        with Gallery.open(path, Changing(state.generation), create=False, keys=Keys(state.source)) as gallery:
            rows = {each.picture: each.embedding.tobytes() for each in gallery.templates("Ann")}
    except SamefaceError as error:
        return str(error)
    wanted = {each: row_at(each, state.generation).tobytes() for each in map(picture_of, range(FACES))}
    return None if rows == wanted else "it has other rows"


@dataclass
class KeyRecord:
    """What a program told until it ended.

    Attributes:
        state: What the gallery must be, but for the step in hand.
        hand: The step, and what the gallery is after it; None between two.
        counts: Of steps, by what became of them.
        faults: What it told that cannot be: a step that failed and was done all the same.
    """

    state: State
    hand: tuple[str, State] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def replay(cls, state: State, messages: Iterable[tuple[str, Any]]) -> KeyRecord:
        """Return what the messages say of a gallery that was in a state before."""
        record = cls(state)
        for word, fact in messages:
            record._take(word, fact)
        record.counts[f"{record.hand[0]}, cut" if record.hand else "between steps"] += 1
        return record

    def _take(self, word: str, fact: Any) -> None:
        """Take one message into account."""
        if word == "begin":
            self.hand = fact
        elif word == "done":
            self.counts[fact[0]] += 1
            self.state, self.hand = fact[1], None
        elif word == "failed":
            self.counts[f"{fact[0]}, failed"] += 1
            self.last = fact
        elif word == "seen":
            if fact != self.state:
                self.faults.append(f"{self.last} was told as a failure, and is done")
            self.state, self.hand = fact, None


def find_state(path: Path, record: KeyRecord) -> tuple[State, list[str]]:
    """Return what a gallery is after a kill, and what is wrong with it."""
    allowed = [record.state, *([record.hand[1]] if record.hand else [])]
    reasons = []
    for state in dict.fromkeys(allowed):
        reason = wrong_with(path, state)
        if reason is None:
            return state, find_key_faults(path, state)
        reasons.append(f"{state}: {reason}")
    return record.state, [f"after {record.hand} it is in no state that it may be in: {reasons}"]


def find_key_faults(path: Path, state: State) -> list[str]:
    """Return a fault unless the file is sound, and no plain row is left once an encrypted one is compact."""
    with closing(sqlite3.connect(path)) as db:
        checks = db.execute("PRAGMA integrity_check").fetchall()
    faults = [] if checks == [("ok",)] else [f"the file is not sound: {checks}"]
    if state.key is None or Path(upgraded_path(path)).exists():
        return faults
    with Gallery.open(path, keys=Keys(state.source)) as gallery:
        gallery.compact()
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    pictures = [picture_of(number) for number in range(FACES)]
    left = sum(
        row_at(each, generation).tobytes() in data
        for each in pictures
        for generation in {max(state.generation - 1, 0), state.generation}
    )
    return faults + [f"{left} plain rows are left in an encrypted gallery"] * bool(left)
