"""Group faces under constraints: pairs that are one person (must-link), and pairs that are two (cannot-link)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.cluster import cluster_embeddings

Link = tuple[int, int, bool]  # two rows, and whether they are one person


def group_rows(
    rows: Embeddings, *, threshold: float, links: Sequence[Link] = (), cannot_link: Iterable[tuple[int, int]] = ()
) -> NDArray[np.int64]:
    """Group rows by average linkage; the rows of a must-link start as one group.

    Args:
        rows: `(n, d) float32` unit rows.
        threshold: The mean squared distance at and under which two groups merge, 0 to 4.
        links: Corrections, the oldest first. Where two contradict each other, the later one counts.
        cannot_link: Pairs that are two people unless a correction says otherwise, such as faces of one picture.

    Returns:
        `(n,) int64`: the number of each row's group, from 0 on in the order of first rows.
    """
    parts = Components(len(rows))
    for first, second, same in reversed(links):
        (parts.join if same else parts.separate)(first, second)
    for first, second in cannot_link:
        parts.separate(first, second)
    starts, component = np.unique([parts.find(row) for row in range(len(rows))], return_inverse=True)
    places = {int(start): place for place, start in enumerate(starts)}
    forbidden = [(places[a], places[b]) for a, others in parts.apart.items() for b in others if a < b]
    return cluster_embeddings(rows, threshold=threshold, cannot_link=forbidden, groups=component)


class Components:
    """Disjoint sets of rows that are one person, and which of the sets are two people (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self.apart: dict[int, set[int]] = defaultdict(set)  # by the first row of each set

    def find(self, row: int) -> int:
        """Return the row that stands for the set of a row."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        """Make two sets one, unless they are two people."""
        kept, gone = sorted((self.find(first), self.find(second)))
        if kept == gone or gone in self.apart[kept]:
            return
        self._parent[gone] = kept
        for other in self.apart.pop(gone, set()):
            self.apart[other].discard(gone)
            self.separate(kept, other)

    def separate(self, first: int, second: int) -> None:
        """Make two sets two people, unless they are one set."""
        first, second = self.find(first), self.find(second)
        if first != second:
            self.apart[first].add(second)
            self.apart[second].add(first)
