"""What a gallery holds may be damaged, or made by somebody else: then it is an error of the gallery."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sameface.arrays import Embeddings
from sameface.gallery.errors import GalleryFileError

# What values of the right type and the wrong content raise. MemoryError and TypeError are left out: neither
# memory that runs short nor a fault of ours is damage. `expect_type` refuses a value of another type.
DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RecursionError,
    ValueError,
    struct.error,
)

# What JSON of another shape raises where its parts become a record.
SHAPE_ERRORS = (AttributeError, TypeError)


@contextmanager
def undamaged(path: str, what: str, *others: type[Exception]) -> Iterator[None]:
    """Turn the errors of making something out of the values in a gallery into ours.

    Args:
        path: The gallery.
        what: What is made, in words.
        others: Errors beside `DATA_ERRORS` that the values can cause: `SHAPE_ERRORS` where they are JSON.

    Raises:
        GalleryFileError: It cannot be made.
    """
    caused_by_data = (*DATA_ERRORS, *others)
    try:
        yield
    except caused_by_data as error:
        reason = f"damaged: {what} cannot be read ({type(error).__name__}): take a backup"
        raise GalleryFileError(path, reason) from error


def expect_type(value: Any, *types: type) -> None:
    """Raise unless a value is of one of these types: SQLite keeps a value of any type in any column.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, types):
        wanted = " or ".join(each.__name__ for each in types)
        raise ValueError(f"wanted {wanted}, got {type(value).__name__}")  # noqa: TRY004, of a file and not of a caller


def stack_rows(path: str, blobs: Sequence[bytes], width: int) -> Embeddings:
    """Return rows, `(n, width) float32`, from their bytes in a gallery.

    Raises:
        GalleryFileError: One of them is no row of this width.
    """
    with undamaged(path, "an embedding"):
        for blob in blobs:
            expect_type(blob, bytes)
            if len(blob) != 4 * width:
                raise ValueError(f"an embedding must have {width} numbers, got {len(blob)} bytes")
        return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), width)
