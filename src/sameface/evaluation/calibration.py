"""A threshold for your own cameras and people, how sure it is, and the chance that a pair is one person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.evaluation.allpairs import BINS, SHIFT
from sameface.evaluation.bootstrap import REPEATS, Estimate
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.holdout import HoldoutRate, HoldoutResult, evaluate_holdout
from sameface.evaluation.roc import Numbers
from sameface.manifest import ProbabilityCurve
from sameface.thresholds import Thresholds, over

# Enough accepted pairs for a rate to be known to within a third (the rule of 30, ISO/IEC 19795-1).
FEWEST = 30
RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
Z = 1.959963984540054  # of 95 %
KNOTS = 64  # of the curve of chances

Pool: TypeAlias = tuple[float, float, float]  # a distance, pairs of one person, pairs of different people

RELIABILITY_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationResult:
    """What the pairs of a folder of people say.

    Attributes:
        far: The false-accept rate that was asked for.
        rate: Threshold and VAL at this rate.
        far_interval: Of the rate itself, if the pairs were independent of each other (Wilson, 1927).
        impostors: Pairs of different people.
        genuine: Pairs of one person.
        thresholds: For every rate that the pairs support.
        curve: From a distance to the chance that it is one person; None where one of the two kinds is
            missing.
        counts: `(2, BINS) int64` pairs of one person and of different people, by distance.
    """

    far: float
    rate: HoldoutRate
    far_interval: tuple[float, float]
    impostors: int
    genuine: int
    thresholds: Thresholds
    curve: ProbabilityCurve | None
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs that were given about the same chance.

    Attributes:
        stated: Their mean chance.
        true: The part of them that is one person, both kinds weighted alike.
        low: The lower end of its 95 % interval, if pairs were independent.
        high: The upper end.
        pairs: How many there are.
    """

    stated: float
    true: float
    low: float
    high: float
    pairs: int


def calibrate(
    rows: Embeddings, person: NDArray[np.int64], *, far: float, words: str, repeats: int = REPEATS, seed: int = 0
) -> CalibrationResult:
    """Find the threshold for a false-accept rate.

    Args:
        rows: `(n, d) float32` unit rows.
        person: `(n,) int64` whose each is, 0 and up, in order.
        far: The rate of one comparison.
        words: What the pictures are.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.

    Raises:
        TooFewPairsError: Fewer than 30 accepted pairs would stand behind the rate.
    """
    fars = sorted({far, *RATES}, reverse=True)
    result = evaluate_holdout(rows, person, fars=fars, fewest=FEWEST, repeats=repeats, seed=seed)
    rate = next((rate for rate in result.rates if rate.far == far), None)
    if rate is None:
        raise TooFewPairsError(far, result.impostors, FEWEST)
    return CalibrationResult(
        far=far,
        rate=rate,
        far_interval=wilson(rate.accepted, result.impostors),
        impostors=result.impostors,
        genuine=result.genuine,
        thresholds=make_thresholds(result, words),
        curve=fit_curve(result.counts) if result.genuine else None,
        counts=result.counts,
    )


def make_thresholds(result: HoldoutResult, words: str) -> Thresholds:
    """Return the table that a manifest or a gallery keeps."""
    return Thresholds(
        far=tuple(rate.far for rate in result.rates),
        distance=tuple(rate.threshold.value for rate in result.rates),
        pairs=tuple(rate.accepted for rate in result.rates),
        impostor_pairs=result.impostors,
        calibrated_on=words,
    )


def wilson(accepted: int, pairs: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of independent trials."""
    part = accepted / pairs
    centre = part + Z**2 / (2 * pairs)
    half = Z * math.sqrt(part * (1 - part) / pairs + (Z / (2 * pairs)) ** 2)
    below = 1 + Z**2 / pairs
    return (centre - half) / below, (centre + half) / below


def estimate_fpir(calibration: CalibrationResult, size: int) -> Estimate:
    """Return the chance that a stranger is named in a gallery of `size` faces with this threshold.

    `1 - (1 - far) ** size` supposes that a stranger's comparisons are independent of each other. They are
    not quite: `evaluate identification` measures the same on real galleries.
    """
    low, high = calibration.far_interval
    far = calibration.rate.accepted / calibration.impostors
    return Estimate(over(far, size), over(low, size), over(high, size))


def bin_distances() -> Numbers:
    """Return the distance in the middle of each bin of `CalibrationResult.counts`."""
    edges = (np.arange(BINS + 1, dtype=np.uint32) << np.uint32(SHIFT)).view(np.float32).astype(np.float64)
    return (edges[1:] + edges[:-1]) / 2


def fit_curve(counts: NDArray[np.int64]) -> ProbabilityCurve:
    """Fit the chance of "one person" to the distance by isotonic regression (pool adjacent violators).

    Both kinds weigh alike, so that the chance holds where a pair is as often one person as not. Half a pair
    of each kind is added to every pool, so that no chance is 0 or 1 (Krichevsky and Trofimov, 1981).

    Args:
        counts: `(2, BINS) int64` pairs of one person and of different people, by distance.

    Raises:
        ValueError: One of the two kinds is missing.
    """
    totals = counts.sum(axis=1)
    if not totals.all():
        raise ValueError("a calibration needs pairs of both kinds")
    used = np.flatnonzero(counts.sum(axis=0))
    pools = pool_adjacent(bin_distances()[used], counts[:, used].astype(np.float64))
    kept = thin_pools(np.array(pools), KNOTS)
    odds = (kept[:, 1:] + 0.5) / totals  # (k, 2) of one person, of different people
    chance = np.minimum.accumulate(odds[:, 0] / odds.sum(axis=1))
    ends = bin_distances()[used[[0, -1]]]
    # The first and the last pool reach past their means, as far as there are pairs.
    distance, place = np.unique([ends[0], *kept[:, 0], ends[1]], return_index=True)
    chance = np.array([chance[0], *chance, chance[-1]])[place]
    return ProbabilityCurve(tuple(distance.tolist()), tuple(chance.tolist()), int(totals.sum()))


def pool_adjacent(distance: Numbers, counts: Numbers) -> list[Pool]:
    """Return the pools of neighbouring distances in which the part of one person falls with the distance.

    Args:
        distance: `(k,)` rising.
        counts: `(2, k)` pairs of one person and of different people at each.

    Returns:
        For each pool its mean distance and its pairs of both kinds.
    """
    pools: list[Pool] = []
    for place, own, others in zip(distance.tolist(), *counts.tolist(), strict=True):
        pool = (place, own, others)
        while pools and rises(pools[-1], pool):
            pool = join_pools(pools.pop(), pool)
        pools.append(pool)
    return pools


def rises(near: Pool, far: Pool) -> bool:
    """Return whether the part of one person does not fall from one pool to the next."""
    return far[1] * near[2] >= near[1] * far[2]


def join_pools(near: Pool, far: Pool) -> Pool:
    """Return two pools as one, at the mean distance of their pairs."""
    sizes = (near[1] + near[2], far[1] + far[2])
    place = (near[0] * sizes[0] + far[0] * sizes[1]) / sum(sizes)
    return place, near[1] + far[1], near[2] + far[2]


def thin_pools(pools: Numbers, most: int) -> Numbers:
    """Return so few pools: neighbours are joined, in order, `(k, 3)`."""
    parts = np.array_split(pools, min(most, len(pools)))
    return np.array([reduce(join_pools, map(tuple, part.tolist())) for part in parts])


def measure_reliability(
    counts: NDArray[np.int64], curve: ProbabilityCurve, *, bins: int = RELIABILITY_BINS
) -> tuple[ReliabilityBin, ...]:
    """Return how often pairs that are given a chance really are one person; both kinds weigh alike.

    Args:
        counts: `(2, BINS) int64` pairs of people that the curve was not fitted to.
        curve: What gives the chances.
        bins: How many equal ranges of the chance.
    """
    chance = curve.chances(bin_distances())
    place = np.minimum((chance * bins).astype(int), bins - 1)
    totals = np.maximum(counts.sum(axis=1), 1)
    found = []
    for number in range(bins):
        inside = counts[:, place == number]  # (2, k)
        own, others = (int(pairs) for pairs in inside.sum(axis=1))
        if own + others:
            weights = (inside / totals[:, None]).sum(axis=0)
            stated = float(weights @ chance[place == number] / weights.sum())
            true = own / totals[0] / (own / totals[0] + others / totals[1])
            ends = odds_interval((own, others), (int(totals[0]), int(totals[1])))
            found.append(ReliabilityBin(stated, float(true), *ends, pairs=own + others))
    return tuple(found)


def odds_interval(counts: tuple[int, int], totals: tuple[int, int]) -> tuple[float, float]:
    """Return the 95 % interval of a part in which both kinds weigh alike.

    The logarithm of the odds has a variance of one over each count (Woolf, 1955); half a pair is added to
    both, so that none is no certainty.
    """
    own, others = counts[0] + 0.5, counts[1] + 0.5
    odds = math.log(own / totals[0]) - math.log(others / totals[1])
    half = Z * math.sqrt(1 / own + 1 / others)
    return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))


def split_people(person: NDArray[np.int64], *, seed: int) -> NDArray[np.bool_]:
    """Return which people the curve is fitted to when its reliability is measured on the others, `(p,)`."""
    people = int(person[-1]) + 1 if len(person) else 0
    first: NDArray[np.bool_] = np.random.default_rng(seed).permutation(people) % 2 == 0
    return first


def check_reliability(parts: Sequence[tuple[Embeddings, NDArray[np.int64]]]) -> tuple[ReliabilityBin, ...]:
    """Fit the curve to the first part and measure it on the second; empty if one of them is too small.

    Args:
        parts: Two sets of rows and their owners; nobody is in both.
    """
    fitted, tested = (evaluate_holdout(*part, fars=(), repeats=1).counts for part in parts)
    if not fitted.sum(axis=1).all() or not tested.sum(axis=1).all():
        return ()
    return measure_reliability(tested, fit_curve(fitted))
