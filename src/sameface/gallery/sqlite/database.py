"""A gallery in a SQLite file: transactions, versions, encrypted values, and the removal of deleted rows."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, Image
from sameface.gallery.backend import TRACES, check_not_turned, decode_crop, encode_crop, expect_type, undamaged
from sameface.gallery.decision import NOBODY, SearchIndex, leave_out_unusable
from sameface.gallery.errors import EncryptionError, GalleryBusyError, GalleryFileError, SignatureError
from sameface.gallery.index import EmbeddingTable, FlatIndex
from sameface.gallery.keys import KeySource
from sameface.gallery.sqlite.files import (
    OLD_INDEX,
    delete_file,
    delete_files,
    make_private_file,
    restoring_path,
    undeletable,
    upgraded_path,
)
from sameface.gallery.sqlite.schema import APPLICATION_ID, MIGRATIONS
from sameface.gallery.stored_thresholds import parse_thresholds, read_thresholds
from sameface.sqlite import WAIT_SECONDS, connect, transaction

if TYPE_CHECKING:
    from sameface.gallery.crypto import DataKeys

LARGE_PAGES = 4096  # of 4 KiB: deleting somebody rewrites smaller files only
PAGE = 32_768  # rows that are read at once
LATEST = "SELECT id, stamp FROM changes ORDER BY id DESC LIMIT 1"
ROWS = "SELECT embedding FROM json_each(?) AS wanted CROSS JOIN faces ON faces.id = wanted.value ORDER BY faces.id"
WRONG_FACTS = """SELECT (SELECT count(*) FROM pipeline WHERE typeof(dimension) NOT IN ('integer', 'null')
                                                       OR dimension NOT BETWEEN 1 AND 65536)
                      + (SELECT count(*) <> 1 OR sum(typeof(last) <> 'integer'
                                                     OR typeof(clock) NOT IN ('integer', 'null')) > 0
                         FROM numbers)"""
BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
CLOSED_CODES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class SqliteDatabase:
    """One connection to a gallery file, for any number of threads; a `Backend`."""

    row_column = "embedding"
    adapted_column = "adapted"

    def __init__(self, path: str, connection: sqlite3.Connection, key: KeySource | None = None) -> None:
        self.path = path
        self.key = key
        self.lock = threading.RLock()
        self._connection = connection
        self._rows = RowCache(self)
        self._data_keys: DataKeys | None = None

    @classmethod
    def open(cls, path: str, key: KeySource | None = None, *, create: bool) -> Self:
        """Open the file and bring its tables to this version.

        A key encrypts a file in which nobody was ever enrolled.

        Raises:
            WrongKeyError, KeyFileError: The key does not open it.
            EncryptionError: A key was given, and it is not encrypted.
            GalleryFileError: It is missing and not to be made, not a gallery, or of a later version.
            GalleryBusyError: Another program kept it locked.
        """
        if not Path(path).exists():
            if not create:
                raise GalleryFileError(path, "there is no such file: enroll someone first")
            make_private_file(path)
        with translated(path):
            database = cls(path, connect(path, WAIT_SECONDS), key)
        try:
            database._migrate()
            if key is not None:
                database._encrypt_unused(key)
                database.check_key()
            with undeletable(restoring_path(path), "a restore that was killed has left it"):
                delete_files(restoring_path(path))
            for ending in OLD_INDEX:
                with undeletable(path + ending, "it holds codes of faces"):
                    delete_file(path + ending)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def is_trial(self) -> bool:
        """Whether it is an upgrade that is not confirmed."""
        return bool(self.read("SELECT 1 FROM upgrade"))

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.lock, translated(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction: commit at the end, roll back on an error."""
        with self.lock, translated(self.path), transaction(self._connection):
            [(version,)] = self.read("PRAGMA user_version")
            if version != len(MIGRATIONS):
                reason = f"another sameface gave it version {version}, this one writes {len(MIGRATIONS)}"
                raise GalleryFileError(self.path, reason)
            yield self._connection

    def pack(self, *, whole: bool = False) -> dict[str, bool]:
        """Remove the traces of deleted rows from the file, its log, and an upgrade that was begun.

        A small file is written anew, a large one only with `whole`. Else `secure_delete` has overwritten rows
        where they were deleted, but copies by SQLite may stay in unused parts of pages.
        """
        places = self.remove_traces(whole=whole)
        if places is None:
            raise GalleryBusyError(self.path, f"{TRACES}: forget again")
        return places | erase_in_upgrade(self.path, whole=whole)

    def remove_traces(self, *, whole: bool = False) -> dict[str, bool] | None:
        """Remove the traces of deleted rows from file and log; None if another program prevents it."""
        self._rows.clear()
        with self.write() as db:
            db.execute("DELETE FROM changes WHERE id < (SELECT max(id) FROM changes)")
        [(pages,)] = self.read("PRAGMA page_count")
        compact = whole or pages <= LARGE_PAGES
        emptied = self.rewrite() if compact else self._empty_log()
        return {"table": compact, "log": True} if emptied else None

    def rewrite(self) -> bool:
        """Write the file anew with live rows only; False if another program prevents it."""
        self.read("VACUUM")
        return self._empty_log()

    def _empty_log(self) -> bool:
        """Move everything from the log into the file; False if another program prevents it."""
        [(busy, *_)] = self.read("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    @property
    def is_encrypted(self) -> bool:
        """Whether the file is encrypted now: another program may change that at any time."""
        return bool(self.read("SELECT 1 FROM data_keys"))

    @property
    def data_keys(self) -> DataKeys:
        """The keys of an encrypted file; `EncryptionError` if `cryptography` is not installed."""
        if self._data_keys is None:
            try:
                crypto = import_module("sameface.gallery.crypto")
            except ModuleNotFoundError as error:
                missing = str(error.name).partition(".")[0]
                reason = f"encryption needs {missing}: pip install 'sameface[encrypt]'"
                raise EncryptionError(self.path, reason) from error
            self._data_keys = crypto.DataKeys(self)
        return self._data_keys

    def check_key(self) -> None:
        """Raise unless embeddings can be read and written."""
        if self.is_encrypted:
            self.data_keys.newest()
        elif self.key is not None:
            reason = "a key was given, but it is not encrypted: say `sameface gallery encrypt`, or give no key"
            raise EncryptionError(self.path, reason)

    def encode_value(self, column: str, number: int, value: bytes) -> bytes:
        """Return what the file keeps of a value, inside the transaction that keeps it."""
        return self.data_keys.encrypt(column, number, value) if self.is_encrypted else value

    def decode_values(self, column: str, numbers: Sequence[int], values: Sequence[bytes]) -> list[bytes]:
        """Return values from what the file keeps of them. In an encrypted file a plain value is an error."""
        if self.is_encrypted:
            keys = self.data_keys
            return [keys.decrypt(column, *each) for each in zip(numbers, values, strict=True)]
        for number, value in zip(numbers, values, strict=True):
            if not isinstance(value, bytes):
                what = "an embedding" if column == "embedding" else "a crop"
                raise GalleryFileError(self.path, f"damaged: {what} (of face {number}) is no bytes: take a backup")
        return list(values)

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:  # noqa: ARG002
        """Return the column that holds an embedding; the signature is the whole file's."""
        return {"embedding": self.encode_value("embedding", number, row.tobytes())}

    def decode_rows(self, numbers: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return embeddings from what the file keeps of them."""
        return [np.frombuffer(row, np.float32) for row in self.decode_values("embedding", numbers, values)]

    def stack_rows(self, numbers: Sequence[int], values: Sequence[bytes], width: int) -> Embeddings:
        """Return embeddings, `(n, width) float32`, from what the file keeps of them."""
        return stack_rows(self.path, self.decode_values("embedding", numbers, values), width)

    def encode_template(self, person: int, row: Embeddings) -> bytes:
        """Return what the file keeps of a person's template."""
        return self.encode_value("template", person, row.tobytes())

    def decode_templates(self, people: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return templates from what the file keeps of them."""
        return [np.frombuffer(row, np.float32) for row in self.decode_values("template", people, values)]

    def encode_crop(self, number: int, crop: Image) -> bytes:
        """Return what the file keeps of a crop."""
        return self.encode_value("crop", number, encode_crop(crop))

    def decode_crop(self, number: int, value: bytes) -> Image:
        """Return a crop from what the file keeps of it."""
        return decode_crop(self.decode_values("crop", [number], [value])[0])

    def load(self, signature: str) -> SearchIndex:
        """Return the embeddings of all faces as they are now."""
        return self._rows.load(signature)

    def version_of_data(self) -> tuple[int, int]:
        """Return a value that changes when this or another connection has written."""
        with self.lock:
            [(others,)] = self.read("PRAGMA data_version")
            return int(others), self._connection.total_changes

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read as of one moment."""
        with self.lock, translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def _encrypt_unused(self, key: KeySource) -> None:
        """Encrypt a file in which nobody was ever enrolled."""
        unused = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pipeline) AND NOT EXISTS (SELECT 1 FROM data_keys)"
        if self.read(unused):
            wrapping = key.read()
            with self.write() as db:
                if self.read(unused):  # unless another program was faster
                    self.data_keys.add(db, wrapping)

    def _migrate(self) -> None:
        """Bring the tables to this version, and check the facts that every write relies on."""
        version = self._read_version()
        check_not_turned(self.path, self.read("SELECT signature FROM pipeline") if version else [])
        if version < len(MIGRATIONS):
            with self.lock, translated(self.path), transaction(self._connection):
                for number in range(self._read_version(), len(MIGRATIONS)):
                    migrate(self._connection, number)
        if self.read(WRONG_FACTS) != [(0,)]:
            raise GalleryFileError(self.path, "damaged: width or last number cannot be right: take a backup")

    def _read_version(self) -> int:
        """Return the version of the file's tables, 0 for an empty file."""
        [(version,)] = self.read("PRAGMA user_version")
        [(owner,)] = self.read("PRAGMA application_id")
        [(tables,)] = self.read("SELECT count(*) FROM sqlite_master")
        if tables and owner != APPLICATION_ID:
            raise GalleryFileError(self.path, "a SQLite file, but not a gallery")
        if version < 0 or (tables and version == 0):
            raise GalleryFileError(self.path, f"damaged: it says that it is of version {version}")
        if version > len(MIGRATIONS):
            reason = f"made by a later sameface (version {version}, this one reads {len(MIGRATIONS)})"
            raise GalleryFileError(self.path, reason)
        return int(version)


class RowCache:
    """Holds the rows of a gallery file in memory, and reads those that have changed before each search."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.clear()

    def clear(self) -> None:
        """Drop the rows."""
        self._index: FlatIndex | None = None
        self._version = self._change = (-1, -1)

    def load(self, signature: str) -> FlatIndex:
        """Return the current rows; `SignatureError` if they are not of this pipeline."""
        database = self._database
        with database.lock:
            [(found,)] = database.read("SELECT signature FROM pipeline")
            if found != signature:
                raise SignatureError(database.path, found, signature)
            version = database.version_of_data()
            if self._index is None or self._version != version:
                with database.snapshot():
                    self._index = self._refresh()
                self._version = version
            return self._index

    def _refresh(self) -> FlatIndex:
        """Return the rows as of the snapshot."""
        database = self._database
        [(width,)] = database.read("SELECT dimension FROM pipeline")
        known = EmbeddingTable.empty(width or 0) if self._index is None else self._index.table
        (change, stamp), [latest] = self._change, database.read(LATEST) or [(-1, -1)]
        found = database.read("SELECT stamp FROM changes WHERE id = ?", change)
        if found != [(stamp,)] or known.matrix.shape[1] != width:  # a gallery that was put back, or upgraded
            known = EmbeddingTable.empty(width or 0)
        changed = database.read("SELECT face_id FROM changes WHERE id > ?", change)
        table = update_table(database, known, np.array(changed, np.int64).ravel())
        mixed = parse_thresholds(database, "adapted") if table.adapted.any() else None
        index = FlatIndex(database, table, read_thresholds(database), mixed)
        self._change = latest
        return index


def update_table(database: SqliteDatabase, known: EmbeddingTable, changed: NDArray[np.int64]) -> EmbeddingTable:
    """Return the rows as they are now; only those that are new or have changed are read."""
    with undamaged(database.path, "a face"):
        faces = np.array(database.read("SELECT id, person_id FROM faces"), np.int64).reshape(-1, 2)
    keys, owners = faces[np.argsort(faces[:, 0])].T
    kept = np.isin(known.keys, np.setdiff1d(keys, changed))
    table = known if kept.all() else known.select(kept)
    table = table.join(read_rows(database, np.setdiff1d(keys, table.keys), known.matrix.shape[1]))
    owners = np.where(table.owners == NOBODY, NOBODY, owners)
    adapted = np.isin(keys, np.array(database.read("SELECT id FROM faces WHERE adapted"), np.int64))
    return EmbeddingTable(table.keys, owners, table.matrix, table.counts, adapted)


def read_rows(database: SqliteDatabase, keys: NDArray[np.int64], width: int) -> EmbeddingTable:
    """Return the rows of faces; the owner is `NOBODY` if a row is unusable, else not known."""
    matrix, owners = np.empty((len(keys), width), np.float32), np.full(len(keys), NOBODY + 1)
    for start in range(0, len(keys), PAGE):
        page = slice(start, start + PAGE)
        numbers = keys[page].tolist()
        blobs = [blob for (blob,) in database.read(ROWS, json.dumps(numbers))]
        matrix[page] = database.stack_rows(numbers, blobs, width)
    matrix, owners = leave_out_unusable(matrix, owners)
    return EmbeddingTable(keys, owners, matrix, np.ones(len(keys), np.int64), np.zeros(len(keys), np.bool_))


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise SQLite's errors as errors of the gallery."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
            raise GalleryBusyError(path, "a backup has just taken its place: open it again") from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY_CODES:
            raise GalleryBusyError(path, f"waited {WAIT_SECONDS:.0f} s for another program") from error
        if code in CLOSED_CODES:
            raise GalleryFileError(path, f"{error}: file and folder must be writable, also for a search") from error
        raise GalleryFileError(path, str(error)) from error
    except sqlite3.ProgrammingError as error:
        raise ValueError(f"gallery {path!r}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # of a damaged schema the message is no text
        raise GalleryFileError(path, f"{error}: is it a gallery file?") from error


def migrate(db: sqlite3.Connection, number: int) -> None:
    """Migrate the tables from version `number` to the next, inside the open transaction."""
    statement = ""
    for part in MIGRATIONS[number].split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # a trigger holds a semicolon
            db.execute(statement)
            statement = ""
    db.execute(f"PRAGMA user_version = {number + 1}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@contextmanager
def attached(database: SqliteDatabase, path: str) -> Iterator[None]:
    """Let a connection see a second file as `other`."""
    database.read("ATTACH ? AS other", f"{Path(path).absolute().as_uri()}?mode=rw")
    try:
        yield
    finally:
        database.read("DETACH other")


def erase_in_upgrade(path: str, *, whole: bool) -> dict[str, bool]:
    """Delete faces that are gone from a gallery from its upgrade too; return the place, if there is one."""
    place = upgraded_path(path)
    if not Path(place).exists():
        return {}
    with closing(SqliteDatabase.open(place, create=False)) as upgrade:
        if not upgrade.is_trial:
            return {}
        with attached(upgrade, path), upgrade.write() as db:
            (same,) = db.execute("SELECT numbers.origin = old.origin FROM numbers, other.numbers AS old").fetchone()
            if same:
                db.execute("DELETE FROM faces WHERE id NOT IN (SELECT id FROM other.faces)")
            for table, column in (("people", "person_id"), ("pictures", "picture_id")) if same else ():
                gone = f"id NOT IN (SELECT id FROM other.{table}) AND id NOT IN (SELECT {column} FROM faces)"
                db.execute(f"DELETE FROM {table} WHERE {gone}")
        places = upgrade.remove_traces(whole=whole)
        if places is None:
            raise GalleryBusyError(place, TRACES)
        return {"upgrade": all(places.values())}


def stack_rows(path: str, blobs: Sequence[bytes], width: int) -> Embeddings:
    """Return embeddings, `(n, width) float32`, from their bytes; raise if one has another width."""
    with undamaged(path, "an embedding"):
        for blob in blobs:
            expect_type(blob, bytes)
            if len(blob) != 4 * width:
                raise ValueError(f"an embedding must have {width} numbers, got {len(blob)} bytes")
        return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), width)
