"""Turn the rows of a gallery by another template key, so that those of the old one are of no use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from sameface.arrays import Embeddings
from sameface.errors import GalleryBusyError, UpgradeError
from sameface.gallery.backend import Backend, Statements
from sameface.gallery.gallery import SIGNATURE
from sameface.gallery.keys import Keys, KeySource
from sameface.gallery.opening import open_backend
from sameface.gallery.rotation import (
    check_rotation,
    read_rotation,
    sign_turned,
    strip_mark,
    turn,
    turn_back,
)

PAGE = 1000


def rekey_gallery(path: str | os.PathLike[str], keys: Keys, new: KeySource | None) -> int:
    """Turn every row from the template key that the gallery has to a new one, in one transaction.

    Old rows are overwritten. Programs that have the old key are refused from then on.

    Args:
        path: The gallery: a file, or an address.
        keys: What opens it now; without a template key its rows are not turned yet.
        new: The key to turn rows by; None leaves them as the pipeline makes them.

    Returns:
        How many rows were turned.

    Raises:
        TemplateKeyError: Another key has turned the rows; nothing is changed.
        UpgradeError: It is an upgrade that is not confirmed, or nobody was ever enrolled.
        GalleryBusyError: Another program writes, and nothing is changed; or it holds an older view: then the
            rows are turned, but old ones leave traces until `forget_traces` succeeds.
    """
    old, wanted = read_rotation(keys.template), read_rotation(new)
    with closing(open_backend(os.fspath(path), keys, create=False)) as backend:
        backend.check_key()
        with backend.write() as db:
            found = db.execute(SIGNATURE).fetchone()
            if found is None or backend.is_trial:
                raise UpgradeError(backend.path, "nobody is enrolled in it, or it is not confirmed")
            check_rotation(backend.path, str(found[0]), old)
            signature = sign_turned(strip_mark(str(found[0])), wanted)
            backend.change_signature(db, signature)
            faces = 0
            for numbers, rows in read_rows(db, backend):
                turned = turn(wanted, turn_back(old, rows))
                for number, row in zip(numbers, turned, strict=True):
                    keep_row(db, number, backend.encode_row(number, row, signature))
                faces += len(numbers)
        if not backend.pack():
            reason = "the key is changed, but old rows leave traces until another program is done"
            raise GalleryBusyError(backend.path, reason)
    return faces


def read_rows(db: Statements, backend: Backend) -> Iterator[tuple[list[int], Embeddings]]:
    """Yield the numbers and rows of all faces, some at a time, inside the transaction that is open."""
    query = f"SELECT id, {backend.row_column} FROM faces WHERE id > ? ORDER BY id LIMIT ?"
    last = 0
    while page := db.execute(query, (last, PAGE)).fetchall():
        numbers = [number for number, _ in page]
        yield numbers, np.stack(backend.decode_rows(numbers, [row for _, row in page]))
        last = page[-1][0]


def keep_row(db: Statements, number: int, columns: dict[str, object]) -> None:
    """Put a row into the place of that of a face."""
    places = ", ".join(f"{column} = ?" for column in columns)
    db.execute(f"UPDATE faces SET {places} WHERE id = ?", (*columns.values(), number))
