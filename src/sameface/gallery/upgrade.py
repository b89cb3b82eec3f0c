"""Move a gallery to another pipeline: in a file beside it, which `confirm_upgrade` puts into the gallery."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape, expect_unit_rows
from sameface.gallery.address import expect_file
from sameface.gallery.errors import UpgradeError
from sameface.gallery.keys import NO_KEYS, Keys, KeySource
from sameface.gallery.sqlite.database import SqliteDatabase, attached
from sameface.gallery.sqlite.files import check_space, clean_up, delete_files, upgraded_path
from sameface.thresholds import Thresholds

IN_POSTGRES = (
    "a gallery in PostgreSQL cannot be moved yet: enroll again into another schema, "
    "with &schema=NAME, and give that address from then on"
)
UNFINISHED = "unfinished upgrade to "  # no pipeline's signature, so that no search opens the file yet
PLACE = ("sha256", '"left"', "top", '"right"', "bottom")  # identifies a face in gallery and upgrade
FACES = "{0}faces JOIN {0}pictures ON {0}pictures.id = {0}faces.picture_id"
COLUMNS = 'id, person_id, picture_id, "left", top, "right", bottom, score, embedding, crop, adapted'


@dataclass(frozen=True, slots=True)
class UpgradeProgress:
    """The faces of an upgrade by state."""

    embedded: int  # anew, from their pictures
    adapted: int  # by an adapter
    left: int
    warning: str | None = None  # what could not be cleaned up after a confirmed upgrade


@dataclass(frozen=True, slots=True, eq=False)
class PendingFace:
    """A face that has no new embedding yet."""

    number: int
    box: NDArray[np.float32]  # (4,) in its picture


class Upgrade:
    """A gallery on its way to another pipeline. The gallery itself stays as it is, and can be used.

    Every step is committed, so that an interrupted upgrade can be opened again. Opening it takes over whatever
    was enrolled, renamed or forgotten in the gallery meanwhile.
    """

    def __init__(self, database: SqliteDatabase, source: str, target: str) -> None:
        self.path = database.path
        self.source = source
        self.target = target
        self._db = database

    @classmethod
    def open(cls, path: str | os.PathLike[str], target: str, keys: Keys = NO_KEYS) -> Self:
        """Begin to move the gallery at `path` to the signature `target`, or resume.

        The upgrade of an encrypted gallery is encrypted with the same data keys.

        Raises:
            MissingKeyError, WrongKeyError, KeyFileError: It is encrypted, and the key is not at hand.
            UpgradeError: It has that signature already, or an upgrade to another one was begun.
            GalleryFileError: It is missing or not a gallery; or the disk is full, and nothing is left there.
        """
        expect_file(path, UpgradeError, IN_POSTGRES, "move its people: sameface gallery upgrade {people}")
        source = read_signature(os.fspath(path), keys.encryption)
        if source == target:
            raise UpgradeError(os.fspath(path), f"it was made with pipeline {target} already")
        with removed_on_error(upgraded_path(path)):
            database = SqliteDatabase.open(upgraded_path(path), create=True)
            database.key = keys.encryption
            try:
                begin(database, source, target)
                with attached(database, os.fspath(path)), database.write() as db:
                    copy_gallery(db, database)
                upgrade = cls(database, source, target)
                upgrade._sign()
            except BaseException:
                database.close()
                raise
        return upgrade

    def close(self) -> None:
        """Close the file; what was done is in it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def progress(self) -> UpgradeProgress:
        """The faces by state."""
        with self._db.write() as db:
            return count_faces(db, "")

    def pending(self) -> dict[str, list[PendingFace]]:
        """Return the faces without a new embedding by the SHA-256 of their picture."""
        found: dict[str, list[PendingFace]] = {}
        query = f"SELECT faces.id, {', '.join(PLACE)} FROM {FACES.format('')} JOIN pending ON face_id = faces.id"
        for number, picture, *box in self._db.read(query):
            found.setdefault(picture, []).append(PendingFace(number, np.array(box, np.float32)))
        return found

    def put(self, faces: Sequence[PendingFace], rows: Embeddings) -> None:
        """Keep the embeddings that the new pipeline made of these faces, `(n, d) float32`."""
        self._replace([face.number for face in faces], rows, adapted=False)

    def adapt(self, move: Callable[[Embeddings], Embeddings], thresholds: Thresholds) -> int:
        """Adapt the embeddings of all pending faces but those that were adapted once before.

        Args:
            move: From `(n, d)` old rows to `(n, e)` rows that can be compared with new ones.
            thresholds: For a new row against a moved one.

        Returns:
            The number of adapted faces.
        """
        query = """SELECT id, embedding FROM faces JOIN pending ON face_id = id WHERE NOT adapted ORDER BY id"""
        found = self._db.read(query)
        if not found:
            return 0
        numbers = [number for number, _ in found]
        rows = np.stack(self._db.decode_rows(numbers, [blob for _, blob in found]))
        with self._db.write() as db:
            values = (self.source, json.dumps(asdict(thresholds)))
            db.execute("INSERT OR REPLACE INTO adapted (id, source, thresholds) VALUES (1, ?, ?)", values)
        self._replace(numbers, move(rows), adapted=True)
        return len(found)

    def _replace(self, numbers: Sequence[int], rows: Embeddings, *, adapted: bool) -> None:
        """Replace old embeddings by new ones in one transaction."""
        expect_shape("rows", rows, (len(numbers), "d"), np.float32)
        expect_unit_rows("rows", rows)
        if not numbers:
            return
        with self._db.write() as db:
            values = [
                (self._db.encode_value("embedding", number, row.tobytes()), adapted, number)
                for number, row in zip(numbers, rows, strict=True)
            ]
            db.executemany("UPDATE faces SET embedding = ?, adapted = ? WHERE id = ?", values)
            db.executemany("DELETE FROM pending WHERE face_id = ?", [(number,) for number in numbers])
            db.execute("UPDATE pipeline SET dimension = ?", (rows.shape[1],))
        self._sign()

    def _sign(self) -> None:
        """Sign the file with the new signature when no face is left, so that it can be tried."""
        signature = UNFINISHED + self.target if self.progress.left else self.target
        with self._db.write() as db:
            db.execute("UPDATE pipeline SET signature = ? WHERE signature <> ?", (signature, signature))


def confirm_upgrade(path: str | os.PathLike[str], *, drop_rest: bool = False) -> UpgradeProgress:
    """Put the new embeddings into the gallery in one transaction, and delete the file of the upgrade.

    The gallery's own thresholds were for the old embeddings: those of the upgrade replace them. Where the old
    embeddings cannot be overwritten, the answer has a warning.

    Args:
        path: The gallery.
        drop_rest: Delete the faces that have no new embedding; without it they make the call fail.

    Raises:
        UpgradeError: None was begun, faces have no new embedding, or faces were enrolled since.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes; nothing is changed.
    """
    place = find_upgrade(path)
    with closing(SqliteDatabase.open(os.fspath(path), create=False)) as gallery:
        check_space(gallery.path)
        with attached(gallery, place), gallery.write() as db:
            progress = replace_rows(db, os.fspath(path), drop_rest=drop_rest)

        def finish() -> bool:
            delete_files(place)
            return gallery.remove_traces() is not None

        return replace(progress, warning=clean_up(finish, "old rows stay in its free space or log"))


def discard_upgrade(path: str | os.PathLike[str]) -> None:
    """Delete the file of an upgrade; the gallery stays as it is.

    Raises:
        UpgradeError: None was begun.
    """
    delete_files(find_upgrade(path))


@contextmanager
def removed_on_error(place: str) -> Iterator[None]:
    """Delete a new file that could not be completed, as on a full disk."""
    new = not Path(place).exists()
    try:
        yield
    except BaseException:
        if new:
            delete_files(place)
        raise


def find_upgrade(path: str | os.PathLike[str]) -> str:
    """Return the file of an upgrade that was begun."""
    expect_file(path, UpgradeError, IN_POSTGRES, "move its people: sameface gallery upgrade {people}")
    place = upgraded_path(path)
    if not Path(place).exists():
        raise UpgradeError(os.fspath(path), f"none was begun: there is no {place!r}")
    with closing(SqliteDatabase.open(place, create=False)) as database:
        used = database.read("SELECT 1 FROM pipeline")  # empty if a program was killed before it began
        if used and not database.is_trial:
            raise UpgradeError(os.fspath(path), f"{place!r} is a gallery of its own: move it out of the way")
    return place


def read_signature(path: str, key: KeySource | None) -> str:
    """Return the signature of a gallery that the key opens."""
    with closing(SqliteDatabase.open(path, key, create=False)) as database:
        database.check_key()
        if database.is_trial:
            raise UpgradeError(path, "it is an upgrade that is not confirmed")
        found = database.read("SELECT signature FROM pipeline")
    if not found:
        raise UpgradeError(path, "nobody was ever enrolled in it")
    return str(found[0][0])


def begin(database: SqliteDatabase, source: str, target: str) -> None:
    """Write source and target into a new file, or compare them with those in an old one."""
    with database.write() as db:
        found = db.execute("SELECT source, target FROM upgrade").fetchone()
        if found is None and db.execute("SELECT 1 FROM pipeline").fetchone():
            raise UpgradeError(database.path, "it is a gallery of its own: move it out of the way")
        if found is None:
            db.execute("INSERT INTO upgrade (id, source, target) VALUES (1, ?, ?)", (source, target))
            db.execute("INSERT INTO pipeline (signature) VALUES (?)", (UNFINISHED + target,))
        elif found != (source, target):
            reason = f"an upgrade from {found[0]} to {found[1]} was begun: confirm it or --discard it first"
            raise UpgradeError(database.path, reason)


def copy_gallery(db: sqlite3.Connection, database: SqliteDatabase) -> None:
    """Copy people and faces of the gallery `other` anew; keep what was embedded from pictures before.

    An encrypted value stays valid, since data keys and the numbers of faces are the same here. Adapted faces are
    pending again: to adapt them costs nothing, and the adapter may be another.
    """
    made = f"""SELECT faces.id, faces.embedding, {", ".join(PLACE)} FROM {FACES.format("")}
               WHERE NOT faces.adapted AND faces.id NOT IN (SELECT face_id FROM pending)"""
    found = db.execute(made).fetchall()
    rows = database.decode_values("embedding", [number for number, *_ in found], [row for _, row, *_ in found])
    for table in ("pending", "faces", "people", "pictures", "adapted", "data_keys"):
        db.execute(f"DELETE FROM {table}")
    db.execute("INSERT INTO data_keys SELECT * FROM other.data_keys")
    columns = "id, name, consent, expires"
    db.execute(f"INSERT INTO people ({columns}) SELECT {columns} FROM other.people")
    db.execute("UPDATE numbers SET origin = (SELECT origin FROM other.numbers)")
    db.execute("INSERT INTO pictures (id, sha256) SELECT id, sha256 FROM other.pictures")
    db.execute(f"INSERT INTO faces ({COLUMNS}) SELECT {COLUMNS} FROM other.faces")
    db.execute("INSERT INTO pending (face_id) SELECT id FROM faces")
    where = " AND ".join(f"{column} = ?" for column in PLACE)
    for row, (_, _, *place) in zip(rows, found, strict=True):
        for (number,) in db.execute(f"SELECT faces.id FROM {FACES.format('')} WHERE {where}", place).fetchall():
            embedding = database.encode_value("embedding", number, row)
            db.execute("UPDATE faces SET embedding = ?, adapted = 0 WHERE id = ?", (embedding, number))
            db.execute("DELETE FROM pending WHERE face_id = ?", (number,))


def replace_rows(db: sqlite3.Connection, path: str, *, drop_rest: bool) -> UpgradeProgress:
    """Put the embeddings of the upgrade `other` into the gallery, inside the open transaction."""
    (signature,) = db.execute("SELECT signature FROM pipeline").fetchone()
    source, target = db.execute("SELECT source, target FROM other.upgrade").fetchone()
    progress = count_faces(db, "other.")
    if signature == target:  # an earlier call was interrupted before it deleted the file
        return progress
    if signature != source:
        raise UpgradeError(path, f"it has signature {signature} now, the upgrade is from {source}: --discard it")
    check_complete(db, path, progress, drop_rest=drop_rest)
    db.execute("DELETE FROM faces WHERE id IN (SELECT face_id FROM other.pending)")
    db.execute("DELETE FROM pictures WHERE id NOT IN (SELECT picture_id FROM faces)")
    db.execute(
        """UPDATE faces SET embedding = new.embedding, adapted = new.adapted
           FROM other.faces AS new WHERE new.id = faces.id"""
    )
    for table in ("pipeline", "calibration", "adapted"):
        db.execute(f"DELETE FROM {table}")
        db.execute(f"INSERT INTO {table} SELECT * FROM other.{table}")
    db.execute("UPDATE pipeline SET signature = ?", (target,))
    return progress


def check_complete(db: sqlite3.Connection, path: str, progress: UpgradeProgress, *, drop_rest: bool) -> None:
    """Raise unless the upgrade has every face of the gallery, the new embeddings it must, and the same data keys."""
    columns = f"faces.id, {', '.join(PLACE)}"
    ours, theirs = (f"SELECT {columns} FROM {FACES.format(schema)}" for schema in ("main.", "other."))
    (missing,) = db.execute(f"SELECT count(*) FROM ({ours} EXCEPT {theirs})").fetchone()
    if missing:
        raise UpgradeError(path, f"faces enrolled since: {missing}; run the upgrade once more, then confirm")
    if progress.left and not drop_rest:
        reason = (
            f"faces without a new row: {progress.left}; give --pictures or --adapter, "
            "or confirm with --drop-rest to delete them"
        )
        raise UpgradeError(path, reason)
    keys = "SELECT number FROM {}data_keys ORDER BY number"
    if db.execute(keys.format("main.")).fetchall() != db.execute(keys.format("other.")).fetchall():
        raise UpgradeError(path, "its encryption was changed since; run the upgrade once more, then confirm")


def count_faces(db: sqlite3.Connection, schema: str) -> UpgradeProgress:
    """Count the faces of an upgrade by state; `schema` is empty or `other.`."""
    query = f"""SELECT count(*) FILTER (WHERE face_id IS NULL AND NOT adapted),
                       count(*) FILTER (WHERE face_id IS NULL AND adapted),
                       count(face_id)
                FROM {schema}faces LEFT JOIN {schema}pending ON face_id = id"""
    return UpgradeProgress(*db.execute(query).fetchone())
