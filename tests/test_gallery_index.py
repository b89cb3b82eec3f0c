"""The search of large galleries: its bounds, its index file, and the same answers as without."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import toy
from gallery_world import OneThreshold, identify_one
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.arrays import Embeddings
from sameface.compare import exact_distances
from sameface.embed import unit_rows
from sameface.gallery import Gallery, codes, index, scan
from sameface.gallery.codes import TILE, CodedProbes, Coder, Codes, Frame, Tiles
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.indexed import Indexed
from sameface.gallery.indexfile import IndexAheadError, IndexFile
from sameface.gallery.scan import Scanner
from sameface.gallery.search import Limits, Rows, SearchOptions, decide, empty_answer
from sameface.gallery.sqlite import database
from sameface.template import Template
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
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gallery is large."""
    monkeypatch.setattr(database, "LARGE", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(large: None, path: Path) -> Iterator[Gallery]:
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        yield gallery


def fill(gallery: Gallery, rows: Embeddings, *, each: int = 3) -> None:
    """Enroll rows, `each` for a person."""
    for start in range(0, len(rows), each):
        faces = [Template(f"picture {start} {n}", BOX, 1, row) for n, row in enumerate(rows[start : start + each])]
        gallery.enroll(f"person {start // each}", faces)


def kind(gallery: Gallery) -> type:
    """Return what a gallery is searched as."""
    return type(gallery._db.load("s"))


def inode(path: Path) -> int:
    """Return which file is at the index's place."""
    return Path(f"{path}-codes").stat().st_ino


# Bounds


def fit(rows: Embeddings, part: float = 1, left: float = codes.LEFT_OUT) -> Coder:
    """Return a coder that reaches a part of the way to the farthest rows, and leaves out some variance."""
    frame = Frame.fit(rows, left_out=left)
    return Coder.fit(frame, part * frame.turn(rows).farthest)


def tile(codes: Codes) -> Tiles:
    """Return codes in tiles, with columns of zeros at the end."""
    whole = np.zeros((-(-len(codes) // TILE) * TILE, codes.shape[1]), np.int8)
    whole[: len(codes)] = codes
    return np.ascontiguousarray(whole.reshape(-1, TILE, codes.shape[1]).transpose(0, 2, 1))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    part=st.sampled_from([1, 0.25]),  # or some are out of reach
    left=st.sampled_from([0.0, 0.03, 0.5]),
)
def test_a_score_bounds_the_product(seed: int, spread: float, part: float, left: float) -> None:
    rows, probes = make_rows(seed, 50, spread=spread), make_rows(seed + 1, 5, spread=3)
    coder = fit(rows, part, left)
    coded, errors = coder.encode(rows)
    sought = CodedProbes.encode(probes, coder, errors)
    scores = sought.high.astype(np.int64) @ coded.T.astype(np.int64) * codes.UNIT + sought.low @ coded.T
    most = sought.base[:, None] + sought.unit[:, None] * scores + sought.bound[:, None]
    slack = most - probes.astype(np.float64) @ rows.T.astype(np.float64)
    assert slack.min() >= 0
    far = np.outer(coder.frame.turn(probes).rest, coder.steps[2] * coded[:, codes.REST])
    rounded = sought.unit * codes.UNIT * codes.REACH
    assert (slack <= 2 * sought.bound[:, None] + 2 * far + rounded[:, None]).all()
    assert (coded[:, : codes.LEAN].sum(axis=1, dtype=int) == 0).all()
    assert (sought.high.astype(np.int64) @ coded.T * codes.UNIT >= scores).all()
    assert sought.high.max() <= 127
    assert coded.min() >= -127
    assert coded[:, codes.REST].min() >= 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    most=st.integers(1, 40),
    erased=st.integers(0, 80),
    edge=st.sampled_from([np.inf, 0.2, 0.05]),
)
def test_every_row_within_the_complete_distance_is_a_candidate(seed: int, most: int, erased: int, edge: float) -> None:
    rows, probes = make_rows(seed, 600, twice=True), make_rows(seed + 1, 4)
    coder = fit(rows)
    coded, errors = coder.encode(rows)
    gone = np.random.default_rng(seed).permutation(600)[: erased * 7]
    coded[gone] = 0
    blocks, sought = [tile(coded[:TILE]), tile(coded[TILE:])], CodedProbes.encode(probes, coder, errors)
    least = np.array([sought.score_within(number, edge) for number in range(len(probes))])
    for probe, found in zip(probes, Scanner().scan(blocks, sought, least, most), strict=True):
        distances = exact_distances(probe, rows)
        near = set(np.flatnonzero(distances < found.complete).tolist()) - set(gone.tolist())
        assert near <= set(found.places.tolist())
        assert not set(gone.tolist()) & set(found.places.tolist())
        assert found.complete > edge or len(found.places) >= min(most, 600 - len(gone))


@pytest.mark.parametrize("count", [1, 2, 64])
def test_the_first_pass_is_exact_with_the_largest_numbers(count: int) -> None:
    tiles, high = np.full((2, 512, TILE), 127, np.int8), np.full((count, 512), 127, np.uint8)
    tiles[1] *= -1
    scores = Scanner()._session.run(None, {"codes": tiles, "probes": high})[0]
    assert (scores[0] == 127 * 127 * 512).all()
    assert (scores[1] == -127 * 127 * 512).all()


def test_the_network_of_the_first_pass_is_what_its_tool_makes(load_tool: Callable[[str], ModuleType]) -> None:
    tool = load_tool("make_first_pass")
    assert tool.PLACE.read_bytes() == tool.build().SerializeToString()


def test_places_are_found_at_every_length() -> None:
    for count in range(40):
        mask = np.random.default_rng(count).random(count) < 0.3
        np.testing.assert_array_equal(scan.find_true(mask), np.flatnonzero(mask))


# The same answers


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
def test_a_large_gallery_answers_as_a_small_one(
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
    with Gallery.open(path, OneThreshold(0.1)) as gallery, pytest.MonkeyPatch.context() as patch:
        fill(gallery, rows, each=each)
        with gallery._db.write() as db:
            db.execute("UPDATE faces SET adapted = (abs(random()) % 2 < ?)", (moved * 2,))
            facts = json.dumps(asdict(toy.THRESHOLDS))
            db.execute("INSERT INTO adapted (id, source, thresholds) VALUES (1, 's', ?)", (facts,))
        found = []
        for large in (10**9, 1):
            patch.setattr(database, "LARGE", large)
            gallery._db._rows = None
            known = gallery._db.load("s")
            assert isinstance(known, Rows if large > 1 else Indexed)
            assert known.faces == 90
            limits = Limits(toy.THRESHOLDS, LIMITS, factor)
            answer = empty_answer(limits, options, 90)
            found.append([decide(near, options, answer) for near in known.search(probes, limits, options)])
    assert found[0] == found[1]


# Kept up with the gallery


def test_one_more_face_does_not_make_the_index_anew(gallery: Gallery, path: Path) -> None:
    rows = make_rows(0, 60)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    first = inode(path)
    gallery.enroll("Zoe", [Template("new", BOX, 1, rows[5])])
    gallery.forget("person 2")
    gallery.merge("person 3", "person 4")
    assert kind(gallery) is Indexed
    assert identify_one(gallery, make_rows(9, 1)[0], rule="rows").matches
    assert inode(path) == first


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


def test_a_program_that_was_killed_between_rows_and_header_loses_nothing(gallery: Gallery, path: Path) -> None:
    rows = make_rows(2, 50)
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    fill(gallery, rows[:30])
    gallery.enroll("Zoe", [Template(f"new {n}", BOX, 1, row) for n, row in enumerate(rows[30:])])
    half = IndexFile.open(Path(f"{path}-codes"))
    half.append(np.array([10**6]), *half.coder.encode(rows[:1]))  # written, and not committed
    half.close()
    for row in rows[30:]:
        assert identify_one(gallery, row, rule="rows").matches[0].distance < 1e-6
    assert gallery._db.load("s").faces == 50


@pytest.mark.parametrize("harm", ["truncated", "emptied", "garbage", "header", "foreign", "gone"])
def test_an_index_that_cannot_be_trusted_is_made_anew(gallery: Gallery, path: Path, tmp_path: Path, harm: str) -> None:
    rows, place = make_rows(3, 40), Path(f"{path}-codes")
    fill(gallery, rows)
    wanted = gallery.identify(rows, k=3, rule="rows")
    gallery.close()
    data = place.read_bytes()
    with Gallery.open(tmp_path / "other.db", OneThreshold(0.1)) as other:
        fill(other, rows[::-1])
        identify_one(other, rows[0], rule="rows")
    place.unlink()
    if harm != "gone":
        place.write_bytes(
            {
                "truncated": data[: len(data) // 2],
                "emptied": b"",
                "garbage": b"My diary. " * 1000,
                "header": data[:60] + b"\xff" + data[61:],
                "foreign": Path(f"{tmp_path / 'other.db'}-codes").read_bytes(),
            }[harm]
        )
    with Gallery.open(path, OneThreshold(0.1)) as again:
        assert again.identify(rows, k=3, rule="rows") == wanted
        assert kind(again) is Indexed


@pytest.mark.parametrize("more", [10, 20])  # as many changes as the index has seen, and more
def test_a_gallery_that_was_put_back_is_not_searched_by_the_index_of_its_later_self(
    gallery: Gallery, path: Path, tmp_path: Path, more: int
) -> None:
    rows = make_rows(4, 60)
    fill(gallery, rows[:30])
    gallery.forget_traces()
    shutil.copy(path, tmp_path / "backup.db")
    gallery.enroll("Later", [Template(f"later {n}", BOX, 1, row) for n, row in enumerate(rows[30:40])])
    identify_one(gallery, rows[0], rule="rows")
    gallery.close()
    others = rows[40 : 40 + more]
    with Gallery.open(tmp_path / "backup.db", OneThreshold(0.1)) as backup:
        backup.enroll("Other", [Template(f"other {n}", BOX, 1, row) for n, row in enumerate(others)])
    shutil.copy(tmp_path / "backup.db", path)
    (tmp_path / "old").hardlink_to(f"{path}-codes")  # so that its number is not given to another file
    first = inode(path)
    with Gallery.open(path, OneThreshold(0.1)) as again:
        assert all(answer.matches[0].distance < 1e-6 for answer in again.identify(others, rule="rows"))
        assert inode(path) != first


def test_an_index_older_than_the_changes_that_are_kept_is_made_anew(gallery: Gallery, path: Path) -> None:
    rows = make_rows(5, 40)
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    first = inode(path)
    with gallery._db.write() as db:
        db.execute("DELETE FROM changes")
    gallery.enroll("Zoe", [Template("new", BOX, 1, rows[35])])
    assert identify_one(gallery, rows[35], rule="rows").matches[0].distance < 1e-6
    assert inode(path) != first


def test_an_index_with_many_erased_faces_is_made_anew(
    gallery: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BLOCK", 0)
    rows = make_rows(6, 40)
    fill(gallery, rows, each=1)
    identify_one(gallery, rows[0], rule="rows")
    for number in range(20):
        gallery.forget(f"person {number}")
    assert gallery._db.load("s").faces == 20
    assert IndexFile.open(Path(f"{path}-codes")).header.erased < 10


def test_a_row_far_from_all_others_makes_the_index_anew(gallery: Gallery, path: Path) -> None:
    rows = make_rows(7, 30, spread=0.01)
    fill(gallery, rows)
    identify_one(gallery, rows[0], rule="rows")
    first = inode(path)
    gallery.enroll("Opposite", [Template("far", BOX, 1, -rows[0])])
    assert identify_one(gallery, -rows[0], rule="rows").matches[0].name == "Opposite"
    assert inode(path) != first


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


def test_an_index_that_is_ahead_of_what_is_read_is_looked_at_again(gallery: Gallery, path: Path) -> None:
    rows = make_rows(16, 32)
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    with Gallery.open(path, OneThreshold(0.1)) as other:
        other.enroll("Ann", [Template("first", BOX, 1, rows[31])])
        with gallery._db.snapshot():  # type: ignore[attr-defined]
            gallery.count()  # from here on nothing later is seen
            other.enroll("Zoe", [Template("new", BOX, 1, rows[30])])
            identify_one(other, rows[30], rule="rows")
            with pytest.raises(IndexAheadError):
                gallery._db._index.catch_up(gallery._db, "s")  # type: ignore[attr-defined]
        assert identify_one(gallery, rows[30], rule="rows").matches[0].name == "Zoe"


PROGRAM = """
import os, signal, sys
import numpy as np
from gallery_world import OneThreshold
from sameface.gallery import Gallery
from sameface.gallery.sqlite import database
from sameface.gallery.indexfile import IndexAheadError, IndexFile
from sameface.template import Template
from sameface.thresholds import GalleryThreshold
database.LARGE = 1
rows, what = np.load(sys.argv[2]), sys.argv[3]
if what == "die":
    IndexFile.commit = lambda self, cursor: os.kill(os.getpid(), signal.SIGKILL)
with Gallery.open(sys.argv[1], OneThreshold(0.1)) as gallery:
    for number, row in enumerate(rows):
        if what != "die":
            gallery.enroll(f"{what} {number}", [Template(f"{what} {number}", rows[0, :4] * 0, 1, row)])
        print(gallery.identify(row[None], rule="rows")[0].matches[0].distance < 1e-6, flush=True)
"""


def start(path: Path, rows: Path, what: str) -> subprocess.Popen[str]:
    """Start a program that enrolls rows and finds each, or that dies when it has written an index."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(rows), what],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
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
    assert kind(gallery) is Indexed


@pytest.mark.parametrize("made", [False, True])
def test_a_program_that_is_killed_while_it_writes_the_index_harms_nobody(
    gallery: Gallery, path: Path, made: bool
) -> None:
    rows = make_rows(18, 40)
    fill(gallery, rows[:30])
    if made:
        identify_one(gallery, rows[0], rule="rows")
        gallery.enroll("Zoe", [Template(f"new {n}", BOX, 1, row) for n, row in enumerate(rows[30:])])
    np.save(path.parent / "rows.npy", rows[:1])
    with start(path, path.parent / "rows.npy", "die") as dying:
        assert dying.wait() == -9
    assert all(
        answer.matches[0].distance < 1e-6 for answer in gallery.identify(rows[: 40 if made else 30], rule="rows")
    )
    assert not Path(f"{path}-codes.new").exists()


# Forgotten


def codes_of(gallery: Gallery, row: Embeddings) -> Codes:
    """Return what stands in the index for a row."""
    file = gallery._db._index.file  # type: ignore[attr-defined]
    return file.coder.encode(row[None])[0][0]  # type: ignore[no-any-return]


def holds(place: Path, code: Codes) -> bool:
    """Return whether a file holds a code, in a column of a tile."""
    data = np.frombuffer(place.read_bytes(), np.int8)
    count = len(data) - TILE * (len(code) - 1)
    return bool(np.logical_and.reduce([data[TILE * n :][:count] == code[n] for n in range(len(code))]).any())


def test_who_is_forgotten_leaves_no_code(gallery: Gallery, path: Path) -> None:
    rows = make_rows(10, 60)
    fill(gallery, rows, each=1)
    identify_one(gallery, rows[0], rule="rows")
    secret, place = codes_of(gallery, rows[7]), Path(f"{path}-codes")
    assert holds(place, secret)
    gallery.forget("person 7")
    assert not holds(place, secret)


def test_who_is_forgotten_without_the_weights_leaves_no_code(large: None, path: Path) -> None:
    rows = make_rows(11, 60)
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        fill(gallery, rows, each=1)
        identify_one(gallery, rows[0], rule="rows")
        secret = codes_of(gallery, rows[7])
    with Gallery.open(path) as gallery:
        gallery.forget("person 7")
        assert not holds(Path(f"{path}-codes"), secret)


def test_a_killed_forget_leaves_no_code_once_the_gallery_was_opened(large: None, path: Path) -> None:
    rows = make_rows(12, 60)
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        fill(gallery, rows, each=1)
        identify_one(gallery, rows[0], rule="rows")
        secret = codes_of(gallery, rows[7])
        with gallery._db.write() as db:
            db.execute("DELETE FROM faces WHERE embedding = ?", (rows[7].tobytes(),))
    assert holds(Path(f"{path}-codes"), secret)
    Gallery.open(path).close()
    assert not holds(Path(f"{path}-codes"), secret)


def test_what_a_killed_program_wrote_behind_the_last_face_is_erased(gallery: Gallery, path: Path) -> None:
    rows, place = make_rows(20, 2 * TILE), Path(f"{path}-codes")
    fill(gallery, rows[:30])
    identify_one(gallery, rows[0], rule="rows")
    half = IndexFile.open(place)
    half.append(np.arange(10**6, 10**6 + 2 * TILE), *half.coder.encode(rows))  # and not committed
    half.close()
    secrets = [codes_of(gallery, row) for row in rows[30::99]]
    assert [holds(place, secret) for secret in secrets] == [True] * len(secrets)
    gallery.forget("person 1")
    assert [holds(place, secret) for secret in secrets] == [False] * len(secrets)


def test_an_index_that_a_killed_program_has_not_finished_is_deleted(gallery: Gallery, path: Path) -> None:
    fill(gallery, make_rows(13, 30))
    part = Path(f"{path}-codes.new")
    part.write_bytes(b"codes of somebody")
    gallery.forget("person 1")
    assert not part.exists()


def test_only_the_owner_may_read_the_index(gallery: Gallery, path: Path) -> None:
    fill(gallery, make_rows(14, 30))
    identify_one(gallery, make_rows(14, 1)[0], rule="rows")
    assert Path(f"{path}-codes").stat().st_mode & 0o777 == 0o600


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


# A disk that is full


FULL = """
import resource, sys
import numpy as np
from gallery_world import OneThreshold
from sameface.gallery import Gallery
from sameface.gallery.sqlite import database
database.LARGE = 1
rows = np.load(sys.argv[2])
with Gallery.open(sys.argv[1], OneThreshold(0.1)) as gallery:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    for answer in gallery.identify(rows, rule="rows"):
        print(answer.matches[0].distance)
"""


def test_with_a_full_disk_all_rows_are_read_instead(path: Path, tmp_path: Path) -> None:
    rows = make_rows(15, 30)
    with Gallery.open(path, OneThreshold(0.1)) as gallery:
        fill(gallery, rows)
    np.save(tmp_path / "rows.npy", rows)
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(tmp_path / "rows.npy")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [float(distance) < 1e-6 for distance in ran.stdout.split()] == [True] * 30
    assert "all rows are read" in ran.stderr
    assert not list(tmp_path.glob("*-codes*"))
