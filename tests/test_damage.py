"""Memory that runs short, and faults of ours, are never told as damage: only what data can cause is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import toy

from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.backend import SHAPE_ERRORS, expect_type, undamaged
from sameface.gallery.errors import GalleryFileError
from sameface.recognizer import Recognizer

SIDE = 6000  # of a crop or a picture: 108 MB of pixels in a file of a few hundred kilobytes

# What a process does that may have 32 MB more than it has; it prints the error that it gets.
SHORT = """
import resource, sys
import numpy as np
import toy
{ready}
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 32 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    {use}
except Exception as error:
    print(type(error).__name__, str(error))
"""


@pytest.fixture
def path(tmp_path: Path, toy_recognizer: Recognizer) -> Path:
    """A gallery of one face with a very large crop."""
    path = tmp_path / "people.db"
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    box = np.array([0, 0, 9, 9], np.float32)
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [Template("a" * 64, box, 0.9, toy.row_of(toy.RED), crop)])
    return path


def run_short(ready: str, use: str) -> str:
    code = SHORT.format(ready=ready, use=use)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


needs_limits = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@needs_limits
@pytest.mark.parametrize(
    "use",
    ["gallery.crop('Red', number)", "gallery.templates('Red')", "stack_rows('a', [bytes(4 * 2**20)] * 16, 2**20)"],
)
def test_memory_that_runs_short_is_not_told_as_a_damaged_gallery(path: Path, use: str) -> None:
    ready = f"""
from sameface.gallery import Gallery
from sameface.gallery.sqlite.database import stack_rows
gallery = Gallery.open({str(path)!r}, toy.make_recognizer())
number = gallery.faces("Red")[0].number
"""
    assert run_short(ready, use).startswith(("MemoryError", "_ArrayMemoryError"))


@needs_limits
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_a_picture_that_memory_does_not_suffice_for_is_not_told_as_damaged(tmp_path: Path, form: str) -> None:
    picture = tmp_path / "large"
    PIL.Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(
        picture, form, **({"compression": "tiff_lzw"} if form == "TIFF" else {})
    )
    told = run_short(
        "import PIL.Image; PIL.Image.init(); from sameface.image import read_image", f"read_image({str(picture)!r})"
    )
    assert told.startswith(("ImageError", "MemoryError"))
    assert told.startswith("MemoryError") or "not enough memory" in told
    assert "damaged" not in told


@needs_limits
def test_an_adapter_that_memory_does_not_suffice_for_is_not_told_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    zeros = np.zeros((2**13, 2**13), np.float32)
    np.savez_compressed(path, matrix=zeros, bends=zeros, offsets=zeros[0], facts=np.array("{}"))
    told = run_short(
        "from pathlib import Path; from sameface.adapter import Adapter", f"Adapter.load(Path({str(path)!r}))"
    )
    assert "not enough memory" in told
    assert "damaged" not in told


@pytest.mark.parametrize("fault", [MemoryError, TypeError, AttributeError])
def test_faults_of_ours_go_through(fault: type[Exception]) -> None:
    with pytest.raises(fault), undamaged("a.db", "a face"):
        raise fault


def test_what_data_can_cause_is_damage() -> None:
    for fault in (ValueError, KeyError, OverflowError, *SHAPE_ERRORS):
        with pytest.raises(GalleryFileError, match="damaged: a face"), undamaged("a.db", "a face", *SHAPE_ERRORS):
            raise fault
    expect_type(1, int, float)
    with pytest.raises(GalleryFileError, match="damaged: a face"), undamaged("a.db", "a face"):
        expect_type(None, int, float)
