"""A gallery in two places: people in a database, which is the truth, and embeddings in Milvus, to search.

A change is one transaction of the database, in which triggers note the numbers of the changed faces (an outbox).
After the commit the noted faces are sent, and the notes deleted in a transaction that holds off other writers. After
a failure in between the note is still there, and the next writer or search sends it; sending twice does nothing. A
search sends what is noted first, reads the faces that Milvus finds from the database, and drops those that are gone.
So it finds everybody enrolled and nobody deleted, whatever failed.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.address import MilvusAddress
from sameface.gallery.backend import Backend, Row, Transaction
from sameface.gallery.decision import (
    PROBES,
    Candidates,
    Limits,
    SearchIndex,
    SearchOptions,
    leave_out_unusable,
    rounding,
    scale_distances,
)
from sameface.gallery.errors import (
    EncryptionError,
    GalleryBusyError,
    GalleryFileError,
    GalleryUnreachableError,
    MissingKeyError,
    SignatureError,
)
from sameface.gallery.milvus.collection import MOST, MilvusCollection
from sameface.gallery.stored_thresholds import decode_thresholds
from sameface.thresholds import Thresholds

logger = logging.getLogger(__name__)

CANDIDATES = 64
AT_ONCE = 10_000  # values in a statement; SQLite takes 32,766, PostgreSQL 65,535
SENT_AT_ONCE = 1000
UNSENT = "SELECT 1 FROM milvus_unsent LIMIT 1"
NOTE_ALL = "INSERT INTO milvus_unsent SELECT id FROM faces WHERE true ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The statements that differ between the databases of people."""

    there: str  # finds a row if the tables are there
    tables: tuple[str, ...]  # makes them and the triggers
    mixed: str  # selects the thresholds for adapted rows, if there are such rows


# Triggers note each changed face. `milvus_index.faces` is their number: to count a million takes too long.
SQLITE = Dialect(
    there="SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'",
    tables=(
        """CREATE TABLE milvus_index (
               id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, faces INTEGER NOT NULL)""",
        "CREATE TABLE milvus_unsent (face_id INTEGER PRIMARY KEY)",
        """CREATE TRIGGER milvus_added AFTER INSERT ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (new.id);
               UPDATE milvus_index SET faces = faces + 1;
           END""",
        """CREATE TRIGGER milvus_deleted AFTER DELETE ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (old.id);
               UPDATE milvus_index SET faces = faces - 1;
           END""",
        """CREATE TRIGGER milvus_changed AFTER UPDATE OF embedding ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (new.id);
           END""",
    ),
    mixed="SELECT thresholds FROM adapted WHERE EXISTS (SELECT 1 FROM faces WHERE adapted)",
)
POSTGRES = Dialect(
    there="SELECT 1 WHERE to_regclass('milvus_index') IS NOT NULL",
    tables=(
        """CREATE TABLE milvus_index (
               id integer PRIMARY KEY CHECK (id = 1), name text NOT NULL, faces bigint NOT NULL)""",
        "CREATE TABLE milvus_unsent (face_id bigint PRIMARY KEY)",
        """CREATE FUNCTION milvus_note() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
               EXECUTE format('INSERT INTO %I.milvus_unsent SELECT id FROM changed ON CONFLICT DO NOTHING',
                              TG_TABLE_SCHEMA);
               EXECUTE format('UPDATE %I.milvus_index
                               SET faces = faces + %s * (SELECT count(*) FROM changed)',
                              TG_TABLE_SCHEMA, TG_ARGV[0]);
               RETURN NULL;
           END $$""",
        """CREATE TRIGGER milvus_added AFTER INSERT ON faces REFERENCING NEW TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('1')""",
        """CREATE TRIGGER milvus_deleted AFTER DELETE ON faces REFERENCING OLD TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('-1')""",
        """CREATE TRIGGER milvus_changed AFTER UPDATE ON faces REFERENCING NEW TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('0')""",
    ),
    mixed="SELECT '' WHERE false",  # no upgrade is made in PostgreSQL
)


class MilvusDatabase:
    """People in another database, and their embeddings in Milvus; a `Backend`."""

    def __init__(self, address: MilvusAddress, people: Backend) -> None:
        check_plain(address, people)
        self.path = address.shown
        self.row_column, self.adapted_column = people.row_column, people.adapted_column
        self.read, self.snapshot = people.read, people.snapshot
        self.encode_row, self.decode_rows = people.encode_row, people.decode_rows
        self.encode_template, self.decode_templates = people.encode_template, people.decode_templates
        self.encode_crop, self.decode_crop = people.encode_crop, people.decode_crop
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
        self._collection = MilvusCollection(address, name)
        self._checking = threading.Lock()
        self._checked = False

    def close(self) -> None:
        """Close both connections."""
        self._collection.close()
        self._people.close()

    @property
    def is_trial(self) -> bool:
        """Whether it is an upgrade that is not confirmed."""
        return self._people.is_trial

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold one transaction on people, and send the changes to Milvus afterwards.

        If Milvus is away and lacks an earlier change too, raise `GalleryUnreachableError` and change nothing.
        """
        self._send()
        with self._people.write() as db:
            yield db
        try:
            self._send()
        except GalleryUnreachableError as error:
            logger.warning("the change is kept, and sent to Milvus later: %s", error)

    def check_key(self) -> None:
        """Do nothing: encrypted people are refused."""

    def load(self, signature: str) -> SearchIndex:
        """Return the index, once Milvus has every face."""
        index = read_index(self._people, self._dialect, self._collection, signature)
        if index.faces:
            self._check()
            self._send()
        return index

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
            self._collection.reach()
            self._check()
            self._drain()

    def _drain(self) -> None:
        """Send what is noted, `SENT_AT_ONCE` faces in a transaction, so that others can write between."""
        while self._people.read(UNSENT):
            with self._people.write() as db:
                self._send_some(db)

    def _send_some(self, db: Transaction) -> None:
        """Send the first noted faces and delete their notes, inside the open transaction."""
        query = f"""SELECT face_id, faces.id, {self.row_column} FROM milvus_unsent
                    LEFT JOIN faces ON faces.id = face_id ORDER BY face_id LIMIT {SENT_AT_ONCE}"""
        noted = db.execute(query).fetchall()
        numbers = [number for number, face, _ in noted if face is not None]
        kept = [row for _, face, row in noted if face is not None]
        self._collection.put(numbers, self.decode_rows(numbers, kept))
        self._collection.delete([number for number, face, _ in noted if face is None])
        if noted:
            db.execute("DELETE FROM milvus_unsent WHERE face_id <= ?", (noted[-1][0],))

    def _check(self) -> None:
        """Compare the number of faces in Milvus once; fill the collection anew if it differs."""
        with self._checking:
            if self._checked:
                return
            self._collection.reach()
            with self._people.write() as db:
                (dimension,) = db.execute("SELECT dimension FROM pipeline").fetchone()
                if self._collection.dimension() != dimension:
                    self._begin_anew(db, dimension)
            self._drain()
            with self._people.write() as db:
                (faces,) = db.execute("SELECT faces FROM milvus_index").fetchone()
                if not db.execute(UNSENT).fetchone() and self._collection.count() != faces:
                    logger.warning(
                        "collection %r lacks faces, or has others: all are sent anew", self._collection.name
                    )
                    self._begin_anew(db, dimension)
            self._drain()
            self._checked = True

    def _begin_anew(self, db: Transaction, dimension: int) -> None:
        """Make an empty collection, and note every face."""
        self._collection.make(dimension)
        db.execute(NOTE_ALL)


@dataclass(frozen=True, slots=True, eq=False)
class MilvusIndex:
    """Candidates from Milvus, ranked by the float32 rows of the database of people; a `SearchIndex`."""

    people: Backend
    collection: MilvusCollection
    faces: int
    dimension: int | None  # None as long as nobody was ever enrolled
    own: Thresholds | None
    mixed: Thresholds | None

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the faces near each probe: so many that no other can change the answer.

        That holds of what Milvus can know: all faces, or with an index those that it finds.
        """
        expect_shape("rows", probes, ("n", self.dimension or 0), np.float32)
        wanted = min(max(CANDIDATES, 4 * max(options.k, options.most)), MOST)
        for start in range(0, len(probes), PROBES):
            some = probes[start : start + PROBES]
            for probe, found in zip(some, self.collection.search(some, wanted), strict=True):
                yield self._settle(probe, found, wanted, limits.factor, options)

    def _settle(
        self,
        probe: Embeddings,
        found: tuple[NDArray[np.int64], NDArray[np.float32]],
        wanted: int,
        factor: float,
        options: SearchOptions,
    ) -> Candidates:
        """Return the faces near a probe; ask for four times as many until they are enough."""
        while True:
            numbers, closeness = found
            near = self._read(probe, numbers, factor).without(options.hidden)
            if len(numbers) < wanted or wanted == MOST:
                return near
            reach = (2 - 2 * float(closeness[-1]) - rounding(len(probe))) * min(factor, 1)
            if near.settles(reach, faces=options.k, people=options.people):
                return near
            wanted = min(4 * wanted, MOST)
            [found] = self.collection.search(probe[None], wanted)

    def _read(self, probe: Embeddings, numbers: NDArray[np.int64], factor: float) -> Candidates:
        """Return the faces that are still enrolled, in the order of enrolment."""
        rows = self._read_rows(sorted(numbers.tolist()))
        kept = [row for *_, row in rows]
        matrix = np.array(self.people.decode_rows([face for *_, face, _ in rows], kept), np.float32)
        owners = np.array([owner for owner, *_ in rows], np.int64)
        matrix, owners = leave_out_unusable(matrix.reshape(len(rows), len(probe)), owners)
        distances = exact_distances(probe, matrix)
        moved = np.array([adapted for _, _, adapted, *_ in rows], bool)
        names = {owner: name for owner, name, *_ in rows}
        return Candidates(scale_distances(distances, moved, factor), owners, names)

    def _read_rows(self, numbers: list[int]) -> list[Row]:
        """Return owner, name, whether adapted, number and embedding of faces."""
        found: list[Row] = []
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            query = f"""SELECT person_id, name, {self.people.adapted_column}, faces.id, {self.people.row_column}
                        FROM faces JOIN people ON people.id = person_id
                        WHERE faces.id IN ({", ".join("?" * len(some))}) ORDER BY faces.id"""
            found += self.people.read(query, *some)
        return found


def check_plain(address: MilvusAddress, people: Backend) -> None:
    """Raise if the people are in an encrypted file."""
    try:
        people.check_key()
    except MissingKeyError as error:
        reason = (
            "its people are in an encrypted file, and Milvus would hold their rows in plain: give the file "
            "itself as the gallery, or decrypt it first and encrypt the disks"
        )
        raise EncryptionError(address.shown, reason) from error


def make_outbox(people: Backend, dialect: Dialect, stem: str) -> str:
    """Make the tables if they are missing, and return the name of the collection.

    The name is `stem` with random digits, so that no two galleries share a collection.
    """
    if not people.read(dialect.there):
        with people.write() as db:
            if not db.execute(dialect.there).fetchone():  # unless another program has just made them
                for statement in dialect.tables:
                    db.execute(statement)
    if not people.read("SELECT name FROM milvus_index"):
        with people.write() as db:
            db.execute(NOTE_ALL)
            db.execute(
                """INSERT INTO milvus_index (id, name, faces) SELECT 1, ?, count(*) FROM faces
                   WHERE true ON CONFLICT DO NOTHING""",
                (f"{stem}_{secrets.token_hex(4)}",),
            )
    [(name,)] = people.read("SELECT name FROM milvus_index")
    return str(name)


def read_index(people: Backend, dialect: Dialect, collection: MilvusCollection, signature: str) -> MilvusIndex:
    """Return the current index; raise `SignatureError` if the rows are not of this pipeline."""
    query = """SELECT signature, dimension, faces, (SELECT thresholds FROM calibration)
               FROM pipeline CROSS JOIN milvus_index"""
    [(theirs, dimension, faces, own)] = people.read(query)
    if theirs != signature:
        raise SignatureError(people.path, theirs, signature)
    mixed = people.read(dialect.mixed)
    thresholds = [decode_thresholds(people.path, kept) for kept in (own, mixed[0][0] if mixed else None)]
    return MilvusIndex(people, collection, faces, dimension, *thresholds)
