"""How good a view of a face is, among the views of one track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Crops
from sameface.face import Face


def rate_views(faces: Sequence[Face], crops: Crops) -> NDArray[np.float64]:
    """Return the quality of each view: the product of score, size and sharpness.

    The size counts up to that of the crop, past which the embedder sees no more of the face.

    Args:
        faces: `n` faces.
        crops: `(n, size, size, 3) uint8` RGB, what the embedder sees of them.

    Returns:
        `(n,) float64`, to compare only with each other.
    """
    size = crops.shape[1]
    scores = np.array([face.score for face in faces], np.float64)
    sides = np.array([min(face.width, face.height) for face in faces], np.float64)
    qualities: NDArray[np.float64] = scores * np.minimum(sides / size, 1) * measure_sharpness(crops)
    return qualities


def measure_sharpness(crops: Crops) -> NDArray[np.float64]:
    """Return how much neighbouring pixels differ in the middle of each crop: the deviation of the Laplacian.

    Args:
        crops: `(n, size, size, 3) uint8` RGB.

    Returns:
        `(n,) float64` in levels of grey; blurred and enlarged faces have little.
    """
    edge = crops.shape[1] // 5  # what surrounds the face
    grey = crops[:, edge:-edge, edge:-edge].mean(axis=3, dtype=np.float32)
    across = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    down = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    deviations: NDArray[np.float64] = (across + down - 4 * grey[:, 1:-1, 1:-1]).std(
        axis=(1, 2), dtype=np.float64
    )
    return deviations
