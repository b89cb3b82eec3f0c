"""What is known of a weights file: where it is from, how to feed it, and which distance means "same"."""

from __future__ import annotations

import operator
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sameface.errors import ThresholdError, WeightsError

CropKind = Literal["similarity", "box"]

GALLERY_FAR = 1e-2  # the part of the strangers that a search may name, unless told otherwise
ALBUM_FAR, ALBUM_SIZE = 3e-4, 5000  # of pairs of faces that are grouped; it falls once there are more faces

ROUNDING = 1e-9  # of a rate that goes through a logarithm and back


@dataclass(frozen=True, slots=True)
class CropRule:
    """How a face becomes the square picture that an embedder sees.

    Attributes:
        kind: `similarity` turns and scales the face so that its five points come nearest to `template`;
            `box` takes the detector's box with a margin and leaves the face as it is (FaceNet, section 4).
        size: Width and height of the crop in pixels.
        template: Five points x, y in pixels of the crop; empty for `box`.
        point_weights: How much each of the five points counts in the fit; empty for `box`.
        margin: The part of the box's longer side that is added round it; 0 for `similarity`.
    """

    kind: CropKind
    size: int
    template: tuple[tuple[float, float], ...] = ()
    point_weights: tuple[float, ...] = ()
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be 1 or more, got {self.size}")
        if self.kind not in ("similarity", "box"):
            raise ValueError(f"kind must be 'similarity' or 'box', got {self.kind!r}")
        points = 5 if self.kind == "similarity" else 0
        if len(self.template) != points or len(self.point_weights) != points:
            raise ValueError(f"{self.kind} needs {points} template points with a weight each")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The squared distance at and under which two faces count as the same, by false-accept rate.

    Attributes:
        far: False-accept rates, falling: the part of the pairs of different people that were accepted.
        distance: The squared distance that gave each rate.
        pairs: How many pairs of different people were accepted at each rate.
        impostor_pairs: All pairs of different people that were compared.
        calibrated_on: The pictures, in words.
    """

    far: tuple[float, ...]
    distance: tuple[float, ...]
    pairs: tuple[int, ...]
    impostor_pairs: int
    calibrated_on: str

    def __post_init__(self) -> None:
        if not len(self.far) == len(self.distance) == len(self.pairs) >= 1:
            raise ValueError("far, distance and pairs must have the same length, one or more")
        steps = zip(self.far, self.far[1:], self.distance, self.distance[1:], strict=False)
        if not all(rate > next_rate and at >= next_at for rate, next_rate, at, next_at in steps):
            raise ValueError("far and distance must both fall")
        if not 0 < self.far[-1] <= self.far[0] < 1:
            raise ValueError("far must lie between 0 and 1")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return thresholds from the fields by name, as JSON holds them.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or cannot be what it says.
        """
        return cls(
            far=tuple(map(float, facts["far"])),
            distance=tuple(map(float, facts["distance"])),
            pairs=tuple(map(int, facts["pairs"])),
            impostor_pairs=int(facts["impostor_pairs"]),
            calibrated_on=str(facts["calibrated_on"]),
        )

    def at(self, far: float) -> float:
        """Return the threshold for a false-accept rate of one comparison.

        Between two calibrated rates the distance is interpolated along the logarithm of the rate.

        Raises:
            ThresholdError: The rate is outside what was calibrated; nothing is extrapolated.
        """
        if not self.far[-1] <= far <= self.far[0]:
            raise ThresholdError(far, self.far[-1], self.far[0], "a false-accept rate of")
        rates = np.log10(self.far[::-1])
        return float(np.interp(np.log10(far), rates, self.distance[::-1]))

    def at_gallery(self, size: int, far: float | None = None) -> tuple[float, float]:
        """Return the threshold for a search among `size` faces, and the rate that it holds.

        A stranger is compared with every face, so that one comparison may fail only with the chance
        `1 - (1 - far) ** (1 / size)`: the false-positive identification rate (FPIR, ISO/IEC 19795-1) of
        comparisons that are independent of each other.

        Args:
            size: How many faces are enrolled.
            far: The chance that a stranger is near enough to any of them. None means `GALLERY_FAR`, or the
                smallest that the calibration reaches.

        Raises:
            ThresholdError: The calibration does not reach to this `far`.
        """
        size = max(size, 1)
        smallest, largest = over(self.far[-1], size), over(self.far[0], size)
        wanted = min(max(GALLERY_FAR, smallest), largest) if far is None else far
        if not smallest * (1 - ROUNDING) <= wanted <= largest * (1 + ROUNDING):
            raise ThresholdError(wanted, smallest, largest, f"a gallery of {size} faces and a rate of")
        if wanted in (smallest, largest):  # in a gallery of millions both may be 1
            return self.distance[-1 if wanted == smallest else 0], wanted
        one = -np.expm1(np.log1p(-wanted) / size)
        return self.at(float(np.clip(one, self.far[-1], self.far[0]))), wanted

    def at_album(self, size: int, far: float | None = None) -> float:
        """Return the threshold to group `size` faces with.

        Args:
            size: How many faces there are.
            far: The false-accept rate of one comparison. None means `ALBUM_FAR`, of more than `ALBUM_SIZE`
                faces as much less as they are more, so that a face meets no more strangers who look like it.
                Past what the calibration reaches the distance falls on as over its last tenfold of the rate.

        Raises:
            ThresholdError: The calibration does not reach to this `far`.
        """
        if far is not None:
            return self.at(far)
        fitting = min(ALBUM_FAR * min(1.0, ALBUM_SIZE / max(size, 1)), self.far[0])
        least = self.far[-1]
        if fitting >= least:
            return self.at(fitting)
        fall = self.at(min(10 * least, self.far[0])) - self.distance[-1]
        return max(self.distance[-1] - fall * float(np.log10(least / fitting)), 0.0)


def over(far: float, size: int) -> float:
    """Return the chance that one of `size` comparisons fails when each fails with the chance `far`."""
    return float(-np.expm1(np.log1p(-far) * size))


@dataclass(frozen=True, slots=True)
class Logistic:
    """How likely two faces at a distance are one person's, where a pair is as often one person as not.

    Attributes:
        offset: The log odds at distance 0.
        slope: What a distance of 1 adds to them; negative.
        low: The smallest distance at which the calibration saw a pair of different people.
        high: The largest at which it saw a pair of one person.
        pairs: How many pairs it was fitted to.
    """

    offset: float
    slope: float
    low: float
    high: float
    pairs: int

    def chances(self, distance: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """Return the chance that each distance is one person's; past either end it stays what it is there."""
        odds = self.offset + self.slope * np.clip(distance, self.low, self.high)
        chances: NDArray[np.float64] = np.asarray(1 / (1 + np.exp(-odds)))
        return chances

    def covers(self, distance: float) -> bool:
        """Return whether the calibration saw both kinds of pairs on either side of a distance."""
        return self.low <= distance <= self.high


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """What an embedder takes and gives."""

    crop: CropRule
    dimension: int
    thresholds: Thresholds
    logistic: Logistic | None = None


@dataclass(frozen=True, slots=True)
class DetectionSpec:
    """The detector's numbers that came from data.

    Attributes:
        score: The score from which a place counts as a face.
        overlap: Two boxes whose intersection over union is above this are one face.
    """

    score: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description beside a weights file.

    Attributes:
        name: What the weights are called.
        sha256: Of the weights file.
        licence: An SPDX identifier, or words.
        training_data: What the weights learned from.
        source: The package and version the weights came from, and the SHA-256 of the file inside it.
        mean: Red, green, blue, taken from every pixel (0 to 255).
        scale: What the difference is multiplied by.
        embedding: For an embedder.
        detection: For a detector.
        accuracy: What it was measured to reach, in parts of 1, by the name of the measure; may be empty.
    """

    name: str
    sha256: str
    licence: str
    training_data: str
    source: Mapping[str, str]
    mean: tuple[float, float, float]
    scale: float
    embedding: EmbeddingSpec | None
    detection: DetectionSpec | None
    accuracy: Mapping[str, float] = field(default_factory=dict)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        WeightsError: It is missing, not TOML, or an entry is missing or impossible.
    """
    return check_manifest(read_table(path), path)


def read_table(path: Path) -> dict[str, Any]:
    """Read the tables of a manifest without a look at what they say.

    Raises:
        WeightsError: It is missing or not TOML.
    """
    name = path.stem
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = f"no manifest at {str(path)!r}: every weights file needs its .toml beside it"
        raise WeightsError(name, reason) from error
    except (ValueError, RecursionError) as error:  # of tomllib's, of text that is none, of huge numbers
        raise WeightsError(name, f"the manifest {str(path)!r} is not TOML ({error})") from error


def check_manifest(table: Mapping[str, Any], path: Path) -> Manifest:
    """Build the manifest that was read from `path`.

    Raises:
        WeightsError: An entry is missing or impossible.
    """
    name = path.stem
    try:
        return parse_manifest(table)
    except KeyError as error:
        raise WeightsError(name, f"the manifest {str(path)!r} has no entry {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(name, f"the manifest {str(path)!r} is wrong: {error}") from error


def parse_manifest(table: Mapping[str, Any]) -> Manifest:
    """Build a manifest from the tables of its file."""
    kind = table["kind"]
    if kind not in ("embedder", "detector"):
        raise ValueError(f"kind must be 'embedder' or 'detector', got {kind!r}")
    red, green, blue = map(float, table["input"]["mean"])
    return Manifest(
        name=str(table["name"]),
        sha256=str(table["sha256"]),
        licence=str(table["licence"]),
        training_data=str(table["training_data"]),
        source={str(key): str(value) for key, value in table["source"].items()},
        mean=(red, green, blue),
        scale=float(table["input"]["scale"]),
        embedding=parse_embedding(table) if kind == "embedder" else None,
        detection=parse_detection(table["detection"]) if kind == "detector" else None,
        accuracy={str(key): float(value) for key, value in table.get("accuracy", {}).items()},
    )


def parse_detection(table: Mapping[str, Any]) -> DetectionSpec:
    """Build the part of the manifest that only a detector has."""
    return DetectionSpec(**{key: float(value) for key, value in table.items()})


def parse_embedding(table: Mapping[str, Any]) -> EmbeddingSpec:
    """Build the part of the manifest that only an embedder has."""
    crop = dict(table["crop"])
    points = tuple((float(x), float(y)) for x, y in crop.pop("template", ()))
    weights = tuple(float(weight) for weight in crop.pop("point_weights", ()))
    margin = float(crop.pop("margin", 0))
    size = operator.index(table["input"]["size"])
    facts = dict(table["thresholds"])
    rows = facts.pop("rows")
    return EmbeddingSpec(
        crop=CropRule(size=size, template=points, point_weights=weights, margin=margin, **crop),
        dimension=operator.index(table["dimension"]),
        thresholds=Thresholds(
            far=tuple(float(row["far"]) for row in rows),
            distance=tuple(float(row["distance"]) for row in rows),
            pairs=tuple(int(row["pairs"]) for row in rows),
            **facts,
        ),
        logistic=Logistic(**table["probability"]) if "probability" in table else None,
    )
