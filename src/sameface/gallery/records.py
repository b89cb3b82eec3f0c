"""What goes into a gallery and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameface.manifest import Thresholds


class Pipeline(Protocol):
    """What a gallery must know of whoever makes its rows; a `Recognizer` is one."""

    @property
    def signature(self) -> str:
        """A hash of everything that shapes an embedding."""

    @property
    def thresholds(self) -> Thresholds:
        """Which distance means "same", by false-accept rate."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is enrolled.

    Attributes:
        name: Unique in the gallery.
        faces: How many faces of this person are enrolled.
        number: What stands for the person in this file, also under another name. Nobody else gets it later.
            Two records are equal whatever their numbers.
        consent: A note on how and when the person agreed; None if there is none.
    """

    name: str
    faces: int
    number: int = field(default=0, compare=False)
    consent: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledFace:
    """A face of a person in a gallery.

    Attributes:
        number: What stands for the face in this file; no other face gets it later.
        box: `(4,) float32` where it was in its picture.
        score: The detector's score.
        has_crop: The face that was cut out is kept.
    """

    number: int
    box: NDArray[np.float32]
    score: float
    has_crop: bool


@dataclass(frozen=True, slots=True)
class Match:
    """Somebody that a probe may be.

    Attributes:
        name: The person.
        distance: The squared distance to the person's nearest face, 0 to 4.
        votes: How many of the `k` nearest faces are this person's and near enough to count.
        number: The person's. Two records are equal whatever their numbers.
    """

    name: str
    distance: float
    votes: int
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Identification:
    """Who a probe is.

    Attributes:
        matches: The nearest people and the one who is named, the nearest first; empty if nobody is
            enrolled.
        threshold: The squared distance at and under which a face may be a person's.
        far: The chance that this threshold gives a stranger any name in a gallery of this size.
        ambiguous: Two people or more are within the threshold.
        closed_set: The probe is taken to be enrolled: the nearest is named at any distance.
    """

    matches: tuple[Match, ...]
    threshold: float
    far: float
    ambiguous: bool
    closed_set: bool

    @property
    def name(self) -> str | None:
        """The person with the most votes, among equals the nearest; None for a stranger."""
        return None if self.named is None else self.named.name

    @property
    def named(self) -> Match | None:
        """What is known of who is named; None for a stranger."""
        best = max(self.matches, key=lambda match: (match.votes, -match.distance), default=None)
        return None if best is None or best.votes == 0 else best


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted with a person.

    Attributes:
        name: The person.
        faces: How many faces.
        pictures: How many picture hashes that belonged to nobody else.
    """

    name: str
    faces: int
    pictures: int
