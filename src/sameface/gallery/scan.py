"""The first pass of a search: which rows can be near, by their codes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.codes import UNIT, CodedProbes, Codes
from sameface.runtime import onnxruntime

SCORES = 1 << 19  # at once
LOWEST = int(np.iinfo(np.int32).min)
SAMPLE = 1 << 15  # scores of the first block, from which it is known what is not near at all
LEAST = 1 << 12  # rows at once, whatever the number of probes


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The rows that can be near a probe.

    Attributes:
        places: `(m,) int64` where the rows stand, in order.
        complete: Every row that is not among them is farther than this squared distance.
    """

    places: NDArray[np.int64]
    complete: float


class Scanner:
    """Products of codes, exact in 32 bits, by ONNX Runtime on all cores."""

    def __init__(self) -> None:
        network = resources.files("sameface.gallery").joinpath("first_pass.onnx").read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(network, options, providers=providers)

    def scan(self, blocks: Iterable[Codes], probes: CodedProbes, reach: int) -> list[Candidates]:
        """Return the rows that can be among the `reach` nearest of each probe, one or more.

        Args:
            blocks: The codes of all rows, block by block, in order.
            probes: `q` probes.
            reach: How many nearest rows are certain to be among the candidates, ties included.
        """
        hits, first = Hits.none(), 0
        floors = np.full(len(probes.unit), LOWEST, np.int64)  # `reach` rows have this score or a higher one
        for turn, codes in enumerate(split(blocks, len(probes.unit))):
            coarse = self._session.run(None, {"codes": codes, "probes": probes.high})[0]  # (n, q) int32
            if turn == 0:
                floors = seed(codes, coarse, probes, reach)
            hits = hits.join(find_hits(codes, coarse, probes, floors), first)
            first += len(codes)
            if turn & (turn + 1) == 0:  # seldom: twice as many rows have been seen since the last time
                floors = np.maximum(floors, hits.floors(len(floors), reach))
        return settle(hits, probes, reach)


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
    def none(cls) -> Hits:
        """Return no hits."""
        return cls(*(np.empty(0, np.int64) for _ in range(3)))

    def only(self, which: NDArray[np.bool_]) -> Hits:
        """Return some of the hits."""
        return Hits(self.places[which], self.numbers[which], self.scores[which])

    def join(self, others: Hits, first: int) -> Hits:
        """Return these and those of a block that begins at the row `first`."""
        return Hits(
            np.concatenate([self.places, others.places + first]),
            np.concatenate([self.numbers, others.numbers]),
            np.concatenate([self.scores, others.scores]),
        )

    def floors(self, count: int, reach: int) -> NDArray[np.int64]:
        """Return the score that `reach` rows have at least, for each of `count` probes."""
        order = np.argsort(self.numbers, kind="stable")
        edges = np.searchsorted(self.numbers[order], np.arange(count + 1))
        floors = np.full(count, LOWEST, np.int64)
        for number, (start, stop) in enumerate(pairwise(edges.tolist())):
            if stop - start >= reach:
                floors[number] = np.partition(self.scores[order[start:stop]], -reach)[-reach]
        return floors


def split(blocks: Iterable[Codes], count: int) -> Iterator[Codes]:
    """Yield the codes in parts whose scores for `count` probes stay in the processor's caches."""
    size = max(SCORES // count, LEAST)
    for codes in blocks:
        for start in range(0, len(codes), size):
            yield codes[start : start + size]


def seed(codes: Codes, coarse: NDArray[np.int32], probes: CodedProbes, reach: int) -> NDArray[np.int64]:
    """Return scores that `reach` rows of a sample have at least, by the high parts alone."""
    size = max(SAMPLE // len(probes.unit), LEAST)
    live = coarse[:size][codes[:size, 0] != 0]
    floors = np.full(len(probes.unit), LOWEST, np.int64)
    if len(live) >= reach:
        floors = UNIT * np.partition(live, -reach, axis=0)[-reach].astype(np.int64) + probes.least
    return floors


def find_hits(
    codes: Codes, coarse: NDArray[np.int32], probes: CodedProbes, floors: NDArray[np.int64]
) -> Hits:
    """Return the rows of a block that can be as near as those at the floors. Erased rows are nobody's."""
    cuts = floors - probes.window
    least = np.ceil((cuts - probes.most) / UNIT)  # what a near row's high part reaches
    near = coarse >= np.maximum(least, LOWEST).astype(np.int32)
    rows, numbers = np.divmod(find_true(near.reshape(-1)), len(cuts))
    live = codes[rows, 0] != 0
    hits = score(codes, coarse, probes, rows[live], numbers[live])
    return hits.only(hits.scores >= cuts[hits.numbers])


def score(
    codes: Codes,
    coarse: NDArray[np.int32],
    probes: CodedProbes,
    rows: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> Hits:
    """Return rows of a block with their whole scores for probes."""
    # Whole numbers up to 255 * 32 * d are exact in float32 for 2,056 numbers a row and fewer.
    fine = np.einsum("md,md->m", codes[rows].astype(np.float32), probes.low[numbers])
    return Hits(rows, numbers, UNIT * coarse[rows, numbers].astype(np.int64) + fine.astype(np.int64))


def find_true(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where a mask `(m,)` is true, which it seldom is: eight places are looked at together."""
    whole = len(mask) // 8 * 8
    words = np.flatnonzero(mask[:whole].view(np.uint64))
    word, place = np.nonzero(mask[:whole].reshape(-1, 8)[words])
    return np.concatenate([8 * words[word] + place, whole + np.flatnonzero(mask[whole:])])


def settle(hits: Hits, probes: CodedProbes, reach: int) -> list[Candidates]:
    """Return the candidates of each probe: what is at most the window under the floor."""
    floors = hits.floors(len(probes.unit), reach)
    cuts = floors - probes.window
    hits = hits.only((hits.scores >= cuts[hits.numbers]) | (floors == LOWEST)[hits.numbers])
    found = []
    for number, (floor, cut) in enumerate(zip(floors.tolist(), cuts.tolist(), strict=True)):
        places = hits.places[hits.numbers == number]
        complete = np.inf if floor == LOWEST else probes.distance_beyond(number, cut)
        found.append(Candidates(places, complete))
    return found
