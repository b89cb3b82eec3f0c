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
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

ROUNDING = 1e-9  # so that 0.3 of 10 pairs is three pairs, and not two


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """VAL and FAR at every threshold at which one of them changes."""

    threshold: Numbers  # (k,) rising; the first is -1 and accepts nothing
    val: Numbers  # (k,) from 0 to 1; NaN without a pair of one person
    far: Numbers  # (k,) from 0 to 1; NaN without a pair of different people
    genuine: int  # pairs of one person
    impostors: int  # pairs of different people


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """VAL and FAR at one threshold."""

    threshold: float  # squared distance; at and under it a pair is accepted
    val: float
    far: float
    accepted: int  # pairs of different people


def make_roc(distance: Numbers, same: Flags, weight: Numbers | None = None) -> Roc:
    """Return VAL and FAR over all thresholds; pairs at equal distance are accepted together.

    Each pair has its squared distance, whether it shows one person, and how often it counts, `(n,)`.
    """
    order = np.argsort(distance, kind="stable")
    sorted_distance, sorted_same = distance[order], same[order]
    counts = np.ones(len(order)) if weight is None else weight[order]
    last = np.flatnonzero(last_of_equal(sorted_distance))
    return Roc(
        threshold=np.append(-1.0, sorted_distance[last]),
        val=running_part(np.where(sorted_same, counts, 0.0), last),
        far=running_part(np.where(sorted_same, 0.0, counts), last),
        genuine=int(same.sum()),
        impostors=int((~same).sum()),
    )


def last_of_equal(values: Numbers) -> Flags:
    """Return which of some sorted values are the last of a run of equal ones."""
    return np.append(values[1:] != values[:-1], np.ones(min(len(values), 1), bool))


def running_part(counts: Numbers | Integers, last: Integers) -> Numbers:
    """Return which part of all counts lies at or before each place, with a 0 in front; NaN if all are 0."""
    total = counts.sum()
    running = np.append(0.0, np.cumsum(counts)[last])
    return running / total if total > 0 else np.full(len(running), np.nan)


def allowed_accepts(far: float, impostors: int) -> int:
    """Return how many of the pairs of different people a false-accept rate allows."""
    return int(np.floor(far * impostors + ROUNDING))


def operate_at_far(roc: Roc, far: float, *, fewest: int = 1) -> OperatingPoint:
    """Return the largest threshold whose false-accept rate is at or under `far`.

    Raises:
        TooFewPairsError: The rate allows less than `fewest` false accepts; nothing is extrapolated.
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
    """Return VAL and FAR at a given threshold."""
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
    """Return the rate at which FAR equals 1 - VAL (EER), between the points of the curve by straight lines.

    NaN where one of the two kinds is missing.
    """
    gap = roc.far + roc.val - 1  # rises from -1 to 1
    if np.isnan(gap).any():
        return float("nan")
    after = int(np.argmax(gap >= 0))
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return float(roc.far[before] + part * (roc.far[after] - roc.far[before]))
