"""Average linkage along the pairs of near groups: many merges at a time, in linear memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.cluster.neighbours import ProgressCallback, near_pairs

CHUNK = 1 << 15  # pairs measured at a time: 64 MB of float64

Numbers = NDArray[np.int64]


class Links(NamedTuple):
    """Pairs of groups that may merge, `first < second`."""

    first: Numbers  # (e,)
    second: Numbers  # (e,)
    distance: NDArray[np.float64]  # (e,) the mean squared distance of their rows


class AverageLinkage:
    """Merges groups of rows by average linkage.

    Two groups merge when each is the nearest of the other (reciprocal nearest neighbours). Average linkage is
    reducible: these are the merges of the greedy order. The mean distance to a merged group lies between those
    to its parts, so a pair over the threshold can be dropped for good, and the pairs under it at the start are
    enough. The mean over all pairs of rows of two groups is `2 - 2 x.y / (n m)` of the sums `x` and `y` of
    their rows.

    Args:
        sums: `(g, d) float32` the sum of each group's unit rows; it is written to.
        sizes: `(g,) int64` how many rows each has; written to.
        threshold: 0 to 4.
        fixed: The first so many groups never merge with each other.
    """

    def __init__(self, sums: Embeddings, sizes: Numbers, *, threshold: float, fixed: int = 0) -> None:
        self._sums = sums
        self._sizes = sizes
        self._threshold = threshold
        self._fixed = fixed
        self._into = np.arange(len(sums))  # the group that each became a part of, itself at first
        self._best = np.zeros(len(sums))
        self._chosen = np.zeros(len(sums), np.int64)
        self._marked = np.zeros(len(sums), bool)

    def run(self, forbidden: Numbers, progress: ProgressCallback | None = None) -> Numbers:
        """Merge until no pair is near enough; return the group that each is in, `(g,)`.

        The pairs `forbidden`, `(m, 2)`, never share a group.
        """
        alive, start = np.arange(len(self._sums)), self._fixed
        while True:
            means = np.divide(self._sums[alive], self._sizes[alive, None], dtype=np.float32)
            near = near_pairs(means, self._threshold, start=start, progress=progress)
            del means
            ends = np.sort(np.column_stack([alive[near.first], alive[near.second]]), axis=1)
            self._merge(self._link(ends[:, 0], ends[:, 1], forbidden), forbidden)
            self._flatten()
            left = np.unique(self._into)
            if not len(near.cut) or len(left) == len(alive):
                return self._into
            # Pairs that the limit left out may still merge: compare the groups that they are in again.
            again = np.unique(self._into[alive[near.cut]])
            others = np.setdiff1d(left, again, assume_unique=True)
            alive, start = np.concatenate([others, again]), len(others)
            forbidden = self._into[forbidden]

    def _merge(self, links: Links, forbidden: Numbers) -> None:
        """Merge along links until none is left."""
        while len(links.first):
            forbidden = self._keep_linked(forbidden, links)
            kept, gone = self._choose(links)
            self._sums[kept] += self._sums[gone]
            self._sizes[kept] += self._sizes[gone]
            self._into[gone] = kept
            forbidden = self._into[forbidden]
            links = self._contract(links, np.concatenate([kept, gone]), forbidden)

    def _choose(self, links: Links) -> tuple[Numbers, Numbers]:
        """Return the pairs of reciprocal nearest neighbours; ties go to the first pair."""
        first, second, distance = links
        self._best[first] = self._best[second] = np.inf
        np.minimum.at(self._best, first, distance)
        np.minimum.at(self._best, second, distance)
        nearest = (distance == self._best[first]) & (distance == self._best[second])
        first, second = first[nearest], second[nearest]
        name = self._name(first, second)
        self._chosen[first] = self._chosen[second] = np.iinfo(np.int64).max
        np.minimum.at(self._chosen, first, name)
        np.minimum.at(self._chosen, second, name)
        chosen = (self._chosen[first] == name) & (self._chosen[second] == name)
        return first[chosen], second[chosen]

    def _contract(self, links: Links, merged: Numbers, forbidden: Numbers) -> Links:
        """Return the links after some groups have merged."""
        self._marked[merged] = True
        changed = self._marked[links.first] | self._marked[links.second]
        self._marked[merged] = False
        ends = np.sort(self._into[np.column_stack([links.first[changed], links.second[changed]])], axis=1)
        names = np.unique(self._name(ends[:, 0], ends[:, 1])[ends[:, 0] < ends[:, 1]])
        again = self._link(*np.divmod(names, len(self._sums)), forbidden)
        same = (part[~changed] for part in links)
        return Links(*(np.concatenate(parts) for parts in zip(same, again, strict=True)))

    def _link(self, first: Numbers, second: Numbers, forbidden: Numbers) -> Links:
        """Return those pairs that may merge."""
        never = self._name(forbidden.min(axis=1), forbidden.max(axis=1))
        may = ~np.isin(self._name(first, second), never) & (second >= self._fixed)
        first, second = first[may], second[may]
        distance = self._measure(first, second)
        near = distance <= self._threshold
        return Links(first[near], second[near], distance[near])

    def _measure(self, first: Numbers, second: Numbers) -> NDArray[np.float64]:
        """Return the mean squared distance of the rows of pairs of groups, `(e,)`."""
        products = np.empty(len(first))
        for low in range(0, len(first), CHUNK):
            part = slice(low, low + CHUNK)
            sums = (self._sums[numbers[part]].astype(np.float64) for numbers in (first, second))
            products[part] = np.einsum("ij,ij->i", *sums)
        return 2 - 2 * products / (self._sizes[first] * self._sizes[second])

    def _keep_linked(self, forbidden: Numbers, links: Links) -> Numbers:
        """Return the forbidden pairs of groups that can still merge with something."""
        self._marked[links.first] = self._marked[links.second] = True
        linked = self._marked[forbidden].all(axis=1)
        self._marked[links.first] = self._marked[links.second] = False
        return forbidden[linked]

    def _name(self, first: Numbers, second: Numbers) -> Numbers:
        """Return one number for each pair, in the order of the pairs."""
        names: Numbers = first * len(self._sums) + second
        return names

    def _flatten(self) -> None:
        """Point every group straight at the group that it is in now."""
        while (self._into != self._into[self._into]).any():
            self._into = self._into[self._into]
