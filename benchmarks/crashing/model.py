"""Who must be enrolled, as a plain dict, and what a step makes of it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.thresholds import Thresholds

People: TypeAlias = dict[str, frozenset[str]]  # the pictures of each person, one face in each
Step: TypeAlias = tuple[Any, ...]  # what to do, and with whom

WIDTH = 256  # of a row: with it 20,000 faces are a file that a deletion does not write anew
AXES = 8  # directions that rows lie about; who is grouped with whom is plain
NOISE = 0.01  # of each number
GROUPED = 0.4  # the distance up to which faces are grouped; those about one axis are nearer, others farther
COPIES = 0.15  # of the steps make or restore a backup
FEW = 6  # people; up to here nearly all steps enroll
CROWD = "crowd"  # begins the names of those who only make a gallery large
CROWDS, EACH = 100, 210  # people and faces of each: over 20,000


class Pipeline:
    """What a gallery must know of who made its rows."""

    signature = "noise"
    thresholds = Thresholds((0.1, 1e-6), (0.4, 0.2), (100_000, 1), 1_000_000, "noise")


@dataclass(frozen=True)
class Copy:
    """A backup, and what must come of it if it is restored now.

    Attributes:
        file: Its name.
        held: Who is in it.
        people: Who must be enrolled after a restore, by their names in it; without pictures they are not.
        selves: The name in it of each person of the gallery, by the name now; empty for others.
        parts: The names in it of those whose faces each person of the gallery has now.
    """

    file: str
    held: People
    people: People
    selves: dict[str, str]
    parts: dict[str, frozenset[str]]

    @classmethod
    def make(cls, file: str, held: People, people: People) -> Copy:
        """Return a backup of which nothing was done since but what makes `people` of who it held."""
        return cls(file, held, people, {name: name for name in people}, {name: frozenset([name]) for name in people})

    @property
    def expected(self) -> People:
        """Who must be enrolled after a restore."""
        return {name: pictures for name, pictures in self.people.items() if pictures}

    def follow(self, step: Step, before: People) -> Copy:
        """Return it after a step in the gallery, where these people were enrolled before."""
        after = apply(before, step)
        people, selves, parts = dict(self.people), dict(self.selves), dict(self.parts)
        match step:
            case ("restore", _, _):
                return Copy.make(self.file, self.held, after)
            case ("forget", name):
                gone = parts.pop(name, frozenset())
                people = {part: pictures for part, pictures in people.items() if part not in gone}
            case ("forget_face", name, _):
                lost = before[name] - after.get(name, frozenset())
                people = {part: pictures - lost for part, pictures in people.items()}
            case ("rename", old, new):
                parts[new], selves[new] = parts.pop(old, frozenset()), selves.pop(old, "")
            case ("merge" | "cluster", source, into) if after != before:
                return self._merge(source, into)
        return Copy(self.file, self.held, people, selves, parts)

    def _merge(self, source: str, into: str) -> Copy:
        """Return it after a merge into somebody it knows, who has the faces then, or into somebody else."""
        people, selves, parts = dict(self.people), dict(self.selves), dict(self.parts)
        moved, mine = parts.pop(source, frozenset()), selves.get(into, "")
        if mine:
            people[mine] = people[mine].union(*(people.pop(part) for part in moved))
        else:
            parts[into] = parts.get(into, frozenset()) | moved
        return Copy(self.file, self.held, people, selves, parts)


def choose(people: People, rng: random.Random, name: str, copy: Copy | None = None) -> Step:
    """Return the next step; `name` is for whoever is new."""
    if rng.random() < COPIES:
        if copy is not None and rng.random() < 0.5:
            return ("restore", copy.file, copy.expected)
        return ("backup", f"{name}.db", people)
    names = sorted(person for person in people if not person.startswith(CROWD))
    dice = rng.random() if len(names) > FEW else 0
    if dice < 0.4:
        return ("enroll", name)
    if dice < 0.55:
        return ("forget", rng.choice(names))
    if dice < 0.65:
        person = rng.choice(names)
        return ("forget_face", person, rng.choice(sorted(people[person])))
    if dice < 0.75:
        return ("rename", rng.choice(names), name)
    return ("merge" if dice < 0.85 else "cluster", *rng.sample(names, 2))


def apply(people: People, step: Step) -> People:
    """Return who is enrolled after a step."""
    match step:
        case ("enroll", name):
            return people | {name: frozenset(pictures_of(name))}
        case ("forget", name):
            return without(people, name)
        case ("forget_face", name, picture):
            left = people[name] - {picture}
            return people | {name: left} if left else people  # the last one stays
        case ("rename", old, new):
            return without(people, old) | {new: people[old]}
        case ("merge", source, into):
            return without(people, source) | {into: people[into] | people[source]}
        case ("backup" | "restore", _, held):
            return dict(held)
        case ("cluster", source, into):
            same = len({axis_of(picture) for picture in people[source] | people[into]}) == 1
            return apply(people, ("merge", source, into)) if same else people
    raise ValueError(f"no step: {step}")


def without(people: People, name: str) -> People:
    """Return the others."""
    return {other: pictures for other, pictures in people.items() if other != name}


def pictures_of(name: str) -> list[str]:
    """Return the hashes of a new person's pictures; they stay with the faces when the person is merged."""
    start = hashlib.sha256(name.encode()).hexdigest()
    return [start[0] + hashlib.sha256(f"{name} {half}".encode()).hexdigest()[1:] for half in "ab"]


def axis_of(picture: str) -> int:
    """Return which direction the row of a picture lies about."""
    return int(picture[0], 16) % AXES


@lru_cache(100_000)
def row_of(picture: str) -> NDArray[np.float32]:
    """Return the row of a picture, `(WIDTH,) float32`: no other picture has it."""
    row = NOISE * np.random.default_rng(int(picture, 16)).standard_normal((1, WIDTH)).astype(np.float32)
    row[0, axis_of(picture)] += 1
    unit: NDArray[np.float32] = unit_rows(row)[0]
    return unit


def find_nearest(people: People, probes: Embeddings) -> list[list[tuple[str, float]]]:
    """Return the five nearest people of each probe with their distance, compared with every face."""
    owners = [name for name, pictures in people.items() for _ in pictures]
    if not owners:
        return [[] for _ in probes]
    rows = np.stack([row_of(picture) for pictures in people.values() for picture in pictures])
    found = []
    for distances in squared_distances(probes, rows):
        nearest: dict[str, float] = {}
        for place in np.argsort(distances).tolist():
            nearest.setdefault(owners[place], float(distances[place]))
            if len(nearest) == 5:
                break
        found.append(list(nearest.items()))
    return found


def follow(copy: Copy | None, step: Step, before: People, *, done: bool) -> Copy | None:
    """Return the backup that is made of the last one by a step, which was done or not; None without one."""
    if not done:
        return copy
    if step[0] == "backup":
        return Copy.make(step[1], before, before)
    return None if copy is None else copy.follow(step, before)


def was_done(step: Step, before: People, after: People) -> bool:
    """Return whether a step that was not acknowledged has changed who is enrolled."""
    return after != before and after == apply(before, step)
