"""The PostgreSQL database under a gallery: for a team, any number of machines and programs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import psycopg

from sameface.arrays import Embeddings, Image
from sameface.gallery.address import PostgresAddress
from sameface.gallery.backend import Cursor, Row, Transaction
from sameface.gallery.errors import GalleryBusyError
from sameface.gallery.faces import decode_crop, encode_crop
from sameface.gallery.index import FlatIndex
from sameface.gallery.postgres import connections, rows
from sameface.gallery.postgres.connections import Connections, connect, translated
from sameface.gallery.postgres.nearest import INDEX, PostgresIndex
from sameface.gallery.postgres.schema import Connection, prepare
from sameface.gallery.search import SearchIndex

logger = logging.getLogger(__name__)

SMALL = "SELECT to_regclass('faces_nearest') IS NULL AND to_regclass('milvus_index') IS NULL"
UNSURE = "the connection was lost while the change was committed, so that it may be done or not: "


class PostgresDatabase:
    """A pool of connections to one gallery, for any number of threads; a `Backend`."""

    row_column = "vector_send(embedding)"
    adapted_column = "0"
    file = None
    is_trial = False  # no upgrade is made in PostgreSQL

    def __init__(self, pool: Connections) -> None:
        self.path = pool.address.shown
        self._connections = pool
        self._indexed = pool.address.indexed
        self._loading = threading.Lock()
        self._rows: rows.LoadedRows | None = None
        self._counted: tuple[int, int] | None = None  # a revision, and how many faces there are at it

    @classmethod
    def open(cls, place: str, *, create: bool) -> Self:
        """Connect, and bring the tables to this version.

        Raises:
            GalleryUnreachableError: The server does not answer, or lets us not in.
            GalleryFileError: There is no gallery and none is to be made, or it is not one of this version.
            GalleryBusyError: Another program kept it locked.
        """
        address = PostgresAddress.parse(place)
        with connect(address) as connection, translated(address, connection):
            prepare(connection, address, create=create)
        return cls(Connections(address))

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query, asked once more if the connection is lost."""
        return self._connections.run(
            lambda connection: connection.execute(native(query), values, binary=True).fetchall()
        )

    def snapshot(self) -> AbstractContextManager[None]:
        """Hold nothing: no key is needed to decode."""
        return nullcontext()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold one transaction; other writers wait, so that numbers follow the order of the commits."""
        address = self._connections.address
        connection, _ = self._connections.take(begin)
        try:
            with translated(address, connection, "nothing was changed: "):
                yield PostgresTransaction(connection)
            with translated(address, connection, UNSURE):
                connection.execute("COMMIT")
        finally:
            self._connections.give(connection)

    def check_key(self) -> None:
        """Do nothing: no key is needed."""

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:  # noqa: ARG002
        """Return the columns that hold a row and say which pipeline made it."""
        return {"embedding": rows.encode_row(row), "signature": signature}

    def decode_rows(self, numbers: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:  # noqa: ARG002
        """Return rows from what pgvector sends."""
        return [rows.decode_row(value) for value in values]

    def encode_template(self, person: int, row: Embeddings) -> str:  # noqa: ARG002
        """Return a template as pgvector reads it."""
        return rows.encode_row(row)

    def decode_templates(self, people: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return templates from what pgvector sends."""
        return self.decode_rows(people, values)

    def encode_crop(self, number: int, crop: Image) -> bytes:  # noqa: ARG002
        """Return the bytes of a crop."""
        return encode_crop(crop)

    def decode_crop(self, number: int, value: bytes) -> Image:  # noqa: ARG002
        """Return a crop from its bytes."""
        return decode_crop(value)

    def load(self, signature: str) -> SearchIndex:
        """Return who is enrolled now: every row in memory, or with the index none."""
        state = self._connections.run(lambda each: rows.read_state(each, self.path, signature))
        if self._indexed and state.dimension is not None:
            self._make_index(state.dimension)
            return PostgresIndex(self._connections, self._count(state.revision), state.dimension, state.own)
        with self._loading:
            known = self._rows
            if known is None or known.revision != state.revision:
                known = self._connections.run(lambda each: rows.read_rows(each, self.path, signature, self._rows))
                self._rows = known
            return FlatIndex(self, known.table, known.own, None)

    def pack(self, *, whole: bool = False) -> bool:  # noqa: ARG002
        """Write the tables anew without deleted rows; False if another program prevents it.

        With an index here or in Milvus they are too many to copy: the place of deleted rows is only freed.
        """
        self._rows = None
        try:
            unseen = self._connections.run(await_readers)
            self._connections.run(vacuum)
        except GalleryBusyError:
            return False
        return unseen

    def packed_places(self) -> dict[str, bool]:
        """Return where `pack` goes: bytes stay in tables that are not written anew, and in the log."""
        owner = """SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('faces')"""
        return {"table": self.read(SMALL) == self.read(owner) == [(True,)], "log": False}

    def _make_index(self, dimension: int) -> None:
        """Build the index unless it is there; writers wait until it is."""
        if not self.read("SELECT 1 WHERE to_regclass('faces_nearest') IS NOT NULL"):
            with self.write() as db:
                db.execute(INDEX.format(dimension))

    def _count(self, revision: int) -> int:
        """Return how many faces there are, counted again only if something has changed."""
        counted = self._counted
        if counted is None or counted[0] != revision:
            [(faces,)] = self.read("SELECT count(*) FROM faces")
            counted = self._counted = (revision, int(faces))
        return counted[1]


class PostgresTransaction:
    """A transaction that is open, for statements with `?` in them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        return self._connection.execute(native(query), values, binary=True)


def native(query: str) -> bytes:
    """Return a statement with psycopg's placeholders in the place of `?`."""
    return query.replace("%", "%%").replace("?", "%s").encode()


def begin(connection: Connection) -> None:
    """Begin a transaction, and take the lock that writers take turns in."""
    connection.execute("BEGIN")
    connection.execute("SELECT 1 FROM sameface_gallery FOR UPDATE")


def await_readers(connection: Connection) -> bool:
    """Wait until nobody sees what is deleted by now; False if somebody still does after `WAIT_SECONDS`."""
    end = time.monotonic() + connections.WAIT_SECONDS
    [(now,)] = connection.execute("SELECT age('3'::xid)").fetchall()  # how many transactions there were
    older = b"""SELECT 1 FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND datname = current_database()
                AND pid <> pg_backend_pid()
                AND greatest(age(backend_xmin), age(backend_xid)) > age('3'::xid)::bigint - %s"""
    while connection.execute(older, (now,)).fetchone():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def vacuum(connection: Connection) -> None:
    """Get rid of deleted rows, or log that it takes the owner of the tables."""
    warnings: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(str(notice.message_primary))

    [(whole,)] = connection.execute(SMALL).fetchall()
    connection.add_notice_handler(note)
    try:
        connection.execute(f"VACUUM {'(FULL) ' if whole else ''}faces, people, pictures, templates".encode())
    finally:
        connection.remove_notice_handler(note)
    for words in warnings:
        logger.warning("deleted rows stay on the disk until the tables' owner vacuums them: %s", words)
