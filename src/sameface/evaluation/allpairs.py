"""Go through all pairs of many rows in blocks, so that memory does not grow with the number of pairs.

An exact order statistic is found as in a radix sort. The first pass counts the distances by their leading
bits, which order non-negative floats like the numbers themselves; the second looks only at the few distances
that share their leading bits with a wanted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.compare import unit_distances
from sameface.evaluation.roc import Integers, Numbers

BLOCK = 1 << 22  # distances at a time: 16 MB, and 32 MB for their bins
BEYOND = 5.0  # no distance: a pair of one person, or one that was counted already
SHIFT = 12  # trailing bits that the first pass leaves out: bins are 0.05 % wide
BINS = int(np.float32(BEYOND).view(np.uint32) >> SHIFT)
SAMPLE = 20_000  # pairs at most that an interval is drawn from
REACH = 2  # a draw may need this many times the accepted pairs

Distances = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PairSample:
    """A sample of pairs, sorted by distance."""

    distance: Distances  # (k,) rising
    people: Integers  # (k, 2) the people of the two rows
    every: int  # how many pairs each stands for


@dataclass(frozen=True, slots=True, eq=False)
class NearestImpostors:
    """The nearest pairs of different people."""

    limit: float  # the distance of the first pair that is too many: a threshold must be under it
    accepted: int  # pairs that are nearer
    sample: PairSample  # the nearest pairs, well past the limit


@dataclass(frozen=True, slots=True, eq=False)
class GenuinePairs:
    """The pairs of one person."""

    counts: Integers  # (BINS,) by leading bits
    accepted: Integers  # (f, p) pairs of each person that are nearer than each limit
    sample: PairSample


def impostor_blocks(rows: Embeddings, person: Integers) -> Iterator[tuple[int, Distances]]:
    """Yield the number of a first row, and the distances of the next rows to all rows from there on.

    Pairs of one person, and those that were yielded before, are `BEYOND`. The people of the rows rise.
    """
    start = 0
    while start < len(rows):
        stop = min(start + max(BLOCK // (len(rows) - start), 1), len(rows))
        distances = unit_distances(rows[start:stop], rows[start:])
        near = int(np.searchsorted(person, person[stop - 1], side="right"))
        # Rows stand in the order of their people: a later person is a pair that was not seen yet.
        old = person[start:stop, None] >= person[None, start:near]
        distances[:, : near - start][old] = BEYOND
        yield start, distances
        start = stop


def bins_of(distances: Distances) -> NDArray[np.uint32]:
    """Return the leading bits of each distance, flat."""
    bits: NDArray[np.uint32] = np.ravel(distances).view(np.uint32)
    return bits >> np.uint32(SHIFT)


def bin_edges() -> Numbers:
    """Return the distances between which the bins lie, `(BINS + 1,)`."""
    return (np.arange(BINS + 1, dtype=np.uint32) << np.uint32(SHIFT)).view(np.float32).astype(np.float64)


def threshold_below(limit: float) -> float:
    """Return the largest 32-bit number under a limit."""
    return float(np.nextafter(np.float32(limit), np.float32(-1)))


def count_impostors(rows: Embeddings, person: Integers) -> Integers:
    """Return how many pairs of different people lie in each bin, `(BINS,) int64`."""
    counts = np.zeros(BINS, np.int64)
    for _, distances in impostor_blocks(rows, person):
        counts += np.bincount(bins_of(distances), minlength=BINS + 1)[:BINS]
    return counts


class NearestFinder:
    """Collects the nearest pairs of different people, block by block, up to a number of accepted pairs."""

    def __init__(self, counts: Integers, accepts: int) -> None:
        running = np.cumsum(counts)
        self.bin = int(np.searchsorted(running, accepts, side="right"))  # of the first pair too many
        self.before = int(running[self.bin - 1]) if self.bin else 0
        self.cut = min(int(np.searchsorted(running, REACH * accepts + 1)), BINS - 1)
        self.accepts = accepts
        self.every = max(int(running[self.cut]) // SAMPLE, 1)
        self._seen = 0
        self._inside: list[Distances] = []
        self._near: list[tuple[Distances, Integers, Integers]] = []

    def add(self, distances: Distances, bins: NDArray[np.uint32], near: Integers, start: int) -> None:
        """Look at a block; `near` are the flat places with small bins, up to the largest cut of all finders."""
        flat, found = distances.ravel(), bins[near]
        self._inside.append(flat[near[found == self.bin]])
        places = near[found <= self.cut]
        taken = places[-self._seen % self.every :: self.every]
        self._seen += len(places)
        first, second = np.divmod(taken, distances.shape[1])
        self._near.append((flat[taken], first + start, second + start))

    def finish(self, person: Integers) -> NearestImpostors:
        """Return the pairs that were collected."""
        inside = np.sort(np.concatenate(self._inside))
        place = self.accepts - self.before
        limit = float(inside[place]) if place < len(inside) else BEYOND
        distance, first, second = (np.concatenate(part) for part in zip(*self._near, strict=True))
        order = np.argsort(distance, kind="stable")
        people = np.column_stack([person[first[order]], person[second[order]]])
        accepted = self.before + int(np.searchsorted(inside, np.float32(limit)))
        return NearestImpostors(limit, accepted, PairSample(distance[order], people, self.every))


def find_nearest(
    rows: Embeddings, person: Integers, counts: Integers, accepts: Sequence[int]
) -> list[NearestImpostors]:
    """Return the nearest pairs of different people for each number of accepted pairs."""
    finders = [NearestFinder(counts, number) for number in accepts]
    if not finders:
        return []
    reach = max(max(finder.cut, finder.bin) for finder in finders)
    for start, distances in impostor_blocks(rows, person):
        bins = bins_of(distances)
        near = np.flatnonzero(bins <= reach)
        for finder in finders:
            finder.add(distances, bins, near, start)
    return [finder.finish(person) for finder in finders]


def genuine_blocks(rows: Embeddings, person: Integers) -> Iterator[tuple[int, Distances]]:
    """Yield a person's number and the distances of some of its pairs, `(k,) float32`, each pair once."""
    edges = np.append(np.searchsorted(person, np.unique(person)), len(person))
    for low, high in pairwise(edges):
        step = max(BLOCK // (high - low), 1)
        for start in range(low, high - 1, step):
            stop = min(start + step, high)
            distances = unit_distances(rows[start:stop], rows[start:high])
            later = np.arange(high - start)[None, :] > np.arange(stop - start)[:, None]
            yield int(person[low]), distances[later]


def find_genuine(rows: Embeddings, person: Integers, limits: Sequence[float]) -> GenuinePairs:
    """Return the pairs of one person: by leading bits, nearer than each limit, and a sample."""
    people = int(person[-1]) + 1 if len(person) else 0
    sizes = np.bincount(person, minlength=people)
    every = max(int((sizes * (sizes - 1) // 2).sum()) // SAMPLE, 1)
    counts, accepted = np.zeros(BINS, np.int64), np.zeros((len(limits), people), np.int64)
    taken, owners = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    seen = 0
    for number, distances in genuine_blocks(rows, person):
        counts += np.bincount(bins_of(distances), minlength=BINS)
        accepted[:, number] += np.searchsorted(np.sort(distances), np.array(limits, np.float32))
        taken.append(distances[-seen % every :: every])
        owners.append(np.full(len(taken[-1]), number))
        seen += len(distances)
    distance, owner = np.concatenate(taken), np.concatenate(owners)
    order = np.argsort(distance, kind="stable")
    return GenuinePairs(counts, accepted, PairSample(distance[order], np.column_stack([owner, owner])[order], every))
