"""Embeddings in and out of PostgreSQL, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.gallery.errors import SignatureError
from sameface.gallery.postgres.schema import Connection
from sameface.gallery.search import Rows, leave_out_unusable
from sameface.gallery.thresholds import decode_thresholds
from sameface.thresholds import Thresholds

HEADER = 4  # bytes before the numbers in what pgvector sends

Kind = TypeVar("Kind", bound=np.generic)


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


def read_rows(connection: Connection, shown: str, signature: str, known: Rows | None) -> Rows:
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
        if known is None or not known.faces or state.rewritten > known.version[0]:
            empty = np.empty((0, state.dimension or 0), np.float32)
            known = Rows((0, 0), {}, np.empty(0, np.int64), empty, None, None, None)
        return append_rows(connection, known, state)


def append_rows(connection: Connection, known: Rows, state: PostgresState) -> Rows:
    """Return the rows with those that were added, inside the transaction that is open."""
    after = known.version[1]
    query = """SELECT greatest((SELECT last FROM numbers), max(id)), count(*) FROM faces WHERE id > %s"""
    [(last, more)] = connection.execute(query, (after,)).fetchall()
    names: dict[int, str] = dict(connection.execute("SELECT id, name FROM people WHERE id > %s", (after,)).fetchall())
    count = known.faces + more
    owners, matrix = make_room(known.owners, more), make_room(known.matrix, more)
    query = "SELECT person_id, vector_send(embedding) FROM faces WHERE id > %s ORDER BY id"
    with connection.cursor() as cursor:
        found = cursor.stream(query, (after,), binary=True)
        for place, (owner, sent) in enumerate(found, known.faces):
            owners[place] = owner
            matrix[place] = np.frombuffer(sent, ">f4", offset=HEADER)
    new = slice(known.faces, count)
    matrix[new], owners[new] = leave_out_unusable(matrix[new], owners[new])
    version = (state.revision, int(last))
    return Rows(version, {**known.names, **names}, owners[:count], matrix[:count], None, state.own, None)


def make_room(known: NDArray[Kind], more: int) -> NDArray[Kind]:
    """Return an array that begins with the known rows and has room for more.

    It is the one that the known rows are a view of, if that has room: so that one more row does not copy a
    million. Nobody else writes past the end of the known rows.
    """
    count = len(known) + more
    whole: Any = known.base
    if isinstance(whole, np.ndarray) and whole.shape[1:] == known.shape[1:] and len(whole) >= count:
        return whole
    spare = count // 2 if len(known) else 0
    whole = np.empty((count + spare, *known.shape[1:]), known.dtype)
    whole[: len(known)] = known
    return cast("NDArray[Kind]", whole)
