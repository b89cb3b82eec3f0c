"""The first pass of a search: which rows can be near, by their codes alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.codes import UNIT, CodedProbes, Codes
from sameface.runtime import onnxruntime

LOWEST = int(np.iinfo(np.int32).min)
SAMPLE = 8192  # rows of the first block, from which it is known what is not near at all


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
        first, shortlists = 0, [Shortlist(reach) for _ in probes.offset]
        for codes in blocks:
            scores = self._session.run(None, {"codes": codes, "probes": probes.parts})[0]  # (n, 2q)
            if not first:
                seed(shortlists, codes, scores)
            collect(shortlists, first, codes, scores, probes)
            first += len(codes)
        return [each.finish(probes, number) for number, each in enumerate(shortlists)]


class Shortlist:
    """The best rows of one probe so far, and all that can be as near."""

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.floor = LOWEST  # `reach` rows have this score or a higher one
        self._places: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.int64]] = []
        self._best = np.empty(0, np.int64)

    def add(self, places: NDArray[np.int64], scores: NDArray[np.int64]) -> None:
        """Take rows in, and raise the floor."""
        self._places.append(places)
        self._scores.append(scores)
        self._best = np.concatenate([self._best, scores])
        if len(self._best) > self.reach:
            self._best = np.partition(self._best, -self.reach)[-self.reach :]
        if len(self._best) == self.reach:
            self.floor = max(self.floor, int(self._best.min()))

    def finish(self, probes: CodedProbes, number: int) -> Candidates:
        """Return the rows whose score is at most the window under the floor."""
        places = np.concatenate([np.empty(0, np.int64), *self._places])
        if len(self._best) < self.reach:
            return Candidates(places, np.inf)
        cut = self.floor - int(probes.window[number])
        scores = np.concatenate(self._scores)
        return Candidates(places[scores >= cut], probes.distance_beyond(number, cut))


def seed(shortlists: list[Shortlist], codes: Codes, scores: NDArray[np.int32]) -> None:
    """Raise the floors by a sample, so that the first block has few hits."""
    live = np.flatnonzero(codes[:SAMPLE, 0])
    for number, shortlist in enumerate(shortlists):
        if len(live) >= shortlist.reach:
            sample = total(scores, live, number, len(shortlists))
            shortlist.floor = int(np.partition(sample, -shortlist.reach)[-shortlist.reach])


def collect(
    shortlists: list[Shortlist], first: int, codes: Codes, scores: NDArray[np.int32], probes: CodedProbes
) -> None:
    """Give each probe the rows of a block that can be near it. Erased rows are nobody's."""
    count = len(shortlists)
    floors = np.array([each.floor for each in shortlists], np.int64)
    cuts = floors - probes.window
    coarse = np.ceil((cuts - probes.low) / UNIT)  # what a near row's high part reaches at least
    hits = scores[:, :count] >= np.clip(coarse, LOWEST, None).astype(np.int32)
    rows, numbers = np.divmod(np.flatnonzero(hits), count)
    live = codes[rows, 0] != 0
    rows, numbers = rows[live], numbers[live]
    order = np.argsort(numbers, kind="stable")
    edges = np.searchsorted(numbers[order], np.arange(count + 1))
    for number in np.flatnonzero(np.diff(edges)).tolist():
        mine = rows[order[edges[number] : edges[number + 1]]]
        found = total(scores, mine, number, count)
        near = found >= cuts[number]
        shortlists[number].add(mine[near] + first, found[near])


def total(scores: NDArray[np.int32], rows: NDArray[np.int64], number: int, count: int) -> NDArray[np.int64]:
    """Return the whole scores of some rows for one probe."""
    whole: NDArray[np.int64] = UNIT * scores[rows, number].astype(np.int64) + scores[rows, count + number]
    return whole
