"""What a gallery needs of its database, and damaged values in it as errors of the gallery."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import PIL.Image

from sameface.arrays import Embeddings, Image, expect_shape
from sameface.gallery.errors import GalleryFileError
from sameface.image import DECODER_ERRORS, is_shortage

if TYPE_CHECKING:
    from sameface.gallery.decision import SearchIndex

Row: TypeAlias = tuple[Any, ...]

TURNED = "+turned:"  # in the signature of a gallery whose rows a template key has turned
TRACES = "who was deleted leaves traces in it until another program is done"

# Errors by values of the right type with wrong content. MemoryError and TypeError are not damage: memory that runs
# short, and a fault of ours. `expect_type` refuses a value of another type.
DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RecursionError,
    ValueError,
    struct.error,
)
SHAPE_ERRORS = (AttributeError, TypeError)  # by JSON of another shape, where it becomes a record


class Transaction(Protocol):
    """An open transaction, for SQL that every back end takes, with `?` for a value."""

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Any:
        """Run one statement, and return its cursor."""


class Backend(Protocol):
    """A database that holds one gallery, for any number of threads."""

    @property
    def path(self) -> str:
        """Where it is, without a password."""

    @property
    def is_trial(self) -> bool:
        """Whether it is an upgrade that is not confirmed, where nobody may be enrolled."""

    @property
    def row_column(self) -> str:
        """What to select of `faces` for `decode_rows`, and of `templates` for `decode_templates`."""

    @property
    def adapted_column(self) -> str:
        """What to select of `faces` to know whether an adapter moved the row here."""

    def close(self) -> None:
        """Close it; what was committed is in it."""

    def check_key(self) -> None:
        """Raise unless embeddings can be read and written: encrypted ones need the key."""

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Hold one moment, so that values read in it can be decoded; without encryption do nothing."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Hold the only writing transaction: commit at the end, roll back on an error."""

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:
        """Return the columns of the face `number` that hold its embedding, `(d,) float32`.

        Call this and `encode_crop` inside the transaction that writes the result.
        """

    def decode_rows(self, numbers: Sequence[int], values: Sequence[Any]) -> list[Embeddings]:
        """Return the embeddings of faces, each `(d,) float32`, from their `row_column`."""

    def encode_template(self, person: int, row: Embeddings) -> object:
        """Return the column `templates.embedding` for the template of a person, `(d,) float32`."""

    def decode_templates(self, people: Sequence[int], values: Sequence[Any]) -> list[Embeddings]:
        """Return the templates of people, each `(d,) float32`, from their `row_column`."""

    def encode_crop(self, number: int, crop: Image) -> bytes:
        """Return the column `crop` of the face `number`."""

    def decode_crop(self, number: int, value: bytes) -> Image:
        """Return the crop of the face `number` from its column."""

    def load(self, signature: str) -> SearchIndex:
        """Return the current faces for a search; `SignatureError` if they are not of this pipeline."""

    def pack(self, *, whole: bool = False) -> dict[str, bool]:
        """Remove the bytes of deleted rows from the disk as far as possible; with `whole` from large files too.

        Returns:
            The places, as in `Erasure.places`.

        Raises:
            GalleryBusyError: Another program prevents it.
        """


def check_not_turned(path: str, signatures: Sequence[Row]) -> None:
    """Raise if one of the signatures says that a template key has turned the rows, as versions up to 0.1.0 could."""
    if any(TURNED in str(signature) for (signature,) in signatures):
        reason = (
            "its rows are turned by a template key; the last version that reads them is 0.1.0: "
            "with it, say `sameface gallery rekey --remove`"
        )
        raise GalleryFileError(path, reason)


@contextmanager
def undamaged(path: str, what: str, *others: type[Exception]) -> Iterator[None]:
    """Raise errors by damaged values in a gallery as `GalleryFileError`.

    Args:
        path: The gallery.
        what: What is read, for the message.
        others: Errors beside `DATA_ERRORS` that the values can cause: `SHAPE_ERRORS` where they are JSON.
    """
    caused_by_data = (*DATA_ERRORS, *others)
    try:
        yield
    except caused_by_data as error:
        reason = f"damaged: {what} cannot be read ({type(error).__name__}): take a backup"
        raise GalleryFileError(path, reason) from error


def expect_type(value: Any, *types: type) -> None:
    """Raise a `ValueError` if a value has another type: SQLite keeps any type in any column."""
    if not isinstance(value, types):
        wanted = " or ".join(each.__name__ for each in types)
        raise ValueError(f"wanted {wanted}, got {type(value).__name__}")  # noqa: TRY004, of a file and not of a caller


def encode_crop(crop: Image) -> bytes:
    """Return a crop as a PNG file."""
    expect_shape("crop", crop, ("h", "w", 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(crop).save(file, "PNG")
    return file.getvalue()


def decode_crop(data: bytes) -> Image:
    """Return a crop from its PNG file; `ValueError` if it is none, or damaged."""
    expect_type(data, bytes)
    try:
        return np.asarray(PIL.Image.open(io.BytesIO(data), formats=("PNG",)))
    except DECODER_ERRORS as error:
        if is_shortage(error):
            raise MemoryError(str(error)) from error
        raise ValueError(f"a damaged PNG file ({error})") from error
