"""A face that was found in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Choice: TypeAlias = Literal["only", "largest", "first"] | int  # of one face in a picture: see `Recognizer.embed_face`


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """Where a face is.

    Attributes:
        box: `(4,) float32` left, top, right, bottom, in pixels of the upright picture.
        landmarks: `(5, 2) float32` left eye, right eye, nose, left and right mouth corner, left and right
            as seen when the face is upright. They may lie outside the picture.
        score: How sure the detector is, 0 to 1.
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


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of one box with each of several, 0 to 1.

    Args:
        box: `(4,) float32` left, top, right, bottom.
        boxes: `(n, 4) float32`.

    Returns:
        `(n,) float32`.
    """
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    shared = sides.prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    covered: NDArray[np.float32] = shared / np.maximum(areas + (box[2:] - box[:2]).prod() - shared, 1e-9)
    return covered
