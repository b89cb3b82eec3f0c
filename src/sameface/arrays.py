"""The arrays that travel through sameface, and the conventions that hold everywhere.

- A picture is `(h, w, 3) uint8` RGB and upright: orientation tags are applied when it is read.
- Boxes are left, top, right, bottom in pixels of the upright picture, `float32`, from its top left corner.
- Landmarks are `(5, 2) float32` x and y: left eye, right eye, nose, left and right corner of the mouth;
  left and right as seen in the picture.
- Crops are `(n, size, size, 3) uint8` RGB.
- Embeddings are `(n, d) float32`, every row of length 1. Two rows are compared by their **squared
  Euclidean distance, 0 to 4, lower is nearer** (FaceNet, section 3); there is no other measure.
- Letters: `n` faces, `m` the other side, `d` the width of an embedding, `h w` a picture, `k` neighbours.
- Nothing is a number: no face is `[]` or an array with `n = 0`, never `None`.
- The truth value of an answer is its yes: `bool(decision)` is `decision.same`; an identification is true if
  it names a person, a verdict if it is passed or intact.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Crops: TypeAlias = NDArray[np.uint8]
Embeddings: TypeAlias = NDArray[np.float32]

Shape: TypeAlias = tuple[int | str, ...]

LENGTH_TOLERANCE = 1e-3  # of an embedding, whose length is 1


def expect_shape(name: str, array: NDArray[np.generic], shape: Shape, dtype: type[np.generic]) -> None:
    """Raise unless `array` has this shape and exact dtype; `name` is its name in the message.

    A shape has a number where the size is fixed and a letter where it is free: `("n", 128)`.

    Raises:
        TypeError: It is no array, or its dtype differs.
        ValueError: The shape differs.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype).name}, got {array.dtype}")
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == given for wanted, given in zip(shape, array.shape, strict=False)
    )
    if not fits:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def are_unit_rows(rows: Embeddings) -> NDArray[np.bool_]:
    """Return for each row, `(n, d) float32`, whether it is finite and of length 1 within 1e-3."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        usable: NDArray[np.bool_] = np.abs(lengths - 1) <= LENGTH_TOLERANCE
    return usable


def expect_unit_rows(name: str, rows: Embeddings, width: int | str = "d") -> None:
    """Raise unless `rows` are embeddings of this width: finite, and of length 1 to within `LENGTH_TOLERANCE`.

    Raises:
        TypeError: It is no array of `float32`.
        ValueError: The shape differs, or a row is not finite or not of length 1; the first such row is named.
    """
    expect_shape(name, rows, ("n", width), np.float32)
    usable = are_unit_rows(rows)
    if not usable.all():
        first = int(usable.argmin())
        length = float(np.linalg.norm(rows[first].astype(np.float64)))
        found = f"length {length:.6g}" if np.isfinite(length) else "a number that is not finite"
        raise ValueError(
            f"{name} must be finite and of length 1, row {first} has {found}: "
            "divide each row by its length, and leave out rows of zeros"
        )
