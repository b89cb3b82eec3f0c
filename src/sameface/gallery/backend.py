"""What a gallery needs of the database under it, whichever that is."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias

from sameface.arrays import Embeddings, Image
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.search import SearchIndex

Row: TypeAlias = tuple[Any, ...]

TURNED = "+turned:"  # in the signature of a gallery whose rows a template key has turned


class Cursor(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Transaction(Protocol):
    """A transaction that is open. Transaction are SQL that every back end takes, with `?` for a value."""

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""


class Backend(Protocol):
    """A database that holds one gallery, for any number of threads."""

    @property
    def path(self) -> str:
        """Where it is, fit to be shown: without a password."""

    @property
    def file(self) -> str | None:
        """The SQLite file that people are in; None if they are in another database."""

    @property
    def is_trial(self) -> bool:
        """It is a copy on its way to another pipeline, where nobody may be enrolled."""

    @property
    def row_column(self) -> str:
        """What to select of `faces` for `decode_rows`, and of `templates` for `decode_templates`."""

    @property
    def adapted_column(self) -> str:
        """What to select of `faces` to know whether an adapter moved the row here."""

    def close(self) -> None:
        """Let go of it; what was committed is in it."""

    def check_key(self) -> None:
        """Raise unless embeddings can be read and written.

        Raises:
            MissingKeyError, WrongKeyError, KeyFileError: They are encrypted, and the key is not at hand.
        """

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Hold one moment, so that what is read in it can be decoded; needless where nothing is encrypted."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Hold one transaction, and nobody else writes: all of it is committed, or on an error nothing."""

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:
        """Return the columns of `faces` that hold the row, `(d,) float32`, of the face `number`.

        This and `encode_crop` are called inside the transaction that keeps what they return.
        """

    def decode_rows(self, numbers: Sequence[int], values: Sequence[Any]) -> list[Embeddings]:
        """Return the rows, each `(d,) float32`, of faces from what `row_column` selects of them."""

    def encode_template(self, person: int, row: Embeddings) -> object:
        """Return what `templates.embedding` holds of the template, `(d,) float32`, of a person."""

    def decode_templates(self, people: Sequence[int], values: Sequence[Any]) -> list[Embeddings]:
        """Return the templates, each `(d,) float32`, of people from what `row_column` selects of them."""

    def encode_crop(self, number: int, crop: Image) -> bytes:
        """Return what the column of the face `number` holds of what was cut out."""

    def decode_crop(self, number: int, value: bytes) -> Image:
        """Return what was cut out for the face `number` from what its column holds."""

    def load(self, signature: str) -> SearchIndex:
        """Return who is enrolled now.

        Raises:
            SignatureError: The rows are not of this pipeline.
        """

    def pack(self, *, whole: bool = False) -> bool:
        """Make deleted rows unreadable on the disk as far as can be; False if another program prevents it.

        Args:
            whole: Write a large file anew too, however long that takes.
        """

    def packed_places(self) -> dict[str, bool]:
        """Return where the last `pack` went, and whether it left nothing there, as in `Erasure.places`."""


def check_not_turned(path: str, signatures: Sequence[Row]) -> None:
    """Raise if a template key has turned the rows, which versions up to 0.1.0 could do.

    Args:
        path: The gallery.
        signatures: The rows of the table `pipeline`, before any table is changed.

    Raises:
        GalleryFileError: It has.
    """
    if any(TURNED in str(signature) for (signature,) in signatures):
        reason = (
            "its rows are turned by a template key; the last version that reads them is 0.1.0: "
            "with it, say `sameface gallery rekey --remove`"
        )
        raise GalleryFileError(path, reason)


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
