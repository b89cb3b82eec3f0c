"""Every pair of near groups: exact, in blocks, in memory that grows with the number of groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings

ProgressCallback = Callable[[float], object]  # called with the finished part, 0 to 1

ROWS, COLUMNS = 1024, 512  # of a block of scores, 2 MB: it should stay in the cache of the core
THREADS = 8  # at most
MOST = 64  # pairs kept of a group with those before it
CROWD = 0.05  # the part of a block past which its distances are all computed
WAITING = 1 << 18  # candidates in memory before the nearest are kept
SAMPLE = 20_000  # rows that the axes are taken from
PROBES = 1000  # rows that the best number of axes is measured on
COST = 10_000.0  # of measuring one pair exactly: a multiply-add of a score takes 0.02 ns, a pair 200 ns
SLACK = 1e-5  # over any rounding of a score


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourPairs:
    """Pairs of groups, `first < second`."""

    first: NDArray[np.int64]  # (e,)
    second: NDArray[np.int64]  # (e,) rising
    cut: NDArray[np.int64]  # (c,) rising: the groups with more near ones than are kept


def near_pairs(
    means: Embeddings, threshold: float, *, start: int = 0, progress: ProgressCallback | None = None
) -> NeighbourPairs:
    """Return the pairs of groups whose mean squared distance is at or under `threshold`, 0 to 4.

    The mean over all pairs of rows, one of each group, is `2 - 2 x.y` of the two groups' means: `means`, `(n, d)
    float32`, not scaled. A group keeps its 64 nearest of those before it. Pairs of two groups before `start` are left
    out.
    """
    none = np.zeros(0, np.int64)
    if len(means) < 2 or start >= len(means):
        return NeighbourPairs(none, none, none)
    scores = Scores(means, threshold)
    blocks = range(start, len(means), ROWS)
    found, cut = [np.zeros((0, 2), np.int64)], [none]
    # NumPy releases Python's lock, so that the threads share the cores.
    threads = ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS))
    with ExitStack() as ending:
        ending.callback(threads.shutdown, cancel_futures=True)
        done = threads.map(partial(find_nearest, scores), blocks)
        for low, nearest in zip(blocks, done, strict=True):
            found.append(nearest.pairs)
            cut.append(nearest.cut)
            if progress is not None:
                high = min(low + ROWS, len(means))
                progress((high**2 - start**2) / (len(means) ** 2 - start**2))
    pairs = np.concatenate(found)
    return NeighbourPairs(pairs[:, 0], pairs[:, 1], np.concatenate(cut))


def find_nearest(scores: Scores, low: int) -> NearestFew:
    """Return the nearest few of each group of a block, of those before it."""
    nearest = NearestFew(scores)
    for candidates in scores.blocks(low):
        nearest.add(candidates)
    nearest.settle()
    return nearest


class NearestFew:
    """The nearest few of each group of a block, chosen from candidates that come in parts."""

    def __init__(self, scores: Scores) -> None:
        self.pairs = np.zeros((0, 2), np.int64)  # an earlier group and the group; complete once settled
        self.cut = np.zeros(0, np.int64)  # the groups with more near ones than are kept
        self._scores = scores
        self._waiting: list[NDArray[np.int64]] = []

    def add(self, candidates: NDArray[np.int64]) -> None:
        """Add candidates, `(c, 2)`."""
        self._waiting.append(candidates)
        if sum(map(len, self._waiting)) > WAITING:
            self.settle()

    def settle(self) -> None:
        """Keep the nearest few of each group and drop the others."""
        candidates = np.concatenate([self.pairs, *self._waiting])
        self._waiting = []
        distances = self._scores.distances(candidates)
        near = distances <= self._scores.threshold + SLACK
        pairs, distances = candidates[near], distances[near]
        order = np.lexsort((pairs[:, 0], distances, pairs[:, 1]))
        group = pairs[order, 1]
        rank = np.arange(len(order)) - np.searchsorted(group, group)
        self.pairs = pairs[order[rank < MOST]]
        self.cut = np.union1d(self.cut, group[rank == MOST])


class Scores:
    """A lower bound on the distance of two groups from their first few principal axes, as one matrix product.

    `|x - y|^2` of two means is its part along the first axes plus the rest, and the rest is at least the square
    of the difference of the two lengths there. The two are near if `|x - y|^2` is at most `r + s`, where
    `r = threshold / 2 - 1 + |x|^2` belongs to the first and `s` to the other. So a score, `x.y` over the first
    axes and the length of the rest, plus one number of each group, is 0 or more for every near pair, and for
    few others. The axes turn about the mean of all, which changes no `|x - y|`.
    """

    def __init__(self, means: Embeddings, threshold: float) -> None:
        self.threshold = threshold
        self._means = means
        centre, axes = find_axes(means)
        own = threshold / 2 - 1 + np.einsum("ij,ij->i", means, means)
        count = choose_axes(means, centre, axes, own)
        table = np.empty((len(means), count + 2), np.float32)
        for low in range(0, len(means), SAMPLE):
            part = slice(low, low + SAMPLE)
            turned = (means[part] - centre) @ axes
            table[part, :count] = turned[:, :count]
            table[part, count] = np.linalg.norm(turned[:, count:], axis=1)
            table[part, count + 1] = (own[part] - (turned**2).sum(axis=1)) / 2
        one = np.ones((len(means), 1), np.float32)
        self._columns = np.concatenate([table, one], axis=1)

    def distances(self, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the mean squared distance of pairs of groups, `(e,)`."""
        products: NDArray[np.float32] = np.einsum("ij,ij->i", *(self._means[side] for side in pairs.T))
        return 2 - 2 * products

    def blocks(self, low: int) -> Iterator[NDArray[np.int64]]:
        """Yield the pairs of a block of groups with those before them that may be near, `(c, 2)`."""
        high = min(low + ROWS, len(self._columns))
        rows = self._columns[low:high].copy()
        rows[:, -2:] = rows[:, :-3:-1]  # each group's number meets the other's one
        scores = np.zeros((high - low, COLUMNS), np.float32)
        near = np.empty((high - low, COLUMNS), bool)
        for left in range(0, high, COLUMNS):
            columns = self._columns[left : left + COLUMNS]
            np.matmul(rows, columns.T, out=scores[:, : len(columns)])
            np.greater_equal(scores, -SLACK, out=near)
            if left + COLUMNS > low:
                near &= np.arange(left, left + COLUMNS) < np.arange(low, high)[:, None]
            if np.count_nonzero(near) > CROWD * near.size:
                self._thin(near, low, left)
            yield list_true(near) + np.array([left, low])

    def _thin(self, near: NDArray[np.bool_], low: int, left: int) -> None:
        """Leave the nearest few of each group in a block, and one more as the sign of a cut."""
        rows, columns = self._means[low : low + ROWS], self._means[left : left + COLUMNS]
        products = np.full(near.shape, -np.inf, np.float32)
        np.matmul(rows, columns.T, out=products[:, : len(columns)])
        products[~near] = -np.inf
        nearest = np.argpartition(-products, MOST, axis=1)[:, : MOST + 1]
        kept = np.zeros_like(near)
        np.put_along_axis(kept, nearest, values=True, axis=1)
        near &= kept


def list_true(table: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return column and row of the true cells of a sparse table; its width is a multiple of 8."""
    eights = np.flatnonzero(table.view(np.uint64))  # skips eight cells at a time
    eight, place = np.nonzero(table.reshape(-1, 8)[eights])
    row, column = np.divmod(eights[eight] * 8 + place, table.shape[1])
    return np.column_stack([column, row])


def find_axes(means: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Return the mean of the rows and their principal axes `(d, d)`, the largest variance first."""
    some = means[spread(len(means), SAMPLE)].astype(np.float64)
    centre = some.mean(axis=0)
    _, axes = np.linalg.eigh((some - centre).T @ (some - centre))
    return centre.astype(np.float32), np.ascontiguousarray(axes[:, ::-1], np.float32)


def choose_axes(means: Embeddings, centre: Embeddings, axes: Embeddings, own: NDArray[np.float32]) -> int:
    """Return the number of axes with the least work, measured on a sample of the groups."""
    chosen = spread(len(means), PROBES)
    turned = (means[chosen] - centre) @ axes
    reach = own[chosen][:, None] + own[chosen]
    costs: dict[int, float] = {}
    for count in sorted({*range(8, means.shape[1], 8), means.shape[1]}):
        seen = np.column_stack([turned[:, :count], np.linalg.norm(turned[:, count:], axis=1)])
        lengths = (seen**2).sum(axis=1)
        near = lengths[:, None] + lengths - 2 * seen @ seen.T <= reach + 2 * SLACK
        costs[count] = count + COST * float(near.mean())
    return min(costs, key=lambda count: costs[count])


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` numbers under `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
