"""Rows in 8 bits a number, and the most that a product with such a row can be.

What a row is apart from the center is measured along axes: the directions in which rows differ most, mixed so
that the numbers of a row are about as large as each other, and add up to nothing. What is left of the row
counts by its length.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings

Floats: TypeAlias = NDArray[np.floating]
Codes: TypeAlias = NDArray[np.int8]  # (n, w)
Tiles: TypeAlias = NDArray[np.int8]  # (t, w, TILE), a face in a column

TILE = 256  # faces, so that the codes of a tile are in the processor's first cache
LOWEST = int(np.iinfo(np.int32).min)  # is less than any score
REACH = 127  # the largest code; the smallest is its negative, since two products with -128 could overflow
UNIT, LARGEST = 64, 63  # a probe's number is UNIT times its high part, at most LARGEST, and its low part
LEFT_OUT = 0.03  # of the variance of rows, at most
MOST = 247  # directions, so that what rounding adds to the sum of a row's codes is within reach
EXTRA = 4  # codes of a face besides those along the axes
LEAN, LENGTH, REST = -3, -2, -1  # the product with the center; how long the code is; how long the rest
SHORTER = 1 - 1e-6  # than 1 the axes are, so that float32 cannot make them longer, and the rest negative
ROUNDING = 1.0001  # of a length, for what float32 rounds off it
SLACK = 1e-6  # of a product, for what float32 rounds off distances


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Where rows are measured from, and along what.

    Attributes:
        center: `(d,) float32` about the mean of the rows.
        axes: `(k, d) float32` for rows `x` and `y`, `(axes x).(axes y)` is the part of `x.y` along the axes.
    """

    center: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: Embeddings, *, left_out: float = LEFT_OUT) -> Self:
        """Return the frame for rows like these, `(n, d) float32`, with axes that leave out some variance."""
        center = rows.sum(axis=0, dtype=np.float64) / max(len(rows), 1)
        apart = rows - center
        variances, directions = np.linalg.eigh(apart.T @ apart)  # ascending
        wanted = max(int((np.cumsum(variances) > left_out * variances.sum()).sum()), 1)
        width = -(-(wanted + 1 + EXTRA) // 4) * 4  # of a code, since four numbers are multiplied at once
        count = min(width - 1 - EXTRA, len(center), MOST)
        axes = SHORTER * mix(count) @ directions[:, ::-1][:, :count].T
        return cls(center.astype(np.float32), axes.astype(np.float32))

    def turn(self, rows: Floats) -> Turned:
        """Measure rows, `(n, d)`, in their own precision."""
        apart = rows - self.center
        along = apart @ self.axes.T.astype(rows.dtype)
        length = np.sqrt(square(apart))
        slip = np.finfo(rows.dtype).eps * self.axes.size / np.sqrt(len(self.axes)) * length
        rest = np.sqrt(np.maximum(length**2 - square(along), 0) + 2 * slip * length)
        return Turned(along, apart @ self.center, rest, length, slip)


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """Rows as they are measured.

    Attributes:
        along: `(n, k)` what they are apart from the center, along the axes.
        lean: `(n,)` the product of the center with what they are apart from it.
        rest: `(n,)` how long the part is that no axis has, rounded up.
        length: `(n,)` how far they are from the center.
        slip: `(n,)` what rounding can have changed in a lean, and in the length of what is along the axes.
    """

    along: Floats
    lean: Floats
    rest: Floats
    length: Floats
    slip: Floats

    @property
    def farthest(self) -> NDArray[np.float64]:
        """The largest number of each kind, and the largest length along the axes, `(4,)`."""
        kinds = (self.along, -self.along, self.lean, -self.lean, self.rest, self.length)
        along, back, lean, away, rest, length = (float(each.max(initial=0)) for each in kinds)
        return ROUNDING * np.array([max(along, back), max(lean, away), rest, length])


@dataclass(frozen=True, slots=True, eq=False)
class Coder:
    """How rows become codes, `w = k + EXTRA` for each.

    Attributes:
        frame: How they are measured.
        steps: `(4,) float64` what one step of a code is worth: along an axis, of the lean, and of the rest;
            and such a part of the distance from the center that is reached.
    """

    frame: Frame
    steps: NDArray[np.float64]

    @classmethod
    def fit(cls, frame: Frame, farthest: NDArray[np.float64]) -> Self:
        """Return the finest coder that reaches so far."""
        return cls(frame, np.maximum(farthest, 1e-6) / REACH)

    @property
    def width(self) -> int:
        """How many codes a face has."""
        return len(self.frame.axes) + EXTRA

    @property
    def usual_error(self) -> float:
        """The largest error of a row that is within reach."""
        return float(self.steps[0]) / 2 * float(np.sqrt(len(self.frame.axes))) + SLACK

    @property
    def length_step(self) -> float:
        """What one step of a length is worth, in codes along an axis."""
        most = REACH * self.steps[3] / self.steps[0] + np.sqrt(len(self.frame.axes)) / 2
        return float(np.hypot(most, REACH)) / REACH * ROUNDING**2

    def encode(self, rows: Embeddings) -> tuple[Codes, Errors]:
        """Return the codes of rows, `(n, w)`, and how wrong they are.

        A row that is out of reach is coded as a nearer one, in the same direction.
        """
        turned, (step, lean_step, rest_step, far_step) = self.frame.turn(rows), self.steps
        size = np.maximum(turned.along.max(axis=1), -turned.along.min(axis=1))
        beyond = np.maximum(np.maximum(size / step, turned.length / far_step) / REACH, 1)
        along = np.rint(turned.along / (step * beyond).astype(rows.dtype)[:, None])
        lean = np.clip(np.rint(turned.lean / lean_step), -REACH, REACH)
        rest = np.clip(np.ceil(turned.rest / rest_step), 1, REACH)  # 0 marks a face as erased
        length = np.sqrt(square(along) + lean**2) * ROUNDING
        kinds = [along, -along.sum(axis=1), lean, np.ceil(length / self.length_step), rest]
        missed = np.sqrt(square(turned.along - rows.dtype.type(step) * along))
        missed += turned.slip + np.maximum(turned.rest - rest_step * rest, 0)
        leaned = np.abs(turned.lean - lean_step * lean) + turned.slip
        errors = Errors(*(float(each.max(initial=0)) * ROUNDING for each in (missed, leaned, length)))
        return np.column_stack(kinds).astype(np.int8), errors


@dataclass(frozen=True, slots=True)
class Errors:
    """What is known of all rows that were coded.

    Attributes:
        error: The most that a row is longer along the axes, and in the rest, than its code says.
        lean: The most that its lean is from what its code says.
        length: The length of the longest code, the lean included, without balance and rest.
    """

    error: float = 0.0
    lean: float = 0.0
    length: float = 0.0

    def widen(self, other: Errors) -> Errors:
        """Return what holds for two sets of rows together."""
        return Errors(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True, eq=False)
class CodedProbes:
    """Probes in whole numbers: the product with a code is a score, and tells the most that a product can be.

    With `m` the center, `A` the axes, `q` a probe and `x` a row,

        q.x = q.m + (q - m).(x - m) + m.(x - m),

    the middle term is `(A (q - m)).(A (x - m))` and at most the product of the lengths of the two rests
    (Cauchy and Schwarz), the last one is the lean. In codes and whole numbers that is

        q.x <= base + unit * score + bound.

    Attributes:
        high: `(q, w) uint8` the high parts of the whole numbers, those along the axes plus `UNIT`, for which
            the balance makes good. Their 7 bits keep the sum of two products in the 16 bits that older
            processors have for it. The length of a code is multiplied with the most that the low parts can
            add to it: the product with the high parts alone is the score, or more.
        low: `(q, w) float32` the low parts, and what makes good for the length.
        base: `(q,) float64` the product of the probe with the center.
        unit: `(q,) float64` what one point of a score is worth in a product.
        bound: `(q,) float64` what the whole numbers and the codes leave out at most.
    """

    high: NDArray[np.uint8]
    low: NDArray[np.float32]
    base: NDArray[np.float64]
    unit: NDArray[np.float64]
    bound: NDArray[np.float64]

    @classmethod
    def encode(cls, probes: Embeddings, coder: Coder, errors: Errors) -> Self:
        """Return the whole numbers of `(q, d) float32` probes for the search among coded rows."""
        exact = probes.astype(np.float64)
        turned, (step, lean_step, rest_step, _) = coder.frame.turn(exact), coder.steps
        scaled = np.column_stack([step * turned.along, np.full(len(probes), lean_step)])  # (q, k + 1)
        rest = rest_step * turned.rest
        largest = np.maximum(np.abs(scaled[:, :-1]).max(axis=1), np.maximum(scaled[:, -1], rest) / 2)
        unit = largest / (UNIT * LARGEST)
        whole = np.rint(scaled / unit[:, None])  # the lean and the rest have no sign, and so twice the room
        high = np.floor(whole / UNIT + 0.5)
        low = whole - UNIT * high
        left = np.linalg.norm(scaled - whole * unit[:, None], axis=1) * errors.length
        length = np.ceil(np.linalg.norm(low, axis=1) * coder.length_step / UNIT)
        rest, nothing, balance = np.ceil(rest / unit / UNIT), np.zeros(len(low)), np.full(len(low), UNIT)
        return cls(
            high=np.column_stack([high[:, :-1] + UNIT, balance, high[:, -1], length, rest]).astype(np.uint8),
            low=np.column_stack([low[:, :-1], nothing, low[:, -1], -UNIT * length, nothing]).astype(np.float32),
            base=exact @ coder.frame.center,
            unit=unit,
            bound=left + turned.length * errors.error + errors.lean + SLACK,
        )

    def score_within(self, probe: int, distance: float) -> int:
        """Return a score that every row has at least whose squared distance is not larger."""
        product = 1 - distance / 2 - self.base[probe] - self.bound[probe] - SLACK
        return int(max(np.floor(product / self.unit[probe]), LOWEST))

    def distance_beyond(self, probe: int, score: int) -> float:
        """Return the squared distance that every row whose score is `score` or lower is not under."""
        product = self.base[probe] + self.unit[probe] * score + self.bound[probe]
        return float(2 - 2 * product)


def mix(count: int) -> NDArray[np.float64]:
    """Return columns of length 1 at right angles, `(count + 1, count)`, each of which adds up to nothing."""
    size = count + 1
    cosines = np.cos(np.pi / size * np.outer(np.arange(size) + 0.5, np.arange(1, size)))
    mixed: NDArray[np.float64] = cosines * np.sqrt(2 / size)
    return mixed


def square(rows: Floats) -> Floats:
    """Return the squared lengths of rows."""
    squares: Floats = np.einsum("nd,nd->n", rows, rows)
    return squares
