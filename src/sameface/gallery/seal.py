"""Values that nobody can read, change or move without a data key: AES-256-GCM, by `cryptography`.

A sealed value is a head (the form, which is 1, and the number of the data key), 12 random bytes, and the
ciphertext with its tag of 16 bytes. The place that it belongs to is authenticated with it.
"""

from __future__ import annotations

import os
import secrets
import struct
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sameface.gallery.keys import SIZE, Key

FORM = 1
HEAD = struct.Struct(">BI")
NONCE = 12
START = HEAD.size + NONCE


class BrokenSealError(Exception):
    """A value was not sealed by this key for this place, or is not whole."""


class Sealer:
    """One data key of a gallery. It may seal 2^32 values (NIST SP 800-38D, 8.3: nonces are random)."""

    def __init__(self, number: int, secret: bytes) -> None:
        self.number = number
        self._secret = secret
        self._cipher = AESGCM(secret)
        self.head = HEAD.pack(FORM, number)  # of every value that it seals

    @classmethod
    def generate(cls) -> Self:
        """Return a new data key."""
        return cls(int.from_bytes(os.urandom(4), "big"), secrets.token_bytes(SIZE))

    @classmethod
    def unwrap(cls, number: int, wrapped: bytes, key: Key) -> Self:
        """Return the data key that `wrap` has wrapped.

        Raises:
            BrokenSealError: It was wrapped with another key, or is damaged.
        """
        return cls(number, decrypt(AESGCM(key.secret), wrapped[:NONCE], wrapped[NONCE:], name_key(number)))

    def wrap(self, key: Key) -> bytes:
        """Return the data key so that only `unwrap` with the same key gives it."""
        nonce = os.urandom(NONCE)
        return nonce + AESGCM(key.secret).encrypt(nonce, self._secret, name_key(self.number))

    def seal(self, place: bytes, value: bytes) -> bytes:
        """Return a value sealed for a place."""
        nonce = os.urandom(NONCE)
        return self.head + nonce + self._cipher.encrypt(nonce, value, place)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Return the value that was sealed for a place.

        Raises:
            BrokenSealError: It is not what `seal` gave for that place.
        """
        return decrypt(self._cipher, sealed[HEAD.size : START], sealed[START:], place)


def decrypt(cipher: AESGCM, nonce: bytes, sealed: bytes, place: bytes) -> bytes:
    """Return a plain value, checked."""
    if len(nonce) != NONCE:
        raise BrokenSealError
    try:
        return cipher.decrypt(nonce, sealed, place)
    except InvalidTag as error:
        raise BrokenSealError from error


def name_key(number: int) -> bytes:
    """Return the place of a data key."""
    return b"sameface 1 data key %d" % number


def name_place(column: str, face: int) -> bytes:
    """Return the place of a value of a face."""
    return b"sameface 1 %s of face %d" % (column.encode(), face)


def read_number(sealed: bytes) -> int:
    """Return the number of the data key that sealed a value.

    Raises:
        BrokenSealError: It is no sealed value.
    """
    if len(sealed) < START or sealed[0] != FORM:
        raise BrokenSealError
    number: int = HEAD.unpack_from(sealed)[1]
    return number
