"""What a gallery holds may be damaged, or made by somebody else: then it is an error of the gallery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
