"""Rows in 8 bits a number, and how far a product with them can be from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings

Codes: TypeAlias = NDArray[np.uint8]  # (n, d)

MIDDLE, REACH = 128, 127  # a number is MIDDLE with up to REACH steps; 0 is no code, and marks a row as erased
UNIT, LARGEST = 64, 63  # a probe's number is UNIT times its high part, at most LARGEST, and its low part
SLACK = 1e-6  # of a product, for what float32 rounds off distances
ROUNDING = 1.0001  # of a length, for what float32 rounds off it


@dataclass(frozen=True, slots=True, eq=False)
class Coder:
    """How rows become codes: `center + step * (code - MIDDLE)` is near the row.

    Attributes:
        center: `(d,) float32` the mean of the rows that it was made for.
        step: What one step of a code is worth.
    """

    center: NDArray[np.float32]
    step: float

    @classmethod
    def fit(cls, center: NDArray[np.float32], farthest: float) -> Coder:
        """Return the finest coder that reaches rows whose numbers are up to `farthest` from the center."""
        return cls(center, max(farthest, 1e-6) / REACH)

    def encode(self, rows: Embeddings) -> tuple[Codes, Errors]:
        """Return the codes of rows, `(n, d)`, and how wrong they are; numbers out of reach are cut off."""
        apart = rows - self.center
        steps = np.clip(np.rint(apart / np.float32(self.step)), -REACH, REACH)
        coded = steps * np.float32(self.step)
        return (steps + MIDDLE).astype(np.uint8), Errors(longest(apart - coded), longest(coded))

    @property
    def usual_error(self) -> float:
        """The largest error of a row that is within reach."""
        return self.step / 2 * float(np.sqrt(len(self.center))) * ROUNDING + SLACK


@dataclass(frozen=True, slots=True)
class Errors:
    """What is known of all rows that were coded.

    Attributes:
        error: The largest distance of a row to what its code stands for.
        radius: The largest distance of what a code stands for to the center.
    """

    error: float = 0.0
    radius: float = 0.0

    def widen(self, other: Errors) -> Errors:
        """Return what holds for two sets of rows together."""
        return Errors(max(self.error, other.error), max(self.radius, other.radius))


@dataclass(frozen=True, slots=True, eq=False)
class CodedProbes:
    """Probes in whole numbers: the product with a code is a score, and a score bounds a distance.

    For a row `x` with code `c` (less `MIDDLE`), a probe `q` and its whole numbers `n`,

        q.x = q.center + unit * n.c + (step q - unit n).c + q.(x - center - step c),

    and by Cauchy and Schwarz the last two terms are at most `bound` together.

    Attributes:
        high: `(d, q) int8` the high parts of the whole numbers. Their 7 bits keep the sum of two products in
            the 16 bits that older processors have for it.
        low: `(q, d) float32` the low parts.
        offset: `(q,) int64` the score of the center, whose codes are all `MIDDLE`.
        base: `(q,) float64` the product of the probe with the center.
        unit: `(q,) float64` what one point of a score is worth in a product.
        bound: `(q,) float64` how far the product that a score stands for can be from the true one.
        window: `(q,) int64` how far apart the scores of a nearer and a farther row can be in the wrong order.
        least: `(q,) int64` what the low parts add to a score at least.
        most: `(q,) int64` what they add at most.
    """

    high: NDArray[np.int8]
    low: NDArray[np.float32]
    offset: NDArray[np.int64]
    base: NDArray[np.float64]
    unit: NDArray[np.float64]
    bound: NDArray[np.float64]
    window: NDArray[np.int64]
    least: NDArray[np.int64]
    most: NDArray[np.int64]

    @classmethod
    def encode(cls, probes: Embeddings, coder: Coder, errors: Errors) -> CodedProbes:
        """Return the whole numbers of `(q, d) float32` probes for the search among coded rows."""
        exact = probes.astype(np.float64)
        scaled = exact * coder.step
        unit = np.maximum(np.abs(scaled).max(axis=1), np.finfo(np.float32).tiny) / (UNIT * LARGEST)
        whole = np.rint(scaled / unit[:, None]).astype(np.int64)  # (q, d)
        high = (whole + UNIT // 2) // UNIT
        low = whole - UNIT * high
        steps = errors.radius / coder.step * ROUNDING  # the longest code
        left = np.linalg.norm(scaled - whole * unit[:, None], axis=1) * steps
        spread = np.ceil(np.linalg.norm(low, axis=1) * steps).astype(np.int64)
        bound = left + np.linalg.norm(exact, axis=1) * errors.error + SLACK
        return cls(
            high=np.ascontiguousarray(high.T, np.int8),
            low=low.astype(np.float32),
            offset=MIDDLE * whole.sum(axis=1),
            base=exact @ coder.center.astype(np.float64),
            unit=unit,
            bound=bound,
            window=np.ceil(2 * bound / unit).astype(np.int64) + 1,
            least=MIDDLE * low.sum(axis=1) - spread,
            most=MIDDLE * low.sum(axis=1) + spread,
        )

    def distance_beyond(self, probe: int, score: int) -> float:
        """Return the squared distance that every row whose score is under `score` is beyond."""
        product = self.base[probe] + self.unit[probe] * (score - self.offset[probe]) + self.bound[probe]
        return float(2 - 2 * product)


def longest(rows: NDArray[np.float32]) -> float:
    """Return the length of the longest of `(n, d)` rows, rounded up; 0 without rows."""
    if not len(rows):
        return 0.0
    return float(np.sqrt(np.einsum("nd,nd->n", rows, rows).max())) * ROUNDING + SLACK
