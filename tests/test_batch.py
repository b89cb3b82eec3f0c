"""Batch work as a library: sources, the journal, worker processes, the engine; the toy world throughout."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet
import pytest
import toy

import sameface.batch.engine
from sameface.batch import Finder, FoundFaces, Journal, Picture, Result, count_pictures, embed_pictures, open_pictures
from sameface.batch.engine import WorkersError
from sameface.batch.journal import JournalError, prepare
from sameface.errors import ImageError
from sameface.model import Model
from sameface.recognizer import Recognizer

MARK = (77, 88, 99)  # the colour of the last pixel of a picture that kills who looks at it


@pytest.fixture
def finder(toy_recognizer: Recognizer) -> Finder:
    """Looks for every face."""
    return Finder(toy_recognizer)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six pictures: two faces, one, the same again under another name, none, a broken one, one below."""
    album = tmp_path / "album"
    toy.save(album / "a.png", toy.BLUE, toy.RED)
    toy.save(album / "b.png", toy.RED)
    toy.save(album / "c.png", toy.RED)
    toy.save(album / "d.png")
    (album / "e.png").write_bytes(b"no picture")
    toy.save(album / "trip" / "a.png", toy.GREEN)
    return album


def many(folder: Path, count: int) -> Path:
    """Write pictures that all differ."""
    for number in range(count):
        toy.save(folder / f"{number:03d}.png", toy.RED, note=number)
    return folder


def plain(result: Result) -> tuple[object, ...]:
    """Return a result as something that can be compared."""
    if result.found is None:
        return result.picture.name, result.sha256, result.failure
    faces = [(face.box.tolist(), face.landmarks.tolist(), face.score) for face in result.found.faces]
    return result.picture.name, result.sha256, faces, result.found.rows.tobytes(), result.same_as


def names(results: list[Result]) -> list[str]:
    """Return the file names of pictures."""
    return [Path(result.picture.name).name for result in results]


# Sources


def test_a_folder_gives_its_pictures_in_order_with_the_person_of_each(album: Path) -> None:
    found = [(picture.name, picture.person) for picture in open_pictures([album])]
    wanted = [(str(album / f"{letter}.png"), "") for letter in "abcde"]
    assert found == [*wanted, (str(album / "trip" / "a.png"), "trip")]


def test_a_picture_knows_when_its_file_changes(album: Path) -> None:
    before = [picture.stamp for picture in open_pictures([album])]
    toy.save(album / "b.png", toy.GREEN)
    after = [picture.stamp for picture in open_pictures([album])]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True, True, True]


def test_a_file_that_is_not_there_fails_when_it_is_read() -> None:
    [picture] = open_pictures(["missing.png"])
    assert (picture.name, picture.stamp) == ("missing.png", "")
    with pytest.raises(ImageError, match=r"cannot read 'missing\.png': no such file"):
        picture.read()


def pack_tar(path: Path, album: Path) -> Path:
    """Pack a folder and some things that are no pictures."""
    mode = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:].replace('tgz', 'gz')}"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in ("b.png", "a.png", "trip/a.png"):  # not in the order of the names
            tar.add(album / name, f"album/{name}")
        tar.addfile(tarfile.TarInfo("album/.hidden.png"))
        tar.addfile(tarfile.TarInfo("album/notes.txt"))
    return path


@pytest.mark.parametrize("ending", ["tar", "tgz", "tar.xz", "tar.bz2"])
def test_a_tar_file_gives_its_pictures_in_its_own_order(album: Path, tmp_path: Path, ending: str) -> None:
    path = pack_tar(tmp_path / f"photos.{ending}", album)
    found = [(picture.name, picture.person, picture.read()) for picture in open_pictures([path])]
    assert found == [
        (f"{path}:album/b.png", "album", (album / "b.png").read_bytes()),
        (f"{path}:album/a.png", "album", (album / "a.png").read_bytes()),
        (f"{path}:album/trip/a.png", "trip", (album / "trip" / "a.png").read_bytes()),
    ]
    assert count_pictures([path, album]) == 9


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_a_tar_file_that_was_cut_off_gives_what_is_whole_and_says_the_rest(
    album: Path, tmp_path: Path, ending: str
) -> None:
    path = pack_tar(tmp_path / f"photos.{ending}", album)
    size = 3300 if ending == "tar" else path.stat().st_size - 60
    path.write_bytes(path.read_bytes()[:size])
    read, reasons = 0, []
    for picture in open_pictures([path]):
        try:
            read += len(picture.read()) > 0
        except ImageError as error:
            reasons.append(str(error))
    assert read >= 1
    assert "damaged or unreadable tar file after 'album/" in reasons[-1]


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.parquet"])
def test_a_packed_file_that_is_none_is_one_picture_that_fails(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    [picture] = open_pictures([tmp_path / name])
    assert count_pictures([tmp_path / name]) == 1
    with pytest.raises(ImageError, match="damaged or unreadable"):
        picture.read()


def write_rows(path: Path, **columns: object) -> Path:
    """Write a Parquet file."""
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_gives_its_rows(album: Path, tmp_path: Path) -> None:
    data = [(album / name).read_bytes() for name in ("a.png", "b.png")]
    path = write_rows(tmp_path / "p.parquet", image=[*data, None], name=["x/1.png", "2.png", "3.png"])
    pictures = list(open_pictures([path]))
    assert [(one.name, one.person) for one in pictures] == [
        (f"{path}:x/1.png", "x"),
        (f"{path}:2.png", ""),
        (f"{path}:3.png", ""),
    ]
    assert [picture.read() for picture in pictures[:2]] == data
    with pytest.raises(ImageError, match=r"3\.png': the row holds no bytes"):
        pictures[2].read()
    assert count_pictures([path]) == 3
    assert len({picture.stamp for picture in pictures}) == 3


def test_parquet_as_hugging_face_writes_it(album: Path, tmp_path: Path) -> None:
    data = (album / "a.png").read_bytes()
    rows = [{"bytes": data, "path": "x.png"}, {"bytes": data, "path": None}]
    path = write_rows(tmp_path / "p.parquet", label=[1, 2], image=rows, person=["Rosa", None])
    found = [(one.name, one.person, one.read()) for one in open_pictures([path])]
    assert found == [(f"{path}:x.png", "Rosa", data), (f"{path}:1", "", data)]


def test_parquet_without_pictures_says_so(tmp_path: Path) -> None:
    [picture] = open_pictures([write_rows(tmp_path / "p.parquet", label=[1, 2])])
    with pytest.raises(ImageError, match="no column of pictures: wanted one of bytes"):
        picture.read()


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    [picture] = open_pictures([tmp_path / "p.parquet"])
    with pytest.raises(ImageError, match=r"pip install 'sameface\[parquet\]'"):
        picture.read()


# The engine


@pytest.mark.parametrize("workers", [1, 2])
def test_each_picture_gives_what_the_recognizer_gives(album: Path, finder: Finder, workers: int) -> None:
    results = list(embed_pictures(open_pictures([album]), finder, workers=workers))
    assert names(results) == ["a.png", "b.png", "c.png", "d.png", "e.png", "a.png"]
    for result in results:
        if result.found is None:
            assert result.failure is not None
            assert "e.png': not a picture in a format" in result.failure.reason
            continue
        faces, rows = finder.recognizer.embed(result.picture.name)
        assert [str(face) for face in result.found.faces] == [str(face) for face in faces]
        np.testing.assert_array_equal(result.found.rows, rows)
        assert result.found.crops.shape == (0, 8, 8, 3)
    assert [Path(result.same_as).name for result in results] == ["", "", "b.png", "", "", ""]
    assert [result.new for result in results] == [True, True, False, True, True, True]


def test_crops_and_one_face_come_on_request(album: Path, toy_recognizer: Recognizer) -> None:
    finder = Finder(toy_recognizer, face=1, crops=True)
    [two, one] = embed_pictures(open_pictures([album / "a.png", album / "b.png"]), finder)
    assert two.found is not None
    assert (len(two.found.faces), two.found.crops.shape) == (1, (1, 8, 8, 3))
    np.testing.assert_array_equal(two.found.rows, [toy.row_of(toy.RED)])
    assert one.failure is not None
    assert one.failure.reason == f"no face 1 in {str(album / 'b.png')!r}: it has only face 0"
    assert one.failure.code == "no_such_face"


def test_no_pictures_give_no_results(finder: Finder) -> None:
    assert list(embed_pictures([], finder, workers=2)) == []


def test_no_workers_are_a_mistake_of_the_caller(finder: Finder) -> None:
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        next(embed_pictures([], finder, workers=0))


@pytest.mark.parametrize("workers", [1, 2])
def test_copies_of_a_picture_that_fails_each_say_so(album: Path, toy_recognizer: Recognizer, workers: int) -> None:
    finder = Finder(toy_recognizer, face="only")
    for name in ("x.png", "y.png"):
        toy.save(album / name, toy.BLUE, toy.RED)
    named = [album / name for name in ("a.png", "x.png", "y.png")]
    results = list(embed_pictures(open_pictures(named), finder, workers=workers))
    reasons = [result.failure.reason for result in results if result.failure is not None]
    assert [reason.partition(",")[0] for reason in reasons] == [f"2 faces found in {str(path)!r}" for path in named]


def test_what_is_left_out_is_not_searched(album: Path, finder: Finder) -> None:
    told = []

    def leave_out(picture: Picture, sha256: str) -> bool:
        told.append((picture.person, len(sha256)))
        return picture.person == "trip"

    results = list(embed_pictures(open_pictures([album]), finder, leave_out=leave_out))
    assert told == [*[("", 64)] * 5, ("trip", 64)]
    last = results[-1]
    assert (last.found, last.failure, last.new) == (None, None, False)
    assert results[0].found is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_few_pictures_are_in_memory_at_a_time(tmp_path: Path, finder: Finder, workers: int) -> None:
    asked = itertools.count()
    pictures = open_pictures([many(tmp_path / "many", 100)])
    counted = (picture for picture in pictures if next(asked) >= 0)
    with contextlib.closing(embed_pictures(counted, finder, workers=workers)) as results:
        assert names(list(itertools.islice(results, 3))) == ["000.png", "001.png", "002.png"]
    assert next(asked) <= 3 + (0 if workers == 1 else sameface.batch.engine.AHEAD * workers + 32)


# The journal


def test_a_second_run_searches_nothing(album: Path, finder: Finder, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        with Journal.open(tmp_path / "journal") as journal:
            runs.append(list(embed_pictures(open_pictures([album]), finder, journal=journal)))
    first, second = runs
    assert [plain(result) for result in first] == [plain(result) for result in second]
    assert [result.new for result in second] == [False, False, False, False, True, False]  # e.png is broken


def test_a_run_that_was_ended_goes_on_and_gives_the_same(tmp_path: Path, finder: Finder) -> None:
    folder = many(tmp_path / "many", 10)
    wanted = [plain(result) for result in embed_pictures(open_pictures([folder]), finder)]
    with Journal.open(tmp_path / "journal") as journal:
        results = embed_pictures(open_pictures([folder]), finder, journal=journal)
        begun = list(itertools.islice(results, 4))
        results.close()
    with Journal.open(tmp_path / "journal") as journal:
        again = list(embed_pictures(open_pictures([folder]), finder, journal=journal, workers=2))
        entries = list(journal.entries(finder.pipeline))
    assert [plain(result) for result in again] == wanted
    assert [result.new for result in again] == [False] * len(begun) + [True] * 6
    assert [entry.picture for entry in entries] == [result.picture.name for result in again]


def test_a_picture_that_changed_is_searched_again(tmp_path: Path, finder: Finder) -> None:
    folder = many(tmp_path / "many", 3)
    with Journal.open(tmp_path / "journal") as journal:
        list(embed_pictures(open_pictures([folder]), finder, journal=journal))
        toy.save(folder / "001.png", toy.BLUE, note=700)
        toy.save(folder / "000a.png", toy.BLUE, note=701)
        results = list(embed_pictures(open_pictures([folder]), finder, journal=journal))
    assert names(results) == ["000.png", "000a.png", "001.png", "002.png"]
    assert [result.new for result in results] == [False, True, True, False]
    assert results[2].found is not None
    np.testing.assert_array_equal(results[2].found.rows, [toy.row_of(toy.BLUE)])


def test_what_is_known_is_not_even_read(tmp_path: Path, finder: Finder) -> None:
    folder = many(tmp_path / "many", 3)
    read = []

    def count_reads(picture: Picture) -> Picture:
        return dataclasses.replace(picture, read=lambda: read.append(picture.name) or picture.read())

    with Journal.open(tmp_path / "journal") as journal:
        for _ in range(2):
            list(embed_pictures(map(count_reads, open_pictures([folder])), finder, journal=journal))
    assert len(read) == 3


@pytest.mark.parametrize("change", ["face", "crops", "min_size", "flip"])
def test_another_pipeline_is_not_answered_from_the_journal(
    tmp_path: Path, toy_recognizer: Recognizer, change: str
) -> None:
    folder = many(tmp_path / "many", 2)
    other = Finder(toy.make_recognizer())
    if change == "face":
        other = dataclasses.replace(other, face="largest")
    if change == "crops":
        other = dataclasses.replace(other, crops=True)
    if change == "min_size":
        other.recognizer.detector.min_size = 40
    if change == "flip":
        other.recognizer.embedder.flip = False
    with Journal.open(tmp_path / "journal") as journal:
        for finder in (Finder(toy_recognizer), other):
            results = list(embed_pictures(open_pictures([folder]), finder, journal=journal))
            assert [result.new for result in results] == [True, True]


def test_entries_hold_what_was_found_and_what_failed(album: Path, finder: Finder) -> None:
    with Journal.open() as journal:
        results = list(embed_pictures(open_pictures([album]), finder, journal=journal))
        entries = list(journal.entries(finder.pipeline))
    for result, entry in zip(results, entries, strict=True):
        assert (entry.picture, entry.same_as) == (result.picture.name, result.same_as)
        if isinstance(entry.outcome, FoundFaces):
            assert result.found is not None
            np.testing.assert_array_equal(entry.outcome.rows, result.found.rows)
        else:
            assert entry.outcome == result.failure


def test_the_journal_is_readable_by_its_owner_only(tmp_path: Path, album: Path, finder: Finder) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        list(embed_pictures(open_pictures([album]), finder, journal=journal))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("journal*")}
    assert modes == {"journal": 0o600, "journal-wal": 0o600}
    assert [path.name for path in tmp_path.glob("journal*")] == ["journal"]


def test_a_name_that_is_no_text_is_kept(tmp_path: Path, finder: Finder) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    toy.save(tmp_path / odd, toy.RED)
    (tmp_path / f"x{odd}").write_bytes(b"no picture")
    with Journal.open() as journal:
        list(embed_pictures(open_pictures([tmp_path / odd, tmp_path / f"x{odd}"]), finder, journal=journal))
        entries = list(journal.entries(finder.pipeline))
    assert [entry.picture for entry in entries] == [str(tmp_path / odd), str(tmp_path / f"x{odd}")]


@pytest.mark.parametrize("kind", ["text", "database"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "journal"
    if kind == "text":
        path.write_text("a letter to a friend, long enough to be no database")
    else:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE letters (text)")
        db.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="not what an unfinished run leaves: move it away"):
        Journal.open(path)
    assert path.read_bytes() == before


def test_a_journal_syncs_at_checkpoints_and_keeps_a_log(tmp_path: Path) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 1, "locking_mode": "exclusive"}  # 1 is NORMAL
    with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as db:
        prepare(db)
        assert {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted} == wanted


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sameface.batch import Journal\n"
        "journal = Journal.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "journal")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(JournalError, match="another run is writing there: wait for it"):
            Journal.open(tmp_path / "journal")
        other.communicate()
    Journal.open(tmp_path / "journal").close()


def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(tmp_path: Path, finder: Finder) -> None:
    folder = many(tmp_path / "many", 40)
    with Journal.open(tmp_path / "journal") as journal:
        journal._db.execute("PRAGMA max_page_count = 12")  # SQLite's way to say that the disk is full
        results = embed_pictures(open_pictures([folder]), finder, journal=journal)
        done = []
        with pytest.raises(JournalError, match="database or disk is full"):
            done += results
    with Journal.open(tmp_path / "journal") as journal:
        again = list(embed_pictures(open_pictures([folder]), finder, journal=journal))
    assert 0 < sum(not result.new for result in again) < 40
    assert len(again) == 40


# Worker processes


class Deadly(toy.FindSquares):
    """A detector whose process dies of a marked picture, of each as often as the mark says."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def run(self, pixels: np.ndarray) -> object:
        if tuple(pixels[0, -1, -1]) == MARK:
            deaths = len(list(self.notes.iterdir()))
            if deaths < int(pixels[0, -1, -2, 0]):
                (self.notes / str(deaths)).touch()
                os.kill(os.getpid(), 9)
        return super().run(pixels)


@pytest.fixture
def deadly(tmp_path: Path) -> Finder:
    """A finder that dies of some pictures."""
    (tmp_path / "notes").mkdir()
    recognizer = toy.make_recognizer()
    recognizer.detector.model = Deadly(tmp_path / "notes")  # type: ignore[assignment]
    return Finder(recognizer)


def save_deadly(path: Path, times: int) -> None:
    """Write a picture that kills so many processes."""
    image = toy.paint(toy.RED)
    image[-1, -2:] = [[times, 0, 0], MARK]
    PIL.Image.fromarray(image).save(path)


def test_every_picture_is_there_once_though_a_worker_dies(tmp_path: Path, deadly: Finder) -> None:
    folder = many(tmp_path / "many", 12)
    save_deadly(folder / "005.png", 1)
    results = list(embed_pictures(open_pictures([folder]), deadly, workers=2))
    assert names(results) == [f"{number:03d}.png" for number in range(12)]
    assert [len(result.found.faces) if result.found else 0 for result in results] == [1] * 12
    assert len(list((tmp_path / "notes").iterdir())) == 1


def test_a_picture_that_kills_two_workers_is_passed_over(tmp_path: Path, deadly: Finder) -> None:
    folder = many(tmp_path / "many", 12)
    save_deadly(folder / "005.png", 9)
    results = list(embed_pictures(open_pictures([folder]), deadly, workers=2))
    failed = [result for result in results if result.failure is not None]
    assert names(failed) == ["005.png"]
    assert failed[0].failure is not None
    assert "killed twice: out of memory, or a fault of a decoder" in failed[0].failure.reason
    assert len(list((tmp_path / "notes").iterdir())) == 2


class Unborn(toy.FindSquares):
    """A detector that no process can open."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def test_workers_that_cannot_begin_are_told(album: Path) -> None:
    recognizer = toy.make_recognizer()
    recognizer.detector.model = Unborn()  # type: ignore[assignment]
    with pytest.raises(WorkersError, match="one of 2 worker processes ended before it began"):
        list(embed_pictures(open_pictures([album]), Finder(recognizer), workers=2))


def test_large_pictures_and_large_answers_do_not_stop_each_other(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30, (900, 900, 3), np.uint8)  # 2 MB as a PNG
    for number in range(6):
        image = np.roll(noise, number, axis=0)
        for place in range(12):
            image[20:60, 20 + 70 * place : 60 + 70 * place] = toy.RED
        PIL.Image.fromarray(image).save(tmp_path / f"{number}.png", compress_level=1)
    finder = Finder(toy.make_recognizer(), crops=True)
    results = list(embed_pictures(open_pictures([tmp_path]), finder, workers=2))
    assert [len(result.found.crops) if result.found else 0 for result in results] == [12] * 6


def running(parent: int) -> set[int]:
    """Return the processes that a process has started."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, ppid = place.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.add(int(place.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_no_worker_outlives_the_iterator(tmp_path: Path, finder: Finder) -> None:
    with contextlib.closing(embed_pictures(open_pictures([many(tmp_path / "m", 9)]), finder, workers=2)) as results:
        next(results)
        workers = {worker for worker in running(os.getpid()) if "spawn_main" in command_of(worker)}
        assert len(workers) == 2
    assert workers & running(os.getpid()) == set()


def command_of(process: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


# The shipped weights


def test_loaded_weights_are_opened_again_in_another_process(recognizer: Recognizer, samples: dict[str, Path]) -> None:
    copy = pickle.loads(pickle.dumps(recognizer))
    assert copy.signature == recognizer.signature
    np.testing.assert_array_equal(copy.embed(samples["joe-biden"])[1], recognizer.embed(samples["joe-biden"])[1])


def test_weights_without_a_file_cannot_be_sent(recognizer: Recognizer) -> None:
    loaded = recognizer.detector.model
    with pytest.raises(TypeError, match="were not loaded from a file"):
        pickle.dumps(Model(loaded.manifest, loaded._session))


def test_processes_and_threads_give_the_same_bytes(recognizer: Recognizer, samples: dict[str, Path]) -> None:
    single = Finder(Recognizer.load(threads=1))
    alone = [plain(one) for one in embed_pictures(open_pictures(samples.values()), Finder(recognizer))]
    shared = [plain(one) for one in embed_pictures(open_pictures(samples.values()), single, workers=2)]
    assert alone == shared
