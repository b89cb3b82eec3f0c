"""Search among who is enrolled, and decide: the same for every back end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, are_unit_rows
from sameface.gallery.records import Identification, Match, Rule
from sameface.thresholds import GalleryThreshold, Thresholds

logger = logging.getLogger(__name__)

PROBES = 64  # at once, so that the distances of a thousand probes to a million faces need no 4 GB
NOBODY = 0  # owns the rows that no search may find; people have numbers from 1


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is asked of a search.

    Attributes:
        k: How many nearest faces vote.
        most: How many people to return.
        closed_set: The nearest is named at any distance.
        hidden: The numbers of people who are not to be found, though they are enrolled.
        rule: What a probe is compared with.
    """

    k: int
    most: int
    closed_set: bool
    hidden: frozenset[int] = frozenset()
    rule: Rule = "rows"

    def __post_init__(self) -> None:
        if self.k < 1 or self.most < 1:
            raise ValueError(f"k and most must be 1 or more, got {self.k} and {self.most}")
        if self.rule == "template" and self.k > 1:
            raise ValueError(f"k must be 1 where each person has one template, got {self.k}: rule='rows'")

    @property
    def people(self) -> int:
        """How many people must be known: two at least, so that it is known whether an answer is ambiguous."""
        return max(self.most, 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """What decides a search.

    Attributes:
        thresholds: Those that the limit is of.
        limit: The distance at and under which a face may be a person's, and the rate that it holds.
        factor: Brings the distance to a row that an adapter moved to the scale of the others.
    """

    thresholds: Thresholds
    limit: GalleryThreshold
    factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Enrolled faces about a probe: all of them, or those that can count.

    Attributes:
        distances: `(m,) float32` squared distances, in the order of enrolment.
        owners: `(m,) int64` whose face each is.
        names: The name of each person by number.
    """

    distances: NDArray[np.float32]
    owners: NDArray[np.int64]
    names: Mapping[int, str]

    def without(self, hidden: frozenset[int]) -> Candidates:
        """Return the faces of all but some people, and of nobody."""
        kept = ~among(self.owners, hidden | {NOBODY})
        return Candidates(self.distances[kept], self.owners[kept], self.names)

    def settles(self, reach: float, *, faces: int, people: int) -> bool:
        """Return whether so many faces, of so many people, are nearer than a distance.

        Then faces at that distance or farther, which may be missing here, cannot change the answer.
        """
        inside = self.distances < reach
        return int(inside.sum()) >= faces and len(np.unique(self.owners[inside])) >= people


class SearchIndex(Protocol):
    """Who is enrolled, as a search sees it."""

    @property
    def faces(self) -> int:
        """How many faces or templates a probe is compared with."""

    @property
    def own(self) -> Thresholds | None:
        """The thresholds that the gallery keeps, or None."""

    @property
    def mixed(self) -> Thresholds | None:
        """Those for rows that an adapter moved here, or None if there are no such rows."""

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield for each probe what is near; at least one face is enrolled.

        Args:
            probes: `(n, d) float32` unit rows.
            limits: What the distances to adapted rows are scaled by.
            options: What will be asked of the faces.
        """


def leave_out_unusable(rows: Embeddings, owners: NDArray[np.int64]) -> tuple[Embeddings, NDArray[np.int64]]:
    """Give the rows that are not finite or not of length 1 to `NOBODY`, as zeros, and log that there are any.

    A row like that is damaged, or was enrolled before such rows were refused. Its distances mean nothing.
    """
    usable = are_unit_rows(rows)
    if usable.all():
        return rows, owners
    logger.warning(
        "%d embeddings are not of length 1, and no search finds them: `sameface gallery check` names them",
        int((~usable).sum()),
    )
    return np.where(usable[:, None], rows, np.float32(0)), np.where(usable, owners, NOBODY)


def among(owners: NDArray[np.int64], people: frozenset[int]) -> NDArray[np.bool_]:
    """Return for each owner, `(m,) int64`, whether it is one of the people."""
    return np.isin(owners, np.fromiter(people, np.int64, len(people)))


def rounding(width: int) -> float:
    """Return how far a squared distance of unit rows can be from the true one if float32 sums it."""
    return 2 * (width + 4) * float(np.finfo(np.float32).eps)


def scale_distances(
    distances: NDArray[np.float32], adapted: NDArray[np.bool_] | None, factor: float
) -> NDArray[np.float32]:
    """Return distances `(m,)` on one scale: those to adapted rows times the factor, at most 4."""
    if adapted is None or factor == 1:
        return distances
    scale = np.where(adapted, np.float32(factor), np.float32(1))
    return np.minimum(distances * scale, np.float32(4))


def choose_rule(rule: Rule | None, k: int) -> Rule:
    """Return what a probe is compared with: several neighbours are faces, not people."""
    if rule is None:
        return "rows" if k > 1 else "template"
    return rule


def compute_limits(pipeline: Thresholds, known: SearchIndex, far: float | None) -> Limits:
    """Return what decides a search.

    Args:
        pipeline: Its thresholds, where the gallery keeps none of its own.
        known: Who is enrolled.
        far: The chance that a stranger is given any name, as in `Thresholds.at_gallery`.

    Returns:
        With adapted rows, the factor that brings the threshold calibrated for them to that of the others, and
        the larger of the two rates.

    Raises:
        ThresholdError: One of the two calibrations does not reach to this `far`.
    """
    own = pipeline
    if known.own is not None:  # what a mean of several faces is worth belongs to the network
        own = replace(known.own, templates=known.own.templates or pipeline.templates)
    limit = own.at_gallery(known.faces, far)
    if known.mixed is None:
        return Limits(own, limit)
    other = known.mixed.at_gallery(known.faces, far)
    factor = limit.distance / max(other.distance, float(np.finfo(np.float32).tiny))
    return Limits(own, replace(limit, fpir=max(limit.fpir, other.fpir)), factor)


def empty_answer(limits: Limits, options: SearchOptions, size: int) -> Identification:
    """Return the answer of a search that has found nobody."""
    limit = limits.limit
    return Identification(
        matches=(),
        threshold=limit.distance,
        far=limit.fpir,
        ambiguous=False,
        closed_set=options.closed_set,
        rule=options.rule,
        asked=limit.asked,
        population=limits.thresholds.population,
        extrapolated=limit.extrapolated,
        size=size,
    )


def decide(near: Candidates, options: SearchOptions, answer: Identification) -> Identification:
    """Return who a probe is, given what is near it and the answer of a search that has found nobody."""
    limit = 4.0 if options.closed_set else answer.threshold
    ranked = rank_people(near.distances, near.owners, k=options.k, limit=limit, most=options.most)
    matches = tuple(Match(near.names[person], distance, votes, person) for person, distance, votes in ranked)
    within = near.owners[near.distances <= np.float64(answer.threshold)]
    return replace(answer, matches=matches, ambiguous=len(np.unique(within)) > 1)


def rank_people(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, k: int, limit: float, most: int
) -> list[tuple[int, float, int]]:
    """Return the nearest people of one probe, the nearest first.

    Args:
        distances: `(m,) float32` squared distances of the probe to every enrolled face.
        owners: `(m,) int64` whose face each is.
        k: How many nearest faces vote. Equal distances are taken in the order of the faces.
        limit: A face farther than this has no vote.
        most: How many people to return. Who has the most votes takes the last place if not among them.

    Returns:
        For each person the number, the distance of the nearest face and the votes. People at equal
        distance come in the order of their faces.
    """
    order = nearest_faces(distances, owners, faces=k, people=most)
    _, first = np.unique(owners[order], return_index=True)
    chosen = order[np.sort(first)[:most]].tolist()  # the nearest face of each person
    voters = [place for place in order[:k].tolist() if float(distances[place]) <= limit]
    votes = Counter(int(owners[place]) for place in voters)
    for winner, _ in votes.most_common(1):  # of equals the first counted, who is the nearest
        face = next(place for place in voters if owners[place] == winner)
        chosen[-1] = chosen[-1] if face in chosen else face
    return [(int(owners[place]), float(distances[place]), votes[int(owners[place])]) for place in chosen]


def nearest_faces(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, faces: int, people: int
) -> NDArray[np.intp]:
    """Return so many nearest faces, in order, that they hold `faces` and those of `people` people.

    Only a few are sorted: those at or under the distance that a selection finds, so that none of several
    equally near ones is lost. If they belong to too few people, four times as many are taken.
    """
    reach = 4 * max(faces, people)
    while reach < len(distances):
        edge = np.partition(distances, reach - 1)[reach - 1]
        near = np.flatnonzero(distances <= edge)
        if len(np.unique(owners[near])) >= people:
            return near[np.argsort(distances[near], kind="stable")]
        reach *= 4
    return np.argsort(distances, kind="stable")
