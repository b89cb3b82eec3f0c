"""A world small enough to compute by hand.

A picture is black with coloured squares on it. A face is a square, and its colour is the person: the
embedding is the colour (red, green, blue) scaled to length 1. So red and green are 2 apart, red and yellow
`2 - sqrt(2)`. Only the two networks are toys; what stands round them is the real thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import scipy.ndimage
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.manifest import CropRule, DetectionSpec, EmbeddingSpec, Manifest, ProbabilityCurve
from sameface.model import DEFAULT_WEIGHTS, Model, Tensor
from sameface.recognizer import Recognizer
from sameface.thresholds import Tail, Thresholds

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
YELLOW, WHITE = (255, 255, 0), (255, 255, 255)
REDDISH = (240, 80, 0)  # 0.10 from red: the same person up to a false-accept rate of 0.01
ORANGE = (240, 120, 0)  # 0.21 from red: the same person at a false-accept rate of 0.1 only

SIDE = 32  # pixels of a square
STRIDE = 4  # pixels of the picture per cell of the detector's answer
POINTS = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.3, 0.7), (0.7, 0.7)])  # x, y in the square

THRESHOLDS = Thresholds(
    far=(0.1, 0.01, 0.001, 0.0001),
    distance=(0.4, 0.2, 0.05, 0.01),
    pairs=(100_000, 10_000, 1_000, 100),
    impostor_pairs=1_000_000,
    calibrated_on="coloured squares",
)
COARSE: dict[str, Any] = {"far": (0.1, 0.05), "distance": (0.4, 0.2), "pairs": (100_000, 50_000)}


@dataclass(frozen=True)
class Square:
    """A face of the toy world."""

    colour: tuple[int, int, int]
    left: int
    top: int
    side: int = SIDE


def paint(*colours: tuple[int, int, int], note: int = 0) -> Image:
    """Return a picture with one face of each colour from left to right; `note` makes its content unique."""
    image = paint_squares([Square(colour, 16 + 64 * n, 16) for n, colour in enumerate(colours)])
    image[-1, -2:] = [[note // 256, 0, 0], [note % 256, 0, 0]]
    return image


def paint_squares(squares: Sequence[Square], width: int = 0, height: int = 0) -> Image:
    """Return a picture with these faces."""
    width = max([width, 64, *(square.left + square.side + 16 for square in squares)])
    height = max([height, 64, *(square.top + square.side + 16 for square in squares)])
    image = np.zeros((height, width, 3), np.uint8)
    for square in squares:
        image[square.top : square.top + square.side, square.left : square.left + square.side] = square.colour
    return image


def save(path: Path, *colours: tuple[int, int, int], note: int = 0) -> Path:
    """Write a picture with one face of each colour, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(paint(*colours, note=note)).save(path)
    return path


def row_of(colour: Sequence[float]) -> np.ndarray:
    """Return the embedding of a colour, `(3,) float32`."""
    row = np.array(colour, np.float64)
    return (row / np.linalg.norm(row)).astype(np.float32)


def distance_of(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the squared distance of two colours' embeddings."""
    return float(((row_of(a).astype(np.float64) - row_of(b)) ** 2).sum())


class FindSquares:
    """Takes the place of the detector's network; the leftmost square has the highest score."""

    providers = ("toy",)
    manifest = Manifest(
        name="squares",
        sha256="5" * 64,
        licence="none",
        training_data="none",
        source={},
        mean=(0, 0, 0),
        scale=1,
        embedding=None,
        detection=DetectionSpec(score=0.5, overlap=0.3),
    )

    def run(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Answer like CenterFace: heat, logarithm of the size, offset and landmarks, for every cell."""
        high, wide = pixels.shape[1] // STRIDE, pixels.shape[2] // STRIDE
        heat, size = np.zeros((1, 1, high, wide), np.float32), np.zeros((1, 2, high, wide), np.float32)
        offset, points = np.zeros_like(size), np.zeros((1, 10, high, wide), np.float32)
        for number, (rows, columns) in enumerate(find_squares(pixels[0])):
            sides = np.array([rows.stop - rows.start, columns.stop - columns.start]) / STRIDE
            centre = np.array([rows.start + rows.stop, columns.start + columns.stop]) / 2 / STRIDE - 0.5
            cell = np.floor(centre).astype(int)
            place = (0, slice(None), *cell)
            heat[place] = 0.95 - 0.01 * number
            size[place], offset[place] = np.log(sides), centre - cell
            points[place] = POINTS[:, ::-1].ravel()
        return heat, size, offset, points


def find_squares(pixels: Image) -> list[tuple[slice, slice]]:
    """Return rows and columns of every square of more than a few pixels, from left to right."""
    labels, _ = scipy.ndimage.label(pixels.max(axis=2) > 40)
    found = [place for place in scipy.ndimage.find_objects(labels) if place[0].stop - place[0].start > 4]
    return sorted(found, key=lambda place: place[1].start)


class SeeColour:
    """Takes the place of the embedder's network: the colour at the centre of a crop."""

    providers = ("toy",)
    manifest = Manifest(
        name="colours",
        sha256="c" * 64,
        licence="none",
        training_data="none",
        source={},
        mean=(0, 0, 0),
        scale=1,
        embedding=EmbeddingSpec(crop=CropRule("box", 8), dimension=3, thresholds=THRESHOLDS),
        detection=None,
    )

    def run(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Return `(n, 3)`."""
        return [pixels[:, 4, 4].astype(np.float32)]


class OtherColour(SeeColour):
    """Another embedder, whose rows cannot be compared with the first one's."""

    manifest = replace(SeeColour.manifest, name="other", sha256="d" * 64)


class CalibratedColour(SeeColour):
    """The first embedder, with what a calibration knows of its distances."""

    manifest = replace(
        SeeColour.manifest,
        embedding=EmbeddingSpec(
            crop=CropRule("box", 8),
            dimension=3,
            thresholds=THRESHOLDS,
            curve=ProbabilityCurve.from_facts({"offset": 4, "slope": -20, "low": 0.05, "high": 0.3, "pairs": 1_000}),
        ),
    )


class CoarseColour(SeeColour):
    """The first embedder with so small a calibration that no gallery holds the default rate."""

    manifest = replace(
        SeeColour.manifest, embedding=EmbeddingSpec(CropRule("box", 8), 3, replace(THRESHOLDS, **COARSE))
    )


class TailedColour(SeeColour):
    """The first embedder with two populations, of which the default has an extrapolated tail."""

    manifest = replace(
        SeeColour.manifest,
        embedding=EmbeddingSpec(
            CropRule("box", 8),
            3,
            replace(
                THRESHOLDS,
                far=(0.1, 0.05),
                distance=(0.06, 0.05),
                pairs=(100_000, 50_000),
                population="alike",
                tail=Tail((0.001, 1e-6), (0.03, 0.01), (0.02, 0.0), (0.04, 0.03)),
            ),
            others=(replace(THRESHOLDS, **COARSE),),
        ),
    )


class ToyModel:
    """Takes the place of `Model` where the command line loads its weights."""

    @staticmethod
    def load(weights: str | Path, *, threads: int | None = None) -> object:
        """Return a toy network by the name of the real one; any other name goes to the real loader."""
        toys = {
            "centerface": FindSquares,
            DEFAULT_WEIGHTS: SeeColour,
            "other": OtherColour,
            "calibrated": CalibratedColour,
            "coarse": CoarseColour,
            "tailed": TailedColour,
        }
        return toys[str(weights)]() if str(weights) in toys else Model.load(weights, threads=threads)


def make_recognizer(weights: str = DEFAULT_WEIGHTS) -> Recognizer:
    """Return the toy world's recognizer, with one of the embedders of `ToyModel`."""
    return Recognizer(Detector(FindSquares()), Embedder(ToyModel.load(weights)))  # type: ignore[arg-type]
