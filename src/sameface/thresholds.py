"""Thresholds: the squared distance at and under which two faces count as the same, by false-accept rate.

1. One comparison. The calibration counts which part of the pairs of different people lies within a distance:
   the false-accept rate of that distance. Between two counted rates the distance is linear in log10(rate).
2. Tail. Below the counted rates, a generalised Pareto distribution is fitted to the nearest pairs (peaks over
   threshold; Coles 2001, chapter 4), and the result says that it is extrapolated.
3. Gallery. A stranger is compared with all `size` people. If the comparisons are independent, the false-positive
   identification rate (FPIR, ISO/IEC 19795-1) is 1 - (1 - far) ** size; solved for `far` it gives the threshold.
4. Mean of several embeddings. It is nearer to everyone, so its threshold is multiplied by a measured factor.
5. Album. The rate of one comparison falls as the number of faces grows, so that each face meets equally many
   strangers who resemble it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.errors import ThresholdError

GALLERY_FAR = 1e-2  # the FPIR of a search, unless another is asked for
ALBUM_FAR, ALBUM_SIZE = 3e-4, 5000  # the rate of one comparison in an album of up to so many faces
ROUNDING = 1e-9  # relative error of a rate that passes through a logarithm and back

Rates = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tail:
    """Extrapolated rates, falling, all below the counted ones."""

    far: Rates  # false-accept rates
    distance: Rates  # the squared distance of each rate
    low: Rates  # the lower end of the 95 % interval of each distance, over people
    high: Rates  # the upper end

    def __post_init__(self) -> None:
        if not len(self.far) == len(self.distance) == len(self.low) == len(self.high):
            raise ValueError("far, distance, low and high must have the same length")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a tail from its fields in JSON."""
        return cls(*(tuple(map(float, facts[name])) for name in ("far", "distance", "low", "high")))


@dataclass(frozen=True, slots=True)
class GalleryThreshold:
    """The threshold of a search for one gallery size."""

    distance: float  # the squared distance at and under which a face may be a person's
    fpir: float  # the part of the strangers who get any name, by the calibration
    asked: float  # the requested FPIR; it differs from `fpir` if the calibration does not reach it
    extrapolated: bool  # the rate of one comparison comes from the tail


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The squared distance at and under which two faces count as the same, by false-accept rate.

    Attributes:
        far: False-accept rates, falling: the accepted part of the pairs of different people.
        distance: The squared distance of each rate.
        pairs: How many pairs of different people were accepted at each rate.
        impostor_pairs: All pairs of different people in the calibration.
        calibrated_on: The pictures, in words.
        population: The people of the rates: `mixed` for all kinds, `alike` for people who resemble each other in
            age, sex and origin, `own` for those of a gallery's owner.
        tail: Extrapolated rates; None without.
        templates: Factors of the threshold for the mean of several embeddings: pairs of a count, rising from 1,
            and a factor. Empty if not measured.
    """

    far: Rates
    distance: Rates
    pairs: tuple[int, ...]
    impostor_pairs: int
    calibrated_on: str
    population: str = "mixed"
    tail: Tail | None = None
    templates: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not len(self.far) == len(self.distance) == len(self.pairs) >= 1:
            raise ValueError("far, distance and pairs must have the same length, one or more")
        rates, distances = self.rates
        steps = zip(rates, rates[1:], distances, distances[1:], strict=False)
        if not all(rate > next_rate and at >= next_at for rate, next_rate, at, next_at in steps):
            raise ValueError("far and distance must both fall, the tail's after the others")
        if not 0 < rates[-1] <= rates[0] < 1:
            raise ValueError("far must lie between 0 and 1")
        if any(count < 1 or factor <= 0 for count, factor in self.templates):
            raise ValueError("templates must be counts of 1 or more with positive factors")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return thresholds from their fields in JSON.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or impossible.
        """
        tail = facts.get("tail")
        return cls(
            far=tuple(map(float, facts["far"])),
            distance=tuple(map(float, facts["distance"])),
            pairs=tuple(map(int, facts["pairs"])),
            impostor_pairs=int(facts["impostor_pairs"]),
            calibrated_on=str(facts["calibrated_on"]),
            population=str(facts.get("population", "mixed")),
            tail=None if tail is None else Tail.from_facts(tail),
            templates=tuple((int(count), float(factor)) for count, factor in facts.get("templates", ())),
        )

    @property
    def rates(self) -> tuple[Rates, Rates]:
        """Every rate, counted and extrapolated, falling, and the distance of each."""
        if self.tail is None:
            return self.far, self.distance
        return self.far + self.tail.far, self.distance + self.tail.distance

    @property
    def smallest(self) -> float:
        """The smallest rate with a known threshold."""
        return self.rates[0][-1]

    def is_extrapolated(self, far: float) -> bool:
        """Return whether a rate of one comparison lies below the counted ones."""
        return far < self.far[-1] * (1 - ROUNDING)

    def at(self, far: float) -> float:
        """Return the threshold for a false-accept rate of one comparison.

        Raises:
            ThresholdError: The rate is above the counted ones, or below those of the tail.
        """
        rates, distances = self.rates
        if not rates[-1] <= far <= rates[0]:
            raise ThresholdError(far, rates[-1], rates[0], "a false-accept rate of")
        return float(np.interp(np.log10(far), np.log10(rates[::-1]), distances[::-1]))

    def at_gallery(self, size: int, far: float | None = None) -> GalleryThreshold:
        """Return the threshold for a search among `size` templates or faces.

        Args:
            size: Their number.
            far: The FPIR. None takes `GALLERY_FAR`, or the nearest rate that the calibration reaches.

        Raises:
            ThresholdError: `far` is given, and the calibration does not reach it.
        """
        size = max(size, 1)
        asked = GALLERY_FAR if far is None else far
        smallest, largest = gallery_rate(self.smallest, size), gallery_rate(self.far[0], size)
        if far is not None and not smallest * (1 - ROUNDING) <= far <= largest * (1 + ROUNDING):
            raise ThresholdError(far, smallest, largest, f"a gallery of {size} and a rate of")
        fpir = min(max(asked, smallest), largest) if far is None else far
        if fpir == smallest:  # in a gallery of millions both ends may be 1
            one = self.smallest
        elif fpir == largest:
            one = self.far[0]
        else:
            one = float(np.clip(-np.expm1(np.log1p(-fpir) / size), self.smallest, self.far[0]))
        return GalleryThreshold(self.at(one), fpir, asked, self.is_extrapolated(one))

    def template_factors(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors of the threshold for means of several embeddings, `(n,) float64`.

        Between two measured counts a factor is linear in log(count); beyond the last it stays constant.

        Args:
            counts: `(n,)` the number of embeddings in each mean, 1 or more.
        """
        if not self.templates:
            return np.ones(len(counts))
        known, factors = zip(*self.templates, strict=True)
        interpolated: NDArray[np.float64] = np.interp(np.log(counts), np.log(known), factors)
        return interpolated

    def at_album(self, size: int, far: float | None = None) -> float:
        """Return the threshold to group `size` faces with.

        Args:
            size: The number of faces.
            far: The false-accept rate of one comparison. None takes `ALBUM_FAR`, divided by size / `ALBUM_SIZE`
                in larger albums. Below the smallest rate the slope of the last decade is extrapolated.

        Raises:
            ThresholdError: `far` is given, and the calibration does not reach it.
        """
        if far is not None:
            return self.at(far)
        fitting = min(ALBUM_FAR * min(1.0, ALBUM_SIZE / max(size, 1)), self.far[0])
        least = self.smallest
        if fitting >= least:
            return self.at(fitting)
        nearest = self.at(least)
        slope = self.at(min(10 * least, self.far[0])) - nearest
        return max(nearest - slope * float(np.log10(least / fitting)), 0.0)


def gallery_rate(far: float, size: int) -> float:
    """Return the FPIR among `size` people of a false-accept rate of one comparison."""
    return float(-np.expm1(np.log1p(-far) * size))
