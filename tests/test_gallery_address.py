"""Where a gallery is: what an address says, and what is never shown of it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from sameface.errors import GalleryFileError
from sameface.gallery import Gallery
from sameface.gallery.address import Address, is_address


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("people.db", False),
        ("/srv/postgresql/people.db", False),
        ("postgresql://h/d", True),
        ("postgres://h/d", True),
    ],
)
def test_an_address_is_told_from_a_file(place: str, wanted: bool) -> None:
    assert is_address(place) == wanted


def test_an_address_has_a_schema_and_an_exact_search_unless_it_says_otherwise() -> None:
    plain = Address.parse("postgresql://ann@db.example:5433/faces")
    assert (plain.schema, plain.indexed, plain.secrets) == ("sameface", False, {})
    assert plain.shown == plain.conninfo == "postgresql://ann@db.example:5433/faces"
    full = Address.parse("postgresql://ann@h/faces?sslmode=require&schema=night%20shift&index=hnsw")
    assert (full.schema, full.indexed) == ("night shift", True)
    assert full.conninfo == "postgresql://ann@h/faces?sslmode=require"
    assert full.shown == "postgresql://ann@h/faces?sslmode=require&schema=night%20shift&index=hnsw"


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("postgresql://ann:s3cret@h/d", "s3cret"),
        ("postgresql://ann:s3%40cret@h/d", "s3@cret"),
        ("postgresql://ann:s3@cr:et/x@h/d", "s3@cr:et/x"),
        ("postgresql://ann@h/d?password=s3cret", "s3cret"),
        ("postgresql://ann:@h/d", ""),
    ],
)
def test_a_password_is_kept_apart_from_what_is_shown(text: str, password: str) -> None:
    address = Address.parse(text)
    assert address.secrets == {"password": password}
    assert address.shown == address.conninfo == "postgresql://ann@h/d"
    assert not password or password not in repr(address)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgresql://ann:s3?cret@h/d", "write '?' as %3F"),
        ("postgresql://h/d?index=ivfflat", "index must be 'hnsw' or left out, got 'ivfflat'"),
        ("postgresql://h/d?schema=", "schema must be 1 to 63 bytes"),
        ("postgresql://h/d?schema=" + "ö" * 32, "schema must be 1 to 63 bytes"),
    ],
)
def test_an_address_that_does_not_read_like_one_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GalleryFileError, match=re.escape(reason)) as caught:
        Address.parse(text)
    assert "s3" not in str(caught.value)


def test_files_that_go_with_a_gallery_are_called_by_database_and_schema() -> None:
    assert Address.parse("postgresql://h/faces?schema=night").file_name == "faces-night"
    assert Address.parse("postgresql://h").file_name == "h-sameface"
    assert Address.parse("postgresql://h/../etc").file_name == "etc-sameface"


def test_an_address_of_another_kind_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(GalleryFileError, match="a gallery is a file, or at postgresql://") as caught:
        Gallery.open("mysql://ann:s3cret@h/d")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["postgresql://ann:s3cret@127.0.0.1:1/d", "postgresql://ann@127.0.0.1:1/d?password=s3cret"]
)
def test_a_server_that_does_not_answer_is_told_without_the_password(text: str) -> None:
    code = f"from sameface.cli import main; main(['people', '--gallery', {text!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "gallery 'postgresql://ann@127.0.0.1:1/d' cannot be reached: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stdout + done.stderr


def test_without_psycopg_an_address_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from sameface.cli import main; main(['people', '--gallery', 'postgresql://ann:s3cret@h/d'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        "Error: gallery 'postgresql://ann@h/d': this needs psycopg: pip install 'sameface[postgres]'\n"
    )


def test_a_parameter_that_nobody_knows_is_refused() -> None:
    with pytest.raises(GalleryFileError, match='invalid URI query parameter: "nonsense"'):
        Gallery.open("postgresql://h/d?nonsense=1")
