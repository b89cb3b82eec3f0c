"""Augment crops at random: position, light, focus, compression, occlusion."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace

import numpy as np
import PIL.Image
import PIL.ImageFilter

from sameface.align import cut
from sameface.arrays import Image

BILINEAR = PIL.Image.Resampling.BILINEAR
GREY = np.array([0.299, 0.587, 0.114])  # luma of red, green and blue (ITU-R BT.601)
MIDDLE = 127.5


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strong each change is, or its probability; 0 turns it off."""

    flip: float = 0.5  # probability of the mirror image
    shift: float = 0.04  # largest, in parts of the crop's side
    scale: float = 0.06  # largest change of size
    turn: float = 6.0  # largest, in degrees
    brightness: float = 0.25  # largest change
    contrast: float = 0.25
    saturation: float = 0.25
    grey: float = 0.05  # probability of no colour
    blur: float = 0.1  # probability of a blur of up to 1/80 of the side
    jpeg: float = 0.1  # probability of JPEG with quality 20 to 90
    cover: float = 0.1  # probability of a plain rectangle of up to a third of each side

    def __post_init__(self) -> None:
        for each in fields(self):
            limit = 180 if each.name == "turn" else 1
            if not 0 <= getattr(self, each.name) <= limit:
                raise ValueError(f"{each.name} must be 0 to {limit}, got {getattr(self, each.name)!r}")


@dataclass(frozen=True, slots=True)
class CropView:
    """The square part of a crop that a network sees, in parts of its side; shifts and turns bring in the rest."""

    left: float = 0.0
    top: float = 0.0
    side: float = 1.0


WHOLE = CropView()
STANDARD = Augmentation()
OFF = Augmentation(**dict.fromkeys((each.name for each in fields(Augmentation)), 0.0))


def scale_augmentation(changes: Augmentation, strength: float) -> Augmentation:
    """Return the changes, each smaller and rarer by this factor but for the mirror image."""
    others = [each.name for each in fields(changes) if each.name != "flip"]
    return replace(changes, **{name: strength * getattr(changes, name) for name in others})


def augment(
    crop: Image, size: int, rng: np.random.Generator, changes: Augmentation = STANDARD, view: CropView = WHOLE
) -> Image:
    """Return a randomly changed copy `(size, size, 3) uint8` of a square crop; `OFF` gives that of `resize`."""
    picture = move(crop, size, rng, changes, view)
    if rng.random() < changes.blur:
        picture = picture.filter(PIL.ImageFilter.GaussianBlur(rng.uniform(0.3, picture.width / 80)))
    picture = recolour(picture, rng, changes)
    if rng.random() < changes.jpeg:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(20, 91)))
        picture = PIL.Image.open(buffer).convert("RGB")
    return cover(np.asarray(picture), rng, changes.cover)


def resize(crop: Image, size: int, view: CropView = WHOLE) -> Image:
    """Return the view at the network's size, otherwise unchanged."""
    if view != WHOLE:
        sides = np.array(crop.shape[1::-1])
        corner, extent = sides * (view.left, view.top), sides * view.side
        return cut(crop, np.column_stack([np.diag(extent / size), corner]), size)
    if crop.shape[:2] == (size, size):
        return crop
    return np.asarray(PIL.Image.fromarray(crop).resize((size, size), BILINEAR, reducing_gap=2.0))


def move(crop: Image, size: int, rng: np.random.Generator, changes: Augmentation, view: CropView) -> PIL.Image.Image:
    """Mirror, turn, scale and shift in one step; pixels outside the crop are black."""
    turn = np.deg2rad(changes.turn * rng.uniform(-1, 1))
    zoom = 1 + changes.scale * rng.uniform(-1, 1)
    shift = changes.shift * rng.uniform(-1, 1, 2)
    mirror = -1 if rng.random() < changes.flip else 1
    if not shift.any() and (turn, zoom, mirror) == (0, 1, 1):
        return PIL.Image.fromarray(resize(crop, size, view))
    picture = PIL.Image.fromarray(crop)
    factor = int(min(picture.size) * view.side) // size
    if factor > 1:
        picture = picture.reduce(factor)  # else pixels are skipped
    sides = np.array(picture.size)
    scale = sides * view.side / size * zoom  # (2,) pixels of the crop per pixel of the result
    matrix = scale[:, None] * [[mirror * np.cos(turn), -np.sin(turn)], [mirror * np.sin(turn), np.cos(turn)]]
    middle = np.array([view.left, view.top]) + view.side * (0.5 + shift)
    offset = sides * middle - matrix @ [size / 2, size / 2]
    data = tuple(np.column_stack([matrix, offset]).ravel().tolist())
    return picture.transform((size, size), PIL.Image.Transform.AFFINE, data, BILINEAR)


def recolour(picture: PIL.Image.Image, rng: np.random.Generator, changes: Augmentation) -> PIL.Image.Image:
    """Change brightness, contrast and saturation in one step, or remove all colour."""
    saturation = 1 + changes.saturation * rng.uniform(-1, 1)
    contrast = 1 + changes.contrast * rng.uniform(-1, 1)
    brightness = 1 + changes.brightness * rng.uniform(-1, 1)
    if rng.random() < changes.grey:
        saturation = 0.0
    if saturation == contrast == brightness == 1:
        return picture
    mixed = saturation * np.eye(3) + (1 - saturation) * GREY  # rows sum to 1: grey stays grey
    matrix = np.column_stack([contrast * mixed, np.full(3, MIDDLE * (1 - contrast))])
    return picture.convert("RGB", tuple((brightness * matrix).ravel().tolist()))


def cover(pixels: Image, rng: np.random.Generator, chance: float) -> Image:
    """Hide a rectangle behind a plain colour."""
    if rng.random() >= chance:
        return pixels
    size = len(pixels)
    height, width = rng.integers(size // 10, size // 3, 2, endpoint=True)
    top, left = rng.integers(0, [size - height, size - width], endpoint=True)
    covered = pixels.copy()
    covered[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return covered
