"""Exact nearest-neighbour search in memory, over templates of people or over rows of faces.

A float32 matrix product gives rough distances. Of each block of rows the smallest is kept: the n-th smallest of
these minima bounds the n-th smallest distance. Rows within that bound, and within the rounding error of it, are
compared again in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.backend import Backend
from sameface.gallery.decision import NOBODY, PROBES, Candidates, Limits, SearchOptions, nearest_faces, rounding
from sameface.thresholds import Thresholds

Kind = TypeVar("Kind", bound=np.generic)

BLOCK = 64  # rows, of which the smallest distance is kept
FARTHEST = float(np.finfo(np.float32).max)  # the distance to hidden rows is infinite
SPARE = 1.25  # of the room for rows, so that one more does not copy a million
NAMES = 1000  # in one query


@dataclass(slots=True, eq=False)
class EmbeddingTable:
    """Embeddings in memory, as of one moment.

    Attributes:
        keys: `(m,) int64` the number of each face, or of each person for templates; rising.
        owners: `(m,) int64` the person of each; `NOBODY` for rows that no search may find.
        matrix: `(m, d) float32` unit rows, zeros where the owner is `NOBODY`.
        counts: `(m,) int64` how many faces each is the mean of.
        adapted: `(m,) bool` which of them came from another pipeline by an adapter.
    """

    keys: NDArray[np.int64]
    owners: NDArray[np.int64]
    matrix: Embeddings
    counts: NDArray[np.int64]
    adapted: NDArray[np.bool_]
    unusable: NDArray[np.intp] | None = field(init=False, default=None)
    latest_scale: tuple[object, NDArray[np.float32] | None] | None = field(init=False, default=None)

    @classmethod
    def empty(cls, width: int = 0) -> EmbeddingTable:
        """Return a table without rows."""
        none = np.zeros(0, np.int64)
        return cls(none, none, np.zeros((0, width), np.float32), none, np.zeros(0, np.bool_))

    def select(self, kept: NDArray[np.bool_ | np.intp]) -> EmbeddingTable:
        """Return some of the rows, or all in another order."""
        counts, adapted = self.counts[kept], self.adapted[kept]
        return EmbeddingTable(self.keys[kept], self.owners[kept], self.matrix[kept], counts, adapted)

    def join(self, other: EmbeddingTable) -> EmbeddingTable:
        """Return the rows of both by rising key; no key is in both."""
        if not len(other.keys):
            return self
        if not len(self.keys):
            return other
        joined = EmbeddingTable(
            append(self.keys, other.keys),
            append(self.owners, other.owners),
            append(self.matrix, other.matrix),
            append(self.counts, other.counts),
            append(self.adapted, other.adapted),
        )
        return joined if self.keys[-1] < other.keys[0] else joined.select(np.argsort(joined.keys))

    def hide(self, people: frozenset[int]) -> NDArray[np.intp]:
        """Return the places of rows that no search may find, and of some people."""
        if self.unusable is None:
            self.unusable = np.flatnonzero(self.owners == NOBODY)
        if not people:
            return self.unusable
        return np.flatnonzero(np.isin(self.owners, [NOBODY, *people]))

    def scale(self, limits: Limits) -> NDArray[np.float32] | None:
        """Return the factor that brings each distance to the scale of one face, `(m,)`; None if all are 1."""
        key = (limits.thresholds.templates, limits.factor)
        known = self.latest_scale
        if known is None or known[0] != key:
            counts, places = np.unique(self.counts, return_inverse=True)
            scale = (1 / limits.thresholds.template_factors(counts)).astype(np.float32)[places]
            if limits.factor != 1:
                scale = np.where(self.adapted, scale * np.float32(limits.factor), scale)
            known = key, None if (scale == 1).all() else scale
            self.latest_scale = known
        return known[1]


@dataclass(frozen=True, slots=True, eq=False)
class FlatIndex:
    """A gallery in memory, searched exhaustively; a `SearchIndex`.

    Attributes:
        database: Where the names are.
        table: The embeddings.
        own: The thresholds that the gallery keeps, or None.
        mixed: Those for adapted rows, or None if there are no such rows.
    """

    database: Backend
    table: EmbeddingTable
    own: Thresholds | None
    mixed: Thresholds | None

    @property
    def faces(self) -> int:
        """How many rows a probe is compared with."""
        return len(self.table.keys)

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the rows that can count for each probe, with exact distances on the scale of one face."""
        table = self.table
        expect_shape("rows", probes, ("n", table.matrix.shape[1]), np.float32)
        scale = table.scale(limits)
        hidden = table.hide(options.hidden)
        slack = 2 * rounding(table.matrix.shape[1]) * (1 if scale is None else max(float(scale.max()), 1))
        buffer = np.empty((min(PROBES, len(probes)), -(-self.faces // BLOCK) * BLOCK), np.float32)
        for start in range(0, len(probes), PROBES):
            block = probes[start : start + PROBES]
            near = []
            for distances in rough_distances(block, table.matrix, buffer):
                if scale is not None:
                    distances[: self.faces] *= scale
                distances[hidden] = np.inf
                near.append(select_nearest(distances, table.owners, options, slack))
            names = read_names(self.database, table.owners[np.unique(np.concatenate(near))])
            for probe, places in zip(block, near, strict=True):
                there = places[[owner in names for owner in table.owners[places].tolist()]]
                exact = exact_distances(probe, table.matrix[there])
                if scale is not None:
                    exact = np.minimum(exact * scale[there], np.float32(4))
                yield Candidates(exact, table.owners[there], names)


def rough_distances(probes: Embeddings, matrix: Embeddings, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances of probes to rows, off by `rounding` at most, in the buffer; infinite behind them."""
    distances, count = buffer[: len(probes)], len(matrix)
    np.matmul(-2 * probes, matrix.T, out=distances[:, :count])
    distances[:, :count] += 2
    distances[:, count:] = np.inf
    return distances


def select_nearest(
    distances: NDArray[np.float32], owners: NDArray[np.int64], options: SearchOptions, slack: float
) -> NDArray[np.intp]:
    """Return the places of all rows that can be among the nearest `k`, or be nearest of `people` people.

    Args:
        distances: `(m,) float32` rough distances of one probe, padded to whole blocks; infinite if hidden.
        owners: `(m,) int64`.
        options: How many faces and people are wanted.
        slack: By how much two rough distances can be in the wrong order.
    """
    minima = distances.reshape(BLOCK, -1).min(axis=0)  # strided blocks: NumPy reduces them 20 times faster
    wanted = max(options.k, options.people)
    while wanted < len(minima):
        bound = float(np.partition(minima, wanted - 1)[wanted - 1])
        places = np.flatnonzero(distances <= widen(bound, slack))
        if len(np.unique(owners[places[distances[places] <= bound]])) >= options.people:
            break
        wanted *= 2
    else:
        places = np.flatnonzero(distances <= FARTHEST)
    near = distances[places]
    order = nearest_faces(near, owners[places], faces=options.k, people=options.people)
    return places[near <= widen(float(near[order[-1]]), slack)] if len(order) else places


def widen(distance: float, slack: float) -> float:
    """Return the largest rough distance of a row that can be as near; distances of 4 and more are equal."""
    return distance + slack if distance + slack < 4 else FARTHEST


def read_names(database: Backend, people: NDArray[np.int64]) -> dict[int, str]:
    """Return the names of people by number, without those who are no longer enrolled."""
    names: dict[int, str] = {}
    numbers = np.unique(people).tolist()
    for start in range(0, len(numbers), NAMES):
        some = numbers[start : start + NAMES]
        places = ", ".join("?" * len(some))
        names |= dict(database.read(f"SELECT id, name FROM people WHERE id IN ({places})", *some))
    return names


def append(first: NDArray[Kind], second: NDArray[Kind]) -> NDArray[Kind]:
    """Return two arrays as one, in the room behind the first if there is any.

    Searches that run meanwhile see the first alone: nothing of it is written again.
    """
    count = len(first) + len(second)
    whole = first.base
    if not isinstance(whole, np.ndarray) or whole.shape[1:] != first.shape[1:] or len(whole) < count:
        whole = np.empty((int(count * SPARE), *first.shape[1:]), first.dtype)
        whole[: len(first)] = first
    whole[len(first) : count] = second
    return whole[:count]
