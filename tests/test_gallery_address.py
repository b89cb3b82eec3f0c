"""Where a gallery is: what an address says, and what is never shown of it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from sameface.gallery import Gallery
from sameface.gallery.address import MilvusAddress, PostgresAddress, parse_address
from sameface.gallery.errors import GalleryFileError


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("people.db", type(None)),
        ("/srv/postgresql/people.db", type(None)),
        ("postgresql://h/d", PostgresAddress),
        ("postgres://h/d", PostgresAddress),
        ("milvus://h/c?people=people.db", MilvusAddress),
    ],
)
def test_an_address_is_told_from_a_file(place: str, kind: type) -> None:
    assert type(parse_address(place)) is kind


def test_an_address_has_a_schema_and_an_exact_search_unless_it_says_otherwise() -> None:
    plain = PostgresAddress.parse("postgresql://ann@db.example:5433/faces")
    assert (plain.schema, plain.indexed, plain.secrets) == ("sameface", False, {})
    assert plain.shown == plain.conninfo == "postgresql://ann@db.example:5433/faces"
    full = PostgresAddress.parse("postgresql://ann@h/faces?sslmode=require&schema=night%20shift&index=hnsw")
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
    address = PostgresAddress.parse(text)
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
        PostgresAddress.parse(text)
    assert "s3" not in str(caught.value)


def test_files_that_go_with_a_gallery_are_called_by_database_and_schema() -> None:
    assert PostgresAddress.parse("postgresql://h/faces?schema=night").file_name == "faces-night"
    assert PostgresAddress.parse("postgresql://h").file_name == "h-sameface"
    assert PostgresAddress.parse("postgresql://h/../etc").file_name == "etc-sameface"


def test_an_address_of_milvus_says_where_its_people_are() -> None:
    plain = MilvusAddress.parse("milvus://search.example/faces?people=/srv/people.db")
    assert (plain.uri, plain.collection, plain.people) == ("http://search.example:19530", "faces", "/srv/people.db")
    assert (plain.index, plain.database, plain.user, plain.in_postgres) == ("flat", "default", "", False)
    full = MilvusAddress.parse(
        "milvus://ann:s3%40cret@h:1/faces?people=postgresql://bo:s3same@h/d?schema=x%26index=hnsw"
        "&index=hnsw&tls=on&database=night"
    )
    assert (full.uri, full.index, full.database, full.in_postgres) == ("https://h:1", "hnsw", "night", True)
    assert (full.user, full.password) == ("ann", "s3@cret")
    assert full.people == "postgresql://bo:s3same@h/d?schema=x&index=hnsw"
    assert full.shown.startswith("milvus://ann@h:1/faces?people=postgresql%3A//bo%40h/d%3Fschema%3Dx")
    assert "s3" not in full.shown + repr(full)
    assert full.file_name == "night-faces"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("milvus:///faces?people=p.db", "there must be milvus://host/collection"),
        ("milvus://h?people=p.db", "a collection has a name of letters, digits and _"),
        ("milvus://h/9faces?people=p.db", "a collection has a name of letters, digits and _"),
        ("milvus://ann:s3cret@h/faces", "say where its people are: ?people=people.db"),
        ("milvus://h/faces?people=milvus://h/other", "people must be in a file or in PostgreSQL"),
        ("milvus://h/faces?people=p.db&index=ivf", "index must be 'flat' or 'hnsw', got 'ivf'"),
        ("milvus://h/faces?people=p.db&tls=1", "tls must be 'on' or 'off', got '1'"),
        ("milvus://h/faces?people=p.db&shards=2", "it has no parameter 'shards'"),
    ],
)
def test_an_address_of_milvus_that_does_not_read_like_one_is_refused(text: str, reason: str) -> None:
    with pytest.raises(GalleryFileError, match=re.escape(reason)) as caught:
        parse_address(text)
    assert "s3cret" not in str(caught.value)


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


@pytest.mark.parametrize(
    ("place", "needed", "extra"),
    [("postgresql://ann{}@h/d", "psycopg", "postgres"), ("milvus://ann{}@h/faces?people=people.db", "grpc", "milvus")],
)
def test_without_its_client_an_address_says_what_to_install(place: str, needed: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{needed!r}] = None\n"
        f"from sameface.cli import main; main(['people', '--gallery', {place.format(':s3cret')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        f"Error: gallery {place.format('')!r}: this needs {needed}: pip install 'sameface[{extra}]'\n"
    )


def test_a_parameter_that_nobody_knows_is_refused() -> None:
    with pytest.raises(GalleryFileError, match='invalid URI query parameter: "nonsense"'):
        Gallery.open("postgresql://h/d?nonsense=1")
