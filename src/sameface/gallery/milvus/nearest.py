"""The search: candidates from Milvus, read and ranked by the float32 rows of the database of people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.backend import Backend, Row
from sameface.gallery.milvus.outbox import Dialect, MilvusState
from sameface.gallery.milvus.vectors import MOST, Vectors
from sameface.gallery.search import (
    PROBES,
    Candidates,
    Limits,
    SearchOptions,
    leave_out_unusable,
    rounding,
    scale_distances,
)
from sameface.thresholds import Thresholds

CANDIDATES = 64
AT_ONCE = 10_000  # values in a statement; SQLite takes 32,766, PostgreSQL 65,535


@dataclass(frozen=True, slots=True, eq=False)
class MilvusIndex:
    """Who is enrolled, left where they are and searched by Milvus.

    Attributes:
        people: Their database.
        dialect: What it speaks.
        vectors: Their rows in Milvus.
        state: What the gallery is at.
    """

    people: Backend
    dialect: Dialect
    vectors: Vectors
    state: MilvusState

    @property
    def faces(self) -> int:
        """How many faces are enrolled."""
        return self.state.faces

    @property
    def own(self) -> Thresholds | None:
        """The thresholds that the gallery keeps, or None."""
        return self.state.own

    @property
    def mixed(self) -> Thresholds | None:
        """Those for rows that an adapter moved here, or None if there are no such rows."""
        return self.state.mixed

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the faces near each probe: so many that no other can change the answer.

        That holds of what Milvus can know: all faces, or with an index those that it finds.
        """
        expect_shape("rows", probes, ("n", self.state.dimension or 0), np.float32)
        wanted = min(max(CANDIDATES, 4 * max(options.k, options.most)), MOST)
        for start in range(0, len(probes), PROBES):
            some = probes[start : start + PROBES]
            for probe, found in zip(some, self.vectors.search(some, wanted), strict=True):
                yield self._settle(probe, found, wanted, limits.factor, options)

    def _settle(
        self,
        probe: Embeddings,
        found: tuple[NDArray[np.int64], NDArray[np.float32]],
        wanted: int,
        factor: float,
        options: SearchOptions,
    ) -> Candidates:
        """Return the faces near a probe, four times as many as were found until they are enough."""
        while True:
            numbers, closeness = found
            near = self._read(probe, numbers, factor).without(options.hidden)
            if len(numbers) < wanted or wanted == MOST:
                return near
            reach = (2 - 2 * float(closeness[-1]) - rounding(len(probe))) * min(factor, 1)
            if near.settles(reach, faces=options.k, people=options.people):
                return near
            wanted = min(4 * wanted, MOST)
            [found] = self.vectors.search(probe[None], wanted)

    def _read(self, probe: Embeddings, numbers: NDArray[np.int64], factor: float) -> Candidates:
        """Return those of the faces that are still enrolled, in the order of enrolment."""
        rows = self._read_rows(sorted(numbers.tolist()))
        kept = [row for *_, row in rows]
        matrix = np.array(self.people.decode_rows([face for *_, face, _ in rows], kept), np.float32)
        owners = np.array([owner for owner, *_ in rows], np.int64)
        matrix, owners = leave_out_unusable(matrix.reshape(len(rows), len(probe)), owners)
        distances = exact_distances(probe, matrix)
        moved = np.array([adapted for _, _, adapted, *_ in rows], bool)
        names = {owner: name for owner, name, *_ in rows}
        return Candidates(scale_distances(distances, moved, factor), owners, names)

    def _read_rows(self, numbers: list[int]) -> list[Row]:
        """Return owner, name, whether it is adapted, number and row of faces, by their numbers."""
        found: list[Row] = []
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            query = f"""SELECT person_id, name, {self.dialect.adapted}, faces.id, {self.people.row_column}
                        FROM faces JOIN people ON people.id = person_id
                        WHERE faces.id IN ({", ".join("?" * len(some))}) ORDER BY faces.id"""
            found += self.people.read(query, *some)
        return found
