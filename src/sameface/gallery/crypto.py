"""Encryption of the values in a gallery file by AES-256-GCM; the only code that imports `cryptography`.

A random data key encrypts embeddings, crops and templates. The file keeps each data key wrapped: encrypted with
the user's key. An encrypted value is a header (the format, which is 1, and the number of the data key), a nonce of
12 random bytes, and the ciphertext with its tag of 16 bytes. Its column and its face are authenticated with it, so
that nobody can move a value to another face.
"""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sameface.gallery.backend import Transaction
from sameface.gallery.errors import EncryptionError, MissingKeyError, SealError, WrongKeyError
from sameface.gallery.keys import SIZE, Key

if TYPE_CHECKING:
    from sameface.gallery.sqlite.database import SqliteDatabase

FORMAT = 1
HEADER = struct.Struct(">BI")
NONCE = 12
START = HEADER.size + NONCE


class DecryptionError(Exception):
    """A value was not encrypted by this key for this place, or it is damaged."""


class DataKey:
    """One data key of a gallery. It may encrypt 2^32 values (NIST SP 800-38D, 8.3: nonces are random)."""

    def __init__(self, number: int, secret: bytes) -> None:
        self.number = number
        self.header = HEADER.pack(FORMAT, number)  # of every value that it encrypts
        self._secret = secret
        self._cipher = AESGCM(secret)

    @classmethod
    def generate(cls) -> Self:
        """Return a new data key."""
        return cls(secrets.randbits(32), secrets.token_bytes(SIZE))

    @classmethod
    def unwrap(cls, number: int, wrapped: bytes, key: Key) -> Self:
        """Return a wrapped data key; `DecryptionError` if it is damaged or was wrapped with another key."""
        return cls(number, decrypt(AESGCM(key.secret), wrapped[:NONCE], wrapped[NONCE:], wrapped_place(number)))

    def wrap(self, key: Key) -> bytes:
        """Return the data key encrypted with the user's key."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + AESGCM(key.secret).encrypt(nonce, self._secret, wrapped_place(self.number))

    def encrypt(self, place: bytes, value: bytes) -> bytes:
        """Return a value encrypted for a place."""
        nonce = secrets.token_bytes(NONCE)
        return self.header + nonce + self._cipher.encrypt(nonce, value, place)

    def decrypt(self, place: bytes, encrypted: bytes) -> bytes:
        """Return a decrypted value; `DecryptionError` if it is not the output of `encrypt` for this place."""
        return decrypt(self._cipher, encrypted[HEADER.size : START], encrypted[START:], place)


class DataKeys:
    """The data keys of an encrypted gallery file, unwrapped with the user's key when they are first needed.

    Another program may add keys or delete them at any time: each use asks the file for the newest.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._unwrapped: dict[int, DataKey] = {}

    def newest(self) -> DataKey:
        """Return the data key that encrypts new values; needs the user's key."""
        found = self._database.read("SELECT number FROM data_keys ORDER BY turn DESC LIMIT 1")
        if not found:
            raise EncryptionError(self._database.path, "it was decrypted meanwhile")
        return self._get(found[0][0])

    def load(self) -> None:
        """Unwrap all data keys, so that they can be deleted from the file."""
        for (number,) in self._database.read("SELECT number FROM data_keys"):
            self._get(number)

    def encrypt(self, column: str, number: int, value: bytes) -> bytes:
        """Return a value of the face or person `number` encrypted, inside the transaction that keeps it."""
        return self.newest().encrypt(value_place(column, number), value)

    def decrypt(self, column: str, number: int, value: bytes) -> bytes:
        """Return a decrypted value of the face or person `number`; `SealError` if it is damaged or was moved."""
        try:
            return self._get(read_number(value)).decrypt(value_place(column, number), value)
        except DecryptionError as error:
            raise SealError(self._database.path, f"{column} of face {number}") from error

    def add(self, db: Transaction, key: Key) -> None:
        """Add a data key to the file, which encrypts new values from now on."""
        data_key = DataKey.generate()
        insert = "INSERT INTO data_keys (number, wrapped, wrapped_by) VALUES (?, ?, ?)"
        db.execute(insert, (data_key.number, data_key.wrap(key), key.fingerprint))

    def rewrap(self, db: Transaction, old: Key, new: Key) -> None:
        """Wrap all data keys with another key of the user."""
        for number, wrapped, wanted in db.execute("SELECT number, wrapped, wrapped_by FROM data_keys").fetchall():
            values = (self._unwrap(number, wrapped, wanted, old).wrap(new), new.fingerprint, number)
            db.execute("UPDATE data_keys SET wrapped = ?, wrapped_by = ? WHERE number = ?", values)

    def _get(self, number: int) -> DataKey:
        if number not in self._unwrapped:
            found = self._database.read("SELECT wrapped, wrapped_by FROM data_keys WHERE number = ?", number)
            if not found:
                raise DecryptionError  # the key of another gallery, or the header is damaged
            [(wrapped, wanted)] = found
            if self._database.key is None:
                raise MissingKeyError(self._database.path, wanted)
            self._unwrapped[number] = self._unwrap(number, wrapped, wanted, self._database.key.read())
        return self._unwrapped[number]

    def _unwrap(self, number: int, wrapped: object, wanted: str, key: Key) -> DataKey:
        """Return a data key from the columns of its row."""
        path = self._database.path
        if key.fingerprint != wanted:
            raise WrongKeyError(path, wanted, key.fingerprint)
        if not isinstance(wrapped, bytes):
            raise SealError(path, "data key")
        try:
            return DataKey.unwrap(number, wrapped, key)
        except DecryptionError as error:
            raise SealError(path, "data key") from error


def decrypt(cipher: AESGCM, nonce: bytes, encrypted: bytes, place: bytes) -> bytes:
    """Return a value, authenticated."""
    if len(nonce) != NONCE:
        raise DecryptionError
    try:
        return cipher.decrypt(nonce, encrypted, place)
    except InvalidTag as error:
        raise DecryptionError from error


def wrapped_place(number: int) -> bytes:
    """Return the associated data of a wrapped data key."""
    return b"sameface 1 data key %d" % number


def value_place(column: str, number: int) -> bytes:
    """Return the associated data of a value."""
    return b"sameface 1 %s of face %d" % (column.encode(), number)


def read_number(encrypted: object) -> int:
    """Return the number of the data key in the header of a value."""
    if not isinstance(encrypted, bytes) or len(encrypted) < START or encrypted[0] != FORMAT:
        raise DecryptionError
    number: int = HEADER.unpack_from(encrypted)[1]
    return number
