"""Cut faces out of a picture, straightened or as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.arrays import Crops, Image, expect_shape
from sameface.face import Face
from sameface.manifest import CropRule

Affine = NDArray[np.float64]  # (2, 3): a point of the crop to a point of the picture


def align_faces(image: Image, faces: Sequence[Face], rule: CropRule) -> Crops:
    """Return one square crop of each face; outside the picture it is black.

    Args:
        image: `(h, w, 3) uint8` RGB.
        faces: Faces of this picture.
        rule: From the manifest of the embedder.

    Returns:
        `(n, size, size, 3) uint8` RGB.
    """
    expect_shape("image", image, ("h", "w", 3), np.uint8)
    place = place_points if rule.kind == "similarity" else place_box
    crops = np.zeros((len(faces), rule.size, rule.size, 3), np.uint8)
    for crop, face in zip(crops, faces, strict=True):
        crop[:] = cut(image, place(face, rule), rule.size)
    return crops


def place_points(face: Face, rule: CropRule) -> Affine:
    """Return the similarity transform that brings the landmarks nearest to the template.

    The weighted least-squares similarity (turn, scale, shift, no mirror) has a closed form when points are
    complex numbers: z -> a z + b (Umeyama, 1991, without the reflection).
    """
    weights = np.array(rule.point_weights)
    weights = weights / weights.sum()
    source = np.array(rule.template) @ [1, 1j]
    target = face.landmarks.astype(np.float64) @ [1, 1j]
    source_mean, target_mean = weights @ source, weights @ target
    centred = source - source_mean
    turn = (weights * centred.conj()) @ (target - target_mean) / (weights @ np.abs(centred) ** 2)
    shift = target_mean - turn * source_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def place_box(face: Face, rule: CropRule) -> Affine:
    """Return the transform of a square over the face's box with the margin."""
    left, top, right, bottom = face.box.astype(np.float64)
    side = max(right - left, bottom - top) * (1 + rule.margin)
    scale = side / rule.size
    return np.array([[scale, 0, (left + right - side) / 2], [0, scale, (top + bottom - side) / 2]])


def cut(image: Image, place: Affine, size: int) -> Image:
    """Return the crop at `place` in the picture; a larger face is first reduced by a whole factor (box filter)."""
    corners = place @ [[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]]  # (2, 4)
    height, width = image.shape[:2]
    low = np.clip(np.floor(corners.min(axis=1)) - 1, 0, [width, height]).astype(int)
    high = np.clip(np.ceil(corners.max(axis=1)) + 1, 0, [width, height]).astype(int)
    if (low >= high).any():
        return np.zeros((size, size, 3), np.uint8)
    region = PIL.Image.fromarray(image[low[1] : high[1], low[0] : high[0]])
    factor = max(1, int(np.hypot(*place[:, 0])))
    matrix = np.column_stack([place[:, :2], place[:, 2] - low])
    if factor > 1:
        region = region.reduce(factor)
        matrix = matrix / factor
    bilinear = PIL.Image.Resampling.BILINEAR
    return np.asarray(region.transform((size, size), PIL.Image.Transform.AFFINE, tuple(matrix.ravel()), bilinear))
