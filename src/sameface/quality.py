"""The quality of a face for recognition: certainty, size, sharpness, pose, light."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image, expect_shape
from sameface.errors import PoorFaceError
from sameface.face import Face

# The values where a part is 0 and 1; it is linear between them.
CERTAIN = (0.7, 0.93)  # the detector's score
SHARP = (2.0, 8.0)  # levels of grey, from `measure_sharpness`
TURNED = (0.6, 0.1)  # distances between the eyes, from `measure_turn`
CLIPPED = (0.3, 0.0)  # the part of black and white pixels
BLACK, WHITE = 20, 250  # levels of grey
EDGE = 5  # the middle of a crop leaves out a fifth of its side at each edge


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a face; each part from 0, useless, to 1."""

    certainty: float  # of the detector that it is a face
    size: float  # its side in the picture as a part of the crop's, at most 1
    sharpness: float  # the difference of neighbouring pixels
    pose: float  # 1 straight ahead, by the place of the nose between eyes and mouth
    light: float  # 1 without black and white pixels

    @property
    def total(self) -> float:
        """The product of all parts: a useless part makes the face useless."""
        return float(np.prod(astuple(self)))

    @property
    def weakest(self) -> str:
        """The name of the lowest part."""
        return min((each.name for each in fields(self)), key=lambda name: float(getattr(self, name)))


def measure_quality(face: Face, crop: Image) -> Quality:
    """Return the quality of a face by rules of thumb, whose worth was measured (docs/quality.md).

    `crop` is the face as the embedder sees it, `(size, size, 3) uint8` RGB.
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
    """Raise `PoorFaceError` unless a face has the minimum quality; `name` is the picture's in the message."""
    quality = measure_quality(face, crop)
    if quality.total < minimum:
        raise PoorFaceError(name, quality, minimum)


def measure_sharpness(grey: NDArray[np.float32]) -> float:
    """Return the standard deviation of the Laplacian of `(h, w) float32` levels of grey; low in blurred faces."""
    across = grey[1:-1, :-2] + grey[1:-1, 2:]
    down = grey[:-2, 1:-1] + grey[2:, 1:-1]
    return float((across + down - 4 * grey[1:-1, 1:-1]).std(dtype=np.float64))


def measure_turn(landmarks: NDArray[np.float32]) -> float:
    """Return the distance of the nose from the middle of eyes and mouth, in distances of the eyes.

    It is above 0 if the face looks to the right of the picture, the person's own left.
    """
    left_eye, right_eye, nose, left_corner, right_corner = landmarks.astype(np.float64)
    across = right_eye - left_eye
    apart = max(float(np.hypot(*across)), 1e-6)
    middle = (left_eye + right_eye + left_corner + right_corner) / 4
    return float((nose - middle) @ across) / apart**2


def ramp(value: float, ends: tuple[float, float]) -> float:
    """Interpolate from 0 at the first end to 1 at the second."""
    low, high = ends
    return float(np.clip((value - low) / (high - low), 0, 1))
