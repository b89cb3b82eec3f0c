"""Gallery files that earlier versions have made: `fixtures/gallery-*.db.gz`, with invented people."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sameface.errors import GalleryFileError
from sameface.gallery import Gallery

FIXTURES = Path(__file__).parent / "fixtures"


def unpack(name: str, folder: Path) -> Path:
    """Return a copy of an old gallery in a folder."""
    path = folder / "people.db"
    path.write_bytes(gzip.decompress((FIXTURES / f"gallery-{name}.db.gz").read_bytes()))
    path.chmod(0o600)
    return path


def test_a_gallery_whose_rows_are_turned_by_a_key_is_refused(tmp_path: Path) -> None:
    path = unpack("turned", tmp_path)
    before = path.read_bytes()
    with pytest.raises(
        GalleryFileError, match=r"the last version that reads them is 0\.1\.0: .*rekey --remove"
    ):
        Gallery.open(path)
    assert path.read_bytes() == before
