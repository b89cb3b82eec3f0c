"""What seals and opens the values of a gallery file, if that is encrypted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sameface.gallery.backend import Row, Transaction
from sameface.gallery.errors import EncryptionError, GalleryFileError, MissingKeyError, SealError, WrongKeyError
from sameface.gallery.keys import Key, KeySource

if TYPE_CHECKING:
    from sameface.gallery.seal import Sealer

Column: TypeAlias = Literal["embedding", "crop", "template"]

NEWEST = "SELECT number FROM data_keys ORDER BY turn DESC LIMIT 1"
KEPT = "SELECT number, wrapped, wrapped_by FROM data_keys"
INSERT = "INSERT INTO data_keys (number, wrapped, wrapped_by) VALUES (?, ?, ?)"
REWRAP = "UPDATE data_keys SET wrapped = ?, wrapped_by = ? WHERE number = ?"


class Vault:
    """The data keys of a gallery file, unwrapped with the user's key when they are first needed.

    Whether the file is encrypted is asked each time: another program may encrypt or decrypt it. All values of
    an encrypted file are sealed; a plain one in it is an error, so that nobody can slip one in.
    """

    def __init__(self, path: str, source: KeySource | None, read: Callable[..., list[Row]]) -> None:
        self.path = path
        self.source = source
        self._read = read
        self._sealers: dict[int, Sealer] = {}

    @property
    def is_sealed(self) -> bool:
        """Whether the file is encrypted."""
        return bool(self._read(NEWEST))

    def check(self) -> None:
        """Raise unless values can be read.

        Raises:
            MissingKeyError, WrongKeyError, KeyFileError: The file is encrypted, and the key is not at hand.
            EncryptionError: A key was given and the file is not encrypted, or `cryptography` is missing.
        """
        newest = self._read(NEWEST)
        if newest:
            self.sealer(newest[0][0])
        elif self.source is not None:
            reason = "a key was given, but it is not encrypted: say `sameface gallery encrypt`, or give no key"
            raise EncryptionError(self.path, reason)

    def sealer(self, number: int) -> Sealer:
        """Return a data key."""
        if number not in self._sealers:
            self._sealers[number] = self._unwrap(number)
        return self._sealers[number]

    def newest(self) -> Sealer | None:
        """Return the data key that seals new values; None if the file is not encrypted."""
        found = self._read(NEWEST)
        return self.sealer(found[0][0]) if found else None

    def seal(self, column: Column, face: int, value: bytes) -> bytes:
        """Return what to keep of a value, inside the transaction that keeps it."""
        sealer = self.newest()
        return value if sealer is None else sealer.seal(import_seal(self.path).name_place(column, face), value)

    def open(self, column: Column, faces: Sequence[int], values: Sequence[bytes]) -> list[bytes]:
        """Return what was sealed, given what the file keeps of it and whose face each is.

        Raises:
            SealError: A value is damaged, or not where it was written.
            GalleryFileError: A value that is not sealed is no bytes.
            MissingKeyError, WrongKeyError, KeyFileError: The key is not at hand.
        """
        if self.is_sealed:
            return self.open_sealed(column, faces, values)
        for face, value in zip(faces, values, strict=True):
            if not isinstance(value, bytes):
                what = "an embedding" if column == "embedding" else "a crop"
                raise GalleryFileError(self.path, f"damaged: {what} (of face {face}) is no bytes: take a backup")
        return list(values)

    def open_sealed(self, column: Column, faces: Sequence[int], values: Sequence[bytes]) -> list[bytes]:
        """Return what was sealed, as `open` does, even after the open transaction deleted the keys."""
        seal = import_seal(self.path)
        return [self._open(seal, column, face, value) for face, value in zip(faces, values, strict=True)]

    def _open(self, seal: Any, column: Column, face: int, value: bytes) -> bytes:
        """Open one value."""
        if not isinstance(value, bytes):
            raise SealError(self.path, f"{column} of face {face}")
        try:
            sealer = self.sealer(seal.read_number(value))
            plain: bytes = sealer.open(seal.name_place(column, face), value)
        except seal.BrokenSealError as error:
            raise SealError(self.path, f"{column} of face {face}") from error
        return plain

    def _unwrap(self, number: int) -> Sealer:
        """Read a data key from the file."""
        found = self._read(f"{KEPT} WHERE number = ?", number)
        seal = import_seal(self.path)
        if not found:
            raise seal.BrokenSealError  # sealed by another gallery's, or its head is damaged
        [(_, wrapped, wanted)] = found
        if self.source is None:
            raise MissingKeyError(self.path, wanted)
        return unwrap(self.path, number, (wrapped, wanted), self.source.read())


def unwrap(path: str, number: int, kept: tuple[bytes, str], key: Key) -> Sealer:
    """Return a data key from what a file keeps of it: wrapped, and the fingerprint of the key that it takes.

    Raises:
        WrongKeyError: It takes another key.
        SealError: It is damaged.
    """
    wrapped, wanted = kept
    if key.fingerprint != wanted:
        raise WrongKeyError(path, wanted, key.fingerprint)
    seal = import_seal(path)
    if not isinstance(wrapped, bytes):
        raise SealError(path, "data key")
    try:
        sealer: Sealer = seal.Sealer.unwrap(number, wrapped, key)
    except seal.BrokenSealError as error:
        raise SealError(path, "data key") from error
    return sealer


def add_data_key(db: Transaction, path: str, key: Key) -> None:
    """Add a data key to a file; from the end of the transaction on it seals new values."""
    sealer = import_seal(path).Sealer.generate()
    db.execute(INSERT, (sealer.number, sealer.wrap(key), key.fingerprint))


def wrap(db: Transaction, sealer: Sealer, key: Key) -> None:
    """Keep a data key of a file wrapped with another key."""
    db.execute(REWRAP, (sealer.wrap(key), key.fingerprint, sealer.number))


def import_seal(path: str) -> Any:
    """Return the module that needs `cryptography`, which not everybody has installed."""
    try:
        return importlib.import_module("sameface.gallery.seal")
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        reason = f"encryption needs {missing}: pip install 'sameface[encrypt]'"
        raise EncryptionError(path, reason) from error
