"""A gallery in PostgreSQL: transactions, rows in memory, and the approximate search with an index."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psycopg

from sameface.arrays import Embeddings, Image, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.address import PostgresAddress
from sameface.gallery.backend import TRACES, Row, Transaction, decode_crop, encode_crop
from sameface.gallery.decision import Candidates, Limits, SearchIndex, SearchOptions, leave_out_unusable
from sameface.gallery.errors import GalleryBusyError, SignatureError
from sameface.gallery.index import EmbeddingTable, FlatIndex
from sameface.gallery.postgres import connections
from sameface.gallery.postgres.connections import CANDIDATES, Connections, connect, translated
from sameface.gallery.postgres.schema import Connection, prepare
from sameface.gallery.stored_thresholds import decode_thresholds
from sameface.thresholds import Thresholds

logger = logging.getLogger(__name__)

HEADER = 4  # bytes before the numbers in what pgvector sends
LARGEST = 16 * CANDIDATES  # faces of a search, where a few people have very many
SMALL = "SELECT to_regclass('faces_nearest') IS NULL AND to_regclass('milvus_index') IS NULL"
OWNED = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('faces')"
UNSURE = "the connection was lost while the change was committed, so that it may be done or not: "
INDEX = """CREATE INDEX IF NOT EXISTS faces_nearest ON faces
           USING hnsw ((embedding::halfvec({0})) halfvec_ip_ops)"""
NEAREST = """SELECT near.id, person_id, name, vector_send(embedding) FROM (
                 SELECT id, person_id, embedding FROM faces
                 ORDER BY embedding::halfvec({0}) <#> %s::halfvec({0}) LIMIT %s
             ) AS near JOIN people ON people.id = person_id ORDER BY near.id"""


class PostgresDatabase:
    """A pool of connections to one gallery, for any number of threads; a `Backend`."""

    row_column = "vector_send(embedding)"
    adapted_column = "0"
    is_trial = False  # no upgrade is made in PostgreSQL

    def __init__(self, pool: Connections) -> None:
        self.path = pool.address.shown
        self._connections = pool
        self._indexed = pool.address.indexed
        self._loading = threading.Lock()
        self._rows: LoadedRows | None = None
        self._counted: tuple[int, int] | None = None  # a revision, and the number of faces at it

    @classmethod
    def open(cls, place: str, *, create: bool) -> Self:
        """Connect, and bring the tables to this version; make them if `create` is true."""
        address = PostgresAddress.parse(place)
        with connect(address) as connection, translated(address, connection):
            prepare(connection, address, create=create)
        return cls(Connections(address))

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query."""
        return self._connections.run(
            lambda connection: connection.execute(native(query), values, binary=True).fetchall()
        )

    def snapshot(self) -> AbstractContextManager[None]:
        """Do nothing: values are not encrypted here."""
        return nullcontext()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold one transaction; other writers wait, so that numbers follow the order of the commits."""
        address = self._connections.address
        with self._connections.lend() as connection:
            with translated(address, connection, "nothing was changed: "):
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM sameface_gallery FOR UPDATE")
                yield PostgresTransaction(connection)
            with translated(address, connection, UNSURE):
                connection.execute("COMMIT")

    def check_key(self) -> None:
        """Do nothing: values are not encrypted here."""

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:  # noqa: ARG002
        """Return the columns of a face that hold its embedding and its pipeline."""
        return {"embedding": format_vector(row), "signature": signature}

    def decode_rows(self, numbers: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:  # noqa: ARG002
        """Return embeddings from the bytes of `vector_send`."""
        return [parse_vector(value) for value in values]

    def encode_template(self, person: int, row: Embeddings) -> str:  # noqa: ARG002
        """Return a template as pgvector reads it."""
        return format_vector(row)

    def decode_templates(self, people: Sequence[int], values: Sequence[bytes]) -> list[Embeddings]:
        """Return templates from the bytes of `vector_send`."""
        return self.decode_rows(people, values)

    def encode_crop(self, number: int, crop: Image) -> bytes:  # noqa: ARG002
        """Return a crop as a PNG file."""
        return encode_crop(crop)

    def decode_crop(self, number: int, value: bytes) -> Image:  # noqa: ARG002
        """Return a crop from its PNG file."""
        return decode_crop(value)

    def load(self, signature: str) -> SearchIndex:
        """Return the faces to search: every row in memory, or the index of the database."""
        state = self._connections.run(lambda each: read_state(each, self.path, signature))
        if self._indexed and state.dimension is not None:
            self._make_index(state.dimension)
            return PostgresIndex(self._connections, self._count(state.revision), state.dimension, state.own)
        with self._loading:
            known = self._rows
            if known is None or known.revision != state.revision:
                known = self._connections.run(lambda each: read_rows(each, self, signature, self._rows))
                self._rows = known
            return known.index

    def pack(self, *, whole: bool = False) -> dict[str, bool]:  # noqa: ARG002
        """Write the tables anew without deleted rows: only that removes their bytes, and none from the log.

        With an index here or in Milvus the tables are too large to copy: VACUUM only frees the space.
        """
        self._rows = None
        try:
            unseen = self._connections.run(await_readers)
            self._connections.run(vacuum)
        except GalleryBusyError:
            unseen = False
        if not unseen:
            raise GalleryBusyError(self.path, f"{TRACES}: forget again")
        return {"table": self.read(SMALL) == self.read(OWNED) == [(True,)], "log": False}

    def _make_index(self, dimension: int) -> None:
        """Build the index if it is missing; writers wait for it."""
        if not self.read("SELECT 1 WHERE to_regclass('faces_nearest') IS NOT NULL"):
            with self.write() as db:
                db.execute(INDEX.format(dimension))

    def _count(self, revision: int) -> int:
        """Return the number of faces, counted once a revision."""
        counted = self._counted
        if counted is None or counted[0] != revision:
            [(faces,)] = self.read("SELECT count(*) FROM faces")
            counted = self._counted = (revision, int(faces))
        return counted[1]


class PostgresTransaction:
    """An open transaction, for statements with `?` for a value."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run one statement."""
        return self._connection.execute(native(query), values, binary=True)


@dataclass(frozen=True, slots=True, eq=False)
class PostgresIndex:
    """Faces that stay in the database: candidates by half-precision vectors, ranked by float32."""

    connections: Connections
    faces: int
    dimension: int
    own: Thresholds | None
    mixed: Thresholds | None = None  # there are no adapted rows

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:  # noqa: ARG002
        """Yield the faces near each probe: so many that they hold `k` and those of `most` people.

        If they belong to too few people, take four times as many, up to `LARGEST`.
        """
        expect_shape("rows", probes, ("n", self.dimension), np.float32)
        for probe in probes:
            wanted = max(CANDIDATES, 4 * max(options.k, options.most))
            near = self._find(probe, wanted).without(options.hidden)
            while len(np.unique(near.owners)) < options.most and wanted < min(self.faces, LARGEST):
                wanted *= 4
                near = self._find(probe, wanted).without(options.hidden)
            yield near

    def _find(self, probe: Embeddings, wanted: int) -> Candidates:
        """Return the faces that the index gives, in the order of enrolment, with their exact distances."""
        query, values = NEAREST.format(self.dimension).encode(), (format_vector(probe), wanted)
        found = self.connections.run(lambda each: each.execute(query, values, binary=True).fetchall())
        matrix = np.array([parse_vector(sent) for *_, sent in found], np.float32).reshape(len(found), -1)
        matrix, owners = leave_out_unusable(matrix, np.array([owner for _, owner, _, _ in found], np.int64))
        names = {owner: name for _, owner, name, _ in found}
        return Candidates(exact_distances(probe, matrix), owners, names)


@dataclass(frozen=True, slots=True)
class PostgresState:
    """The version of the data, and what a search needs before it reads rows."""

    revision: int  # grows with every change
    rewritten: int  # the revision of the last change that did anything but add
    dimension: int | None
    own: Thresholds | None


def read_state(connection: Connection, path: str, signature: str) -> PostgresState:
    """Return the current state; `SignatureError` if the rows are not of this pipeline."""
    query = b"""SELECT signature, revision, rewritten, dimension, (SELECT thresholds FROM calibration)
                FROM sameface_gallery CROSS JOIN pipeline"""
    found = connection.execute(query).fetchone()
    known = "none" if found is None else str(found[0])
    if found is None or known != signature:
        raise SignatureError(path, known, signature)
    _, revision, rewritten, dimension, thresholds = found
    return PostgresState(revision, rewritten, dimension, decode_thresholds(path, thresholds))


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRows:
    """Every row in memory, as of one moment."""

    revision: int
    last: int  # the last number of a person or face by then
    index: FlatIndex


def read_rows(
    connection: Connection, database: PostgresDatabase, signature: str, known: LoadedRows | None
) -> LoadedRows:
    """Return every row as of one moment; read only those that are not in `known`."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        state = read_state(connection, database.path, signature)
        table, after = EmbeddingTable.empty(state.dimension or 0), 0
        if known is not None and known.index.faces and state.rewritten <= known.revision:
            table, after = known.index.table, known.last
        query = "SELECT greatest((SELECT last FROM numbers), max(id)), count(*) FROM faces WHERE id > %s"
        [(last, count)] = connection.execute(query, (after,)).fetchall()
        table = table.join(read_new(connection, after, (count, table.matrix.shape[1])))
        return LoadedRows(state.revision, int(last), FlatIndex(database, table, state.own, None))


def read_new(connection: Connection, after: int, shape: tuple[int, int]) -> EmbeddingTable:
    """Return the faces behind the face `after`, `shape` of them, inside the open transaction."""
    numbers, matrix = np.empty((shape[0], 2), np.int64), np.empty(shape, np.float32)
    query = "SELECT id, person_id, vector_send(embedding) FROM faces WHERE id > %s ORDER BY id"
    with connection.cursor() as cursor:
        for place, (*ids, sent) in enumerate(cursor.stream(query, (after,), binary=True)):
            numbers[place] = ids
            matrix[place] = np.frombuffer(sent, ">f4", offset=HEADER)
    keys, owners = numbers.T
    matrix, owners = leave_out_unusable(matrix, owners)
    return EmbeddingTable(keys, owners, matrix, np.ones(len(keys), np.int64), np.zeros(len(keys), np.bool_))


def format_vector(row: Embeddings) -> str:
    """Return a row as pgvector reads it: the shortest decimals that give the same float32 again."""
    return f"[{','.join(map(repr, row.tolist()))}]"


def parse_vector(sent: bytes) -> Embeddings:
    """Return a row from the bytes of `vector_send`: a header, then big-endian numbers."""
    return np.frombuffer(sent, ">f4", offset=HEADER).astype(np.float32)


def native(query: str) -> bytes:
    """Return a statement with psycopg's placeholders instead of `?`."""
    return query.replace("%", "%%").replace("?", "%s").encode()


def await_readers(connection: Connection) -> bool:
    """Wait until no transaction sees rows deleted by now; return False after `WAIT_SECONDS`."""
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
    """Remove deleted rows; log a warning where only the owner of the tables may."""
    warnings: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(str(notice.message_primary))

    [(small,)] = connection.execute(SMALL).fetchall()
    connection.add_notice_handler(note)
    try:
        connection.execute(f"VACUUM {'(FULL) ' if small else ''}faces, people, pictures, templates".encode())
    finally:
        connection.remove_notice_handler(note)
    for words in warnings:
        logger.warning("deleted rows stay on the disk until the tables' owner vacuums them: %s", words)
