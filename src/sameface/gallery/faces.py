"""The faces in a gallery's file: inserted, found and read."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.arrays import Embeddings, Image, expect_shape
from sameface.compare import squared_distances
from sameface.errors import FaceTakenError
from sameface.face import overlaps
from sameface.gallery.database import Database
from sameface.template import Template

PROBES = 64  # at once, so that the distances of a thousand probes to a million faces need no 4 GB
SAME_PLACE = 0.5  # two boxes of one picture that overlap by more are one face

# The names and boxes of all faces of one picture.
OWNERS = """SELECT name, "left", top, "right", bottom FROM faces JOIN people ON people.id = person_id
            JOIN pictures ON pictures.id = picture_id WHERE sha256 = ?"""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Every enrolled embedding, in memory.

    Attributes:
        version: The file's content that they were read from.
        names: The name of each person by number.
        owners: `(m,) int64` whose face each row is.
        matrix: `(m, d) float32` unit rows, in the order of enrolment.
        adapted: `(m,) bool` which of them an adapter moved here from another pipeline.
    """

    version: tuple[int, int]
    names: dict[int, str]
    owners: NDArray[np.int64]
    matrix: Embeddings
    adapted: NDArray[np.bool_]


def add_face(db: sqlite3.Connection, person: int, template: Template) -> bool:
    """Insert one face of a person unless it is there, and say whether it was new."""
    expect_shape("box", template.box, (4,), np.float32)
    (name,) = db.execute("SELECT name FROM people WHERE id = ?", (person,)).fetchone()
    owner = find_owner(db.execute(OWNERS, (template.picture,)), template.box)
    if owner is not None:
        if owner != name:
            raise FaceTakenError(name, owner)
        return False
    picture = insert_picture(db, template.picture)
    crop = None if template.crop is None else encode_crop(template.crop)
    place = (*template.box.tolist(), template.score)
    db.execute(
        """INSERT INTO faces (id, person_id, picture_id, "left", top, "right", bottom, score, embedding, crop)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (next_number(db), person, picture, *place, template.embedding.tobytes(), crop),
    )
    return True


def next_number(db: sqlite3.Connection) -> int:
    """Return a number that no person and no face ever had in this file."""
    (number,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
    return int(number)


def insert_picture(db: sqlite3.Connection, sha256: str) -> int:
    """Return the number of the picture with this SHA-256, inserted if it is not there."""
    db.execute("INSERT INTO pictures (sha256) VALUES (?) ON CONFLICT DO NOTHING", (sha256,))
    (number,) = db.execute("SELECT id FROM pictures WHERE sha256 = ?", (sha256,)).fetchone()
    return int(number)


def find_owner(rows: Iterable[tuple[Any, ...]], box: NDArray[np.float32]) -> str | None:
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
    """Return a crop from its PNG file."""
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def read_template(row: tuple[Any, ...]) -> Template:
    """Return an enrolled face from its columns."""
    picture, *box, score, embedding, crop = row
    return Template(
        picture=picture,
        box=np.array(box, np.float32),
        score=score,
        embedding=np.frombuffer(embedding, np.float32),
        crop=None if crop is None else decode_crop(crop),
    )


def read_rows(db: Database, version: tuple[int, int]) -> Rows:
    """Read every embedding into one matrix."""
    query = """SELECT person_id, name, embedding, adapted FROM faces JOIN people ON people.id = person_id
               ORDER BY faces.id"""
    names, owners, blobs, moved = {}, [], bytearray(), []
    for owner, name, blob, adapted in db.read(query):
        names[owner] = name
        owners.append(owner)
        blobs += blob
        moved.append(adapted)
    matrix = np.frombuffer(bytes(blobs), np.float32).reshape(len(owners), -1 if owners else 0)
    return Rows(version, names, np.array(owners, np.int64), matrix, np.array(moved, bool))


def measure_probes(
    probes: Embeddings, known: Rows, scale: NDArray[np.float32] | None
) -> Iterator[NDArray[np.float32]]:
    """Yield the distances of each probe to every enrolled row, `(m,) float32`, 0 to 4.

    Args:
        probes: `(n, d) float32` unit rows.
        known: The enrolled rows, one or more.
        scale: `(m,) float32`, a factor for the distance to each, or None.
    """
    for start in range(0, len(probes), PROBES):
        for measured in squared_distances(probes[start : start + PROBES], known.matrix):
            yield measured if scale is None else np.minimum(measured * scale, np.float32(4))


def check_width(db: sqlite3.Connection, templates: Sequence[Template]) -> None:
    """Raise unless every embedding is as wide as the first that was ever enrolled."""
    (width,) = db.execute("SELECT dimension FROM pipeline").fetchone()
    for template in templates:
        expect_shape("embedding", template.embedding, (width or "d",), np.float32)
        if width is None:
            width = len(template.embedding)
            db.execute("UPDATE pipeline SET dimension = ?", (width,))
