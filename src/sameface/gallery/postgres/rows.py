"""Embeddings in and out of PostgreSQL, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sameface.arrays import Embeddings
from sameface.gallery.errors import SignatureError
from sameface.gallery.index import EmbeddingTable
from sameface.gallery.postgres.schema import Connection
from sameface.gallery.search import leave_out_unusable
from sameface.gallery.thresholds import decode_thresholds
from sameface.thresholds import Thresholds

HEADER = 4  # bytes before the numbers in what pgvector sends


@dataclass(frozen=True, slots=True)
class PostgresState:
    """What a search must know before it reads rows.

    Attributes:
        revision: Grows with every change.
        rewritten: The revision of the last change that did anything but add.
        signature: Which pipeline made the rows.
        dimension: How wide they are; None as long as there are none.
        own: The thresholds that the gallery keeps, or None.
    """

    revision: int
    rewritten: int
    signature: str
    dimension: int | None
    own: Thresholds | None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRows:
    """Every row in memory, as of one moment.

    Attributes:
        revision: The revision that they were read at.
        last: The last number that was given to a person or face by then.
        table: The rows.
        own: The thresholds that the gallery keeps, or None.
    """

    revision: int
    last: int
    table: EmbeddingTable
    own: Thresholds | None


def encode_row(row: Embeddings) -> str:
    """Return a row as pgvector reads it; the shortest decimals that give the same float32 again."""
    return f"[{','.join(map(repr, row.tolist()))}]"


def decode_row(sent: bytes) -> Embeddings:
    """Return a row from what `vector_send` gives: a header, then big-endian numbers."""
    return np.frombuffer(sent, ">f4", offset=HEADER).astype(np.float32)


def read_state(connection: Connection, shown: str, signature: str) -> PostgresState:
    """Return what the gallery is at now.

    Raises:
        SignatureError: The rows are not of this pipeline.
    """
    query = b"""SELECT revision, rewritten, signature, dimension, (SELECT thresholds FROM calibration)
                FROM sameface_gallery CROSS JOIN pipeline"""
    found = connection.execute(query).fetchone()
    theirs = "none" if found is None else str(found[2])
    if found is None or theirs != signature:
        raise SignatureError(shown, theirs, signature)
    revision, rewritten, _, dimension, facts = found
    return PostgresState(revision, rewritten, theirs, dimension, decode_thresholds(shown, facts))


def read_rows(connection: Connection, shown: str, signature: str, known: LoadedRows | None) -> LoadedRows:
    """Return every row, as of one moment; what is known already is not read again.

    Args:
        connection: Where from.
        shown: The address for messages.
        signature: Which pipeline must have made them.
        known: What was read before, or None.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        state = read_state(connection, shown, signature)
        if known is None or not len(known.table.keys) or state.rewritten > known.revision:
            known = LoadedRows(0, 0, EmbeddingTable.empty(state.dimension or 0), None)
        query = "SELECT greatest((SELECT last FROM numbers), max(id)), count(*) FROM faces WHERE id > %s"
        [(last, count)] = connection.execute(query, (known.last,)).fetchall()
        table = known.table.join(read_new(connection, known.last, (count, known.table.matrix.shape[1])))
        return LoadedRows(state.revision, int(last), table, state.own)


def read_new(connection: Connection, after: int, shape: tuple[int, int]) -> EmbeddingTable:
    """Return the rows of the faces behind the face `after`, so many and so wide, in the open transaction."""
    numbers, matrix = np.empty((shape[0], 2), np.int64), np.empty(shape, np.float32)
    query = "SELECT id, person_id, vector_send(embedding) FROM faces WHERE id > %s ORDER BY id"
    with connection.cursor() as cursor:
        for place, (*ids, sent) in enumerate(cursor.stream(query, (after,), binary=True)):
            numbers[place] = ids
            matrix[place] = np.frombuffer(sent, ">f4", offset=HEADER)
    keys, owners = numbers.T
    matrix, owners = leave_out_unusable(matrix, owners)
    return EmbeddingTable(keys, owners, matrix, np.ones(len(keys), np.int64), np.zeros(len(keys), np.bool_))
