"""How well do groups of pictures agree with people? BCubed and pairwise measures, over thresholds.

Everything follows from how many pictures each group shares with each person: no table of all pairs is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.cluster import cut_tree, link_rows
from sameface.evaluation.ranking import Labels
from sameface.evaluation.roc import Numbers

STEPS = 50  # thresholds of a sweep


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """How far groups and people agree.

    Attributes:
        precision: How pure the groups are; NaN where it is not defined.
        recall: How whole the people are; NaN likewise.
        f: The harmonic mean of both; NaN likewise.
    """

    precision: float
    recall: float
    f: float


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """Groups of pictures, measured against whom they show.

    Attributes:
        pictures: How many there are.
        people: How many they show.
        clusters: How many groups.
        singles: Groups of one picture.
        bcubed: For the mean picture: which part of its group shows its person, and which part of its person
            is in its group. The picture itself counts.
        pairwise: Of the pairs in one group the part that shows one person, and of the pairs of one person
            the part in one group. NaN without such pairs.
    """

    pictures: int
    people: int
    clusters: int
    singles: int
    bcubed: PrecisionRecall
    pairwise: PrecisionRecall


@dataclass(frozen=True, slots=True)
class ClusterPoint:
    """The groups at one threshold.

    Attributes:
        threshold: The mean squared distance at and under which groups merge.
        result: What they are worth.
    """

    threshold: float
    result: ClusterResult


def evaluate_clusters(labels: Labels, people: Labels) -> ClusterResult:
    """Measure groups against people.

    Args:
        labels: `(n,)` the group of each picture.
        people: `(n,)` whom it shows.

    Raises:
        ValueError: The two differ in length.
    """
    if len(labels) != len(people):
        raise ValueError(f"labels and people must be equally many, got {len(labels)} and {len(people)}")
    _, group_of, group_sizes = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    _, person_of, person_sizes = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    cells, shared = np.unique(group_of * max(len(person_sizes), 1) + person_of, return_counts=True)
    groups, persons = np.divmod(cells, max(len(person_sizes), 1))
    return ClusterResult(
        pictures=len(labels),
        people=len(person_sizes),
        clusters=len(group_sizes),
        singles=int((group_sizes == 1).sum()),
        bcubed=measure_bcubed(shared, group_sizes[groups], person_sizes[persons]),
        pairwise=measure_pairs(shared, group_sizes, person_sizes),
    )


def measure_bcubed(shared: NDArray[np.int64], group: NDArray[np.int64], person: NDArray[np.int64]) -> PrecisionRecall:
    """Return the mean over pictures of purity and wholeness (Bagga and Baldwin, 1998).

    Args:
        shared: `(c,) int64` pictures that a group and a person share, over all that share any.
        group: `(c,) int64` the size of that group.
        person: `(c,) int64` how many pictures that person has.
    """
    pictures = int(shared.sum())
    # Each of the `shared` pictures of a cell sees `shared` of its group, and of its person.
    precision = ratio(float((shared * (shared / group)).sum()), pictures)
    recall = ratio(float((shared * (shared / person)).sum()), pictures)
    return PrecisionRecall(precision, recall, ratio(2 * precision * recall, precision + recall))


def measure_pairs(shared: NDArray[np.int64], groups: NDArray[np.int64], persons: NDArray[np.int64]) -> PrecisionRecall:
    """Return precision and recall of the pairs; F is 2 x right / (grouped + wanted)."""
    right, grouped, wanted = (int((sizes * (sizes - 1) // 2).sum()) for sizes in (shared, groups, persons))
    return PrecisionRecall(ratio(right, grouped), ratio(right, wanted), ratio(2 * right, grouped + wanted))


def ratio(part: float, whole: float) -> float:
    """Return a part of a whole; NaN of nothing."""
    return part / whole if whole else float("nan")


def sweep_thresholds(
    rows: Embeddings,
    people: Labels,
    *,
    thresholds: Sequence[float] | None = None,
    cannot_link: Iterable[tuple[int, int]] = (),
) -> tuple[ClusterPoint, ...]:
    """Measure the groups at many thresholds; the rows are linked once.

    Args:
        rows: `(n, d) float32` unit rows.
        people: `(n,)` whom each shows.
        thresholds: Where to cut; None takes 50 from 0 to where nothing is left to merge.
        cannot_link: As in `cluster_embeddings`.

    Raises:
        ValueError: As `cluster_embeddings`; rows and people differ in number.
    """
    tree = link_rows(rows, cannot_link=cannot_link)
    chosen = spread_thresholds(tree) if thresholds is None else np.array(thresholds, np.float64)
    points = []
    for threshold in chosen.tolist():
        labels = cut_tree(tree, threshold, len(rows))
        points.append(ClusterPoint(threshold, evaluate_clusters(labels, people)))
    return tuple(points)


def spread_thresholds(tree: NDArray[np.float64], steps: int = STEPS) -> Numbers:
    """Return evenly spaced thresholds from 0 to the last merge, or to 4 if some rows never merge."""
    highest = min(float(tree[:, 2].max(initial=0)), 4.0)
    thresholds: Numbers = np.linspace(0, highest, steps)
    return thresholds


def best_point(points: Sequence[ClusterPoint]) -> ClusterPoint:
    """Return the point with the highest BCubed F, of equals the one with the lowest threshold.

    Raises:
        ValueError: There are no points.
    """
    return max(points, key=lambda point: (point.result.bcubed.f, -point.threshold))
