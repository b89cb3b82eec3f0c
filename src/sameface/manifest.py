"""The description of a weights file: its source, its input, and which distance means "same"."""

from __future__ import annotations

import operator
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sameface.errors import WeightsError
from sameface.thresholds import Thresholds

CropKind = Literal["similarity", "box"]

SURE = 1e-15  # the smallest distance of a chance to 0 and 1


@dataclass(frozen=True, slots=True)
class CropRule:
    """How to cut the square crop of a face for an embedder.

    Attributes:
        kind: `similarity` turns and scales the face so that its five points come nearest to `template`;
            `box` takes the detector's box with a margin and leaves the face as it is (FaceNet, section 4).
        size: Width and height of the crop in pixels.
        template: Five points x, y in pixels of the crop; empty for `box`.
        point_weights: The weight of each of the five points in the fit; empty for `box`.
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
class ProbabilityCurve:
    """The chance that two faces at a distance are one person's, if half of all pairs are.

    Between two knots the log odds are linear in the distance; past either end the chance is constant.
    """

    distance: tuple[float, ...]  # squared distances, rising: the knots
    chance: tuple[float, ...]  # the chance of one person at each, above 0 and under 1, never rising
    pairs: int  # the number of pairs that it was fitted to

    def __post_init__(self) -> None:
        if not len(self.distance) == len(self.chance) >= 1:
            raise ValueError("distance and chance must have the same length, one or more")
        if not all(0 < chance < 1 for chance in self.chance):
            raise ValueError("chance must lie between 0 and 1")
        rises = any(np.diff(self.chance) > 0)
        if rises or any(np.diff(self.distance) <= 0):
            raise ValueError("distance must rise, and chance must not")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a curve from its fields in TOML or JSON.

        Up to version 0.1.0 it was a logistic curve with `offset`, `slope`, `low` and `high`: two knots.
        """
        if "offset" not in facts:
            distance, chance = (tuple(map(float, facts[name])) for name in ("distance", "chance"))
            return cls(distance, chance, int(facts["pairs"]))
        ends = sorted({float(facts["low"]), float(facts["high"])})
        odds = float(facts["offset"]) + float(facts["slope"]) * np.array(ends)
        chances = np.clip(to_chances(odds), SURE, 1 - SURE).tolist()
        return cls(tuple(ends), tuple(chances), int(facts["pairs"]))

    def log_odds(self, distance: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """Return the log odds that each distance is one person's."""
        chances = np.array(self.chance)
        odds: NDArray[np.float64] = np.interp(distance, self.distance, np.log(chances) - np.log1p(-chances))
        return odds

    def chances(self, distance: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """Return the chance that each distance is one person's."""
        return to_chances(self.log_odds(distance))

    def covers(self, distance: float) -> bool:
        """Return whether a distance lies in the calibrated range."""
        return self.distance[0] <= distance <= self.distance[-1]


def to_chances(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chances of log odds."""
    with np.errstate(over="ignore"):
        chances: NDArray[np.float64] = np.asarray(1 / (1 + np.exp(-log_odds)))
    return chances


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """Input and output of an embedder."""

    crop: CropRule  # how a face is cut out
    dimension: int  # the length of an embedding
    thresholds: Thresholds  # for the default population
    curve: ProbabilityCurve | None = None  # from a distance to the chance of one person; None if not calibrated
    others: tuple[Thresholds, ...] = ()  # thresholds for other populations

    def choose_thresholds(self, population: str) -> Thresholds:
        """Return the thresholds for a population, or raise `ValueError` if there are none."""
        known = {found.population: found for found in (self.thresholds, *self.others)}
        if population not in known:
            raise ValueError(f"population must be one of {', '.join(known)}, got {population!r}")
        return known[population]


@dataclass(frozen=True, slots=True)
class DetectionSpec:
    """Numbers of a detector that came from data."""

    score: float  # from which a place counts as a face
    overlap: float  # two boxes with a larger intersection over union are one face


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description beside a weights file.

    Attributes:
        name: The name of the weights.
        sha256: Of the weights file.
        licence: An SPDX identifier, or words.
        training_data: In words.
        source: The package and version of the weights, and the SHA-256 of the file inside it.
        mean: Red, green, blue, subtracted from every pixel (0 to 255).
        scale: The factor of the difference.
        embedding: For an embedder.
        detection: For a detector.
        accuracy: Measured accuracies, in parts of 1, by the name of the measure; may be empty.
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

    @property
    def provenance(self) -> str:
        """Whether author and training data are named: `"named"` or `"not stated"`."""
        return "not stated" if self.training_data.startswith("not stated") else "named"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        WeightsError: It is missing, not TOML, or an entry is missing or impossible.
    """
    return check_manifest(read_table(path), path)


def read_table(path: Path) -> dict[str, Any]:
    """Read the tables of a manifest without a check, or raise `WeightsError`: it is missing or not TOML."""
    name = path.stem
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = f"no manifest at {str(path)!r}: every weights file needs its .toml beside it"
        raise WeightsError(name, reason) from error
    except (ValueError, RecursionError) as error:  # of tomllib's, of bytes that are no text, of huge numbers
        raise WeightsError(name, f"the manifest {str(path)!r} is not TOML ({error})") from error


def check_manifest(table: Mapping[str, Any], path: Path) -> Manifest:
    """Build the manifest that was read from `path`, or raise `WeightsError`: an entry is missing or impossible."""
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
    detection = {key: float(value) for key, value in table["detection"].items()} if kind == "detector" else None
    return Manifest(
        name=str(table["name"]),
        sha256=str(table["sha256"]),
        licence=str(table["licence"]),
        training_data=str(table["training_data"]),
        source={str(key): str(value) for key, value in table["source"].items()},
        mean=(red, green, blue),
        scale=float(table["input"]["scale"]),
        embedding=parse_embedding(table) if kind == "embedder" else None,
        detection=None if detection is None else DetectionSpec(**detection),
        accuracy={str(key): float(value) for key, value in table.get("accuracy", {}).items()},
    )


def parse_embedding(table: Mapping[str, Any]) -> EmbeddingSpec:
    """Build the part of the manifest that only an embedder has."""
    crop = dict(table["crop"])
    points = tuple((float(x), float(y)) for x, y in crop.pop("template", ()))
    weights = tuple(float(weight) for weight in crop.pop("point_weights", ()))
    margin = float(crop.pop("margin", 0))
    size = operator.index(table["input"]["size"])
    calibrations = table["thresholds"]
    first, *others = [calibrations] if isinstance(calibrations, dict) else calibrations
    return EmbeddingSpec(
        crop=CropRule(size=size, template=points, point_weights=weights, margin=margin, **crop),
        dimension=operator.index(table["dimension"]),
        thresholds=parse_thresholds(first),
        curve=ProbabilityCurve.from_facts(table["probability"]) if "probability" in table else None,
        others=tuple(map(parse_thresholds, others)),
    )


def parse_thresholds(table: Mapping[str, Any]) -> Thresholds:
    """Build thresholds from their table, whose rates are rows."""
    facts = {**table, **columns_of(table["rows"], ("far", "distance", "pairs"))}
    if "tail" in facts:
        facts["tail"] = columns_of(facts["tail"], ("far", "distance", "low", "high"))
    return Thresholds.from_facts(facts)


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns of rows, by name."""
    return {name: [row[name] for row in rows] for name in names}
