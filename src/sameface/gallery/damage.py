"""What a gallery holds may be damaged, or made by somebody else: then it is an error of the gallery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from sameface.arrays import Embeddings
from sameface.errors import GalleryFileError
from sameface.image import DECODER_ERRORS


@contextmanager
def undamaged(path: str, what: str) -> Iterator[None]:
    """Turn the errors of making something out of the values in a gallery into ours.

    Args:
        path: The gallery.
        what: What is made, in words.

    Raises:
        GalleryFileError: It cannot be made.
    """
    try:
        yield
    except DECODER_ERRORS as error:
        reason = f"damaged: {what} cannot be read ({type(error).__name__}): take a backup"
        raise GalleryFileError(path, reason) from error


def stack_rows(path: str, blobs: Sequence[bytes], width: int) -> Embeddings:
    """Return rows, `(n, width) float32`, from their bytes in a gallery.

    Raises:
        GalleryFileError: One of them is no row of this width.
    """
    with undamaged(path, "an embedding"):
        for blob in blobs:
            if len(blob) != 4 * width:
                raise ValueError(f"an embedding must have {width} numbers, got {len(blob)} bytes")
        return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), width)
