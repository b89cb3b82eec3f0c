"""A gallery in two places: people in a database, which is the truth, and their faces in Milvus, to search.

A change is one transaction of the database, in which triggers note the numbers of the faces that it touches.
What is noted is sent afterwards, and the note deleted in a transaction that holds off other writers. If
anything breaks in between, the note is still there, and the next who writes or searches sends it; to send it
twice does nothing. A search sends what is noted before it asks, reads what Milvus has found in the database,
and passes over what is not there: so who was enrolled is found, and who was deleted is not, whatever broke.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from sameface.arrays import Embeddings, Image
from sameface.gallery.address import MilvusAddress
from sameface.gallery.backend import Backend, Row, Transaction
from sameface.gallery.errors import (
    EncryptionError,
    GalleryBusyError,
    GalleryFileError,
    GalleryUnreachableError,
    MissingKeyError,
)
from sameface.gallery.milvus.nearest import MilvusIndex
from sameface.gallery.milvus.outbox import POSTGRES, SQLITE, make_outbox, read_state
from sameface.gallery.milvus.vectors import Vectors
from sameface.gallery.search import SearchIndex

logger = logging.getLogger(__name__)

SENT_AT_ONCE = 1000
UNSENT = "SELECT 1 FROM milvus_unsent LIMIT 1"


class MilvusDatabase:
    """People in a database of theirs, and their faces in Milvus; a `Backend`."""

    def __init__(self, address: MilvusAddress, people: Backend) -> None:
        check_plain(address, people)
        self.path = address.shown
        self.row_column = people.row_column
        self.adapted_column = people.adapted_column
        self._people = people
        self._dialect = POSTGRES if address.in_postgres else SQLITE
        stem = f"{address.collection}_{address.index}"
        name = make_outbox(people, self._dialect, stem)
        if name.rpartition("_")[0] != stem:
            reason = (
                f"its faces are in the collection {name!r}: give the address that it was made with, or say "
                "DELETE FROM milvus_index in the database of people, and drop that collection"
            )
            raise GalleryFileError(address.shown, reason)
        self._vectors = Vectors(address, name)
        self._checking = threading.Lock()
        self._checked = False

    def close(self) -> None:
        """Close both connections."""
        self._vectors.close()
        self._people.close()

    @property
    def is_trial(self) -> bool:
        """It is an upgrade that nobody confirmed yet."""
        return self._people.is_trial

    def read(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query on people."""
        return self._people.read(query, *values)

    def snapshot(self) -> AbstractContextManager[None]:
        """Hold one moment of the database of people."""
        return self._people.snapshot()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold one transaction on people, and tell Milvus afterwards.

        Raises:
            GalleryUnreachableError: Milvus is away, and lacks an earlier change; nothing is changed.
        """
        self._send()
        with self._people.write() as db:
            yield db
        try:
            self._send()
        except GalleryUnreachableError as error:
            logger.warning("the change is kept, and sent to Milvus later: %s", error)

    def check_key(self) -> None:
        """Do nothing: people who are encrypted are not let in."""

    def encode_row(self, number: int, row: Embeddings, signature: str) -> dict[str, object]:
        """Return the columns that hold a row in the database of people."""
        return self._people.encode_row(number, row, signature)

    def decode_rows(self, numbers: Sequence[int], values: Sequence[object]) -> list[Embeddings]:
        """Return rows from what the database of people gives."""
        return self._people.decode_rows(numbers, values)

    def encode_template(self, person: int, row: Embeddings) -> object:
        """Return what the database of people keeps of a template."""
        return self._people.encode_template(person, row)

    def decode_templates(self, people: Sequence[int], values: Sequence[object]) -> list[Embeddings]:
        """Return templates from what the database of people gives."""
        return self._people.decode_templates(people, values)

    def encode_crop(self, number: int, crop: Image) -> bytes:
        """Return what the database of people keeps of a crop."""
        return self._people.encode_crop(number, crop)

    def decode_crop(self, number: int, value: bytes) -> Image:
        """Return a crop from what the database of people gives."""
        return self._people.decode_crop(number, value)

    def load(self, signature: str) -> SearchIndex:
        """Return who is enrolled now, once Milvus knows them all."""
        state = read_state(self._people, self._dialect, signature)
        if state.faces:
            self._check()
            self._send()
        return MilvusIndex(self._people, self._dialect, self._vectors, state)

    def pack(self, *, whole: bool = False) -> dict[str, bool]:
        """Delete in Milvus what was deleted here, and pack the database of people.

        Milvus keeps the bytes until it compacts its own files.
        """
        try:
            places = self._people.pack(whole=whole)
        finally:
            self._send_deletions()
        return places | {"milvus": False}

    def _send_deletions(self) -> None:
        try:
            self._send()
        except GalleryUnreachableError as error:
            reason = f"who was deleted is not found any more, but stays in Milvus: forget again; {error.reason}"
            raise GalleryBusyError(self.path, reason) from error

    def _send(self) -> None:
        """Send what is noted, if there is anything."""
        if self._people.read(UNSENT):
            self._vectors.reach()
            self._check()
            self._drain()

    def _drain(self) -> None:
        """Send what is noted, so much at a time that other writers get their turns."""
        while self._people.read(UNSENT):
            with self._people.write() as db:
                self._send_some(db)

    def _send_some(self, db: Transaction) -> None:
        """Put or delete the first faces that are noted, and delete the notes, while nobody else writes."""
        query = f"""SELECT face_id, faces.id, {self.row_column} FROM milvus_unsent
                    LEFT JOIN faces ON faces.id = face_id ORDER BY face_id LIMIT {SENT_AT_ONCE}"""
        noted = db.execute(query).fetchall()
        numbers = [number for number, face, _ in noted if face is not None]
        kept = [row for _, face, row in noted if face is not None]
        self._vectors.put(numbers, self.decode_rows(numbers, kept))
        self._vectors.delete([number for number, face, _ in noted if face is None])
        if noted:
            db.execute("DELETE FROM milvus_unsent WHERE face_id <= ?", (noted[-1][0],))

    def _check(self) -> None:
        """See once that Milvus has all faces and no others; if not, make the collection anew."""
        with self._checking:
            if self._checked:
                return
            self._vectors.reach()
            with self._people.write() as db:
                (dimension,) = db.execute("SELECT dimension FROM pipeline").fetchone()
                if self._vectors.dimension() != dimension:
                    self._begin_anew(db, dimension)
            self._drain()
            with self._people.write() as db:
                (faces,) = db.execute("SELECT faces FROM milvus_index").fetchone()
                if not db.execute(UNSENT).fetchone() and self._vectors.count() != faces:
                    logger.warning("collection %r lacks faces, or has others: all are sent anew", self._vectors.name)
                    self._begin_anew(db, dimension)
            self._drain()
            self._checked = True

    def _begin_anew(self, db: Transaction, dimension: int) -> None:
        """Make the collection without faces, and note that all are to be sent."""
        self._vectors.make(dimension)
        db.execute("INSERT INTO milvus_unsent SELECT id FROM faces WHERE true ON CONFLICT DO NOTHING")


def check_plain(address: MilvusAddress, people: Backend) -> None:
    """Raise if the rows are encrypted in the database of people: Milvus would hold them in plain."""
    try:
        people.check_key()
    except MissingKeyError as error:
        reason = (
            "its people are in an encrypted file, and Milvus would hold their rows in plain: give the file "
            "itself as the gallery, or decrypt it first and encrypt the disks"
        )
        raise EncryptionError(address.shown, reason) from error
