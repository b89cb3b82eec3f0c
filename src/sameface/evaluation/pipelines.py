"""VAL at FAR where the two faces of a pair were embedded by two pipelines (FaceNet, appendix)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sameface.arrays import Embeddings, expect_shape, expect_unit_rows
from sameface.compare import unit_distances
from sameface.evaluation.allpairs import BINS, BLOCK, bin_edges, bins_of, threshold_below
from sameface.evaluation.calibration import FEWEST, RATES
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.ranking import blocks
from sameface.evaluation.roc import Flags, Integers, allowed_accepts
from sameface.thresholds import Thresholds


@dataclass(frozen=True, slots=True, eq=False)
class PipelineComparison:
    """All pairs of a probe and an enrolled face of two different pictures."""

    counts: Integers  # (2, BINS) pairs of one person and of different people, by distance

    @property
    def genuine(self) -> int:
        """How many pairs show one person."""
        return int(self.counts[0].sum())

    @property
    def impostors(self) -> int:
        """How many pairs show different people."""
        return int(self.counts[1].sum())

    def val(self, far: float) -> float:
        """Return the part of the pairs of one person that a false-accept rate lets through.

        Raises:
            TooFewPairsError: Under 30 false accepts stand behind the rate, or no person has two pictures.
        """
        place = self._place(far)
        if not self.genuine:
            raise TooFewPairsError(far, 0, FEWEST)
        return float(self.counts[0, :place].sum() / self.genuine)

    def thresholds(self, words: str) -> Thresholds:
        """Return the distance for each rate that the pairs support, rounded down by 0.05 % at most.

        Raises:
            TooFewPairsError: They support none.
        """
        fars = [far for far in RATES if allowed_accepts(far, self.impostors) >= FEWEST]
        if not fars:
            raise TooFewPairsError(RATES[0], self.impostors, FEWEST)
        places = [self._place(far) for far in fars]
        return Thresholds(
            far=tuple(fars),
            distance=tuple(threshold_below(float(bin_edges()[place])) for place in places),
            pairs=tuple(int(self.counts[1, :place].sum()) for place in places),
            impostor_pairs=self.impostors,
            calibrated_on=words,
        )

    def _place(self, far: float) -> int:
        """Return how many bins a rate lets through."""
        allowed = allowed_accepts(far, self.impostors)
        if allowed < FEWEST:
            raise TooFewPairsError(far, self.impostors, FEWEST)
        return int(np.searchsorted(np.cumsum(self.counts[1]), allowed, side="right"))


def compare_pipelines(probes: Embeddings, enrolled: Embeddings, person: Integers) -> PipelineComparison:
    """Compare every probe with every enrolled face but that of its own picture.

    `probes` and `enrolled` are unit rows of the same pictures by two pipelines, `(n, d) float32`, moved to one width;
    `person` is the person of each picture, `(n,) int64`.
    """
    expect_shape("person", person, (len(probes),), np.int64)
    expect_unit_rows("probes", probes)
    expect_unit_rows("enrolled", enrolled, probes.shape[1])
    expect_shape("enrolled", enrolled, (len(probes), "d"), np.float32)
    counts = np.zeros((2, BINS), np.int64)
    for part in blocks(len(probes), len(enrolled), BLOCK):
        bins = bins_of(unit_distances(probes[part], enrolled)).reshape(-1, len(enrolled))
        own = person[part, None] == person[None, :]
        counts[1] += np.bincount(bins[~own], minlength=BINS)
        own[np.arange(len(own)), part.start + np.arange(len(own))] = False  # a picture and itself
        counts[0] += np.bincount(bins[own], minlength=BINS)
    return PipelineComparison(counts)


def sample_people(person: Integers, *, part: float, seed: int) -> Flags:
    """Return the rows of a random part of the people, two of them at least, `(n,) bool`."""
    numbers = np.unique(person)
    held = max(round(part * len(numbers)), 2)
    drawn = np.random.default_rng(seed).permutation(numbers)[:held]
    return np.isin(person, drawn)
