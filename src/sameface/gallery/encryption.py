"""Encrypt a gallery file, decrypt it, and change its keys."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sameface.gallery.address import parse_address
from sameface.gallery.errors import EncryptionError
from sameface.gallery.keys import KeySource
from sameface.gallery.sqlite.database import SqliteDatabase, check_space, clean_up
from sameface.gallery.upgrade import upgraded_path
from sameface.gallery.vault import KEPT, add_data_key, unwrap, wrap

Face: TypeAlias = tuple[int, bytes, bytes | None]  # number, embedding and crop

PAGE = 2000  # faces that are read, and while the data key is changed written, at once
PAUSE_SECONDS = 0.03
FACES = "SELECT id, embedding, crop FROM faces WHERE id > ? ORDER BY id LIMIT ?"
UPDATE = "UPDATE faces SET embedding = ?, crop = ? WHERE id = ?"
BEHIND = """SELECT count(*) FROM faces WHERE substr(embedding, 1, 5) <> ?1
            OR (crop IS NOT NULL AND substr(crop, 1, 5) <> ?1)"""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A change of a gallery's encryption that is done.

    Attributes:
        faces: How many faces were encrypted or decrypted.
        warning: What could not be cleaned up after it, and what to do; None if nothing of the kind is left.
    """

    faces: int = 0
    warning: str | None = None


def encrypt_gallery(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Encrypt embeddings and crops of a file, so that no plain one stays in it or its log.

    It is one transaction. A file that is encrypted already is only rewritten: what could not be done because
    another program was reading is done then.

    Args:
        path: The gallery.
        source: The key that will open it from then on.

    Returns:
        What was done. Where it warns, plain rows stay in unused parts of the file or its log.

    Raises:
        EncryptionError: It is in a database, searched by Milvus, or an upgrade of it was begun.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes; nothing is changed.
    """
    check_file(path)
    with closing(SqliteDatabase.open(os.fspath(path), create=False)) as plain:
        key = source.read()
        check_space(plain.path)
        with plain.write() as db:
            faces = 0
            plain.vault.source = source
            if not plain.vault.is_sealed:
                check_alone(db, plain.path)
                add_data_key(db, plain.path, key)
                faces = sum(keep(db, plain, page) for page in read_pages(db))
            plain.vault.check()
        warning = clean_up(plain.rewrite, "plain rows stay in its free space or log")
    return KeyChange(faces, warning)


def decrypt_gallery(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Take the encryption of a file away, in one transaction.

    Raises:
        EncryptionError: It is not encrypted, or an upgrade of it was begun.
        WrongKeyError, KeyFileError, SealError: It cannot be read; nothing is changed.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes; nothing is changed.
    """
    check_file(path)
    with closing(SqliteDatabase.open(os.fspath(path), source, create=False)) as sealed:
        check_space(sealed.path)
        with sealed.write() as db:
            check_alone(db, sealed.path)
            for (number,) in db.execute("SELECT number FROM data_keys").fetchall():
                sealed.vault.sealer(number)  # stays in memory
            db.execute("DELETE FROM data_keys")  # as long as there are any, no plain value is let in
            faces = 0
            for page in read_pages(db):
                db.executemany(UPDATE, [(*values, number) for number, *values in open_values(sealed, page)])
                faces += len(page)
        return KeyChange(faces, clean_up(sealed.rewrite, "encrypted rows stay in its free space or log"))


def rotate_key(path: str | os.PathLike[str], old: KeySource, new: KeySource) -> KeyChange:
    """Let another key open a file, at once: its data keys are wrapped anew, and no row changes.

    Programs that have it open go on, since they have its data keys.

    Returns:
        That it is done. Where it warns, what the old key opens stays in the file's free space or log.

    Raises:
        EncryptionError: It is not encrypted, or an upgrade of it was begun, which the old key would open.
        WrongKeyError, KeyFileError, SealError: The old key does not open it; nothing is changed.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes; nothing is changed.
    """
    check_file(path)
    with closing(SqliteDatabase.open(os.fspath(path), old, create=False)) as sealed:
        was, key = old.read(), new.read()
        check_space(sealed.path)
        with sealed.write() as db:
            check_alone(db, sealed.path)
            for number, *kept in db.execute(KEPT).fetchall():
                sealer = unwrap(sealed.path, number, (kept[0], kept[1]), was)
                wrap(db, sealer, key)
        return KeyChange(warning=clean_up(sealed.rewrite, "what the old key opens stays in its free space or log"))


def rotate_data_key(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Encrypt every value of a file anew with a new data key, and destroy the old one.

    It goes a page at a time, each in a transaction of its own, so that others search and write meanwhile.
    Whoever interrupts it calls it again: it goes on where it was.

    Args:
        path: The gallery.
        source: The key that opens it.

    Returns:
        How many faces were encrypted anew by this call. Where it warns, values of the old data key stay.

    Raises:
        EncryptionError: It is not encrypted, or an upgrade of it was begun, which has the old data key.
        WrongKeyError, KeyFileError, SealError: It cannot be read.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes: call it again.
    """
    check_file(path)
    with closing(SqliteDatabase.open(os.fspath(path), source, create=False)) as sealed:
        check_space(sealed.path)
        with sealed.write() as db:
            check_alone(db, sealed.path)
            [(keys,)] = db.execute("SELECT count(*) FROM data_keys").fetchall()
            if keys == 1:  # else it was interrupted
                add_data_key(db, sealed.path, source.read())
        faces = 0
        while not drop_old_keys(sealed):
            for count in seal_anew(sealed):
                faces += count
                time.sleep(PAUSE_SECONDS)  # others who write get their turns
        warning = clean_up(sealed.rewrite, "values of the old data key stay in its free space or log")
    return KeyChange(faces, warning)


def seal_anew(sealed: SqliteDatabase) -> Iterator[int]:
    """Seal page by page what an older data key has sealed; yield how many faces of each page that were."""
    last = 0
    while True:
        with sealed.write() as db:
            page = db.execute(FACES, (last, PAGE)).fetchall()
            head = newest_head(sealed)
            behind = [face for face in page if is_behind(face, head)]
            keep(db, sealed, open_values(sealed, behind))
        if not page:
            return
        last = page[-1][0]
        yield len(behind)


def is_behind(face: Face, head: bytes) -> bool:
    """Return whether one of a face's values was not sealed by the data key of a head."""
    _, *values = face
    return any(value is not None and not value.startswith(head) for value in values)


def newest_head(sealed: SqliteDatabase) -> bytes:
    """Return what the values begin with that the newest data key seals."""
    sealer = sealed.vault.newest()
    if sealer is None:
        raise EncryptionError(sealed.path, "it was decrypted meanwhile")
    return sealer.head


def drop_old_keys(sealed: SqliteDatabase) -> bool:
    """Destroy all data keys but the newest, if nothing needs them any more, and return whether."""
    with sealed.write() as db:
        check_alone(db, sealed.path)
        (behind,) = db.execute(BEHIND, (newest_head(sealed),)).fetchone()
        if not behind:
            db.execute("DELETE FROM data_keys WHERE turn < (SELECT max(turn) FROM data_keys)")
    return not behind


def read_pages(db: sqlite3.Connection) -> Iterator[list[Face]]:
    """Yield all faces, some at a time, as they stand in the file."""
    last = 0
    while page := db.execute(FACES, (last, PAGE)).fetchall():
        yield page
        last = page[-1][0]


def open_values(database: SqliteDatabase, page: Sequence[Face]) -> Iterator[Face]:
    """Yield faces with what was sealed in them."""
    numbers = [number for number, *_ in page]
    embeddings = database.vault.open_sealed("embedding", numbers, [embedding for _, embedding, _ in page])
    for (number, _, crop), embedding in zip(page, embeddings, strict=True):
        plain = None if crop is None else database.vault.open_sealed("crop", [number], [crop])[0]
        yield number, embedding, plain


def keep(db: sqlite3.Connection, database: SqliteDatabase, faces: Iterable[Face]) -> int:
    """Seal values and put them into the place of those of the same faces; return how many faces these are."""
    values = []
    for number, embedding, crop in faces:
        sealed = None if crop is None else database.vault.seal("crop", number, crop)
        values.append((database.vault.seal("embedding", number, embedding), sealed, number))
    db.executemany(UPDATE, values)
    return len(values)


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise unless the gallery is in a file."""
    address = parse_address(os.fspath(path))
    if address is not None:
        reason = "sameface encrypts galleries in files only: encrypt the disk of the database"
        raise EncryptionError(address.shown, reason)


def check_alone(db: sqlite3.Connection, path: str) -> None:
    """Raise if there is a second place that holds the gallery's rows."""
    if Path(upgraded_path(path)).exists():
        reason = f"an upgrade was begun in {upgraded_path(path)!r}: confirm it or --discard it first"
        raise EncryptionError(path, reason)
    if db.execute("SELECT 1 FROM upgrade").fetchone():
        raise EncryptionError(path, "it is an upgrade that is not confirmed: change the key of the gallery itself")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'").fetchone():
        reason = "its faces are in Milvus in plain: encrypt the disks, or copy its people into another file"
        raise EncryptionError(path, reason)
