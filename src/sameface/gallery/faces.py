"""The faces in a gallery: inserted, found and read."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.arrays import Embeddings, Image, expect_shape, expect_unit_rows
from sameface.face import Template, overlaps
from sameface.gallery.backend import Row, Transaction, expect_type
from sameface.gallery.errors import FaceTakenError
from sameface.image import DECODER_ERRORS, is_shortage

SAME_PLACE = 0.5  # two boxes of one picture that overlap by more are one face

BOX = ('"left"', "top", '"right"', "bottom")

# The names and boxes of all faces of one picture.
OWNERS = """SELECT name, "left", top, "right", bottom FROM faces JOIN people ON people.id = person_id
            JOIN pictures ON pictures.id = picture_id WHERE sha256 = ? ORDER BY faces.id"""


def add_face(
    db: Transaction, person: int, template: Template, encode: Callable[[int, Template], dict[str, object]]
) -> bool:
    """Insert one face of a person unless it is there, and say whether it was new.

    Args:
        db: The transaction.
        person: The number of the person.
        template: The face.
        encode: Returns the columns that hold its embedding and its crop, given its number.
    """
    expect_shape("box", template.box, (4,), np.float32)
    (name,) = db.execute("SELECT name FROM people WHERE id = ?", (person,)).fetchone()
    owner = find_owner(db.execute(OWNERS, (template.picture,)), template.box)
    if owner is not None:
        if owner != name:
            raise FaceTakenError(name, owner)
        return False
    number = next_number(db)
    face = {
        "id": number,
        "person_id": person,
        "picture_id": insert_picture(db, template.picture),
        "score": template.score,
        **dict(zip(BOX, template.box.tolist(), strict=True)),
        **encode(number, template),
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


def find_owner(rows: Iterable[Row], box: NDArray[np.float32]) -> str | None:
    """Return whose face is enrolled at this place of a picture, given what `OWNERS` found for the picture."""
    for name, *place in rows:
        if overlaps(box, np.array([place], np.float32))[0] > SAME_PLACE:
            return str(name)
    return None


def encode_crop(crop: Image) -> bytes:
    """Return a crop as a PNG file."""
    expect_shape("crop", crop, ("h", "w", 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(crop).save(file, "PNG")
    return file.getvalue()


def decode_crop(data: bytes) -> Image:
    """Return a crop from its PNG file.

    Raises:
        ValueError: It is none, or damaged.
    """
    expect_type(data, bytes)
    try:
        return np.asarray(PIL.Image.open(io.BytesIO(data), formats=("PNG",)))
    except DECODER_ERRORS as error:
        if is_shortage(error):
            raise MemoryError(str(error)) from error
        raise ValueError(f"a damaged PNG file ({error})") from error


def read_template(row: Row, embedding: Embeddings, crop: Image | None) -> Template:
    """Return an enrolled face from its columns: picture, box and score."""
    picture, *box, score = row
    return Template(picture=picture, box=np.array(box, np.float32), score=score, embedding=embedding, crop=crop)


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
