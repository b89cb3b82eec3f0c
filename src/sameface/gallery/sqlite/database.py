"""The SQLite file under a gallery: opened, versioned, read and written in whole transactions."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from sameface.arrays import Embeddings, Image
from sameface.atomic import make_private
from sameface.errors import SamefaceError
from sameface.gallery.backend import check_not_turned, expect_type, undamaged
from sameface.gallery.errors import GalleryBusyError, GalleryFileError
from sameface.gallery.keys import KeySource
from sameface.gallery.people import decode_crop, encode_crop
from sameface.gallery.search import SearchIndex
from sameface.gallery.sqlite.rows import RowCache
from sameface.gallery.sqlite.schema import APPLICATION_ID, MIGRATIONS
from sameface.gallery.vault import Vault, add_data_key
from sameface.sqlite import WAIT_SECONDS, connect, transaction

LARGE_PAGES = 4096  # of 4 KiB, from which on a file is not written anew whenever somebody is forgotten
WRONG_FACTS = """SELECT (SELECT count(*) FROM pipeline WHERE typeof(dimension) NOT IN ('integer', 'null')
                                                       OR dimension NOT BETWEEN 1 AND 65536)
                      + (SELECT count(*) <> 1 OR sum(typeof(last) <> 'integer'
                                                     OR typeof(clock) NOT IN ('integer', 'null')) > 0
                         FROM numbers)"""
BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
COMPANIONS = ("-wal", "-shm", "-journal")  # endings of the files that SQLite keeps beside a database
OLD_INDEX = ("-codes", "-codes.new")  # of the search index that versions up to 0.1.0 kept beside a large gallery
CLOSED_CODES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class SqliteDatabase:
    """One connection to a gallery file, for any number of threads; a `Backend`."""

    row_column = "embedding"
    adapted_column = "adapted"

    def __init__(self, path: str, connection: sqlite3.Connection, key: KeySource | None = None) -> None:
        self.path = path
        self.vault = Vault(path, key, self.read)
        self.lock = threading.RLock()
        self._connection = connection
        self._rows = RowCache(self)
        self._compact = False

    @classmethod
    def open(cls, path: str, key: KeySource | None = None, *, create: bool) -> Self:
        """Open the file and bring its tables to this version.

        Args:
            path: The file.
            key: Opens what is encrypted in it. A file in which nobody was ever enrolled is encrypted with it.
            create: Make it if it is not there.

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
            database._check_facts()
            if key is not None:
                database._open_vault(key)
            delete_restoring(path)
            delete_old_index(path)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def file(self) -> str:
        """The file."""
        return self.path

    @property
    def is_trial(self) -> bool:
        """It is an upgrade that nobody confirmed yet."""
        return bool(self.read("SELECT 1 FROM upgrade"))

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.lock, translated(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction: all of it is committed, or on an error nothing."""
        with self._writing() as connection:
            self._check_version()
            yield connection

    def pack(self, *, whole: bool = False) -> bool:
        """Leave nothing of deleted rows in the files; False if another program prevents it.

        A small file is written anew. In a large one rows were overwritten where they were deleted
        (`secure_delete`), but copies that SQLite made of them may stay in unused parts of its pages.

        Args:
            whole: Write a large file anew too.
        """
        self._rows.clear()
        with self.write() as db:
            db.execute("DELETE FROM changes WHERE id < (SELECT max(id) FROM changes)")
        [(pages,)] = self.read("PRAGMA page_count")
        self._compact = whole or pages <= LARGE_PAGES
        return self.rewrite() if self._compact else self._empty_log()

    def rewrite(self) -> bool:
        """Write the file anew with nothing but live rows in it; False if another program prevents it."""
        self.read("VACUUM")
        return self._empty_log()

    def packed_places(self) -> dict[str, bool]:
        """Return where the last `pack` went, and whether it left nothing there."""
        return {"table": self._compact, "log": True}

    def _empty_log(self) -> bool:
        """Move everything from the log into the file; False if another program prevents it."""
        [(busy, *_)] = self.read("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def check_key(self) -> None:
        """Raise unless embeddings can be read and written."""
        self.vault.check()

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:  # noqa: ARG002
        """Return the column that holds a row; the signature is the whole file's."""
        return {"embedding": self.vault.seal("embedding", number, row.tobytes())}

    def decode_rows(self, numbers: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return rows from their bytes."""
        return [np.frombuffer(row, np.float32) for row in self.vault.open("embedding", numbers, values)]

    def encode_template(self, person: int, row: Embeddings) -> bytes:
        """Return the bytes of a person's template."""
        return self.vault.seal("template", person, row.tobytes())

    def decode_templates(self, people: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return templates from their bytes."""
        return [np.frombuffer(row, np.float32) for row in self.vault.open("template", people, values)]

    def encode_crop(self, number: int, crop: Image) -> bytes:
        """Return the bytes of a crop."""
        return self.vault.seal("crop", number, encode_crop(crop))

    def decode_crop(self, number: int, value: bytes) -> Image:
        """Return a crop from its bytes."""
        return decode_crop(self.vault.open("crop", [number], [value])[0])

    def stack_rows(self, numbers: Sequence[int], kept: Sequence[bytes], width: int) -> Embeddings:
        """Return rows, `(n, width) float32`, from what the file keeps of these faces."""
        return stack_rows(self.path, self.vault.open("embedding", numbers, kept), width)

    def load(self, signature: str) -> SearchIndex:
        """Return the rows of all faces as they are now."""
        return self._rows.load(signature)

    def version_of_data(self) -> tuple[int, int]:
        """Return a mark that changes when this or another connection has written."""
        with self.lock:
            [(others,)] = self.read("PRAGMA data_version")
            return int(others), self._connection.total_changes

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read as of one moment, whoever writes meanwhile."""
        with self.lock, translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def _open_vault(self, key: KeySource) -> None:
        """Make sure that the key opens the file; one that was never used is encrypted with it."""
        if self._is_unused():
            wrapping = key.read()
            with self.write() as db:
                if self._is_unused():  # unless another program was faster
                    add_data_key(db, self.path, wrapping)
        self.vault.check()

    def _is_unused(self) -> bool:
        """Return whether nobody was ever enrolled, and nobody has decided to encrypt it."""
        return not self.vault.is_sealed and not self.read("SELECT 1 FROM pipeline")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction, whatever version the tables have."""
        with self.lock, translated(self.path), transaction(self._connection):
            yield self._connection

    def _check_version(self) -> None:
        """Raise if another program has given the file newer tables since it was opened."""
        [(version,)] = self.read("PRAGMA user_version")
        if version != len(MIGRATIONS):
            reason = f"another sameface gave it version {version}, this one writes {len(MIGRATIONS)}"
            raise GalleryFileError(self.path, reason)

    def _migrate(self) -> None:
        """Bring the tables to this version."""
        version = self._version_of_tables()
        check_not_turned(self.path, self.read("SELECT signature FROM pipeline") if version else [])
        if version < len(MIGRATIONS):
            with self._writing() as db:
                for number in range(self._version_of_tables(), len(MIGRATIONS)):
                    migrate(db, number)

    def _check_facts(self) -> None:
        """Raise if what every write relies on cannot be right."""
        [(wrong,)] = self.read(WRONG_FACTS)
        if wrong:
            raise GalleryFileError(self.path, "damaged: width or last number cannot be right: take a backup")

    def _version_of_tables(self) -> int:
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


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
            raise GalleryBusyError(path, "a backup has just taken its place: open it again") from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY_CODES:
            raise GalleryBusyError(path, f"waited {WAIT_SECONDS:.0f} s for another program") from error
        if code in CLOSED_CODES:
            reason = f"{error}: file and folder must be writable, also for a search"
            raise GalleryFileError(path, reason) from error
        raise GalleryFileError(path, str(error)) from error
    except sqlite3.ProgrammingError as error:
        raise ValueError(f"gallery {path!r}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # of a damaged schema the message is no text
        raise GalleryFileError(path, f"{error}: is it a gallery file?") from error


def make_private_file(path: str) -> None:
    """Make an empty file that only its owner may read or write."""
    try:
        make_private(Path(path))
    except OSError as error:
        raise GalleryFileError(path, f"cannot make it: {error.strerror}") from error


def restoring_path(path: str) -> str:
    """Return where a backup is prepared to take the place of a gallery."""
    return f"{path}.restoring"


def delete_restoring(path: str) -> None:
    """Delete what a killed restore has left beside a gallery that is open: none is under way then."""
    try:
        delete_files(restoring_path(path))
    except OSError as error:
        reason = f"cannot delete it, and a restore that was killed has left it: {error.strerror}"
        raise GalleryFileError(restoring_path(path), reason) from error


def delete_old_index(path: str) -> None:
    """Delete the index that an earlier version kept beside a gallery: it holds codes of embeddings."""
    for ending in OLD_INDEX:
        try:
            delete_file(path + ending)
        except OSError as error:
            reason = f"cannot delete it, and it holds codes of faces: {error.strerror}"
            raise GalleryFileError(path + ending, reason) from error


def delete_files(path: str) -> None:
    """Delete a database and what lies beside it."""
    delete_companions(path)
    delete_file(path)


def delete_companions(path: str) -> None:
    """Delete the log of a database, and an old index."""
    for ending in COMPANIONS + OLD_INDEX:
        delete_file(path + ending)


def delete_file(path: str) -> None:
    """Delete a file if it is there; on a read-only disk even to delete what is missing is an error."""
    if Path(path).exists():
        Path(path).unlink(missing_ok=True)


def migrate(db: sqlite3.Connection, number: int) -> None:
    """Take the tables from version `number` to the next, inside the transaction that is open."""
    statement = ""
    for part in MIGRATIONS[number].split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # a trigger holds a semicolon
            db.execute(statement)
            statement = ""
    db.execute(f"PRAGMA user_version = {number + 1}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


COPIES = 3  # of a file that its log may hold: a transaction over all rows, VACUUM, and what values grow by
LEAST = 1 << 20  # bytes
MEGABYTE = 1e6


def check_space(path: str) -> None:
    """Raise unless the disk has room for a change of every row of a gallery file, and for VACUUM after it.

    Raises:
        GalleryFileError: It has not.
    """
    sizes = [each.stat().st_size for each in (Path(path), Path(f"{path}-wal")) if each.exists()]
    wanted, free = COPIES * sum(sizes) + LEAST, shutil.disk_usage(Path(path).absolute().parent).free
    if free < wanted:
        reason = f"this takes {wanted / MEGABYTE:.0f} MB of free space beside it, given {free / MEGABYTE:.0f} MB"
        raise GalleryFileError(path, f"{reason}: nothing is changed; make room and try again")


def clean_up(act: Callable[[], bool], left: str) -> str | None:
    """Clean up after a change that is committed: whatever goes wrong then is no failure of the change.

    Args:
        act: Returns False where another program prevents it.
        left: What stays where it fails, in words.

    Returns:
        A warning; None if it is done.
    """
    try:
        reason = None if act() else "another program reads an older view of the file"
    except (SamefaceError, OSError, MemoryError, KeyboardInterrupt) as error:
        reason = str(error) or type(error).__name__
    if reason is None:
        return None
    return f"the change is done, but {left} ({reason}): say `sameface gallery compact` later"


def stack_rows(path: str, blobs: Sequence[bytes], width: int) -> Embeddings:
    """Return rows, `(n, width) float32`, from their bytes in a gallery.

    Raises:
        GalleryFileError: One of them is no row of this width.
    """
    with undamaged(path, "an embedding"):
        for blob in blobs:
            expect_type(blob, bytes)
            if len(blob) != 4 * width:
                raise ValueError(f"an embedding must have {width} numbers, got {len(blob)} bytes")
        return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), width)
