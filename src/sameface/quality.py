"""How fit a face is to be recognised: certainty, size, sharpness, pose, light."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image, expect_shape
from sameface.errors import PoorFaceError
from sameface.face import Face

# Where a part begins to count and where it is full, between which it grows evenly.
CERTAIN = (0.7, 0.93)  # the detector's score
SHARP = (2.0, 8.0)  # levels of grey, as `measure_sharpness` gives them
TURNED = (0.6, 0.1)  # of the distance between the eyes, by which the nose lies beside the middle
CLIPPED = (0.3, 0.0)  # the part of the pixels that are black or white
BLACK, WHITE = 20, 250  # levels of grey
EDGE = 5  # the middle of a crop is what lies more than a fifth of its side from each edge


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a face is to be recognised; each part from 0, useless, to 1.

    Attributes:
        certainty: Of the detector that it is a face.
        size: Its side in the picture as a part of the crop's; past that the embedder sees no more.
        sharpness: How much neighbouring pixels differ.
        pose: How far it looks straight ahead, as the nose tells between eyes and mouth.
        light: How little of it is black or white.
    """

    certainty: float
    size: float
    sharpness: float
    pose: float
    light: float

    @property
    def total(self) -> float:
        """All parts multiplied: one that is useless makes the face useless."""
        return float(np.prod(astuple(self)))

    @property
    def weakest(self) -> str:
        """The part that costs most."""
        return min((each.name for each in fields(self)), key=lambda name: float(getattr(self, name)))


def measure_quality(face: Face, crop: Image) -> Quality:
    """Return how fit a face is to be recognised.

    Its parts are rules of thumb, not a network: what they are worth was measured (docs/quality.md).

    Args:
        face: As the detector found it.
        crop: `(size, size, 3) uint8` RGB, what the embedder sees of it.
    """
    expect_shape("crop", crop, ("size", "size", 3), np.uint8)
    edge = len(crop) // EDGE
    middle = crop[edge : len(crop) - edge, edge : len(crop) - edge]
    grey = middle.mean(axis=2, dtype=np.float32)
    clipped = float(((grey < BLACK) | (grey > WHITE)).mean())
    return Quality(
        certainty=ramp(face.score, CERTAIN),
        size=min(face.width, face.height, len(crop)) / len(crop),
        sharpness=ramp(measure_sharpness(grey), SHARP),
        pose=ramp(abs(measure_turn(face.landmarks)), TURNED),
        light=ramp(clipped, CLIPPED),
    )


def require_quality(face: Face, crop: Image, minimum: float, name: str) -> None:
    """Refuse a face that is too poor to be enrolled; `name` is what a message calls the picture.

    Raises:
        PoorFaceError: Its quality is under the minimum.
    """
    if minimum > 0:
        quality = measure_quality(face, crop)
        if quality.total < minimum:
            raise PoorFaceError(name, quality, minimum)


def measure_sharpness(grey: NDArray[np.float32]) -> float:
    """Return how much neighbouring pixels differ: the deviation of the Laplacian.

    Args:
        grey: `(h, w) float32` levels of grey.

    Returns:
        Levels of grey; blurred and enlarged faces have little.
    """
    across = grey[1:-1, :-2] + grey[1:-1, 2:]
    down = grey[:-2, 1:-1] + grey[2:, 1:-1]
    return float((across + down - 4 * grey[1:-1, 1:-1]).std(dtype=np.float64))


def measure_turn(landmarks: NDArray[np.float32]) -> float:
    """Return by how much the nose lies beside the middle of eyes and mouth, in distances of the eyes.

    Args:
        landmarks: `(5, 2)` as a face has them.

    Returns:
        Above 0 if the face looks to the right of the picture, which is the person's own left.
    """
    left_eye, right_eye, nose, left_corner, right_corner = landmarks.astype(np.float64)
    across = right_eye - left_eye
    apart = max(float(np.hypot(*across)), 1e-6)
    middle = (left_eye + right_eye + left_corner + right_corner) / 4
    return float((nose - middle) @ across) / apart**2


def ramp(value: float, ends: tuple[float, float]) -> float:
    """Return 0 at the first end, 1 at the second, and what lies between them."""
    low, high = ends
    return float(np.clip((value - low) / (high - low), 0, 1))
