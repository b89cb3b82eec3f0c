"""A search: its options, its threshold, its candidates and the decision, the same for every back end."""

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
    """The options of a search."""

    k: int  # nearest faces that vote
    most: int  # people to return
    closed_set: bool  # the nearest is named at any distance
    hidden: frozenset[int] = frozenset()  # numbers of enrolled people who must not be found
    rule: Rule = "rows"

    def __post_init__(self) -> None:
        if self.k < 1 or self.most < 1:
            raise ValueError(f"k and most must be 1 or more, got {self.k} and {self.most}")
        if self.rule == "template" and self.k > 1:
            raise ValueError(f"k must be 1 where each person has one template, got {self.k}: rule='rows'")

    @property
    def people(self) -> int:
        """How many people the candidates must hold: at least two, to see whether an answer is ambiguous."""
        return max(self.most, 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """The threshold of a search."""

    thresholds: Thresholds  # that the limit is taken from
    limit: GalleryThreshold  # the largest distance at which a face may be a person's, and its rate
    factor: float = 1.0  # brings distances to adapted rows to the scale of the others


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Enrolled faces near a probe: all that can count, in the order of enrolment."""

    distances: NDArray[np.float32]  # (m,) squared
    owners: NDArray[np.int64]  # (m,) the number of the person of each
    names: Mapping[int, str]  # by number

    def without(self, hidden: frozenset[int]) -> Candidates:
        """Return the candidates without hidden people and unusable rows."""
        kept = ~np.isin(self.owners, [NOBODY, *hidden])
        return Candidates(self.distances[kept], self.owners[kept], self.names)

    def settles(self, reach: float, *, faces: int, people: int) -> bool:
        """Return whether `faces` faces, of `people` people, are nearer than `reach`.

        Then missing faces at that distance or farther cannot change the answer.
        """
        inside = self.distances < reach
        return int(inside.sum()) >= faces and len(np.unique(self.owners[inside])) >= people


class SearchIndex(Protocol):
    """The enrolled faces or templates of a gallery, as a search sees them."""

    @property
    def faces(self) -> int:
        """How many faces or templates a probe is compared with."""

    @property
    def own(self) -> Thresholds | None:
        """The thresholds that the gallery keeps, or None."""

    @property
    def mixed(self) -> Thresholds | None:
        """The thresholds for rows that an adapter moved here, or None without such rows."""

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the candidates of each probe, `(n, d) float32` unit rows; at least one face is enrolled."""


def leave_out_unusable(rows: Embeddings, owners: NDArray[np.int64]) -> tuple[Embeddings, NDArray[np.int64]]:
    """Replace rows that are not finite or not of length 1 by zeros, give them to `NOBODY`, and log their number.

    They are damaged, or were enrolled before such rows were refused.
    """
    usable = are_unit_rows(rows)
    if usable.all():
        return rows, owners
    logger.warning(
        "%d embeddings are not of length 1, and no search finds them: `sameface gallery check` names them",
        int((~usable).sum()),
    )
    return np.where(usable[:, None], rows, np.float32(0)), np.where(usable, owners, NOBODY)


def rounding(width: int) -> float:
    """Return the largest rounding error of a squared distance of unit rows that is summed in float32."""
    return 2 * (width + 4) * float(np.finfo(np.float32).eps)


def scale_distances(
    distances: NDArray[np.float32], adapted: NDArray[np.bool_] | None, factor: float
) -> NDArray[np.float32]:
    """Return distances `(m,)` with those to adapted rows times the factor, at most 4."""
    if adapted is None or factor == 1:
        return distances
    scale = np.where(adapted, np.float32(factor), np.float32(1))
    return np.minimum(distances * scale, np.float32(4))


def choose_rule(rule: Rule | None, k: int) -> Rule:
    """Return the rule, by default `rows` if several neighbours vote."""
    if rule is None:
        return "rows" if k > 1 else "template"
    return rule


def compute_limits(pipeline: Thresholds, index: SearchIndex, far: float | None) -> Limits:
    """Return the threshold for a gallery of this size.

    The gallery's own thresholds come before those of the pipeline. With adapted rows, the factor brings the
    threshold calibrated for them to that of the others, and the larger of the two rates holds.

    Args:
        pipeline: The thresholds of the pipeline.
        index: The gallery.
        far: The chance that a stranger is given any name, as in `Thresholds.at_gallery`.

    Raises:
        ThresholdError: One of the two calibrations does not reach to this `far`.
    """
    own = pipeline
    if index.own is not None:  # the factors for means of several faces belong to the network
        own = replace(index.own, templates=index.own.templates or pipeline.templates)
    limit = own.at_gallery(index.faces, far)
    if index.mixed is None:
        return Limits(own, limit)
    other = index.mixed.at_gallery(index.faces, far)
    factor = limit.distance / max(other.distance, float(np.finfo(np.float32).tiny))
    return Limits(own, replace(limit, fpir=max(limit.fpir, other.fpir)), factor)


def empty_answer(limits: Limits, options: SearchOptions, size: int) -> Identification:
    """Return the answer without matches."""
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
    """Return the answer for a probe, given its candidates and the answer without matches."""
    limit = 4.0 if options.closed_set else answer.threshold
    ranked = rank_people(near.distances, near.owners, k=options.k, limit=limit, most=options.most)
    matches = tuple(Match(near.names[person], distance, votes, person) for person, distance, votes in ranked)
    within = near.owners[near.distances <= np.float64(answer.threshold)]
    return replace(answer, matches=matches, ambiguous=len(np.unique(within)) > 1)


def rank_people(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, k: int, limit: float, most: int
) -> list[tuple[int, float, int]]:
    """Return number, distance of the nearest face, and votes of the nearest people, the nearest first.

    The `k` nearest faces vote, unless farther than `limit`. Of equal distances the earlier face is nearer.

    Args:
        distances: `(m,) float32` squared distances of one probe.
        owners: `(m,) int64` the person of each face.
        k: How many faces vote.
        limit: The largest distance of a vote.
        most: How many people to return. The one with most votes takes the last place if not among them.
    """
    order = nearest_faces(distances, owners, faces=k, people=most)
    _, first = np.unique(owners[order], return_index=True)
    chosen = order[np.sort(first)[:most]].tolist()  # the nearest face of each person
    voters = [place for place in order[:k].tolist() if float(distances[place]) <= limit]
    votes = Counter(int(owners[place]) for place in voters)
    for winner, _ in votes.most_common(1):  # of equal counts the first: the nearest
        face = next(place for place in voters if owners[place] == winner)
        chosen[-1] = chosen[-1] if face in chosen else face
    return [(int(owners[place]), float(distances[place]), votes[int(owners[place])]) for place in chosen]


def nearest_faces(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, faces: int, people: int
) -> NDArray[np.intp]:
    """Return the places of the nearest faces, in order: at least `faces`, of at least `people` people.

    A partition selects a few to sort, with all that are equally near as the last. If they are of too few
    people, four times as many are taken.
    """
    reach = 4 * max(faces, people)
    while reach < len(distances):
        edge = np.partition(distances, reach - 1)[reach - 1]
        near = np.flatnonzero(distances <= edge)
        if len(np.unique(owners[near])) >= people:
            return near[np.argsort(distances[near], kind="stable")]
        reach *= 4
    return np.argsort(distances, kind="stable")
