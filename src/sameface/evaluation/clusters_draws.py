"""How sure is the agreement of groups and people? The people are drawn again; the groups stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.bootstrap import REPEATS, Estimate, estimate_all
from sameface.evaluation.clusters import ratio
from sameface.evaluation.ranking import Labels
from sameface.evaluation.roc import Numbers

NAMES = ("BCubed precision", "BCubed recall", "BCubed F", "pairwise precision", "pairwise recall", "pairwise F")


@dataclass(frozen=True, slots=True, eq=False)
class ContingencyTable:
    """The pictures that a group and a person share, over all that share any.

    Attributes:
        group: `(c,) int64` the number of the group, rising.
        person: `(c,) int64` the number of the person.
        shared: `(c,) int64` how many pictures.
    """

    group: NDArray[np.int64]
    person: NDArray[np.int64]
    shared: NDArray[np.int64]

    @property
    def people(self) -> int:
        """How many people there are."""
        return int(self.person.max(initial=-1)) + 1


def make_contingency(labels: Labels, people: NDArray[np.int64]) -> ContingencyTable:
    """Return which pictures groups and people share.

    Args:
        labels: `(n,)` the group of each picture.
        people: `(n,) int64` whom it shows, 0 and up.
    """
    _, groups = np.unique(np.asarray(labels), return_inverse=True)
    pairs, shared = np.unique(np.column_stack([groups, people]), axis=0, return_counts=True)
    return ContingencyTable(pairs[:, 0], pairs[:, 1], shared)


def sum_bcubed(cells: ContingencyTable) -> Numbers:
    """Return sums over the pictures of each person, `(p, 3)`: of BCubed precision, of recall, and of 1."""
    purity = cells.shared / np.bincount(cells.group, cells.shared)[cells.group]
    wholeness = cells.shared / np.bincount(cells.person, cells.shared)[cells.person]
    columns = (cells.shared * purity, cells.shared * wholeness, cells.shared)
    return np.column_stack([np.bincount(cells.person, part, minlength=cells.people) for part in columns])


def weigh_agreement(cells: ContingencyTable, sums: Numbers, draw: NDArray[np.int64]) -> Numbers:
    """Return precision, recall and F, of BCubed and of pairs, `(6,)`; NaN where one is not defined.

    Each picture keeps its own BCubed precision and recall; pairs count as in `pair_weights`.

    Args:
        cells: The pictures.
        sums: `(p, 3) float64` from `sum_bcubed`.
        draw: `(p,) int64` how often each person was drawn.
    """
    pure, whole, pictures = (float(part) for part in draw @ sums)
    precision, recall = ratio(pure, pictures), ratio(whole, pictures)
    own = cells.shared * (cells.shared - 1) // 2
    right = int((draw[cells.person] * own).sum())
    sizes = np.bincount(cells.person, cells.shared, minlength=cells.people)
    wanted = float((draw * (sizes * (sizes - 1) / 2)).sum())
    drawn = draw[cells.person] * cells.shared
    mixed = (np.bincount(cells.group, drawn) ** 2 - np.bincount(cells.group, drawn**2)).sum() / 2
    grouped = right + float(mixed)
    return np.array(
        [
            precision,
            recall,
            ratio(2 * precision * recall, precision + recall),
            ratio(right, grouped),
            ratio(right, wanted),
            ratio(2 * right, grouped + wanted),
        ]
    )


def estimate_agreement(cells: ContingencyTable, *, repeats: int = REPEATS, seed: int = 0) -> dict[str, Estimate]:
    """Return every measure with its interval, by name.

    Args:
        cells: The pictures.
        repeats: How often people are drawn.
        seed: Draws them.
    """
    sums = sum_bcubed(cells)

    def values(draw: NDArray[np.int64]) -> Numbers:
        return weigh_agreement(cells, sums, draw)

    rng = np.random.default_rng(seed)
    found = estimate_all(values, cells.people, repeats=repeats, rng=rng)
    return dict(zip(NAMES, found, strict=True))
