"""The search in memory: exact as a slow one, and kept up with the gallery."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import toy
from gallery_world import OneThreshold, identify_one
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.arrays import Embeddings
from sameface.compare import exact_distances
from sameface.embed import unit_rows
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.decision import NOBODY, Candidates, Limits, SearchOptions, decide, empty_answer
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.index import EmbeddingTable, FlatIndex
from sameface.gallery.sqlite import database
from sameface.gallery.sqlite.database import SqliteDatabase
from sameface.thresholds import GalleryThreshold

BOX = np.array([0, 0, 9, 9], np.float32)
WIDTH = 16
LIMITS = GalleryThreshold(0.08, 0.01, 0.01, extrapolated=False)


def make_rows(seed: int, count: int, *, spread: float = 0.3, twice: bool = False) -> Embeddings:
    """Return unit rows in a cone, as embeddings of faces lie; a third of them again if `twice`."""
    rng = np.random.default_rng(seed)
    rows = unit_rows((1 + spread * rng.normal(size=(count, WIDTH))).astype(np.float32))
    if twice:
        rows[rng.integers(count, size=count // 3)] = rows[rng.integers(count, size=count // 3)]
    return rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        yield gallery


def fill(gallery: Gallery, rows: Embeddings, *, each: int = 3) -> None:
    """Enroll rows, `each` for a person."""
    for start in range(0, len(rows), each):
        faces = [Template(f"picture {start} {n}", BOX, 1, row) for n, row in enumerate(rows[start : start + each])]
        gallery.enroll(f"person {start // each}", faces)


# The same answers


class Names:
    """A database that has a name for everybody."""

    def read(self, query: str, *people: int) -> list[tuple[int, str]]:
        return [(person, f"person {person}") for person in people]


def make_index(owners: np.ndarray, matrix: Embeddings, counts: np.ndarray, adapted: np.ndarray) -> FlatIndex:
    table = EmbeddingTable(np.arange(len(owners)), owners, matrix, counts, adapted)
    return FlatIndex(Names(), table, None, None)  # type: ignore[arg-type]


def search_slowly(index: FlatIndex, probe: Embeddings, limits: Limits, options: SearchOptions) -> Candidates:
    """Return every row with its distance to a probe, as the definition has it."""
    table, scale = index.table, index.table.scale(limits)
    distances = exact_distances(probe, table.matrix)
    if scale is not None:
        distances = np.minimum(distances * scale, np.float32(4))
    return Candidates(distances, table.owners, {int(n): f"person {n}" for n in table.owners}).without(options.hidden)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    each=st.integers(1, 40),
    k=st.integers(1, 30),
    most=st.integers(1, 8),
    moved=st.sampled_from([0.0, 0.5, 1.0]),
    factor=st.sampled_from([0.5, 1.0, 1.7]),
    closed_set=st.booleans(),
)
def test_a_gallery_answers_as_a_slow_search(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    each: int,
    k: int,
    most: int,
    moved: float,
    factor: float,
    closed_set: bool,
) -> None:
    path = tmp_path_factory.mktemp("gallery") / "people.db"
    rows, options = make_rows(seed, 90, twice=True), SearchOptions(k, most, closed_set)
    probes = np.concatenate([rows[:4], make_rows(seed + 1, 4)])
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        fill(gallery, rows, each=each)
        with gallery._db.write() as db:
            db.execute("UPDATE faces SET adapted = (abs(random()) % 2 < ?)", (moved * 2,))
            facts = json.dumps(asdict(toy.THRESHOLDS))
            db.execute("INSERT INTO adapted (id, source, thresholds) VALUES (1, 's', ?)", (facts,))
        index = gallery._db.load("s")
        assert isinstance(index, FlatIndex)
        assert index.faces == 90
        np.testing.assert_array_equal(index.table.matrix, rows)
        limits = Limits(toy.THRESHOLDS, LIMITS, factor)
        answer = empty_answer(limits, options, 90)
        names = {person.number: person.name for person in gallery.people()}
        found = [decide(near, options, answer) for near in index.search(probes, limits, options)]
        slow = [search_slowly(index, probe, limits, options) for probe in probes]
    assert found == [decide(Candidates(one.distances, one.owners, names), options, answer) for one in slow]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 6000),
    people=st.sampled_from([1, 3, 1000]),
    k=st.sampled_from([1, 7, 100]),
    most=st.integers(1, 8),
    spread=st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    factor=st.sampled_from([0.5, 1.0, 9.0]),
    hidden=st.frozensets(st.integers(1, 5)),
)
def test_many_rows_are_searched_as_a_slow_search_does(
    seed: int, count: int, people: int, k: int, most: int, spread: float, factor: float, hidden: frozenset[int]
) -> None:
    rng = np.random.default_rng(seed)
    matrix = make_rows(seed, count, spread=spread, twice=True)
    owners = rng.integers(1, people + 1, count)
    gone = rng.random(count) < 0.01
    matrix[gone], owners[gone] = 0, NOBODY
    counts, adapted = rng.integers(1, 4, count), rng.random(count) < 0.3
    index = make_index(owners, matrix, counts, adapted)
    thresholds = replace(toy.THRESHOLDS, templates=((1, 1.0), (2, 0.7)) if seed % 2 else ())
    limits, options = Limits(thresholds, LIMITS, factor), SearchOptions(k, most, closed_set=True, hidden=hidden)
    probes = np.concatenate([make_rows(seed + 1, 3, spread=spread), -make_rows(seed, 1)])
    answer = empty_answer(limits, options, count)
    for probe, near in zip(probes, index.search(probes, limits, options), strict=True):
        slow = search_slowly(index, probe, limits, options)
        if len(slow.owners):
            assert decide(near, options, answer) == decide(slow, options, answer)
        else:
            assert len(near.owners) == 0


def test_few_of_many_rows_are_compared_exactly() -> None:
    rows, owners = make_rows(0, 10_000), np.arange(1, 10_001)
    none = np.zeros(10_000, bool)
    index = make_index(owners, rows, np.ones(10_000, np.int64), none)
    options = SearchOptions(1, 1, closed_set=True)
    for near in index.search(make_rows(1, 70), Limits(toy.THRESHOLDS, LIMITS), options):
        assert 2 <= len(near.owners) < 20


# Kept up with the gallery


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the faces whose rows are read from then on."""
    numbers: list[int] = []
    stack = SqliteDatabase.stack_rows

    def note(self: SqliteDatabase, faces: list[int], *rest: object) -> Embeddings:
        numbers.extend(faces)
        return stack(self, faces, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteDatabase, "stack_rows", note)
    return numbers


def test_only_rows_that_are_new_or_changed_are_read(gallery: Gallery, path: Path, read: list[int]) -> None:
    rows = make_rows(0, 60)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    assert len(read) == 60
    gallery.enroll("Zoe", [Template("new", BOX, 1, rows[5])])
    gallery.merge("person 3", "person 4")
    with Gallery.open(path) as other, other._db.write() as db:
        db.execute("DELETE FROM people WHERE name = 'person 2'")
        db.execute("UPDATE faces SET embedding = ? WHERE id = 2", (make_rows(8, 1).tobytes(),))
    assert identify_one(gallery, make_rows(9, 1)[0], rule="rows").matches
    assert read[60:] == [2, gallery.faces("Zoe")[0].number]
    index = gallery._db.load("s")
    assert isinstance(index, FlatIndex)
    with Gallery.open(path, OneThreshold(0.1)) as fresh:
        whole = fresh._db.load("s")
    assert isinstance(whole, FlatIndex)
    for name in ("keys", "owners", "matrix", "counts", "adapted"):
        np.testing.assert_array_equal(getattr(index.table, name), getattr(whole.table, name))


def test_what_is_forgotten_is_in_memory_no_more(gallery: Gallery) -> None:
    rows = make_rows(0, 6)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    identify_one(gallery, rows[0])
    gone = gallery.person("person 1").number
    gallery.forget("person 1")
    assert gallery._db._rows._index is None  # type: ignore[attr-defined]
    assert gone not in gallery._templates._table.keys
    assert len(gallery._templates._table.keys) == 1


def test_what_another_program_did_is_seen(gallery: Gallery, path: Path) -> None:
    rows = make_rows(1, 40)
    fill(gallery, rows[:39])
    assert identify_one(gallery, rows[39], rule="rows").matches[0].distance > 0
    with Gallery.open(path, OneThreshold(0.1)) as other:
        other.enroll("Zoe", [Template("new", BOX, 1, rows[39])])
        assert identify_one(gallery, rows[39], rule="rows").matches[0].distance < 1e-6
        assert identify_one(other, rows[39], rule="rows").matches[0].distance < 1e-6
        name = identify_one(gallery, rows[39], rule="rows").matches[0].name
        gallery.forget(name)
        assert name not in [match.name for match in identify_one(other, rows[39], rule="rows").matches]


@pytest.mark.parametrize("more", [10, 20])  # as many changes as were seen, and more
def test_a_gallery_that_was_put_back_is_not_searched_by_the_rows_of_its_later_self(
    gallery: Gallery, path: Path, tmp_path: Path, more: int
) -> None:
    rows = make_rows(4, 60)
    fill(gallery, rows[:30])
    gallery.forget_traces()
    shutil.copy(path, tmp_path / "backup.db")
    gallery.enroll("Later", [Template(f"later {n}", BOX, 1, row) for n, row in enumerate(rows[30:40])])
    identify_one(gallery, rows[0], rule="rows")
    seen = vars(gallery._db._rows)  # type: ignore[attr-defined]
    others = rows[40 : 40 + more]
    with Gallery.open(tmp_path / "backup.db", OneThreshold(0.1)) as backup:
        backup.enroll("Other", [Template(f"other {n}", BOX, 1, row) for n, row in enumerate(others)])
        for name in ("_index", "_change", "_version"):
            setattr(backup._db._rows, name, seen[name])  # type: ignore[attr-defined]
        assert all(answer.matches[0].distance < 1e-6 for answer in backup.identify(others, rule="rows"))
        assert backup._db.load("s").faces == 30 + more


def test_rows_older_than_the_changes_that_are_kept_are_read_anew(gallery: Gallery, read: list[int]) -> None:
    rows = make_rows(5, 40)
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    with gallery._db.write() as db:
        db.execute("DELETE FROM changes")
    gallery.enroll("Zoe", [Template("new", BOX, 1, rows[35])])
    assert identify_one(gallery, rows[35], rule="rows").matches[0].distance < 1e-6
    assert len(read) == 30 + 31


def test_of_many_faces_those_that_are_left_are_searched(gallery: Gallery) -> None:
    rows = make_rows(6, 40)
    fill(gallery, rows, each=1)
    identify_one(gallery, rows[0], rule="rows")
    for number in range(20):
        gallery.forget(f"person {number}")
    assert gallery._db.load("s").faces == 20


def test_a_row_far_from_all_others_is_found(gallery: Gallery) -> None:
    rows = make_rows(7, 30, spread=0.01)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    gallery.enroll("Opposite", [Template("far", BOX, 1, -rows[0])])
    assert identify_one(gallery, -rows[0], rule="rows").matches[0].name == "Opposite"


def test_a_face_under_a_number_that_was_passed_over_is_found(gallery: Gallery) -> None:
    rows = make_rows(8, 31)
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    gallery.forget("person 3")
    with gallery._db.write() as db:
        (number,) = db.execute("SELECT max(id) FROM people").fetchone()  # no face has this number
        db.execute("INSERT INTO pictures (sha256) VALUES ('x')")
        values = (number, number, rows[30].tobytes())
        db.execute(
            """INSERT INTO faces (id, person_id, picture_id, "left", top, "right", bottom, score, embedding)
               SELECT ?, ?, max(id), 0, 0, 9, 9, 1, ? FROM pictures""",
            values,
        )
    assert identify_one(gallery, rows[30], rule="rows").matches[0].distance < 1e-6


# Several programs


PROGRAM = """
import sys
import numpy as np
from gallery_world import OneThreshold
from sameface.gallery import Gallery
from sameface.face import Template
rows, what = np.load(sys.argv[2]), sys.argv[3]
with Gallery.open(sys.argv[1], OneThreshold(0.1)) as gallery:
    for number, row in enumerate(rows):
        gallery.enroll(f"{what} {number}", [Template(f"{what} {number}", rows[0, :4] * 0, 1, row)])
        print(gallery.identify(row[None], rule="rows")[0].matches[0].distance < 1e-6, flush=True)
"""


def start(path: Path, rows: Path, what: str) -> subprocess.Popen[str]:
    """Start a program that enrolls rows and finds each."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(rows), what],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_programs_that_enroll_and_search_at_once_find_everybody(gallery: Gallery, path: Path) -> None:
    rows = make_rows(17, 60)
    for part in (0, 1):
        np.save(path.parent / f"{part}.npy", rows[30 * part : 30 * part + 30])
    with start(path, path.parent / "0.npy", "a") as one, start(path, path.parent / "1.npy", "b") as other:
        told = [each.communicate()[0].split() for each in (one, other)]
    assert told == [["True"] * 30] * 2
    assert all(answer.matches[0].distance < 1e-6 for answer in gallery.identify(rows, rule="rows"))


# Forgotten


@pytest.mark.parametrize("pipeline", [OneThreshold(0.1), None])
def test_the_index_that_an_earlier_version_kept_beside_a_gallery_goes_when_it_is_opened(
    gallery: Gallery, path: Path, pipeline: OneThreshold | None
) -> None:
    fill(gallery, make_rows(13, 30))
    gallery.close()
    for ending in ("-codes", "-codes.new"):
        Path(f"{path}{ending}").write_bytes(b"codes of somebody")
    Gallery.open(path, pipeline).close()
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_an_old_index_that_cannot_be_deleted_is_an_error(path: Path) -> None:
    Gallery.open(path, OneThreshold(0.1)).close()
    Path(f"{path}-codes").mkdir()
    with pytest.raises(GalleryFileError, match=r"people.db-codes.*it holds codes of faces"):
        Gallery.open(path)


def dirty(path: Path, row: Embeddings) -> bool:
    """Return whether any sixteen bytes of a row are in a gallery's files."""
    data, secret = b"".join(file.read_bytes() for file in path.parent.glob("people.db*")), row.tobytes()
    return any(secret[start : start + 16] in data for start in range(0, len(secret), 16))


def test_who_is_forgotten_in_a_large_file_leaves_no_byte(
    gallery: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LARGE_PAGES", 0)
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(400, 128)).astype(np.float32))
    fill(gallery, rows, each=2)
    for person in rng.permutation(199)[:25].tolist():
        gallery.forget(f"person {person}")
        gone = rows[2 * person : 2 * person + 2]
        assert [dirty(path, row) for row in gone] == [False, False]
        assert f"picture {2 * person} ".encode() not in path.read_bytes()
    assert gallery._db.read("PRAGMA integrity_check") == [("ok",)]
    assert identify_one(gallery, rows[-1], rule="rows").matches[0].distance < 1e-6


LENGTHS = ((13, 25, 81), (20, 90, 190), (30, 30, 200), (10, 60, 150), (15, 40, 120))  # of names


@pytest.mark.parametrize("whole", [False, True])
def test_a_large_file_keeps_what_sqlite_has_moved_until_it_is_compact_and_the_receipt_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(database, "LARGE_PAGES", 0)
    traces = 0  # how SQLite lays out its pages decides whether there are any
    for number, lengths in enumerate(LENGTHS):
        traces += forget_half(tmp_path / f"{number}.db", lengths, whole=whole)
    assert (traces > 0) != whole


def forget_half(path: Path, lengths: tuple[int, ...], *, whole: bool) -> int:
    """Enroll people, forget half of them, and return how many of their names are left in the file."""
    digests = [hashlib.sha256(f"1 {number}".encode()).hexdigest() for number in range(160)]
    names = [(4 * digest)[: lengths[number % 3]] for number, digest in enumerate(digests)]
    rows = unit_rows(np.random.default_rng(0).normal(size=(160, 128)).astype(np.float32))
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        for name, row in zip(names, rows, strict=True):
            gallery.enroll(name, [Template(name[::-1], BOX, 1, row)])
        for name in names[:-1:2]:
            receipt = gallery.forget(name)
        assert receipt.erasure is not None
        assert dict(receipt.erasure.places) == {"table": False, "log": True}
        if whole:
            gallery.compact()
            assert {known.erasure.complete for known in gallery.receipts() if known.erasure} == {True}
        left = path.read_bytes()
        assert identify_one(gallery, rows[-1], rule="rows").name == names[-1]
    assert not any(row.tobytes() in left for row in rows[:-1:2])
    return sum(name.encode() in left for name in names[:-1:2])


@pytest.mark.parametrize("blob", [b"", b"\0" * 60, 7])
def test_a_damaged_row_is_an_error(gallery: Gallery, blob: object) -> None:
    rows = make_rows(19, 30)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    with gallery._db.write() as db:
        db.execute("UPDATE faces SET embedding = ? WHERE id = (SELECT max(id) FROM faces)", (blob,))
    with pytest.raises(GalleryFileError, match="damaged: an embedding"):
        identify_one(gallery, rows[0], rule="rows")
