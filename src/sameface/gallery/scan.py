"""The first pass of a search: which rows can be near, by their codes alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.codes import LOWEST, REST, TILE, UNIT, CodedProbes, Tiles
from sameface.runtime import onnxruntime

Part: TypeAlias = tuple[int, Tiles]  # with the place of the first face

SCORES = 1 << 17  # at once, so that they are in the processor's second cache
GROUPS = 4  # for each row that is looked for; the best of each group tell what is not near at all


@dataclass(frozen=True, slots=True, eq=False)
class ScannedRows:
    """The rows that can be near a probe.

    Attributes:
        places: `(m,) int64` where the rows stand.
        complete: No row that is not among them is nearer than this squared distance.
    """

    places: NDArray[np.int64]
    complete: float


class Scanner:
    """Products of codes, exact in 32 bits, by ONNX Runtime in a thread for each core."""

    def __init__(self) -> None:
        network = resources.files("sameface.gallery").joinpath("first_pass.onnx").read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(network, options, providers=providers)
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads)

    def multiply(self, probes: CodedProbes, tiles: Tiles) -> NDArray[np.int32]:
        """Return the scores that the high parts of the probes give, `(t, q, TILE)`."""
        scores: NDArray[np.int32] = self._session.run(None, {"probes": probes.high, "codes": tiles})[0]
        return scores

    def scan(
        self, blocks: Iterable[Tiles], probes: CodedProbes, least: NDArray[np.int64], most: int
    ) -> list[ScannedRows]:
        """Return the rows with the highest scores for each probe, one or more.

        Args:
            blocks: The codes of all rows in order. Columns of zeros are nobody's.
            probes: `q` probes.
            least: `(q,)` the scores from which on rows count.
            most: How many rows at most, but for ties.
        """
        floors = least.copy()
        parts = list(split(blocks, len(floors)))
        shared = iter(parts)
        threads = [
            self._pool.submit(self._search, shared, probes, floors, most)
            for _ in range(min(self._threads, len(parts)))
        ]
        hits = Hits.join([thread.result() for thread in threads])
        return settle(hits, probes, np.maximum(floors, hits.floors(len(floors), most)))

    def _search(self, parts: Iterator[Part], probes: CodedProbes, floors: NDArray[np.int64], most: int) -> Hits:
        """Return the hits in the parts that this thread gets to take.

        All threads raise the `floors`: as many rows as are looked for have a score this high, or higher.
        """
        hits: list[Hits] = []
        for turn, (first, tiles) in enumerate(parts):
            coarse = self.multiply(probes, tiles)
            if turn == 0:
                best = np.maximum(guess(coarse, tiles, most), coarsen(floors))
                best_hits = find_hits(coarse, tiles, probes, best)
                np.maximum(floors, best_hits.floors(len(floors), most), out=floors)
            near = find_hits(coarse, tiles, probes, coarsen(floors))
            hits.append(near.only(near.scores >= floors[near.numbers]).behind(first))
            if turn & (turn + 1) == 0:  # seldom: twice as many rows have been seen since the last time
                hits = [Hits.join(hits)]
                np.maximum(floors, hits[0].floors(len(floors), most), out=floors)
        return Hits.join(hits)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Rows that can be near probes, in no order.

    Attributes:
        places: `(m,) int64` where each row stands.
        numbers: `(m,) int64` which probe it can be near.
        scores: `(m,) int64` its score for that probe.
    """

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    scores: NDArray[np.int64]

    @classmethod
    def join(cls, hits: list[Hits]) -> Self:
        """Return all hits."""
        kinds = zip(*((each.places, each.numbers, each.scores) for each in hits), strict=True)
        return cls(*(np.concatenate(kind) for kind in kinds)) if hits else cls(*np.empty((3, 0), np.int64))

    def only(self, which: NDArray[np.bool_]) -> Hits:
        """Return some of the hits."""
        return Hits(self.places[which], self.numbers[which], self.scores[which])

    def behind(self, first: int) -> Hits:
        """Return these hits as they stand behind `first` rows."""
        return Hits(self.places + first, self.numbers, self.scores)

    def floors(self, count: int, most: int) -> NDArray[np.int64]:
        """Return the score that `most` rows have at least, for each of `count` probes."""
        order = np.argsort(self.numbers, kind="stable")
        edges = np.searchsorted(self.numbers[order], np.arange(count + 1))
        floors = np.full(count, LOWEST, np.int64)
        for number, (start, stop) in enumerate(pairwise(edges.tolist())):
            if stop - start >= most:
                floors[number] = np.partition(self.scores[order[start:stop]], -most)[-most]
        return floors


def split(blocks: Iterable[Tiles], count: int) -> Iterator[Part]:
    """Yield tiles in parts whose scores for `count` probes stay in the processor's cache."""
    size, first = max(SCORES // TILE // count, 1), 0
    for tiles in blocks:
        for start in range(0, len(tiles), size):
            yield first + TILE * start, tiles[start : start + size]
        first += TILE * len(tiles)


def coarsen(floors: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return what the high parts alone give, at least, where a score is at the floor."""
    return (-(-floors // UNIT)).astype(np.int32)


def guess(coarse: NDArray[np.int32], tiles: Tiles, most: int) -> NDArray[np.int32]:
    """Return high scores that `most` rows of a part have at least: the best of groups."""
    live = np.where(tiles[:, REST, None] != 0, coarse, LOWEST)  # (t, q, TILE)
    scores = live.transpose(1, 0, 2).reshape(coarse.shape[1], -1)  # (q, t * TILE)
    size = max(scores.shape[1] // (GROUPS * most), 1)
    best = scores[:, : scores.shape[1] // size * size].reshape(len(scores), -1, size).max(axis=2)
    if best.shape[1] < most:
        return np.full(len(scores), LOWEST, np.int32)
    highest: NDArray[np.int32] = np.partition(best, -most)[:, -most]
    return highest


def find_hits(coarse: NDArray[np.int32], tiles: Tiles, probes: CodedProbes, least: NDArray[np.int32]) -> Hits:
    """Return the rows of a part with such scores by the high parts alone. Columns of zeros are nobody's."""
    tile, number = np.nonzero(coarse.max(axis=2) >= least)
    which, place = np.divmod(find_true(coarse[tile, number] >= least[number, None]), TILE)
    tile, number = tile[which], number[which]
    codes = tiles[tile, :, place]  # (m, w)
    # Whole numbers up to 127 * (64 * 127 + 32 * w) are exact in float32 for 3,800 codes and fewer.
    fine = np.einsum("mw,mw->m", codes.astype(np.float32), probes.low[number])
    scores = UNIT * coarse[tile, number, place].astype(np.int64) + fine.astype(np.int64)
    return Hits(TILE * tile + place, number, scores).only(codes[:, REST] != 0)


def find_true(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where a mask is true in order, which it seldom is: eight places are looked at together."""
    flat = mask.reshape(-1)
    whole = len(flat) // 8 * 8
    words = np.flatnonzero(flat[:whole].view(np.uint64))
    word, place = np.nonzero(flat[:whole].reshape(-1, 8)[words])
    return np.concatenate([8 * words[word] + place, whole + np.flatnonzero(flat[whole:])])


def settle(hits: Hits, probes: CodedProbes, floors: NDArray[np.int64]) -> list[ScannedRows]:
    """Return the candidates of each probe: those at the floor or above."""
    hits = hits.only(hits.scores >= floors[hits.numbers])
    found = []
    for number, floor in enumerate(floors.tolist()):
        complete = np.inf if floor == LOWEST else probes.distance_beyond(number, floor - 1)
        found.append(ScannedRows(hits.places[hits.numbers == number], complete))
    return found
