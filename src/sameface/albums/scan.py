"""Scan the folder of an album: find what is new, changed, moved or gone, and put new faces into groups."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.albums.grouping import group_rows
from sameface.albums.store import Store, delete_unused, place_of
from sameface.arrays import Crops, Embeddings, Image
from sameface.batch import Finder, Picture, Result, embed_pictures, open_pictures
from sameface.cluster import extend_clusters, same_picture_pairs
from sameface.errors import AlbumError
from sameface.face import Face, overlaps
from sameface.gallery import Gallery
from sameface.quality import measure_quality
from sameface.recognizer import Recognizer

MIN_QUALITY = 0.1  # of a face that may begin a group; docs/album.md has the measurement
THUMBNAIL = 96  # pixels of its side
SUGGESTION_FAR = 0.01  # groups within the distance of this rate may be a person
SAME_PLACE = 0.5  # intersection over union of a face before and after its picture was edited

Progress = Callable[[Result], None]


@dataclass
class ScanReport:
    """What a scan found.

    Attributes:
        pictures: How many pictures the folder holds.
        unchanged: How many of them were not read again: path, size and time are those of the last scan.
        searched: How many were searched for faces.
        known: How many were read and have a known content: copies, and pictures that were moved.
        gone: How many contents have no file any more.
        failures: Why pictures gave nothing.
        faces: How many faces the album holds.
        left_out: How many of them are in no group: too small, blurred or turned away.
    """

    pictures: int = 0
    unchanged: int = 0
    searched: int = 0
    known: int = 0
    gone: int = 0
    failures: list[str] | None = None
    faces: int = 0
    left_out: int = 0


def scan_folder(
    store: Store, recognizer: Recognizer, *, workers: int = 1, upgrade: bool = False, progress: Progress | None = None
) -> ScanReport:
    """Bring an album up to date with its folder. Every picture is one transaction: a killed scan resumes.

    Args:
        store: The album.
        recognizer: Finds and embeds faces.
        workers: Processes that search.
        upgrade: Search every picture again where the album was made with other weights. Groups, names and corrections
            stay with their faces.
        progress: Called with every picture that was read.

    Raises:
        AlbumError: The folder is missing, or the album was made with other weights and `upgrade` is not set.
    """
    if not store.folder.is_dir():
        raise AlbumError(str(store.path), f"its folder {str(store.folder)!r} is not there: is a disk missing?")
    finder = Finder(recognizer, crops=True)
    prepare_pipeline(store, recognizer, finder.pipeline, upgrade=upgrade)
    report, known = ScanReport(failures=[]), known_pictures(store)
    seen: set[bytes] = set()
    stamps = {path: (stamp, picture) for path, stamp, picture in store.read("SELECT * FROM files")}

    def changed() -> Iterator[Picture]:
        for picture in open_pictures([store.folder]):
            path = os.fsencode(Path(picture.name).relative_to(store.folder))
            seen.add(path)
            report.pictures += 1
            stamp, number = stamps.get(path, ("", 0))
            if picture.stamp and stamp == picture.stamp and number in known.values():
                report.unchanged += 1
            else:
                yield picture

    results = embed_pictures(changed(), finder, workers=workers, leave_out=lambda _, sha256: sha256 in known)
    with closing(results):
        for result in results:
            if result.failure is not None and report.failures is not None:
                report.failures.append(result.failure.reason)
            report.searched += result.new
            report.known += (result.found is None and result.failure is None) or bool(result.same_as)
            keep_result(store, result, known)
            if progress is not None:
                progress(result)
    with store.change() as db:
        db.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in stamps if path not in seen])
    [(report.gone,)] = store.read(f"SELECT count(*) FROM pictures WHERE {GONE}")
    return report


GONE = "id NOT IN (SELECT picture_id FROM files)"


def prune(store: Store) -> int:
    """Delete what is known of pictures without a file; return how many there were."""
    with store.change() as db:
        gone = db.execute(f"DELETE FROM pictures WHERE {GONE}").rowcount
        delete_unused(db)
    return int(gone)


def make_thumbnail(crop: Image) -> bytes:
    """Return a small JPEG of a crop."""
    file = io.BytesIO()
    PIL.Image.fromarray(crop).resize((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS).save(
        file, "JPEG", quality=80
    )
    return file.getvalue()


def prepare_pipeline(store: Store, recognizer: Recognizer, pipeline: str, *, upgrade: bool) -> None:
    """Note what the album's faces are found and embedded with; an upgrade marks every picture as not searched."""
    signature, reach = recognizer.signature, recognizer.thresholds.at(SUGGESTION_FAR)
    [(known, kept)] = store.read("SELECT signature, pipeline FROM album")
    if (known, kept) == (signature, pipeline):
        return
    if known and not upgrade:
        way = "scan with the weights and options of before, or --upgrade"
        raise AlbumError(str(store.path), f"made with pipeline {known}; this is {signature}: {way}")
    with store.change() as db:
        db.execute("UPDATE album SET signature = ?, pipeline = ?, reach = ?", (signature, pipeline, reach))
        db.execute("UPDATE files SET stamp = ''")
        db.execute("UPDATE pictures SET searched = 0")


def known_pictures(store: Store) -> dict[str, int]:
    """Return the pictures that were searched: their numbers by SHA-256."""
    return dict(store.read("SELECT sha256, id FROM pictures WHERE searched"))


def keep_result(store: Store, result: Result, known: dict[str, int]) -> None:
    """Write one picture down: its file, and the faces of a new content."""
    path = os.fsencode(Path(result.picture.name).relative_to(store.folder))
    if not result.sha256:
        return  # it could not be read: the next scan tries again
    with store.change() as db:
        before = db.execute("SELECT picture_id FROM files WHERE path = ?", (path,)).fetchone()
        number = known.get(result.sha256)
        if number is None:
            number = insert_picture(db, result.sha256)
            if result.found is not None:
                old = before[0] if before and is_last_file(db, before[0]) else number
                keep_faces(db, number, old, result.found.faces, result.found.rows, result.found.crops)
            db.execute(
                "UPDATE pictures SET searched = 1, error = ? WHERE id = ?",
                (result.failure.reason if result.failure else "", number),
            )
            known[result.sha256] = number
        db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (path, result.picture.stamp, number))


def insert_picture(db: sqlite3.Connection, sha256: str) -> int:
    """Return the number of a content, inserted if it is new."""
    db.execute("INSERT INTO pictures (sha256) VALUES (?) ON CONFLICT DO NOTHING", (sha256,))
    return int(db.execute("SELECT id FROM pictures WHERE sha256 = ?", (sha256,)).fetchone()[0])


def is_last_file(db: sqlite3.Connection, picture: int) -> bool:
    """Return whether a content has one file only: a new content there is an edited picture."""
    [(files,)] = db.execute("SELECT count(*) FROM files WHERE picture_id = ?", (picture,)).fetchall()
    return bool(files == 1)


def keep_faces(
    db: sqlite3.Connection, picture: int, old: int, faces: tuple[Face, ...], rows: Embeddings, crops: Crops
) -> None:
    """Write the faces of a picture down. A face at the same place of the old picture keeps its number and group."""
    before = db.execute("SELECT id, place FROM faces WHERE picture_id = ? ORDER BY id", (old,)).fetchall()
    boxes = np.array([np.frombuffer(place, np.float32)[:4] for _, place in before], np.float32).reshape(-1, 4)
    free = np.ones(len(before), bool)
    for face, row, crop in zip(faces, rows, crops, strict=True):
        shared = np.where(free, overlaps(face.box, boxes), 0) if len(boxes) else np.zeros(0)
        values = (
            picture,
            place_of(face),
            face.score,
            measure_quality(face, crop).total,
            row.tobytes(),
            make_thumbnail(crop),
        )
        if shared.size and shared.max() > SAME_PLACE:
            place = int(shared.argmax())
            free[place] = False
            db.execute(
                """UPDATE faces SET picture_id = ?, place = ?, score = ?, quality = ?, embedding = ?,
                          thumbnail = ? WHERE id = ?""",
                (*values, before[place][0]),
            )
        else:
            db.execute(
                """INSERT INTO faces (picture_id, place, score, quality, embedding, thumbnail)
                          VALUES (?, ?, ?, ?, ?, ?)""",
                values,
            )
    db.executemany("DELETE FROM faces WHERE id = ?", [(before[place][0],) for place in np.flatnonzero(free)])


def update_groups(
    store: Store,
    recognizer: Recognizer,
    *,
    far: float | None = None,
    min_quality: float = MIN_QUALITY,
    anew: bool = False,
) -> None:
    """Put faces without a group into one: a known group, or a new one for a face that is good enough.

    Args:
        store: The album.
        recognizer: Has the thresholds.
        far: As in `Thresholds.at_album`.
        min_quality: `Quality.total` of a face that may begin a group; a poorer one only joins.
        anew: Group all faces again, under the corrections. Names stay with the faces that they were given to.
    """
    if anew:
        regroup(store, recognizer, far, min_quality)
    joined = [
        join_groups(store, recognizer, far, "quality >= ?", min_quality, poor=False),
        join_groups(store, recognizer, far, "quality < ?", min_quality, poor=True),
    ]
    with store.change() as db:
        delete_unused(db)
    if anew or any(joined):
        number_groups(store)


def number_groups(store: Store) -> None:
    """Number the groups from 1 on in the order of their list. What was done before cannot be undone any more."""
    order = [group.number for group in store.groups(hidden=True)]
    with store.change() as db:
        for sign, numbers in ((-1, order), (1, [-place - 1 for place in range(len(order))])):
            for place, number in enumerate(numbers, 1):
                values = (sign * place, number)
                db.execute("INSERT INTO groups SELECT ?1, person_id, hidden FROM groups WHERE id = ?2", values)
                db.execute("UPDATE faces SET group_id = ?1 WHERE group_id = ?2", values)
                db.execute("DELETE FROM groups WHERE id = ?", values[1:])
        db.execute("DELETE FROM history")


def join_groups(
    store: Store, recognizer: Recognizer, far: float | None, condition: str, value: float, *, poor: bool
) -> bool:
    """Let faces without a group that meet a condition join the groups there are; others open new ones, if not poor.

    Return whether any face got a group.
    """
    new, rows = store.rows(f"group_id IS NULL AND {condition}", value)
    if not len(new):
        return False
    known, known_rows = store.rows("group_id IS NOT NULL")
    labels = groups_of(store, known)
    [(size,)] = store.read("SELECT count(*) FROM faces")
    threshold = recognizer.thresholds.at_album(size, far)
    pictures = [
        str(picture)
        for (picture,) in store.read(
            f"SELECT picture_id FROM faces WHERE group_id IS NULL AND {condition} ORDER BY id", value
        )
    ]
    pairs = same_picture_pairs(pictures)
    if len(known):
        found = extend_clusters(rows, known=known_rows, labels=labels, threshold=threshold, cannot_link=pairs)
    elif poor:
        return False
    else:
        found = 1 + group_rows(rows, threshold=threshold, cannot_link=pairs)
    last = int(labels.max(initial=0))
    if poor:
        new, found = new[found <= last], found[found <= last]
    keep_groups(store, new, found)
    return bool(len(new))


def groups_of(store: Store, faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the group of each face, `(n,) int64`."""
    group = dict(store.read("SELECT id, group_id FROM faces WHERE group_id IS NOT NULL"))
    return np.array([group[face] for face in faces.tolist()], np.int64)


def keep_groups(store: Store, faces: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Write the group of each face down."""
    with store.change() as db:
        db.executemany(
            "INSERT OR IGNORE INTO groups (id) VALUES (?)", [(label,) for label in np.unique(labels).tolist()]
        )
        db.executemany("UPDATE faces SET group_id = ? WHERE id = ?", zip(labels.tolist(), faces.tolist(), strict=True))


def regroup(store: Store, recognizer: Recognizer, far: float | None, min_quality: float) -> None:
    """Group all faces that may begin a group, or have an answer, anew under the corrections."""
    chosen = """quality >= ? OR id IN (SELECT face_id FROM answers UNION SELECT first FROM links
                                       UNION SELECT second FROM links)"""
    faces, rows = store.rows(chosen, min_quality)
    places = {face: place for place, face in enumerate(faces.tolist())}
    named: dict[str, list[int]] = {}
    for face, name, same in store.answers():
        if same:
            named.setdefault(name, []).append(places[face])
    links = [(places[a], places[b], same) for a, b, same in store.links()]
    for face, name, same in store.answers():
        if not same:
            links += [(places[face], other, False) for other in named.get(name, ())]
    people = list(named.values())
    apart = [
        (one, other)
        for n, first in enumerate(people)
        for second in people[n + 1 :]
        for one in first
        for other in second
    ]
    pictures = [
        str(number)
        for (number,) in store.read(f"SELECT picture_id FROM faces WHERE {chosen} ORDER BY id", min_quality)
    ]
    [(size,)] = store.read("SELECT count(*) FROM faces")
    threshold = recognizer.thresholds.at_album(size, far)
    labels = 1 + group_rows(
        rows, threshold=threshold, links=links, cannot_link=[*apart, *same_picture_pairs(pictures)]
    )
    with store.change() as db:
        hidden = [
            face
            for (face,) in db.execute("SELECT faces.id FROM faces JOIN groups ON groups.id = group_id WHERE hidden")
        ]
        db.execute("UPDATE faces SET group_id = NULL")
        db.execute("DELETE FROM groups")
        db.execute("DELETE FROM history")
    keep_groups(store, faces, labels)
    with store.change() as db:
        db.execute("""UPDATE groups SET person_id = (
            SELECT person_id FROM answers JOIN faces ON faces.id = face_id WHERE group_id = groups.id AND same
            GROUP BY person_id ORDER BY count(*) DESC LIMIT 1)""")
        db.executemany(
            "UPDATE groups SET hidden = 1 WHERE id = (SELECT group_id FROM faces WHERE id = ?)",
            [(face,) for face in hidden],
        )


def name_known(store: Store, gallery: Gallery) -> int:
    """Name the groups without a name whose mean embedding a gallery knows; return how many there were."""
    numbers, rows = store.rows("group_id IN (SELECT id FROM groups WHERE person_id IS NULL)")
    if not len(numbers):
        return 0
    groups, place = np.unique(groups_of(store, numbers), return_inverse=True)
    means = np.zeros((len(groups), rows.shape[1]), np.float64)
    np.add.at(means, place, rows)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    found = gallery.identify(means.astype(np.float32))
    named = [(answer.name, group) for group, answer in zip(groups.tolist(), found, strict=True) if answer.name]
    with store.change() as db:
        for name, group in named:
            db.execute("INSERT INTO people (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            db.execute(
                "UPDATE groups SET person_id = (SELECT id FROM people WHERE name = ?) WHERE id = ?", (name, group)
            )
    return len(named)
