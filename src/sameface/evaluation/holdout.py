"""VAL at FAR over all pairs of many people (FaceNet, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_unit_rows
from sameface.evaluation.allpairs import (
    BINS,
    SHIFT,
    GenuinePairs,
    NearestImpostors,
    count_impostors,
    find_genuine,
    find_nearest,
)
from sameface.evaluation.bootstrap import REPEATS, Estimate, draw_people, interval
from sameface.evaluation.pairs import FARS
from sameface.evaluation.roc import Numbers, Roc, allowed_accepts


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutRate:
    """VAL at one false-accept rate.

    Attributes:
        far: The rate that is allowed.
        threshold: The largest squared distance that keeps it, with its interval.
        accepted: How many pairs of different people it accepts.
        val: The part of the pairs of one person that it accepts, with its interval.
        by_person: `(p,) int64` how many pairs of each person it accepts.
    """

    far: float
    threshold: Estimate
    accepted: int
    val: Estimate
    by_person: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutResult:
    """All pairs of many people.

    Attributes:
        genuine: Pairs of one person.
        impostors: Pairs of different people.
        by_person: `(p,) int64` how many pairs of its own each person has.
        rates: One for each false-accept rate that the pairs support.
        refused: The others.
        roc: VAL and FAR at thresholds that lie 0.05 % apart.
        counts: `(2, BINS) int64` pairs of one person and of different people between those thresholds.
    """

    genuine: int
    impostors: int
    by_person: NDArray[np.int64]
    rates: tuple[HoldoutRate, ...]
    refused: tuple[float, ...]
    roc: Roc
    counts: NDArray[np.int64]


def evaluate_holdout(
    rows: Embeddings,
    person: NDArray[np.int64],
    *,
    fars: Sequence[float] = FARS,
    fewest: int = 1,
    repeats: int = REPEATS,
    seed: int = 0,
) -> HoldoutResult:
    """Measure all pairs.

    Args:
        rows: `(n, d) float32` unit rows.
        person: `(n,) int64` whose each is, 0 and up, those of one person together and in order.
        fars: The false-accept rates of interest.
        fewest: How many accepted pairs of different people must stand behind a rate.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.

    Raises:
        ValueError: `person` is not in order, or not as long as `rows`.
    """
    expect_unit_rows("rows", rows)
    if len(person) != len(rows) or (np.diff(person) < 0).any():
        raise ValueError("person must have one number for each row, in order")
    counts = count_impostors(rows, person)
    impostors = int(counts.sum())
    supported = [far for far in fars if allowed_accepts(far, impostors) >= max(fewest, 1)]
    tails = find_nearest(rows, person, counts, [allowed_accepts(far, impostors) for far in supported])
    own = find_genuine(rows, person, [tail.limit for tail in tails])
    sizes = np.bincount(person)
    draws = draw_people(len(sizes), repeats=repeats, rng=np.random.default_rng(seed))
    drawn = np.array([draw_rates(draw, sizes, tails, own, supported) for draw in draws])  # (r, f, 2)
    rates = [
        make_rate(far, tail, own.accepted[place], own, drawn[:, place])
        for place, (far, tail) in enumerate(zip(supported, tails, strict=True))
    ]
    return HoldoutResult(
        genuine=int(own.counts.sum()),
        impostors=impostors,
        by_person=sizes * (sizes - 1) // 2,
        rates=tuple(rates),
        refused=tuple(far for far in fars if far not in supported),
        roc=binned_roc(own.counts, counts),
        counts=np.array([own.counts, counts]),
    )


def make_rate(
    far: float, tail: NearestImpostors, by_person: NDArray[np.int64], own: GenuinePairs, drawn: Numbers
) -> HoldoutRate:
    """Return VAL at one rate; `drawn` are thresholds and VALs of the draws, `(r, 2)`."""
    genuine = int(own.counts.sum())
    val = by_person.sum() / genuine if genuine else np.nan
    return HoldoutRate(
        far,
        Estimate(under(tail.limit), *interval(drawn[:, 0])),
        tail.accepted,
        Estimate(float(val), *interval(drawn[:, 1])),
        by_person,
    )


def under(limit: float) -> float:
    """Return the largest 32-bit number under a limit."""
    return float(np.nextafter(np.float32(limit), np.float32(-1)))


def draw_rates(
    draw: NDArray[np.int64],
    sizes: NDArray[np.int64],
    tails: Sequence[NearestImpostors],
    own: GenuinePairs,
    fars: Sequence[float],
) -> Numbers:
    """Return threshold and VAL at each rate when people count as often as they were drawn, `(f, 2)`.

    Args:
        draw: `(p,) int64` how often each person was drawn.
        sizes: `(p,) int64` how many rows each has.
        tails: The nearest pairs of different people, for each rate.
        own: The pairs of one person.
        fars: The rates.
    """
    rows = (draw * sizes).astype(np.float64)
    impostors = (rows.sum() ** 2 - (rows**2).sum()) / 2
    genuine = np.append(0, np.cumsum(draw[own.sample.people[:, 0]]))
    values = np.full((len(fars), 2), np.nan)
    for place, (far, tail) in enumerate(zip(fars, tails, strict=True)):
        near = tail.sample
        running = np.cumsum(draw[near.people[:, 0]] * draw[near.people[:, 1]]) * near.every
        too_many = int(np.searchsorted(running, far * impostors * (1 + 1e-12), side="right"))
        limit = near.distance[min(too_many, len(near.distance) - 1)]
        if impostors:
            values[place, 0] = under(float(limit))
        if impostors and genuine[-1]:
            values[place, 1] = genuine[np.searchsorted(own.sample.distance, limit)] / genuine[-1]
    return values


def binned_roc(genuine: NDArray[np.int64], impostors: NDArray[np.int64]) -> Roc:
    """Return VAL and FAR at the upper edges of the bins that hold a pair."""
    used = np.flatnonzero(genuine + impostors)
    edges = ((np.arange(BINS, dtype=np.uint32) + 1) << SHIFT).view(np.float32).astype(np.float64)
    parts = []
    for counts in (genuine, impostors):
        total = int(counts.sum())
        running = np.append(0, np.cumsum(counts)[used])
        parts.append(running / total if total else np.full(len(running), np.nan))
    threshold = np.append(-1.0, edges[used])
    return Roc(threshold, parts[0], parts[1], int(genuine.sum()), int(impostors.sum()))
