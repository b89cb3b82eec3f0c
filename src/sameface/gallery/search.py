"""Search among who is enrolled, and decide: the same for every back end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, are_unit_rows, expect_shape
from sameface.compare import exact_distances, unit_distances
from sameface.gallery.records import Identification, Match, Rule
from sameface.gallery.vote import nearest_faces, rank_people
from sameface.thresholds import GalleryThreshold, Thresholds

logger = logging.getLogger(__name__)

PROBES = 64  # at once, so that the distances of a thousand probes to a million faces need no 4 GB
NOBODY = 0  # owns the rows that no search may find; people have numbers from 1
FARTHEST = float(np.finfo(np.float32).max)  # what is hidden is farther


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

    def edge(self, *, faces: int, people: int) -> float:
        """Return the distance within which so many faces, of so many people, are; infinite without them."""
        if not self.settles(np.inf, faces=faces, people=people):
            return np.inf
        order = np.argsort(self.distances, kind="stable")
        firsts = np.sort(np.unique(self.owners[order], return_index=True)[1])
        return float(self.distances[order[max(faces, firsts[people - 1] + 1) - 1]])

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


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Every enrolled embedding, in memory.

    Attributes:
        version: The gallery's content that they were read from.
        names: The name of each person by number.
        owners: `(m,) int64` whose face each row is.
        matrix: `(m, d) float32` unit rows, in the order of enrolment; zeros where the owner is `NOBODY`.
        adapted: `(m,) bool` which of them an adapter moved here from another pipeline; None for none.
        own: The thresholds that the gallery keeps, or None.
        mixed: Those for the adapted rows, or None.
    """

    version: tuple[int, int]
    names: Mapping[int, str]
    owners: NDArray[np.int64]
    matrix: Embeddings
    adapted: NDArray[np.bool_] | None
    own: Thresholds | None
    mixed: Thresholds | None

    @property
    def faces(self) -> int:
        """How many faces are enrolled."""
        return len(self.owners)

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the faces that can count for each probe, with their exact distances."""
        factor = limits.factor
        expect_shape("rows", probes, ("n", self.matrix.shape[1]), np.float32)
        hidden = np.flatnonzero(among(self.owners, options.hidden | {NOBODY}))
        for start in range(0, len(probes), PROBES):
            block = probes[start : start + PROBES]
            for probe, measured in zip(block, unit_distances(block, self.matrix), strict=True):
                rough = scale_distances(measured, self.adapted, factor)
                rough[hidden] = np.inf
                order = nearest_faces(rough, self.owners, faces=options.k, people=options.people)
                edge = rough[order[-1]] + 2 * rounding(len(probe)) * max(factor, 1)
                near = np.flatnonzero(rough <= min(float(edge), FARTHEST))
                distances = exact_distances(probe, self.matrix[near])
                adapted = None if self.adapted is None else self.adapted[near]
                yield Candidates(scale_distances(distances, adapted, factor), self.owners[near], self.names)


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
