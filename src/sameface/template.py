"""A face that is ready to be enrolled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A face with its embedding and the picture it is from: what a gallery enrolls.

    Attributes:
        picture: The SHA-256 of the picture it was found in, from `hash_image`.
        box: `(4,) float32` where in that picture.
        score: The detector's score.
        embedding: `(d,) float32` unit row.
        crop: `(size, size, 3) uint8` RGB to keep with it, or None.
    """

    picture: str
    box: NDArray[np.float32]
    score: float
    embedding: NDArray[np.float32]
    crop: Image | None = None
