"""True and false accepts at every threshold, and the measures that follow from them (FaceNet, section 4).

With D(x, y) the squared distance, a pair is accepted where D <= d. **VAL(d)** is the part of the pairs of one
person that is accepted, **FAR(d)** the part of the pairs of different people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.errors import TooFewPairsError

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROUNDING = 1e-9  # so that 0.3 of 10 pairs is three pairs, and not two


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """VAL and FAR at every threshold at which one of them changes.

    Attributes:
        threshold: `(k,) float64`, rising. The first is -1 and accepts nothing.
        val: `(k,) float64`, from 0 to 1; NaN without a pair of one person.
        far: `(k,) float64`, from 0 to 1; NaN without a pair of different people.
        genuine: How many pairs of one person there are.
        impostors: How many pairs of different people.
    """

    threshold: Numbers
    val: Numbers
    far: Numbers
    genuine: int
    impostors: int


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold does.

    Attributes:
        threshold: The squared distance at and under which a pair is accepted.
        val: The part of the pairs of one person that it accepts.
        far: The part of the pairs of different people that it accepts.
        accepted: How many pairs of different people that is.
    """

    threshold: float
    val: float
    far: float
    accepted: int


def make_roc(distance: Numbers, same: Flags, weight: Numbers | None = None) -> Roc:
    """Return VAL and FAR over all thresholds; pairs at equal distance are accepted together.

    Args:
        distance: `(n,) float64` squared distance of each pair.
        same: `(n,) bool` whether it shows one person.
        weight: `(n,) float64` how often each pair counts; None counts each once.
    """
    order = np.argsort(distance, kind="stable")
    sorted_distance, sorted_same = distance[order], same[order]
    counts = np.ones(len(order)) if weight is None else weight[order]
    ends = np.append(sorted_distance[1:] != sorted_distance[:-1], np.ones(min(len(order), 1), bool))
    last = np.flatnonzero(ends)  # of each run of equal distances
    return Roc(
        threshold=np.append(-1.0, sorted_distance[last]),
        val=running_part(np.where(sorted_same, counts, 0.0), last),
        far=running_part(np.where(sorted_same, 0.0, counts), last),
        genuine=int(same.sum()),
        impostors=int((~same).sum()),
    )


def running_part(counts: Numbers, last: NDArray[np.int64]) -> Numbers:
    """Return which part of all counts lies at or before each place, with a 0 in front; NaN of nothing."""
    total = counts.sum()
    running = np.append(0.0, np.cumsum(counts)[last])
    return running / total if total > 0 else np.full(len(running), np.nan)


def allowed_accepts(far: float, impostors: int) -> int:
    """Return how many of the pairs of different people a false-accept rate allows."""
    return int(np.floor(far * impostors + ROUNDING))


def operate_at_far(roc: Roc, far: float, *, fewest: int = 1) -> OperatingPoint:
    """Return the largest threshold whose false-accept rate is at or under `far`.

    Args:
        roc: From `make_roc`.
        far: The rate that is allowed.
        fewest: How many pairs of different people must stand behind the rate.

    Raises:
        TooFewPairsError: They are fewer; nothing is extrapolated.
    """
    if allowed_accepts(far, roc.impostors) < fewest:
        raise TooFewPairsError(far, roc.impostors, fewest)
    place = last_under(roc, far)
    measured = float(roc.far[place])
    accepted = round(measured * roc.impostors)
    return OperatingPoint(float(roc.threshold[place]), float(roc.val[place]), measured, accepted)


def last_under(roc: Roc, far: float) -> int:
    """Return the place of the largest threshold whose rate is at or under `far`."""
    return int(np.searchsorted(roc.far, far + ROUNDING / max(roc.impostors, 1), side="right")) - 1


def val_under(roc: Roc, far: float) -> float:
    """Return VAL at the largest threshold whose rate is at or under `far`; NaN without a rate or a VAL."""
    return float("nan") if np.isnan(roc.far[0]) else float(roc.val[last_under(roc, far)])


def operate_at(roc: Roc, threshold: float) -> OperatingPoint:
    """Return what a given threshold does."""
    place = int(np.searchsorted(roc.threshold, threshold, side="right")) - 1
    far = float(roc.far[place])
    accepted = 0 if np.isnan(far) else round(far * roc.impostors)
    return OperatingPoint(threshold, float(roc.val[place]), far, accepted)


def area_under(roc: Roc) -> float:
    """Return the area under VAL against FAR: the chance that a pair of one person is the nearer (AUC).

    Ties count half. NaN where one of the two kinds is missing.
    """
    area = np.trapezoid(roc.val, roc.far)
    return float(area) if roc.genuine and roc.impostors else float("nan")


def equal_error_rate(roc: Roc) -> float:
    """Return the rate at which as many strangers are accepted as own pairs are rejected (EER).

    It is where the straight lines between the points of the curve meet FAR = 1 - VAL. NaN where one of the
    two kinds is missing.
    """
    gap = roc.far + roc.val - 1  # rises from -1 to 1
    if np.isnan(gap).any():
        return float("nan")
    after = int(np.argmax(gap >= 0))
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return float(roc.far[before] + part * (roc.far[after] - roc.far[before]))
