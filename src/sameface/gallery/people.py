"""People and their faces in a gallery: added, found, listed a page at a time, deleted; SQL of every back end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image, expect_shape, expect_unit_rows
from sameface.face import Template, overlaps
from sameface.gallery.backend import Backend, Row, Transaction, expect_type, undamaged
from sameface.gallery.errors import (
    BadNameError,
    FaceTakenError,
    LastFaceError,
    PersonExistsError,
    UnknownFaceError,
    UnknownPersonError,
)
from sameface.gallery.names import clean_name
from sameface.gallery.receipts import Deletion, Merge
from sameface.gallery.records import EnrolledFace, Person

Who: TypeAlias = str | int  # a person by name or by number

SAME_PLACE = 0.5  # two boxes of one picture that overlap by more are one face
BOX = ('"left"', "top", '"right"', "bottom")

PEOPLE = """SELECT name, (SELECT count(*) FROM faces WHERE person_id = people.id), id, consent, expires
            FROM people"""
# The names and boxes of all faces of one picture.
OWNERS = """SELECT name, "left", top, "right", bottom FROM faces JOIN people ON people.id = person_id
            JOIN pictures ON pictures.id = picture_id WHERE sha256 = ? ORDER BY faces.id"""


# Read


def condition_of(who: Who) -> tuple[str, str | int]:
    """Return the condition that selects a person's row, and its value."""
    return ("id = ?", who) if isinstance(who, int) else ("name = ?", clean_name(who))


def list_people(database: Backend, limit: int | None, after: str) -> list[Person]:
    """Return people by name, those whose name comes behind `after`; `limit` None means all."""
    # Not every database takes a zero. No name holds one, so that it is the same page without.
    behind, _, _ = after.partition("\0")
    query = f"{PEOPLE} WHERE name > ? ORDER BY name"
    return read_people(database, read_page(database, query, limit, behind))


def read_person(database: Backend, who: Who) -> Person:
    """Return one person."""
    condition, value = condition_of(who)
    found = database.read(f"{PEOPLE} WHERE {condition}", value)
    if not found:
        raise UnknownPersonError(who)
    return read_people(database, found)[0]


def read_people(database: Backend, rows: Iterable[Row]) -> list[Person]:
    """Return people from the columns of `PEOPLE`."""
    with undamaged(database.path, "when a person expires"):
        return [
            Person(name, faces, number, consent, from_seconds(expires))
            for name, faces, number, consent, expires in rows
        ]


def from_seconds(expires: Any) -> datetime | None:
    """Return a moment from seconds since 1970."""
    if expires is None:
        return None
    expect_type(expires, int, float)
    return datetime.fromtimestamp(expires, UTC)


def list_faces(database: Backend, person: int, limit: int | None, after: int) -> list[EnrolledFace]:
    """Return a person's faces in the order of enrolment, those behind the face `after`."""
    query = f"""SELECT id, {", ".join(BOX)}, score, crop IS NOT NULL FROM faces
               WHERE person_id = ? AND id > ? ORDER BY id"""
    rows = read_page(database, query, limit, person, after)
    with undamaged(database.path, "a face"), np.errstate(over="raise"):
        for row in rows:
            for value in row:
                expect_type(value, int, float)
        return [
            EnrolledFace(number, np.array(box, np.float32), float(score), bool(crop))
            for number, *box, score, crop in rows
        ]


def read_page(database: Backend, query: str, limit: int | None, *values: object) -> list[Row]:
    """Return the rows of a query, `limit` of them or, with None, all."""
    if limit is None:
        return database.read(query, *values)
    return database.read(f"{query} LIMIT ?", *values, limit)


def read_templates(database: Backend, person: int) -> list[Template]:
    """Return a person's faces with embeddings and crops, in the order of enrolment."""
    query = f"""SELECT faces.id, {database.row_column}, crop, sha256, {", ".join(BOX)}, score FROM faces
                JOIN pictures ON pictures.id = picture_id WHERE person_id = ? ORDER BY faces.id"""
    with database.snapshot():
        found = database.read(query, person)
        embeddings = database.decode_rows([number for number, *_ in found], [row for _, row, *_ in found])
        return [
            Template(
                picture=picture,
                box=np.array(box, np.float32),
                score=score,
                embedding=embedding,
                crop=None if crop is None else database.decode_crop(number, crop),
            )
            for (number, _, crop, picture, *box, score), embedding in zip(found, embeddings, strict=True)
        ]


def read_pictures(database: Backend, person: int) -> list[str]:
    """Return the SHA-256 of every picture of a person's faces."""
    query = """SELECT DISTINCT sha256 FROM pictures JOIN faces ON picture_id = pictures.id
               WHERE person_id = ? ORDER BY sha256"""
    return [sha256 for (sha256,) in database.read(query, person)]


def holds_picture(database: Backend, name: str, picture: str) -> bool:
    """Return whether a face of the person called `name` from this picture (its SHA-256) is enrolled."""
    query = """SELECT 1 FROM faces JOIN people ON people.id = person_id
               JOIN pictures ON pictures.id = picture_id WHERE name = ? AND sha256 = ?"""
    return bool(database.read(query, clean_name(name), picture))


def find_owner(rows: Iterable[Row], box: NDArray[np.float32]) -> str | None:
    """Return whose face is enrolled at this place of a picture, given what `OWNERS` found for the picture."""
    for name, *place in rows:
        if overlaps(box, np.array([place], np.float32))[0] > SAME_PLACE:
            return str(name)
    return None


def read_crop(database: Backend, person: int, face: int) -> Image | None:
    """Return the crop that is kept with a face, or None."""
    query = "SELECT crop FROM faces WHERE id = ? AND person_id = ?"
    with database.snapshot(), undamaged(database.path, "a crop"):
        found = database.read(query, face, person)
        if not found:
            raise UnknownFaceError(face)
        return None if found[0][0] is None else database.decode_crop(face, found[0][0])


# Add and change


def find_person(db: Transaction, who: Who) -> int:
    """Return the number of a person."""
    condition, value = condition_of(who)
    found = db.execute(f"SELECT id FROM people WHERE {condition}", (value,)).fetchone()
    if found is None:
        raise UnknownPersonError(who)
    return int(found[0])


def add_person(db: Transaction, name: str, *, new: bool) -> int:
    """Return the number of the person called `name`, added if there is nobody of that name.

    Raises:
        PersonExistsError: There is somebody of that name, and `new` is set.
    """
    found = db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
    if found is not None:
        if new:
            raise PersonExistsError(name)
        return int(found[0])
    number = next_number(db)
    db.execute("INSERT INTO people (id, name) VALUES (?, ?)", (number, name))
    return number


def check_width(db: Transaction, templates: Sequence[Template]) -> None:
    """Raise unless every embedding is a unit row, and as wide as the first that was ever enrolled."""
    if not templates:
        return
    (known,) = db.execute("SELECT dimension FROM pipeline").fetchone()
    width = known or len(templates[0].embedding)
    for template in templates:
        expect_shape("embedding", template.embedding, (width,), np.float32)
    expect_unit_rows("embedding", np.stack([template.embedding for template in templates]))
    if known is None:
        db.execute("UPDATE pipeline SET dimension = ?", (width,))


def add_face(database: Backend, db: Transaction, person: int, template: Template, signature: str) -> bool:
    """Insert one face of a person unless it is there, and return whether it was new."""
    expect_shape("box", template.box, (4,), np.float32)
    (name,) = db.execute("SELECT name FROM people WHERE id = ?", (person,)).fetchone()
    owner = find_owner(db.execute(OWNERS, (template.picture,)), template.box)
    if owner is not None:
        if owner != name:
            raise FaceTakenError(name, owner)
        return False
    number = next_number(db)
    face: dict[str, object] = {
        "id": number,
        "person_id": person,
        "picture_id": insert_picture(db, template.picture),
        "score": template.score,
        **dict(zip(BOX, template.box.tolist(), strict=True)),
        "crop": None if template.crop is None else database.encode_crop(number, template.crop),
        **database.encode_row(number, template.embedding, signature),
    }
    places = ", ".join("?" * len(face))
    db.execute(f"INSERT INTO faces ({', '.join(face)}) VALUES ({places})", tuple(face.values()))
    return True


def next_number(db: Transaction) -> int:
    """Return a number that no person and no face ever had in this gallery."""
    (number,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
    return int(number)


def insert_picture(db: Transaction, sha256: str) -> int:
    """Return the number of the picture with this SHA-256, inserted if it is not there."""
    db.execute("INSERT INTO pictures (sha256) VALUES (?) ON CONFLICT DO NOTHING", (sha256,))
    found = db.execute("SELECT id FROM pictures WHERE sha256 = ?", (sha256,)).fetchone()
    if found is None:  # the insertion met it, the query does not: an index of SQLite is damaged
        raise sqlite3.DatabaseError("the index of the pictures is damaged")
    return int(found[0])


def rename_person(db: Transaction, who: Who, name: str) -> None:
    """Give a person another name.

    Raises:
        PersonExistsError: Somebody else has it.
    """
    person = find_person(db, who)
    if db.execute("SELECT 1 FROM people WHERE name = ? AND id <> ?", (name, person)).fetchone():
        raise PersonExistsError(name)
    db.execute("UPDATE people SET name = ? WHERE id = ?", (name, person))


def note_consent(db: Transaction, person: int, note: str) -> None:
    """Keep a note on how a person agreed."""
    db.execute("UPDATE people SET consent = ? WHERE id = ?", (note, person))


def expire_person(db: Transaction, person: int, expires: int | None) -> None:
    """Keep when a person expires, in seconds since 1970; None for never."""
    db.execute("UPDATE people SET expires = ? WHERE id = ?", (expires, person))


def merge_people(db: Transaction, source: Who, into: Who) -> Merge:
    """Move every face of a person to another, with the note on consent where the other has none.

    Of two days of expiry, the earlier holds.

    Raises:
        BadNameError: Both are the same person.
    """
    old, new = find_person(db, source), find_person(db, into)
    if old == new:
        raise BadNameError(str(into), "it is the very person to merge")
    moved = db.execute("UPDATE faces SET person_id = ? WHERE person_id = ?", (new, old)).rowcount
    note, over = db.execute("SELECT consent, expires FROM people WHERE id = ?", (old,)).fetchone()
    if note is not None:
        db.execute("UPDATE people SET consent = ? WHERE id = ? AND consent IS NULL", (note, new))
    if over is not None:
        earlier = "UPDATE people SET expires = ? WHERE id = ? AND (expires IS NULL OR expires > ?)"
        db.execute(earlier, (over, new, over))
    db.execute("DELETE FROM people WHERE id = ?", (old,))
    return Merge(old, new, moved)


# Delete


def delete_person(db: Transaction, who: Who) -> Deletion:
    """Delete a person's rows, and the pictures that show nobody else."""
    person = find_person(db, who)
    crops = count_crops(db, "person_id", person)
    pictures = db.execute("SELECT DISTINCT picture_id FROM faces WHERE person_id = ?", (person,)).fetchall()
    faces = db.execute("DELETE FROM faces WHERE person_id = ?", (person,)).rowcount
    db.execute("DELETE FROM people WHERE id = ?", (person,))
    return Deletion(person, None, faces, crops, delete_orphans(db, pictures))


def delete_face(db: Transaction, who: Who, face: int) -> Deletion:
    """Delete one face of a person, who keeps at least one other."""
    person = find_person(db, who)
    faces = [number for (number,) in db.execute("SELECT id FROM faces WHERE person_id = ?", (person,))]
    if face not in faces:
        raise UnknownFaceError(face)
    if len(faces) == 1:
        raise LastFaceError(face)
    crops = count_crops(db, "id", face)
    pictures = db.execute("SELECT picture_id FROM faces WHERE id = ?", (face,)).fetchall()
    db.execute("DELETE FROM faces WHERE id = ?", (face,))
    return Deletion(person, face, 1, crops, delete_orphans(db, pictures))


def count_crops(db: Transaction, column: str, number: int) -> int:
    """Return how many of the faces in which a column is this number have a crop."""
    (crops,) = db.execute(f"SELECT count(crop) FROM faces WHERE {column} = ?", (number,)).fetchone()
    return int(crops)


def delete_orphans(db: Transaction, pictures: Iterable[Row]) -> int:
    """Delete pictures, one number a row, that no face is from, and return how many they were."""
    orphan = """DELETE FROM pictures WHERE id = ?
                AND NOT EXISTS (SELECT 1 FROM faces WHERE picture_id = pictures.id)"""
    return sum(db.execute(orphan, picture).rowcount for picture in pictures)
