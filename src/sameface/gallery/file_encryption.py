"""Encrypt a gallery file, decrypt it, and change its keys.

Each function is one transaction, except `rotate_data_key`. Where one raises, nothing is changed:

    EncryptionError: The gallery is in a database, searched by Milvus, not encrypted, or has an upgrade beside it.
    WrongKeyError, KeyFileError, SealError: A key cannot be read, or does not open the gallery.
    GalleryFileError, GalleryBusyError: The disk is full, or another program writes.

A warning in the answer names old values that could not be removed from the file after the change.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sameface.gallery.address import expect_file
from sameface.gallery.errors import EncryptionError
from sameface.gallery.keys import KeySource
from sameface.gallery.sqlite.database import SqliteDatabase
from sameface.gallery.sqlite.files import check_space, clean_up, upgraded_path

FaceRow: TypeAlias = tuple[int, bytes, bytes | None]  # number, embedding and crop

PAGE = 2000  # faces that are read, and while the data key is changed written, at once
PAUSE_SECONDS = 0.03
FACES = "SELECT id, embedding, crop FROM faces WHERE id > ? ORDER BY id LIMIT ?"
UPDATE = "UPDATE faces SET embedding = ?, crop = ? WHERE id = ?"
OUTDATED = """SELECT count(*) FROM faces WHERE substr(embedding, 1, 5) <> ?1
              OR (crop IS NOT NULL AND substr(crop, 1, 5) <> ?1)"""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A finished change of a gallery's encryption."""

    faces: int = 0  # that were encrypted or decrypted
    warning: str | None = None  # what stays of the old values, and what to do


def encrypt_gallery(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Encrypt embeddings and crops of a file with a new data key, which the key of `source` opens from then on.

    A file that is encrypted already is only rewritten, as after an earlier warning.
    """
    with opened(path, None) as plain:
        key, faces = source.read(), 0
        plain.key = source
        with plain.write() as db:
            if not plain.is_encrypted:
                check_alone(db, plain.path)
                plain.data_keys.add(db, key)
                faces = sum(change_values(db, page, plain.encode_value) for page in read_pages(db))
            plain.check_key()
        return KeyChange(faces, clean_up(plain.rewrite, "plain rows stay in its free space or log"))


def decrypt_gallery(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Decrypt a file."""
    with opened(path, source) as database:
        with database.write() as db:
            check_alone(db, database.path)
            database.data_keys.load()
            db.execute("DELETE FROM data_keys")  # while there are any, a trigger refuses plain values
            faces = sum(change_values(db, page, database.data_keys.decrypt) for page in read_pages(db))
        return KeyChange(faces, clean_up(database.rewrite, "encrypted rows stay in its free space or log"))


def rotate_key(path: str | os.PathLike[str], old: KeySource, new: KeySource) -> KeyChange:
    """Let another key open a file, at once: wrap its data keys anew, without a change of rows.

    Programs that have it open continue, since they have its data keys.
    """
    with opened(path, old) as database:
        keys = old.read(), new.read()
        with database.write() as db:
            check_alone(db, database.path)
            database.data_keys.rewrap(db, *keys)
        return KeyChange(warning=clean_up(database.rewrite, "what the old key opens stays in its free space or log"))


def rotate_data_key(path: str | os.PathLike[str], source: KeySource) -> KeyChange:
    """Encrypt every value of a file with a new data key, and destroy the old one.

    Each page of faces is one transaction, so that other programs search and write meanwhile. After an
    interruption or an error the same call resumes.
    """
    with opened(path, source) as database:
        with database.write() as db:
            check_alone(db, database.path)
            [(keys,)] = db.execute("SELECT count(*) FROM data_keys").fetchall()
            if keys == 1:  # else an earlier call was interrupted
                database.data_keys.add(db, source.read())
        faces = 0
        while not drop_old_keys(database):
            for count in encrypt_anew(database):
                faces += count
                time.sleep(PAUSE_SECONDS)  # for other writers
        return KeyChange(faces, clean_up(database.rewrite, "values of the old data key stay in its free space or log"))


@contextmanager
def opened(path: str | os.PathLike[str], key: KeySource | None) -> Iterator[SqliteDatabase]:
    """Open a gallery in a file, on a disk with room for a change of every row."""
    reason = "sameface encrypts galleries in files only: encrypt the disk of the database"
    expect_file(path, EncryptionError, reason)
    with closing(SqliteDatabase.open(os.fspath(path), key, create=False)) as database:
        check_space(database.path)
        yield database


def encrypt_anew(database: SqliteDatabase) -> Iterator[int]:
    """Encrypt page by page what an older data key has encrypted; yield the number of faces changed in each."""

    def change(column: str, number: int, value: bytes) -> bytes:
        return database.encode_value(column, number, database.data_keys.decrypt(column, number, value))

    last = 0
    while True:
        with database.write() as db:
            page = db.execute(FACES, (last, PAGE)).fetchall()
            header = database.data_keys.newest().header
            outdated = [
                (number, *values)
                for number, *values in page
                if not all(value is None or value.startswith(header) for value in values)
            ]
            change_values(db, outdated, change)
        if not page:
            return
        last = page[-1][0]
        yield len(outdated)


def drop_old_keys(database: SqliteDatabase) -> bool:
    """Destroy all data keys but the newest unless a value needs them, and return whether it is done."""
    with database.write() as db:
        check_alone(db, database.path)
        (outdated,) = db.execute(OUTDATED, (database.data_keys.newest().header,)).fetchone()
        if not outdated:
            db.execute("DELETE FROM data_keys WHERE turn < (SELECT max(turn) FROM data_keys)")
    return not outdated


def read_pages(db: sqlite3.Connection) -> Iterator[list[FaceRow]]:
    """Yield all faces, a page at a time, as they stand in the file."""
    last = 0
    while page := db.execute(FACES, (last, PAGE)).fetchall():
        yield page
        last = page[-1][0]


def change_values(db: sqlite3.Connection, faces: Sequence[FaceRow], change: Callable[[str, int, bytes], bytes]) -> int:
    """Replace the values of faces by `change(column, number, value)`, and return the number of faces."""
    changed = [
        (change("embedding", number, embedding), None if crop is None else change("crop", number, crop), number)
        for number, embedding, crop in faces
    ]
    db.executemany(UPDATE, changed)
    return len(changed)


def check_alone(db: sqlite3.Connection, path: str) -> None:
    """Raise if an upgrade or Milvus holds the gallery's rows too."""
    if Path(upgraded_path(path)).exists():
        reason = f"an upgrade was begun in {upgraded_path(path)!r}: confirm it or --discard it first"
        raise EncryptionError(path, reason)
    if db.execute("SELECT 1 FROM upgrade").fetchone():
        raise EncryptionError(path, "it is an upgrade that is not confirmed: change the key of the gallery itself")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'").fetchone():
        reason = "its faces are in Milvus in plain: encrypt the disks, or copy its people into another file"
        raise EncryptionError(path, reason)
