"""Put an upgrade into its gallery: all of it in one transaction, or nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace

from sameface.gallery.database import Database, delete_files
from sameface.gallery.errors import UpgradeError
from sameface.gallery.upgrade import FACES, PLACE, Progress, attached, count_faces, find_upgrade
from sameface.gallery.vacuum import check_space, clean_up


def confirm_upgrade(path: str | os.PathLike[str], *, drop_rest: bool = False) -> Progress:
    """Put the new rows into the gallery in one transaction, and delete the file of the upgrade.

    Thresholds that the gallery kept were for the old rows: they give way to those of the upgrade, if it has
    any. Old rows are overwritten; where that fails the answer has a warning, and the upgrade is done.

    Args:
        path: The gallery.
        drop_rest: Delete the faces that have no new row; without it they make the call fail.

    Raises:
        UpgradeError: None was begun, faces have no new row, or faces were enrolled since.
        GalleryFileError, GalleryBusyError: The disk is full, or another program writes; nothing is changed.
    """
    place = find_upgrade(path)
    with closing(Database.open(os.fspath(path), create=False)) as gallery:
        check_space(gallery.path)
        with attached(gallery, place), gallery.write() as db:
            progress = swap_rows(db, os.fspath(path), drop_rest=drop_rest)

        def finish() -> bool:
            delete_files(place)
            return gallery.pack()

        return replace(progress, warning=clean_up(finish, "old rows stay in its free space or log"))


def swap_rows(db: sqlite3.Connection, path: str, *, drop_rest: bool) -> Progress:
    """Put the rows of the upgrade `other` into the gallery, inside the transaction that is open."""
    (signature,) = db.execute("SELECT signature FROM pipeline").fetchone()
    source, target = db.execute("SELECT source, target FROM other.upgrade").fetchone()
    progress = count_faces(db, "other.")
    if signature == target:  # it was interrupted when all was done but for the deletion of the file
        return progress
    if signature != source:
        raise UpgradeError(path, f"it has signature {signature} now, the upgrade is from {source}: --discard it")
    check_complete(db, path, progress, drop_rest=drop_rest)
    check_keys(db, path)
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


def check_complete(db: sqlite3.Connection, path: str, progress: Progress, *, drop_rest: bool) -> None:
    """Raise unless every face of the gallery stands in the upgrade, and has a new row if it must."""
    columns = f"faces.id, {', '.join(PLACE)}"
    ours, theirs = (f"SELECT {columns} FROM {FACES.format(schema)}" for schema in ("main.", "other."))
    (missing,) = db.execute(f"SELECT count(*) FROM ({ours} EXCEPT {theirs})").fetchone()
    if missing:
        reason = f"faces enrolled since: {missing}; run the upgrade once more, then confirm"
        raise UpgradeError(path, reason)
    if progress.left and not drop_rest:
        reason = (
            f"faces without a new row: {progress.left}; give --pictures or --adapter, "
            "or confirm with --drop-rest to delete them"
        )
        raise UpgradeError(path, reason)


def check_keys(db: sqlite3.Connection, path: str) -> None:
    """Raise unless the gallery has every data key that the upgrade has: its values are copied as they are."""
    keys = "SELECT number FROM {}data_keys ORDER BY number"
    ours, theirs = (db.execute(keys.format(schema)).fetchall() for schema in ("main.", "other."))
    if ours != theirs:
        raise UpgradeError(path, "its encryption was changed since; run the upgrade once more, then confirm")
