"""Compare embeddings, and decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_unit_rows
from sameface.manifest import ProbabilityCurve, to_chances


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether two faces are the same person's; true if they are.

    Attributes:
        distance: The squared Euclidean distance of the two embeddings, 0 to 4.
        threshold: The distance at and under which they count as the same.
        far: The part of the pairs of different people that this threshold accepts.
        curve: From a distance to a chance; None if not calibrated.
        population: The people of `far`: `mixed`, `alike` or `own`.
        extrapolated: `far` lies below the counted rates, on a fitted tail.
    """

    distance: float
    threshold: float
    far: float
    curve: ProbabilityCurve | None = None
    population: str = "mixed"
    extrapolated: bool = False

    def __bool__(self) -> bool:
        """Return `same`."""
        return self.same

    @property
    def same(self) -> bool:
        """Whether the distance is at or under the threshold."""
        return self.distance <= self.threshold

    @property
    def probability(self) -> float | None:
        """The chance of one person, one half at the threshold; None if not calibrated.

        A threshold is the break-even point of some prior chance of one person: high for a loose threshold, low
        for a strict one. This is the chance under that prior, so that it always agrees with `same`. Outside the
        calibrated range (`in_range`) it is the chance at the nearer end.
        """
        if self.curve is None:
            return None
        at_distance, at_threshold = self.curve.log_odds(np.array([self.distance, self.threshold]))
        return float(to_chances(at_distance - at_threshold))

    @property
    def in_range(self) -> bool:
        """Whether the distance lies in the range of the probability's calibration."""
        return self.curve is not None and self.curve.covers(self.distance)


def squared_distances(a: Embeddings, b: Embeddings) -> NDArray[np.float32]:
    """Return the squared Euclidean distance of every row of `a` to every row of `b`.

    Rows have length 1, so that |x - y|^2 = 2 - 2 x.y, from 0 (the same) to 4 (opposite).

    Args:
        a: `(n, d) float32` unit rows.
        b: `(m, d) float32` unit rows.

    Returns:
        `(n, m) float32`.

    Raises:
        ValueError: The two widths differ, or a row is not finite or not of length 1.
    """
    expect_unit_rows("a", a)
    expect_unit_rows("b", b, a.shape[1])
    return unit_distances(a, b)


def unit_distances(a: Embeddings, b: Embeddings) -> NDArray[np.float32]:
    """Return the squared distances of rows that are known to be unit rows of one width, `(n, m)`."""
    distances = a @ b.T  # (n, m)
    distances *= -2
    distances += 2
    return np.clip(distances, 0, 4, out=distances)


def exact_distances(probe: Embeddings, rows: Embeddings) -> NDArray[np.float32]:
    """Return the squared Euclidean distance of one unit row to `(m, d)` others, `(m,)`, rounded once.

    The last bits of float32 sums depend on the position of a row; these do not, so that equal rows are equally
    near wherever they are kept.
    """
    products = (rows.astype(np.float64) * probe).sum(axis=1)  # (m,)
    distances: NDArray[np.float32] = np.clip(2 - 2 * products, 0, 4).astype(np.float32)
    return distances
