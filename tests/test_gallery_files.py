"""A gallery file written anew: nothing beside its files, and no failure told of a change that is done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_gallery_old import unpack

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from crashing import disk, keys
from sameface.gallery import Gallery
from sameface.gallery.errors import GalleryFileError, WrongKeyError
from sameface.gallery.file_encryption import encrypt_gallery, rotate_key
from sameface.gallery.keys import Keys
from sameface.gallery.sqlite import files

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")

# Runs an act, and prints every file but the gallery's own that its process writes to in the meantime. SQLite
# unlinks a temporary file at once, so that only an open descriptor shows it: each step of SQLite's looks.
WATCH = """
import os, sqlite3, sys
from pathlib import Path
from sameface.gallery.sqlite import database

path, act = sys.argv[1:]
seen = set()

def look():
    for name in os.listdir("/proc/self/fd"):
        try:
            seen.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    return 0

def watched(path, wait_seconds, connect=database.connect):
    db = connect(path)
    db.set_progress_handler(look, 50)
    return db

database.connect = watched
from sameface.gallery import Gallery
from sameface.gallery.file_encryption import decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, KeyText

one, two = (KeyText(Key(bytes([n]) * 32).text, "a key") for n in (7, 8))

def forget():
    with Gallery.open(path) as gallery:
        gallery.forget("Ada Old")

def compact():
    database.LARGE_PAGES = 0
    with Gallery.open(path) as gallery:
        gallery.compact()

acts = {
    "forget": forget,
    "compact": compact,
    "encrypt": lambda: encrypt_gallery(path, one),
    "decrypt": lambda: decrypt_gallery(path, one),
    "rotate-key": lambda: rotate_key(path, one, two),
    "rotate-data-key": lambda: rotate_data_key(path, one),
}
acts[act]()
assert any(name == path for name in seen), "nothing was looked at"
for name in sorted(seen):
    if name.startswith("/") and not name.startswith((path, "/proc", "/dev")):
        print(name)
"""


@LINUX
@pytest.mark.parametrize("act", ["forget", "compact", "encrypt", "decrypt", "rotate-key", "rotate-data-key"])
def test_no_byte_of_a_gallery_goes_into_the_temporary_folder(tmp_path: Path, act: str) -> None:
    path = unpack("sealed" if act in ("decrypt", "rotate-key", "rotate-data-key") else "v8", tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", WATCH, str(path), act],
        env=os.environ | {"SQLITE_TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [name for name in ran.stdout.split("\n") if name.startswith(str(temporary))] == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """An encrypted gallery of 400 faces on a small disk of its own."""
    try:
        with disk.small_disk(tmp_path / "disk", 16) as folder:
            keys.make_gallery(folder / "people.db")
            encrypt_gallery(folder / "people.db", keys.KEYS[0])
            yield folder / "people.db"
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_key_that_is_changed_on_a_full_disk_is_a_change_with_a_warning(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "COPIES", 0)  # as if the disk had filled up just after it was looked at
    monkeypatch.setattr(files, "LEAST", 0)
    disk.fill(small.parent, 200_000)
    done = rotate_key(small, keys.KEYS[0], keys.KEYS[1])
    disk.free(small.parent)
    assert done.warning is not None
    assert "the change is done, but what the old key opens stays" in done.warning
    assert "full" in done.warning
    assert keys.wrong_with(small, keys.State(key=1)) is None
    with pytest.raises(WrongKeyError):
        Gallery.open(small, keys=Keys(keys.KEYS[0]))
    with Gallery.open(small, keys=Keys(keys.KEYS[1])) as gallery:
        gallery.compact()


@pytest.mark.parametrize("step", ["rotate-key", "rotate-data-key", "decrypt", "upgrade"])
def test_without_room_nothing_is_changed(small: Path, step: str) -> None:
    before = keys.State(key=0)
    disk.fill(small.parent, 1_500_000)
    after = {"rotate-key": keys.State(1), "decrypt": keys.State(), "upgrade": keys.State(0, 1)}.get(step, before)
    with pytest.raises(GalleryFileError, match=r"takes \d+ MB of free space .*nothing is changed|full|disk I/O"):
        keys.take(small, step, before, after)
    disk.free(small.parent)
    assert keys.wrong_with(small, before) is None
    keys.take(small, step, before, after)
    assert keys.wrong_with(small, after) is None
