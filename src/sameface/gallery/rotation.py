"""Rows that are of no use without a key: turned by an orthogonal matrix that the key gives.

Distances stay what they were, up to the rounding of float32; so do thresholds. What this protects against and
what it does not is in docs/encryption.md.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.errors import TemplateKeyError
from sameface.gallery.keys import Key, KeySource

MARK = "+turned:"  # in a gallery's signature, before the fingerprint of the key


class Rotation:
    """What a template key does to rows."""

    def __init__(self, key: Key) -> None:
        self.fingerprint = key.fingerprint
        self._key = key
        self._matrices: dict[int, NDArray[np.float64]] = {}

    def turn(self, rows: Embeddings) -> Embeddings:
        """Return rows, `(n, d) float32`, turned."""
        return (rows.astype(np.float64) @ self._matrix(rows.shape[1]).T).astype(np.float32)

    def turn_back(self, rows: Embeddings) -> Embeddings:
        """Return rows, `(n, d) float32`, as they were before `turn`, up to rounding."""
        return (rows.astype(np.float64) @ self._matrix(rows.shape[1])).astype(np.float32)

    def _matrix(self, width: int) -> NDArray[np.float64]:
        """Return the matrix for rows of a width, made once."""
        if width not in self._matrices:
            self._matrices[width] = draw_orthogonal(self._key, width)
        return self._matrices[width]


def draw_orthogonal(key: Key, width: int) -> NDArray[np.float64]:
    """Return the orthogonal matrix of a key, `(width, width) float64`, every one of them as likely.

    The QR decomposition of a matrix of independent normal numbers, with the signs of R's diagonal moved into
    Q: F. Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS
    54 (2007). On another machine the last of its digits may differ, not those that a float32 keeps.
    """
    q, r = np.linalg.qr(draw_normal(key, width * width).reshape(width, width))
    return np.asarray(q * np.where(np.diagonal(r) < 0, -1.0, 1.0), np.float64)


def draw_normal(key: Key, count: int) -> NDArray[np.float64]:
    """Return `count` normal numbers that a key gives: SHAKE-256, 53 bits each, then Box and Muller."""
    pairs = -(-count // 2)
    stream = hashlib.shake_256(b"sameface rotation 1 of %d" % count + key.secret).digest(16 * pairs)
    uniform = ((np.frombuffer(stream, ">u8") >> np.uint64(11)) + 0.5) / 2.0**53  # (2 pairs,) in (0, 1)
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def read_rotation(source: KeySource | None) -> Rotation | None:
    """Return what the key of a source does; None without a source."""
    return None if source is None else Rotation(source.read())


def turn(rotation: Rotation | None, rows: Embeddings) -> Embeddings:
    """Return rows as a gallery keeps them."""
    return rows if rotation is None else rotation.turn(rows)


def turn_back(rotation: Rotation | None, rows: Embeddings) -> Embeddings:
    """Return rows as a pipeline makes them, given those that a gallery keeps."""
    return rows if rotation is None else rotation.turn_back(rows)


def sign_turned(signature: str, rotation: Rotation | None) -> str:
    """Return the signature of rows that a pipeline has made and a key has turned."""
    return signature if rotation is None else f"{signature}{MARK}{rotation.fingerprint}"


def strip_mark(signature: str) -> str:
    """Return the signature of the pipeline, whatever key has turned its rows."""
    return signature.partition(MARK)[0]


def check_rotation(path: str, signature: str, rotation: Rotation | None) -> None:
    """Raise unless this key, or with None no key, has turned the rows of a gallery.

    Args:
        path: The gallery.
        signature: Its signature.
        rotation: What the key does.

    Raises:
        TemplateKeyError: Another has, or none.
    """
    wanted = signature.partition(MARK)[2] or None
    given = None if rotation is None else rotation.fingerprint
    if wanted != given:
        raise TemplateKeyError(path, wanted, given)
