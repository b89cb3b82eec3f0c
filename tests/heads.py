"""Heads that turn, made from a photograph: there are no pictures of one person turning that may be shipped.

The photograph is laid over a rough relief of a face, an ellipsoid with a nose, and seen from the side; what
is turned one way is mirrored for the other. That tells a head with depth from a flat picture; that people
pass it does not show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sameface.face import Face

Picture = NDArray[np.uint8]

ROUNDS = 12  # of looking where a pixel comes from
# Degrees by which the face of barack-obama-2 looks straight ahead, and to the side.
AHEAD, ASIDE = 40.0, -48.0
# How far the portrait is turned, picture after picture, to take each pose and come back.
TURN_OF = {
    "straight": (0, 0),
    "left": (0.3, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.3),
    "right": (-0.3, -0.6, -0.8, -1, -1, -0.8, -0.6, -0.3),
}


def turn_portrait(image: Picture, face: Face, part: float) -> Picture:
    """Return the portrait `(480, 384, 3)` of barack-obama-2: 0 looks ahead, 1 to its own left, -1 right."""
    turned = turn_head(image, face, AHEAD + (ASIDE - AHEAD) * abs(part))
    x, y = (int(side) for side in face.landmarks.mean(axis=0))
    cut = turned[y - 140 : y + 140, x - 112 : x + 112]
    rows, columns = np.arange(480) * 280 // 480, np.arange(384) * 224 // 384
    portrait: Picture = cut[rows][:, columns]
    return portrait if part <= 0 else np.ascontiguousarray(portrait[:, ::-1])


def turn_head(image: Picture, face: Face, degrees: float) -> Picture:
    """Return a photograph whose face is turned, above 0 to the person's own left; the ground stays."""
    height, width = image.shape[:2]
    middle = face.landmarks[[0, 1, 3, 4]].mean(axis=0)
    ys, xs = np.mgrid[:height, :width].astype(np.float64)
    x, y = (xs - middle[0]) / face.width, (ys - middle[1]) / face.width
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    inside = np.clip(1.6 - 1.4 * np.hypot(x, 0.75 * y), 0, 1)  # 1 on the face, 0 far from it
    across = x.copy()
    for _ in range(ROUNDS):
        turned = (x - depth(across, y) * sine) / cosine
        across = (across + inside * turned + (1 - inside) * x) / 2
    left = np.clip(across * face.width + middle[0], 0, width - 1.001)
    part = (left % 1)[..., None]
    column, row = left.astype(int), ys.astype(int)
    seen = image[row, column] * (1 - part) + image[row, column + 1] * part
    return np.rint(seen).astype(np.uint8)


def depth(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far a face stands out, in its widths, at places in its widths."""
    skull = 0.45 * np.sqrt(np.clip(1 - (x / 0.75) ** 2 - (y / 1.1) ** 2, 0, 1))
    nose = 0.34 * np.exp(-((x / 0.2) ** 2) - ((y - 0.06) / 0.24) ** 2)
    stands_out: NDArray[np.float64] = skull + nose - 0.45
    return stands_out
