"""Confidence intervals by the bootstrap: people are drawn again and again with replacement, never pairs.

Pairs that share a person are not independent, so drawing pairs would give intervals that are too narrow.
Drawing people keeps all pairs of a person together (the subset bootstrap of biometric testing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sameface.evaluation.roc import Integers, Numbers

REPEATS = 500
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with the ends of its 95 % interval over people; NaN where it is not defined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def draw_people(people: int, *, repeats: int, rng: np.random.Generator) -> Integers:
    """Return how often each person is drawn, `(repeats, people)`."""
    if people == 0:
        return np.zeros((repeats, 0), np.int64)
    return rng.multinomial(people, np.full(people, 1 / people), size=repeats)


def pair_weights(draws: Integers, people: Integers) -> Numbers:
    """Return how often each pair counts in one draw: a person drawn twice makes its pairs twice.

    `draws` is how often each person was drawn, `(p,) int64`; `people` the two of each pair, `(n, 2) int64`.
    """
    first, second = draws[people[:, 0]], draws[people[:, 1]]
    # Two copies of one person are not a pair of different people, so a genuine pair counts once a copy.
    return np.where(people[:, 0] == people[:, 1], first, first * second).astype(np.float64)


def estimate_all(
    measure: Callable[[Integers], Numbers], people: int, *, repeats: int = REPEATS, rng: np.random.Generator
) -> list[Estimate]:
    """Return each number of `measure` with its interval over people.

    `measure` goes from how often each person counts, `(p,) int64`, to the measures, `(k,) float64`.
    """
    values = measure(np.ones(people, np.int64))
    drawn = np.array([measure(draw) for draw in draw_people(people, repeats=repeats, rng=rng)])
    return [
        Estimate(float(value), *interval(column))
        for value, column in zip(values, drawn.reshape(-1, len(values)).T, strict=True)
    ]


def interval(drawn: Numbers) -> tuple[float, float]:
    """Return the middle 95 % of the drawn values; draws in which the measure is not defined are left out."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
