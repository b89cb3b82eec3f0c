"""What SQLite writes outside a gallery's files while it writes the gallery anew: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_gallery_old import unpack

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")

# Runs an act, and prints every file but the gallery's own that its process writes to in the meantime. SQLite
# unlinks a temporary file at once, so that only an open descriptor shows it: each step of SQLite's looks.
WATCH = """
import os, sqlite3, sys
from pathlib import Path
from sameface.gallery import database

path, act = sys.argv[1:]
seen = set()

def look():
    for name in os.listdir("/proc/self/fd"):
        try:
            seen.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    return 0

def watched(path, connect=database.connect):
    db = connect(path)
    db.set_progress_handler(look, 50)
    return db

database.connect = watched
from sameface.gallery import Gallery
from sameface.gallery.encryption import decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
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
