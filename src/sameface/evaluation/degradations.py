"""Make pictures worse in measured steps, and rows smaller, as in the paper's tables 4 and 5."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageFilter
from numpy.typing import NDArray

from sameface.arrays import Embeddings, Image, expect_shape
from sameface.embed import unit_rows
from sameface.evaluation.pictures import Change

Box: TypeAlias = NDArray[np.float32]

GREY = 128  # of the bar that covers a face


@dataclass(frozen=True, slots=True)
class DegradationStep:
    """One level of a degradation."""

    name: str  # unique among all steps, such as `jpeg=10`
    level: float  # in the degradation's unit
    change: Change  # degrades a picture, given the box of its face


@dataclass(frozen=True, slots=True)
class Degradation:
    """One way to make pictures worse, from low levels to high."""

    name: str
    unit: str  # of the levels
    steps: tuple[DegradationStep, ...]


def make_degradation(name: str, unit: str, *, levels: Sequence[float], degrade: Callable[..., Image]) -> Degradation:
    """Return a degradation with a step for each level."""
    steps = tuple(DegradationStep(f"{name}={level:g}", level, partial(degrade, level=level)) for level in levels)
    return Degradation(name, unit, steps)


def step_cache_key(step: DegradationStep) -> str:
    """Return the key of a step in the cache of embeddings.

    It holds a hash of what the step makes of one picture, so that another implementation, here or in Pillow, has
    another key.
    """
    y, x, channel = np.ogrid[:192, :192, :3]
    pattern = ((x * x + 3 * x * y + 40 * channel) // 64 % 256).astype(np.uint8)  # every change shows in it
    made = step.change(pattern, np.array([32, 16, 160, 176], np.float32))
    return f"{step.name}/{hashlib.sha256(made.tobytes()).hexdigest()[:16]}"


def compress(image: Image, _box: Box, /, *, level: float) -> Image:
    """Return the picture after JPEG with quality `level`, 1 to 95."""
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, "JPEG", quality=round(level))
    with PIL.Image.open(data) as picture:
        return np.asarray(picture.convert("RGB"))


def shrink(image: Image, box: Box, /, *, level: float) -> Image:
    """Return the picture shrunk until its face's longer side has `level` pixels or fewer, then enlarged again."""
    factor = level / side_of(box)
    if factor >= 1:
        return image
    picture = PIL.Image.fromarray(image)
    small = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    bicubic = PIL.Image.Resampling.BICUBIC
    return np.asarray(picture.resize(small, bicubic).resize(picture.size, bicubic))


def blur(image: Image, box: Box, /, *, level: float) -> Image:
    """Return the picture under a Gaussian blur with a deviation of `level` percent of the face's side."""
    blurred = PIL.ImageFilter.GaussianBlur(side_of(box) * level / 100)
    return np.asarray(PIL.Image.fromarray(image).filter(blurred))


def brighten(image: Image, _box: Box, /, *, level: float) -> Image:
    """Return the picture with every value times `level`, at most 255: under 1 it is darker."""
    return np.asarray(PIL.ImageEnhance.Brightness(PIL.Image.fromarray(image)).enhance(level))


def rotate(image: Image, box: Box, /, *, level: float) -> Image:
    """Return the picture turned to the left round the face by `level` degrees; pixels from outside are black."""
    centre = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
    bilinear = PIL.Image.Resampling.BILINEAR
    return np.asarray(PIL.Image.fromarray(image).rotate(level, bilinear, center=centre))


def cover(image: Image, box: Box, /, *, level: float) -> Image:
    """Return the picture with a grey bar over the lowest `level` percent of the face's box, like a mask."""
    top = box[3] - (box[3] - box[1]) * level / 100
    edges = np.rint([box[0], top, box[2], box[3]]).astype(int)
    left, upper, right, lower = np.maximum(edges, 0).tolist()
    covered = image.copy()
    covered[upper:lower, left:right] = GREY
    return covered


def side_of(box: Box) -> float:
    """Return the longer side of a box, 1 or more."""
    return max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)


DEGRADATIONS = (
    make_degradation("jpeg", "JPEG quality", levels=(10, 20, 30, 50, 70, 90), degrade=compress),
    make_degradation("size", "longer side of the face in pixels", levels=(12, 16, 24, 32, 48, 64, 96), degrade=shrink),
    make_degradation("blur", "deviation in percent of the face", levels=(1, 2, 3, 5, 8), degrade=blur),
    make_degradation("brightness", "times as bright", levels=(0.125, 0.25, 0.5, 0.75, 1.5, 2, 3), degrade=brighten),
    make_degradation("rotation", "degrees to the left", levels=(-45, -30, -15, 15, 30, 45), degrade=rotate),
    make_degradation("occlusion", "percent of the face, from below", levels=(10, 20, 30, 40, 50), degrade=cover),
)


def quantise_rows(rows: Embeddings, *, bits: int = 8) -> NDArray[np.int8]:
    """Quantise unit rows, `(n, d) float32`, to `(n, d) int8` numbers of 2 to 8 bits; a row of zeros stays.

    The largest number of a row becomes the largest that fits. `restore_rows` finds the scale again by the length 1.
    """
    expect_shape("rows", rows, ("n", "d"), np.float32)
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must lie between 2 and 8, got {bits}")
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    numbers: NDArray[np.int8] = np.rint(rows / largest * (2 ** (bits - 1) - 1)).astype(np.int8)
    return numbers


def restore_rows(numbers: NDArray[np.int8]) -> Embeddings:
    """Return unit rows, `(n, d) float32`, from the output of `quantise_rows`."""
    expect_shape("numbers", numbers, ("n", "d"), np.int8)
    return unit_rows(numbers.astype(np.float32))
