"""A face that was found in a picture, and one that is ready to be enrolled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image

Choice: TypeAlias = Literal["only", "largest", "first"] | int  # of one face in a picture: see `Recognizer.embed_face`


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """The place of a face in a picture.

    Attributes:
        box: `(4,) float32` left, top, right, bottom, in pixels of the upright picture.
        landmarks: `(5, 2) float32` left eye, right eye, nose, left and right mouth corner, left and right
            as seen when the face is upright. They may lie outside the picture.
        score: The detector's, 0 to 1.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float

    @property
    def width(self) -> float:
        """The width of the box in pixels."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """The height of the box in pixels."""
        return float(self.box[3] - self.box[1])

    @property
    def area(self) -> float:
        """The area of the box in pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        left, top = self.box[:2]
        return f"{self.width:.0f}x{self.height:.0f} at {left:.0f},{top:.0f} score {self.score:.2f}"


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A face with its embedding and the hash of its picture: what a gallery enrolls.

    Attributes:
        picture: The SHA-256 of the picture, from `hash_image`.
        box: `(4,) float32` in that picture.
        score: The detector's score.
        embedding: `(d,) float32` unit row.
        crop: `(size, size, 3) uint8` RGB to keep with it, or None.
    """

    picture: str
    box: NDArray[np.float32]
    score: float
    embedding: NDArray[np.float32]
    crop: Image | None = None


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of a box, `(4,)`, with each of several, `(n, 4)`: `(n,) float32`, 0 to 1."""
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    shared = sides.prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    covered: NDArray[np.float32] = shared / np.maximum(areas + (box[2:] - box[:2]).prod() - shared, 1e-9)
    return covered
