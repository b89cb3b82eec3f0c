"""A gallery file that nobody reads without its key: what is left in plain, and what is refused."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import milvus_world
import numpy as np
import pytest
import test_gallery_model
import toy
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from gallery_world import OneThreshold, identify_one
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sameface.arrays import Embeddings
from sameface.embed import unit_rows
from sameface.face import Template
from sameface.gallery import Gallery, file_encryption
from sameface.gallery.errors import (
    EncryptionError,
    KeyFileError,
    MissingKeyError,
    SealError,
    UpgradeError,
    WrongKeyError,
)
from sameface.gallery.file_encryption import KeyChange, decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, KeyCommand, KeyFile, Keys, KeyText, check_private, write_key
from sameface.gallery.sqlite import database
from sameface.gallery.upgrade import Upgrade, confirm_upgrade, discard_upgrade

BOX = np.array([0, 0, 9, 9], np.float32)
WIDTH, PIECE = 64, 16  # numbers of a row; bytes of it that are looked for
PIPELINE = OneThreshold(0.1)
KEY, OTHER = (KeyText(Key(bytes([n]) * 32).text, f"key {n}") for n in (1, 2))


def make_templates(count: int, seed: int = 0) -> list[Template]:
    """Return faces with rows and crops at random."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.normal(size=(count, WIDTH)).astype(np.float32))
    crops = rng.integers(256, size=(count, 12, 12, 3), dtype=np.uint8)
    return [Template(f"{seed} {n}", BOX, 1, row, crops[n]) for n, row in enumerate(rows)]


def open_sealed(path: Path, key: KeyText | None = KEY) -> Gallery:
    """Open a gallery with a key."""
    return Gallery.open(path, PIPELINE, keys=Keys(key))


def pieces(templates: list[Template]) -> set[bytes]:
    """Return what must be found nowhere: parts of rows and of crops as they are in their PNG files."""
    rows = [template.embedding.tobytes() for template in templates]
    return {row[start : start + PIECE] for row in rows for start in range(0, len(row), PIECE)}


def left_in(path: Path, wanted: set[bytes]) -> int:
    """Return how many of the pieces are in any file of a gallery."""
    data = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    return sum(piece in data for piece in wanted)


def count_png(path: Path) -> int:
    """Return how many PNG files are in the files of a gallery."""
    return sum(file.read_bytes().count(b"\x89PNG") for file in path.parent.glob(f"{path.name}*"))


def change(path: Path, *statements: str) -> None:
    """Change a gallery file behind our back, as somebody does who may write it and knows its triggers."""
    with closing(sqlite3.connect(path)) as db:
        for event in ("insert", "update"):
            db.execute(f"DROP TRIGGER face_sealed_{event}")
        for statement in statements:
            db.execute(statement)
        db.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def templates() -> list[Template]:
    return make_templates(40)


@pytest.fixture
def plain(path: Path, templates: list[Template]) -> Path:
    """A gallery of twenty people, which is not encrypted, and has been searched."""
    with Gallery.open(path, PIPELINE) as gallery:
        for number in range(20):
            gallery.enroll(f"person {number}", templates[2 * number : 2 * number + 2])
        identify_one(gallery, templates[0].embedding, rule="rows")
    return path


@pytest.fixture
def sealed(plain: Path) -> Path:
    """The same, encrypted with `KEY`."""
    assert encrypt_gallery(plain, KEY) == KeyChange(40)
    return plain


def check_answers(gallery: Gallery, templates: list[Template]) -> None:
    """See that everybody of the twenty people is found."""
    rows = np.stack([template.embedding for template in templates])
    answers = gallery.identify(rows, rule="rows")
    assert [answer.name for answer in answers] == [f"person {n // 2}" for n in range(len(templates))]
    assert max(answer.matches[0].distance for answer in answers) < 1e-6  # of float32


# Nothing in plain


def test_what_is_looked_for_is_there_before(plain: Path, templates: list[Template]) -> None:
    assert left_in(plain, pieces(templates)) == len(pieces(templates))
    assert count_png(plain) >= 40


def test_no_plain_row_and_no_crop_is_left(sealed: Path, templates: list[Template]) -> None:
    assert left_in(sealed, pieces(templates)) == 0
    assert count_png(sealed) == 0
    assert sorted(file.name for file in sealed.parent.iterdir()) == ["people.db"]
    assert b"person 7" in sealed.read_bytes()  # names stay


def test_a_search_and_changes_leave_nothing_in_plain(sealed: Path, templates: list[Template]) -> None:
    more = make_templates(3, seed=1)
    with open_sealed(sealed) as gallery:
        check_answers(gallery, templates)
        gallery.enroll("Zoe", more)
        assert identify_one(gallery, more[0].embedding, rule="rows").name == "Zoe"
        gallery.forget("person 3")
        assert left_in(sealed, pieces([*templates, *more])) == 0
        assert count_png(sealed) == 0
        assert not Path(f"{sealed}-codes").exists()
    assert left_in(sealed, pieces([*templates, *more])) == 0


def test_a_gallery_that_is_made_with_a_key_is_encrypted_from_the_first(path: Path, templates: list[Template]) -> None:
    with open_sealed(path) as gallery:
        gallery.enroll("Ann", templates)
        assert left_in(path, pieces(templates)) == 0
    with pytest.raises(MissingKeyError):
        Gallery.open(path, PIPELINE)


def test_while_another_program_reads_plain_rows_stay_and_that_is_said(
    plain: Path, templates: list[Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(plain, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM faces").fetchall()
        done = encrypt_gallery(plain, KEY)
        assert done.faces == 40
        assert done.warning is not None
        assert "the change is done, but plain rows stay" in done.warning
        assert left_in(plain, pieces(templates)) > 0
    assert encrypt_gallery(plain, KEY) == KeyChange(0)
    assert left_in(plain, pieces(templates)) == 0


def test_a_program_that_had_it_open_in_plain_is_refused_and_writes_nothing_in_plain(
    plain: Path, templates: list[Template]
) -> None:
    more = make_templates(1, seed=1)
    with Gallery.open(plain, PIPELINE) as before:
        check_answers(before, templates)
        encrypt_gallery(plain, KEY)
        with pytest.raises(MissingKeyError):
            identify_one(before, templates[0].embedding, rule="rows")
        with pytest.raises(MissingKeyError):
            before.enroll("Zoe", more)
    assert left_in(plain, pieces(more)) == 0


def test_the_form_of_a_sealed_value_is_the_documented_one(sealed: Path, templates: list[Template]) -> None:
    with closing(sqlite3.connect(sealed)) as db:
        [(number, wrapped)] = db.execute("SELECT number, wrapped FROM data_keys").fetchall()
        face_number, value, crop = db.execute("SELECT id, embedding, crop FROM faces ORDER BY id").fetchone()
    name = b"sameface 1 data key %d" % number
    data_key = AESGCM(KEY.read().secret).decrypt(wrapped[:12], wrapped[12:], name)
    assert value[:5] == crop[:5] == b"\x01" + number.to_bytes(4, "big")
    place = b"sameface 1 embedding of face %d" % face_number
    row = AESGCM(data_key).decrypt(value[5:17], value[17:], place)
    assert row == templates[0].embedding.tobytes()


def test_the_same_row_is_never_sealed_the_same(path: Path, templates: list[Template]) -> None:
    with open_sealed(path) as gallery:
        gallery.enroll("Ann", [replace(templates[0], picture=str(n)) for n in range(50)])
    with closing(sqlite3.connect(path)) as db:
        values = [value for (value,) in db.execute("SELECT embedding FROM faces")]
    assert len({value[5:17] for value in values}) == len(set(values)) == 50


# The same answers


def test_an_encrypted_gallery_answers_as_a_plain_one(sealed: Path, templates: list[Template]) -> None:
    with open_sealed(sealed) as gallery:
        check_answers(gallery, templates)
        [one, _] = gallery.templates("person 0")
        np.testing.assert_array_equal(one.embedding, templates[0].embedding)
        np.testing.assert_array_equal(one.crop, templates[0].crop)
        [number, _] = [each.number for each in gallery.faces("person 0")]
        np.testing.assert_array_equal(gallery.crop("person 0", number), templates[0].crop)


def test_whatever_is_done_an_encrypted_gallery_is_as_a_dict_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    opened = SimpleNamespace(open=partial(Gallery.open, keys=Keys(KEY)))
    monkeypatch.setattr(test_gallery_model, "Gallery", opened)
    run_state_machine_as_test(
        lambda: test_gallery_model.Acts(str(tmp_path / f"{next(numbers)}.db")),
        settings=settings(
            max_examples=8,
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )
    assert next(numbers) > 1
    with pytest.raises(MissingKeyError):
        Gallery.open(tmp_path / "0.db", test_gallery_model.Rows())


def test_who_reads_while_it_is_encrypted_and_decrypted_reads_right(plain: Path, templates: list[Template]) -> None:
    found: list[list[Template]] = []
    with Gallery.open(plain) as gallery:
        gallery._db.key = KEY
        with ThreadPoolExecutor(1) as other:
            changing = other.submit(change_often, plain)
            while not changing.done():
                found.append(gallery.templates("person 3"))
                gallery.crop("person 3", gallery.faces("person 3")[0].number)
        changing.result()
    assert len(found) > 5
    for one, two in found:
        np.testing.assert_array_equal(one.embedding, templates[6].embedding)
        np.testing.assert_array_equal(two.crop, templates[7].crop)


def change_often(path: Path) -> None:
    """Encrypt and decrypt a gallery some times."""
    for _ in range(5):
        encrypt_gallery(path, KEY)
        decrypt_gallery(path, KEY)


# Keys


def test_without_a_key_nothing_is_read_and_people_can_still_be_managed(
    sealed: Path, templates: list[Template]
) -> None:
    with pytest.raises(MissingKeyError, match=f"encrypted with key {KEY.read().fingerprint}"):
        Gallery.open(sealed, PIPELINE)
    with Gallery.open(sealed) as gallery:
        [number, _] = [each.number for each in gallery.faces("person 0")]
        for read in (lambda: gallery.templates("person 0"), lambda: gallery.crop("person 0", number)):
            with pytest.raises(MissingKeyError):
                read()
        gallery.rename("person 0", "Ann")
        gallery.merge("person 1", "Ann")
        gallery.forget("person 2")
    with open_sealed(sealed) as gallery:
        assert [identify_one(gallery, templates[n].embedding, rule="rows").name for n in (0, 2)] == ["Ann", "Ann"]


def test_a_wrong_key_is_an_error(sealed: Path) -> None:
    told = f"needs key {KEY.read().fingerprint}, given {OTHER.read().fingerprint}"
    for act in (
        lambda: open_sealed(sealed, OTHER),
        lambda: Gallery.open(sealed, keys=Keys(OTHER)),
        lambda: decrypt_gallery(sealed, OTHER),
        lambda: encrypt_gallery(sealed, OTHER),
        lambda: rotate_key(sealed, OTHER, KEY),
        lambda: rotate_data_key(sealed, OTHER),
    ):
        with pytest.raises(WrongKeyError, match=told):
            act()


def test_a_key_for_a_gallery_that_is_not_encrypted_is_an_error(plain: Path) -> None:
    for act in (
        lambda: open_sealed(plain),
        lambda: decrypt_gallery(plain, KEY),
        lambda: rotate_key(plain, KEY, OTHER),
        lambda: rotate_data_key(plain, KEY),
    ):
        with pytest.raises(EncryptionError, match="it is not encrypted"):
            act()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE faces SET {0} = {1}",
        "UPDATE faces SET {0} = substr({0}, 1, length({0}) - 1)",
        "UPDATE faces SET {0} = substr({0}, 1, 16)",
        "UPDATE faces SET {0} = CAST(x'00' || substr({0}, 2) AS BLOB)",
        "UPDATE faces SET {0} = CAST(x'01FFFFFFFF' || substr({0}, 6) AS BLOB)",
        "UPDATE faces SET {0} = zeroblob(256)",
        "UPDATE faces SET {0} = 'text'",
        "UPDATE faces SET {0} = (SELECT {0} FROM faces AS other WHERE other.id <> faces.id)",
        "UPDATE faces SET {0} = (SELECT {2} FROM faces AS other WHERE other.id = faces.id)",
    ],
)
@pytest.mark.parametrize(("column", "other"), [("embedding", "crop"), ("crop", "embedding")])
def test_a_value_that_is_not_what_was_written_there_is_an_error(
    sealed: Path, statement: str, column: str, other: str
) -> None:
    with closing(sqlite3.connect(sealed)) as db:
        [number, *_] = [each for (each,) in db.execute("SELECT id FROM faces ORDER BY id")]
        (value,) = db.execute(f"SELECT {column} FROM faces WHERE id = ?", (number,)).fetchone()
    flipped = f"x'{value[:-1].hex()}{value[-1] ^ 1:02x}'"
    change(sealed, f"{statement.format(column, flipped, other)} WHERE id = {number}")
    with open_sealed(sealed) as gallery, pytest.raises(SealError, match=f"encrypted {column} of face {number}"):
        gallery.templates("person 0")
        gallery.crop("person 0", number)


def test_one_damaged_row_is_an_error_of_the_search(sealed: Path, templates: list[Template]) -> None:
    change(sealed, "UPDATE faces SET embedding = zeroblob(length(embedding)) WHERE id = 30")
    with open_sealed(sealed) as gallery, pytest.raises(SealError, match="embedding of face 30 is damaged"):
        gallery.identify(templates[0].embedding[None], rule="rows")


@pytest.mark.parametrize("wrapped", ["zeroblob(60)", "x'00'", "'text'", "substr(wrapped, 1, 59)"])
def test_a_damaged_data_key_is_an_error(sealed: Path, wrapped: str) -> None:
    change(sealed, f"UPDATE data_keys SET wrapped = {wrapped}")
    with pytest.raises(SealError, match="encrypted data key is damaged"):
        open_sealed(sealed)


def test_rows_of_another_gallery_with_the_same_key_are_refused(
    sealed: Path, tmp_path: Path, templates: list[Template]
) -> None:
    with open_sealed(tmp_path / "other.db") as other:
        other.enroll("Ann", templates[:2])
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        number, value = db.execute("SELECT id, embedding FROM faces").fetchone()
    change(sealed, f"UPDATE faces SET embedding = x'{value.hex()}' WHERE id = {number}")
    with open_sealed(sealed) as gallery, pytest.raises(SealError):
        gallery.templates("person 0")


def test_decrypted_it_is_what_it_was(sealed: Path, templates: list[Template]) -> None:
    assert decrypt_gallery(sealed, KEY) == KeyChange(40)
    with Gallery.open(sealed, PIPELINE) as gallery:
        check_answers(gallery, templates)
        np.testing.assert_array_equal(gallery.templates("person 3")[1].crop, templates[7].crop)
    assert left_in(sealed, pieces(templates)) == len(pieces(templates))


# Rotation


def wrapped_keys(path: Path) -> list[bytes]:
    """Return what a file keeps of its data keys."""
    with closing(sqlite3.connect(path)) as db:
        return [wrapped for (wrapped,) in db.execute("SELECT wrapped FROM data_keys")]


def test_another_key_opens_it_and_the_old_one_does_not(sealed: Path, templates: list[Template]) -> None:
    [was] = wrapped_keys(sealed)
    with open_sealed(sealed) as before:
        check_answers(before, templates)
        rotate_key(sealed, KEY, OTHER)
        assert left_in(sealed, {was}) == 0  # nor in the log, which is there until `before` is closed
        check_answers(before, templates)
        before.enroll("Zoe", make_templates(1, seed=1))
    with open_sealed(sealed, OTHER) as gallery:
        check_answers(gallery, templates)
    with pytest.raises(WrongKeyError):
        open_sealed(sealed)
    assert was not in sealed.read_bytes()


def test_with_another_data_key_every_value_is_new_and_the_old_key_is_destroyed(
    sealed: Path, templates: list[Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_encryption, "PAGE", 7)
    columns = "SELECT embedding, crop FROM faces ORDER BY id"
    with closing(sqlite3.connect(sealed)) as db:
        old = {value for row in db.execute(columns) for value in row}
    [was] = wrapped_keys(sealed)
    with open_sealed(sealed) as gallery:
        check_answers(gallery, templates)
        assert rotate_data_key(sealed, KEY) == KeyChange(40)
        assert left_in(sealed, {was, *(value[-16:] for value in old)}) == 0  # also in the log
        check_answers(gallery, templates)
    data = sealed.read_bytes()
    assert was not in data
    assert not any(value[-16:] in data for value in old)
    assert len(wrapped_keys(sealed)) == 1


class InterruptedRotationError(Exception):
    """Somebody has pressed Ctrl-C."""


def test_an_interrupted_rotation_goes_on_where_it_was(
    sealed: Path, templates: list[Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(range(3))

    def pause(seconds: float) -> None:
        if next(turns, None) is None:
            raise InterruptedRotationError

    monkeypatch.setattr(file_encryption, "PAGE", 7)
    monkeypatch.setattr(file_encryption.time, "sleep", pause)
    with open_sealed(sealed) as gallery:
        with pytest.raises(InterruptedRotationError):
            rotate_data_key(sealed, KEY)
        assert len(wrapped_keys(sealed)) == 2
        check_answers(gallery, templates)
        gallery.enroll("Zoe", make_templates(1, seed=1))
        monkeypatch.undo()
        assert rotate_data_key(sealed, KEY) == KeyChange(40 - 4 * 7)
        check_answers(gallery, templates)
    assert len(wrapped_keys(sealed)) == 1


# Identifies one probe after the other until its input ends, and prints how many answers were right.
READER = """
import sys, threading
import numpy as np
from gallery_world import OneThreshold
from sameface.gallery import Gallery
from sameface.gallery.keys import KeyFile, Keys

probes = np.load(sys.argv[3])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
right = asked = 0
with Gallery.open(sys.argv[1], OneThreshold(0.1), keys=Keys(KeyFile(sys.argv[2]))) as gallery:
    print("begun", flush=True)
    while not ended.is_set():
        number = asked % len(probes)
        [answer] = gallery.identify(probes[number][None], rule="rows")
        right += answer.name == f"person {number // 2}"
        asked += 1
print(right, asked, flush=True)
"""


@pytest.fixture
def reader(sealed: Path, templates: list[Template], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program, which identifies all the time."""
    write_key(tmp_path / "key", KEY.read())
    np.save(tmp_path / "probes.npy", np.stack([template.embedding for template in templates]))
    words = [str(sealed), str(tmp_path / "key"), str(tmp_path / "probes.npy")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", READER, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_keys_are_rotated_while_another_program_identifies_and_enrolls_all_the_time(
    sealed: Path, reader: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_encryption, "PAGE", 5)
    rotate_data_key(sealed, KEY)
    rotate_key(sealed, KEY, OTHER)
    write_key(tmp_path / "new", OTHER.read())
    (tmp_path / "new").replace(tmp_path / "key")
    with open_sealed(sealed, OTHER) as gallery:
        gallery.enroll("Zoe", make_templates(1, seed=1))
    assert rotate_data_key(sealed, OTHER) == KeyChange(41)
    time.sleep(0.3)
    told, _ = reader.communicate(timeout=30)
    right, asked = map(int, told.split())
    assert reader.returncode == 0
    assert right == asked > 20


def test_a_program_that_finds_no_key_for_a_new_data_key_is_told(sealed: Path) -> None:
    with open_sealed(sealed) as gallery:
        rotate_key(sealed, KEY, OTHER)
        rotate_data_key(sealed, OTHER)
        with pytest.raises(WrongKeyError):
            gallery.templates("person 0")


# Upgrades


@pytest.fixture
def moved(sealed: Path) -> Iterator[Upgrade]:
    """An upgrade of the encrypted gallery, half done."""
    with Upgrade.open(sealed, "t", Keys(KEY)) as begun:
        faces = [face for each in begun.pending().values() for face in each][:20]
        begun.put(faces, turned_rows(20))
        yield begun


def turned_rows(count: int) -> Embeddings:
    """Return rows of another pipeline."""
    return np.stack([template.embedding for template in make_templates(count, seed=7)])


def test_an_upgrade_of_an_encrypted_gallery_is_encrypted(
    sealed: Path, moved: Upgrade, templates: list[Template]
) -> None:
    new = pieces(make_templates(20, seed=7))
    assert moved.adapt(lambda rows: rows[:, ::-1].copy(), toy.THRESHOLDS) == 20
    assert left_in(sealed, pieces(templates) | new) == 0
    assert confirm_upgrade(sealed).left == 0
    assert left_in(sealed, pieces(templates) | new) == 0
    pipeline = OneThreshold(0.1)
    pipeline.signature = "t"
    with Gallery.open(sealed, pipeline, keys=Keys(KEY)) as gallery:
        np.testing.assert_array_equal(gallery.templates("person 0")[0].embedding, turned_rows(20)[0])
        flipped = templates[39].embedding[::-1]
        np.testing.assert_array_equal(gallery.templates("person 19")[1].embedding, flipped)


def test_without_the_key_no_upgrade_is_begun(sealed: Path) -> None:
    with pytest.raises(MissingKeyError):
        Upgrade.open(sealed, "t")
    assert not Path(f"{sealed}.upgraded").exists()


def test_a_row_follows_its_face_to_another_number(sealed: Path, moved: Upgrade, templates: list[Template]) -> None:
    change(sealed, "DELETE FROM faces WHERE id <= 3", "DELETE FROM people WHERE name = 'person 0'")
    with open_sealed(sealed) as gallery:
        gallery.enroll("person 0", templates[:2])
    with Upgrade.open(sealed, "t", Keys(KEY)) as again:
        assert again.progress.embedded == 20
        again.adapt(lambda rows: rows, toy.THRESHOLDS)
    confirm_upgrade(sealed)
    with Gallery.open(sealed, keys=Keys(KEY)) as gallery:
        np.testing.assert_array_equal(gallery.templates("person 0")[0].embedding, turned_rows(20)[0])


def test_an_upgrade_is_not_confirmed_over_another_data_key(sealed: Path, moved: Upgrade) -> None:
    moved.adapt(lambda rows: rows, toy.THRESHOLDS)
    away = sealed.with_name("away")
    moved.close()
    upgraded = Path(f"{sealed}.upgraded")
    upgraded.rename(away)
    rotate_data_key(sealed, KEY)
    away.rename(upgraded)
    with pytest.raises(UpgradeError, match="its encryption was changed since"):
        confirm_upgrade(sealed)
    with Upgrade.open(sealed, "t", Keys(KEY)) as again:
        again.adapt(lambda rows: rows, toy.THRESHOLDS)
    assert confirm_upgrade(sealed).left == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda path: encrypt_gallery(path, KEY),
        lambda path: decrypt_gallery(path, KEY),
        lambda path: rotate_key(path, KEY, OTHER),
        lambda path: rotate_data_key(path, KEY),
    ],
)
def test_with_an_upgrade_beside_it_nothing_is_changed(
    path: Path, templates: list[Template], act: Callable[[Path], KeyChange], request: pytest.FixtureRequest
) -> None:
    keys = Keys() if "0" in request.node.callspec.id else Keys(KEY)
    with Gallery.open(path, PIPELINE, keys=keys) as gallery:
        gallery.enroll("Ann", templates[:1])
    Upgrade.open(path, "t", keys).close()
    with pytest.raises(EncryptionError, match=r"an upgrade was begun in .*people.db.upgraded"):
        act(path)
    with pytest.raises(EncryptionError, match="change the key of the gallery itself"):
        act(Path(f"{path}.upgraded"))


def test_a_data_key_is_not_destroyed_while_an_upgrade_that_began_meanwhile_holds_it(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(_seconds: float, begun: list[int] = []) -> None:  # noqa: B006
        if not begun:
            begun.append(1)
            Upgrade.open(sealed, "t", Keys(KEY)).close()

    monkeypatch.setattr(time, "sleep", begin)
    with pytest.raises(EncryptionError, match="an upgrade was begun"):
        rotate_data_key(sealed, KEY)
    discard_upgrade(sealed)
    assert rotate_data_key(sealed, KEY) == KeyChange(0)


# What is refused


@pytest.mark.parametrize("place", ["postgresql://h/d", "milvus://h/faces?people=people.db"])
def test_a_gallery_in_a_database_is_refused_with_the_way_out(place: str) -> None:
    for act in (
        lambda: encrypt_gallery(place, KEY),
        lambda: decrypt_gallery(place, KEY),
        lambda: rotate_key(place, KEY, OTHER),
        lambda: rotate_data_key(place, KEY),
        lambda: Gallery.open(place, PIPELINE, keys=Keys(KEY)),
    ):
        with pytest.raises(EncryptionError, match="files only: encrypt the disk"):
            act()


def test_a_gallery_that_milvus_searches_is_refused(plain: Path) -> None:
    change(plain, "CREATE TABLE milvus_index (id INTEGER)")
    with pytest.raises(EncryptionError, match="its faces are in Milvus in plain"):
        encrypt_gallery(plain, KEY)


def test_milvus_does_not_search_the_people_of_an_encrypted_file(sealed: Path) -> None:
    pytest.importorskip("pymilvus", reason=milvus_world.INSTALL)
    place = f"milvus://127.0.0.1:1/faces?people={quote(str(sealed), safe='')}"
    with pytest.raises(EncryptionError, match="Milvus would hold their rows in plain"):
        Gallery.open(place, PIPELINE)


def test_without_the_package_a_plain_gallery_works_and_an_encrypted_one_names_the_extra(
    sealed: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
sys.modules["cryptography"] = None
import toy
from gallery_world import OneThreshold, face
from sameface.gallery.errors import EncryptionError
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys, KeyText
with Gallery.open({str(tmp_path / "plain.db")!r}, OneThreshold(0.1)) as gallery:
    gallery.enroll("Ann", [face(toy.RED)])
    print(gallery.identify(toy.row_of(toy.RED)[None], rule="rows")[0].name)
try:
    Gallery.open({str(sealed)!r}, OneThreshold(0.1), keys=Keys(KeyText({KEY.text!r}, "here")))
except EncryptionError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == [
        "Ann",
        f"gallery {str(sealed)!r}: encryption needs cryptography: pip install 'sameface[encrypt]'",
    ]


def test_a_plain_gallery_does_not_load_the_package(tmp_path: Path) -> None:
    code = "import sys, sameface.gallery.file_encryption; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Where keys come from


def test_a_key_is_what_was_written(tmp_path: Path) -> None:
    key = Key.generate()
    write_key(tmp_path / "key", key)
    assert KeyFile(str(tmp_path / "key")).read() == key
    assert KeyText(f" {key.text}\n", "here").read() == key
    assert KeyCommand(f"cat '{tmp_path / 'key'}'").read() == key
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert Key.generate() != key


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    assert KEY.text not in f"{KEY!r} {KEY.read()!r} {Keys(KEY)!r}"


def test_a_key_file_is_not_overwritten(tmp_path: Path) -> None:
    write_key(tmp_path / "key", KEY.read())
    with pytest.raises(KeyFileError, match="cannot be made: File exists"):
        write_key(tmp_path / "key", OTHER.read())
    assert KeyFile(str(tmp_path / "key")).read() == KEY.read()


@pytest.mark.skipif(os.name != "posix", reason="files have no owner")
@pytest.mark.parametrize(("user", "taken"), [("own", True), ("root", True), ("other", False)])
def test_a_key_file_of_another_user_is_refused(user: str, taken: bool) -> None:
    number = {"own": os.geteuid(), "root": 0, "other": os.geteuid() + 1}[user]
    status = os.stat_result((0o100600, 0, 0, 1, number, 0, 44, 0, 0, 0))
    if taken:
        check_private(status, "'key'")
    else:
        with pytest.raises(KeyFileError, match=f"belongs to somebody else .user {number}."):
            check_private(status, "'key'")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    write_key(tmp_path / "key", KEY.read())
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyFileError, match=f"others may read it .mode {mode:04o}.: say chmod 600"):
        KeyFile(str(tmp_path / "key")).read()


@pytest.mark.parametrize("text", ["", "abc", "é", KEY.text[:-2], KEY.text + KEY.text, "A" * 2000, "00" * 32])
def test_what_is_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(KeyFileError, match="cannot take a key from here: wanted 32 random bytes in base64") as told:
        KeyText(text, "here").read()
    assert not text or text not in str(told.value).partition("wanted")[0]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "it ended with exit code 1"),
        ("no-such-command-at-all", "No such file"),
        ("", "it is empty"),
        ("'", "No closing quotation"),
        ("echo abc", "wanted 32 random bytes"),
    ],
)
def test_a_command_that_prints_no_key_is_an_error(command: str, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        KeyCommand(command).read()


def test_a_key_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        KeyFile(str(tmp_path / "none")).read()


def test_the_rows_of_an_encrypted_gallery_are_kept_up_in_memory(sealed: Path) -> None:
    with open_sealed(sealed) as gallery:
        assert gallery._db.load("s").faces == 40
        gallery.enroll("Zoe", make_templates(1, seed=1))
        assert gallery._db.load("s").faces == 41
        gallery.forget("person 3")
        assert gallery._db.load("s").faces == 39
