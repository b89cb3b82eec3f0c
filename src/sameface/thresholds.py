"""Thresholds: the squared distance at and under which two faces count as the same, by false-accept rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.errors import ThresholdError

GALLERY_FAR = 1e-2  # the part of the strangers that a search may name, unless told otherwise
ALBUM_FAR, ALBUM_SIZE = 3e-4, 5000  # of pairs of faces that are grouped; it falls once there are more faces

ROUNDING = 1e-9  # of a rate that goes through a logarithm and back

Rates = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tail:
    """Rates below those that were counted, extrapolated from the nearest pairs of different people.

    A generalised Pareto distribution is fitted to how far these pairs lie under a threshold (peaks over
    threshold; Coles 2001, chapter 4).

    Attributes:
        far: False-accept rates, falling, all below the counted ones.
        distance: The squared distance that gives each rate.
        low: The lower end of the 95 % interval of each distance, over people.
        high: The upper end.
    """

    far: Rates
    distance: Rates
    low: Rates
    high: Rates

    def __post_init__(self) -> None:
        if not len(self.far) == len(self.distance) == len(self.low) == len(self.high):
            raise ValueError("far, distance, low and high must have the same length")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a tail from the fields by name, as JSON holds them."""
        names = ("far", "distance", "low", "high")
        return cls(*(tuple(map(float, facts[name])) for name in names))


@dataclass(frozen=True, slots=True)
class GalleryThreshold:
    """What decides a search for one gallery size.

    Attributes:
        distance: The squared distance at and under which a face may be a person's.
        fpir: The part of the strangers that are given any name (FPIR, ISO/IEC 19795-1), by the calibration.
        asked: The FPIR that was asked for; the calibration does not reach to it if it is another than `fpir`.
        extrapolated: The rate of one comparison lies below the counted ones: it rests on a fitted tail.
    """

    distance: float
    fpir: float
    asked: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The squared distance at and under which two faces count as the same, by false-accept rate.

    Attributes:
        far: False-accept rates, falling: the part of the pairs of different people that were accepted.
        distance: The squared distance that gave each rate.
        pairs: How many pairs of different people were accepted at each rate.
        impostor_pairs: All pairs of different people that were compared.
        calibrated_on: The pictures, in words.
        population: Of whom the rates hold: `mixed` for people of all kinds, `alike` for people who resemble
            each other in age, sex and origin, `own` for those of a gallery's owner.
        tail: Rates below the counted ones; None without.
        templates: What the threshold of one embedding is multiplied by for the mean of several: pairs of a
            count, rising from 1, and a factor. Empty where it was not measured.
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
        """Return thresholds from the fields by name, as JSON holds them.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or cannot be what it says.
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
        """Every rate, falling, counted and extrapolated, and the distance of each."""
        if self.tail is None:
            return self.far, self.distance
        return self.far + self.tail.far, self.distance + self.tail.distance

    @property
    def smallest(self) -> float:
        """The smallest rate that a threshold is known for."""
        return self.rates[0][-1]

    def is_extrapolated(self, far: float) -> bool:
        """Return whether a rate of one comparison lies below the counted ones."""
        return far < self.far[-1] * (1 - ROUNDING)

    def at(self, far: float) -> float:
        """Return the threshold for a false-accept rate of one comparison.

        Between two rates the distance is interpolated along the logarithm of the rate.

        Raises:
            ThresholdError: The rate is above the counted ones, or below those of the tail.
        """
        rates, distances = self.rates
        if not rates[-1] <= far <= rates[0]:
            raise ThresholdError(far, rates[-1], rates[0], "a false-accept rate of")
        return float(np.interp(np.log10(far), np.log10(rates[::-1]), distances[::-1]))

    def at_gallery(self, size: int, far: float | None = None) -> GalleryThreshold:
        """Return the threshold for a search among `size` templates or faces.

        A stranger is compared with every one of them, so that one comparison may fail only with the chance
        `1 - (1 - far) ** (1 / size)`: the false-positive identification rate (FPIR, ISO/IEC 19795-1) of
        comparisons that are independent of each other.

        Args:
            size: How many there are.
            far: The chance that a stranger is near enough to any of them. None asks for `GALLERY_FAR`, and
                takes the nearest rate that the calibration reaches if it does not reach that one.

        Raises:
            ThresholdError: `far` is given, and the calibration does not reach to it.
        """
        size = max(size, 1)
        asked = GALLERY_FAR if far is None else far
        smallest, largest = over(self.smallest, size), over(self.far[0], size)
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
        """Return what the threshold of one embedding is multiplied by for means of several.

        Args:
            counts: `(n,)` how many embeddings each is the mean of, 1 or more.

        Returns:
            `(n,) float64`. Between two measured counts it is interpolated along the logarithm; beyond the
            last it stays what it is there.
        """
        if not self.templates:
            return np.ones(len(counts))
        known, factors = zip(*self.templates, strict=True)
        interpolated: NDArray[np.float64] = np.interp(np.log(counts), np.log(known), factors)
        return interpolated

    def at_album(self, size: int, far: float | None = None) -> float:
        """Return the threshold to group `size` faces with.

        Args:
            size: How many faces there are.
            far: The false-accept rate of one comparison. None means `ALBUM_FAR`, of more than `ALBUM_SIZE`
                faces as much less as they are more, so that a face meets no more strangers who look like it.
                Below the smallest rate the slope of the last decade is extrapolated.

        Raises:
            ThresholdError: The calibration does not reach to this `far`.
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


def over(far: float, size: int) -> float:
    """Return the chance that one of `size` comparisons fails when each fails with the chance `far`."""
    return float(-np.expm1(np.log1p(-far) * size))
