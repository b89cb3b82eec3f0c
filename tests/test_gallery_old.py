"""Gallery files that earlier versions have made: `fixtures/gallery-*.db.gz`, with invented people."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_world import OneThreshold, identify_one

from sameface.arrays import Embeddings
from sameface.gallery import Gallery
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.file_encryption import decrypt_gallery, encrypt_gallery
from sameface.gallery.keys import Key, Keys, KeyText

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = range(1, 9)
KEY = KeyText(Key(bytes([7]) * 32).text, "the key of the fixtures")
PLAIN = np.linspace(0, 1, 8, dtype=np.float32).tobytes()
INSERT = """INSERT INTO faces (person_id, picture_id, "left", top, "right", bottom, score, embedding)
            SELECT person_id, picture_id, 1, 1, 2, 2, 0.9, ? FROM faces LIMIT 1"""


class Toy(OneThreshold):
    """The pipeline that made the fixtures."""

    signature = "toy-1"

    def __init__(self) -> None:
        super().__init__(0.1)


def unit(axis: int) -> Embeddings:
    """Return `(8,) float32`, a row of the fixtures' pipeline: one for each axis."""
    return np.eye(8, dtype=np.float32)[axis]


def name_of(gallery: Gallery, axis: int) -> str | None:
    """Return who is named for a row."""
    return identify_one(gallery, unit(axis), rule="rows").name


def unpack(name: str, folder: Path) -> Path:
    """Return a copy of an old gallery in a folder."""
    path = folder / "people.db"
    path.write_bytes(gzip.decompress((FIXTURES / f"gallery-{name}.db.gz").read_bytes()))
    path.chmod(0o600)
    return path


def test_a_gallery_whose_rows_are_turned_by_a_key_is_refused(tmp_path: Path) -> None:
    path = unpack("turned", tmp_path)
    before = path.read_bytes()
    with pytest.raises(GalleryFileError, match=r"the last version that reads them is 0\.1\.0: .*rekey --remove"):
        Gallery.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gallery_of_every_version_is_read_and_changed(tmp_path: Path, version: int) -> None:
    path = unpack(f"v{version}", tmp_path)
    with Gallery.open(path, Toy()) as gallery:
        assert [(person.name, person.faces) for person in gallery.people()] == [("Ada Old", 2), ("Bela Old", 1)]
        assert [name_of(gallery, axis) for axis in range(4)] == ["Ada Old", "Ada Old", "Bela Old", None]
        [template] = gallery.templates("Bela Old")
        assert template.crop is not None
        assert template.crop.tolist() == np.full((4, 4, 3), 2).tolist()
        before = gallery.person("Bela Old").number
        gallery.enroll("Dora New", [replace(template, embedding=unit(5), picture="d" * 64)])
        assert gallery.person("Dora New").number > before
        receipt = gallery.forget("Bela Old")
        assert receipt.erasure is not None
        assert receipt.erasure.complete
        assert [name_of(gallery, axis) for axis in (2, 5)] == [None, "Dora New"]
    assert b"Bela Old" not in path.read_bytes()


def test_an_encrypted_gallery_of_an_earlier_version_is_read_and_guarded(tmp_path: Path) -> None:
    path = unpack("sealed", tmp_path)
    with Gallery.open(path, Toy(), keys=Keys(KEY)) as gallery:
        assert name_of(gallery, 0) == "Ada Old"
    with closing(sqlite3.connect(path)) as old, pytest.raises(sqlite3.IntegrityError, match="encrypted"):
        old.execute(INSERT, (PLAIN,))


@pytest.mark.parametrize("statement", ["UPDATE faces SET embedding = ?", "UPDATE faces SET crop = ?", INSERT])
def test_a_program_that_began_before_the_encryption_cannot_write_a_plain_value(tmp_path: Path, statement: str) -> None:
    path = unpack("v8", tmp_path)
    with Gallery.open(path):
        pass  # brings the tables to this version
    with closing(sqlite3.connect(path)) as old:  # an earlier version, which asks nothing before it writes
        with old:
            old.execute(statement, (PLAIN,))
        encrypt_gallery(path, KEY)
        with pytest.raises(sqlite3.IntegrityError, match="encrypted"), old:
            old.execute(statement, (PLAIN,))
        assert PLAIN not in path.read_bytes()
    decrypt_gallery(path, KEY)
    with Gallery.open(path) as gallery:
        assert gallery.count() == (2, 3 + (statement == INSERT))


def test_nothing_is_written_into_a_file_that_a_later_version_has_changed_meanwhile(tmp_path: Path) -> None:
    path = unpack("v8", tmp_path)
    with Gallery.open(path, Toy()) as gallery:
        with closing(sqlite3.connect(path)) as later, later:
            later.execute("PRAGMA user_version = 99")
        changes = (
            lambda: gallery.rename("Ada Old", "Ada New"),
            lambda: gallery.forget("Ada Old"),
            lambda: gallery.enroll("Zoe", gallery.templates("Ada Old")),
        )
        for change in changes:
            with pytest.raises(GalleryFileError, match="version 99"):
                change()
        assert [person.name for person in gallery.people()] == ["Ada Old", "Bela Old"]
