"""The records of a gallery: people, faces, answers of a search, receipts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sameface.thresholds import GALLERY_FAR, Thresholds

Rule = Literal["template", "rows"]  # what a probe is compared with
WAYS_OUT: Mapping[Rule, str] = {
    "template": "Search a smaller gallery, take weights calibrated to smaller rates, or check each name",
    "rows": "Search by templates, in a smaller gallery, or with weights calibrated to smaller rates",
}
Reason = Literal["forget", "forget_face", "expire", "merge"]


class Pipeline(Protocol):
    """What a gallery needs of the pipeline that makes its embeddings; a `Recognizer` is one."""

    @property
    def signature(self) -> str:
        """A hash of everything that shapes an embedding."""

    @property
    def thresholds(self) -> Thresholds:
        """The distance that means "same", by false-accept rate."""


@dataclass(frozen=True, slots=True)
class Person:
    """An enrolled person. Two records are equal whatever their numbers.

    Attributes:
        name: Unique in the gallery.
        faces: How many faces are enrolled.
        number: Stays when the name changes, and is never given to anybody else.
        consent: A note on how and when the person agreed, or None.
        expires: When the person expires: is not named from then on, and is deleted. None for never.
    """

    name: str
    faces: int
    number: int = field(default=0, compare=False)
    consent: str | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledFace:
    """A face of a person in a gallery.

    Attributes:
        number: Never given to another face.
        box: `(4,) float32` in its picture.
        score: The detector's.
        has_crop: Whether the crop was kept.
    """

    number: int
    box: NDArray[np.float32]
    score: float
    has_crop: bool


@dataclass(frozen=True, slots=True)
class Match:
    """A person near a probe. Two records are equal whatever their numbers.

    Attributes:
        name: The person.
        distance: The squared distance to the person's template, or to their nearest face, 0 to 4. That to a
            mean of several faces is scaled so that the threshold for one face holds for it.
        votes: How many of the `k` nearest templates or faces are this person's and within the threshold.
        number: The person's.
    """

    name: str
    distance: float
    votes: int
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer for a probe; true if it names somebody.

    Attributes:
        matches: The nearest people and the named person, the nearest first.
        threshold: The largest squared distance at which a face may be a person's.
        far: The chance that this threshold gives a stranger any name in a gallery of this size.
        ambiguous: Two people or more are within the threshold.
        closed_set: The probe is taken to be enrolled: the nearest is named at any distance.
        rule: What the probe was compared with: one `template` per person, or all `rows`.
        asked: The chance that was asked for.
        population: The population of the calibration: `mixed`, `alike` or `own`.
        extrapolated: `far` rests on a tail that was fitted to the calibration's nearest pairs.
        size: How many templates or faces the probe was compared with.
    """

    matches: tuple[Match, ...]
    threshold: float
    far: float
    ambiguous: bool
    closed_set: bool
    rule: Rule = "template"
    asked: float = GALLERY_FAR
    population: str = "mixed"
    extrapolated: bool = False
    size: int = 0

    @property
    def promise_kept(self) -> bool:
        """Whether `far` is the chance that was asked for, or less."""
        return self.far <= self.asked

    @property
    def warning(self) -> str | None:
        """A sentence if `far` is more than was asked for or is extrapolated, else None."""
        if self.closed_set or not self.size:
            return None
        enrolled = f"{self.size:,} {'templates' if self.rule == 'template' else 'faces'}"
        held = f"the calibration ({self.population}) holds {percent(self.far)} among {enrolled}"
        tail = ", and that by an extrapolated tail" if self.extrapolated else ""
        if not self.promise_kept:
            wanted = f"asked for {percent(self.asked)} of strangers named at most; {held}{tail}"
            return f"{wanted}. {WAYS_OUT[self.rule]}"
        return f"{held}{tail}, below the rates that were counted" if tail else None

    def __bool__(self) -> bool:
        """Whether somebody is named."""
        return self.named is not None

    @property
    def name(self) -> str | None:
        """The person with the most votes, among equals the nearest; None for a stranger."""
        return None if self.named is None else self.named.name

    @property
    def named(self) -> Match | None:
        """The match of the named person; None for a stranger."""
        best = max(self.matches, key=lambda match: (match.votes, -match.distance), default=None)
        return None if best is None or best.votes == 0 else best


@dataclass(frozen=True, slots=True)
class Erasure:
    """A record that the bytes of deleted rows were overwritten: an entry in the chain of receipts.

    Attributes:
        number: Of the entry.
        time: When it was done.
        places: Each place, and whether nothing is left there. `table`: rows of people, faces and pictures.
            `log`: the write-ahead log. `upgrade`: the file of an upgrade that was begun. `milvus`: the copy of
            the embeddings.
        hash: Of the entry.
    """

    number: int
    time: datetime
    places: Mapping[str, bool]
    hash: str

    @property
    def complete(self) -> bool:
        """Nothing is left in any of the places."""
        return all(self.places.values())


@dataclass(frozen=True, slots=True)
class Receipt:
    """A record that a person or face was deleted, or a person merged: an entry in a chain, without a name.

    Attributes:
        number: Of the entry, rising.
        time: When the rows were deleted.
        gallery: Its `origin`.
        reason: `forget`, `forget_face`, `expire` or `merge`.
        person: The number of the person; it is not used again.
        face: The number of a face that was deleted alone, or None.
        faces: How many faces were deleted, or moved by a merge.
        crops: How many of them had a crop.
        pictures: How many hashes of pictures that showed nobody else.
        hash: SHA-256 over the entry before and this one.
        erasure: The record that the bytes are gone too, or None.
        into: The person who got the faces; None for a deletion.
    """

    number: int
    time: datetime
    gallery: str
    reason: Reason
    person: int
    face: int | None
    faces: int
    crops: int
    pictures: int
    hash: str
    erasure: Erasure | None = None
    into: int | None = None


def percent(rate: float) -> str:
    """Return a rate in percent, in three digits."""
    return f"{100 * rate:.3g} %"
