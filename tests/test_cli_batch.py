"""embed, enroll and cluster on many pictures: packed sources, workers, runs that are killed and go on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import toy
from click.testing import Result

import sameface.cli.embed
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer

Run = Callable[..., Result]
OUTPUTS = ["faces.npz", "faces.parquet", "faces.jsonl"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAMEFACE_GALLERY", raising=False)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Thirty pictures; some are alike, some hold two faces or none, one is broken."""
    album = tmp_path / "album"
    colours = [(toy.RED,), (toy.BLUE, toy.RED), (), (toy.GREEN,)]
    for number in range(30):
        toy.save(album / f"{number:02d}.png", *colours[number % 4], note=number // 2 if number > 20 else number)
    (album / "11.png").write_bytes(b"no picture")
    return album


def pack(album: Path, path: Path) -> Path:
    """Put the pictures of a folder into a tar or Parquet file."""
    pictures = sorted(album.rglob("*.png"))
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for picture in pictures:
                tar.add(picture, str(picture.relative_to(album)))
    else:
        named = [str(picture.relative_to(album)) for picture in pictures]
        table = pa.table({"image": [picture.read_bytes() for picture in pictures], "path": named})
        pyarrow.parquet.write_table(table, path)
    return path


def records(path: Path) -> list[dict[str, object]]:
    """Return the JSON objects of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# embed


@pytest.mark.parametrize("output", OUTPUTS)
def test_two_workers_write_the_same_bytes_as_one(run: Run, album: Path, tmp_path: Path, output: str) -> None:
    results = [run("embed", album, "-o", f"{count}-{output}", "--workers", count) for count in (1, 2)]
    assert [result.exit_code for result in results] == [3, 3]
    assert results[0].stderr.replace("1-", "") == results[1].stderr.replace("2-", "")
    one, two = (tmp_path / f"{count}-{output}" for count in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.glob("*.unfinished*"))


def test_npz_is_byte_for_byte_what_numpy_writes(run: Run, album: Path, tmp_path: Path) -> None:
    run("embed", album, "-o", "faces.npz")
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as file:
        again = io.BytesIO()
        np.savez(again, allow_pickle=False, **{name: file[name] for name in file.files})
    assert (tmp_path / "faces.npz").read_bytes() == again.getvalue()


def test_parquet_is_written_a_few_faces_at_a_time(
    run: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("embed", album, "-o", "whole.parquet")
    monkeypatch.setattr(sameface.cli.embed, "ROW_GROUP", 5)
    run("embed", album, "-o", "parts.parquet")
    whole, parts = (pyarrow.parquet.ParquetFile(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    assert (whole.num_row_groups, parts.num_row_groups) == (1, 6)
    assert whole.read().equals(parts.read())


def test_json_lines_tell_every_picture(run: Run, tmp_path: Path, toy_recognizer: Recognizer) -> None:
    toy.save(tmp_path / "a.png", toy.REDDISH)
    toy.save(tmp_path / "b.png", toy.REDDISH)
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert run("embed", "a.png", "b.png", "c.png", "-o", "faces.jsonl").exit_code == 3
    a, b, c = records(tmp_path / "faces.jsonl")
    assert (a["picture"], a["same_as"], a["signature"]) == ("a.png", None, toy_recognizer.signature)
    assert (b["picture"], b["same_as"], b["faces"]) == ("b.png", "a.png", a["faces"])
    assert (a["sha256"] == b["sha256"], len(a["sha256"])) == (True, 64)  # type: ignore[arg-type]
    [face] = a["faces"]  # type: ignore[misc]
    assert face["box"] == [16, 16, 48, 48]
    assert np.array(face["embedding"], np.float32).tobytes() == toy.row_of(toy.REDDISH).tobytes()
    told = "cannot read 'c.png': not a picture in a format that sameface reads"
    assert (c["picture"], c["error"]) == ("c.png", {"code": "bad_image", "message": told})


def test_pictures_of_one_content_are_told_and_stand_in_the_table(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        toy.save(tmp_path / f"{name}.png", toy.RED)
    result = run("embed", "a.png", "b.png", "c.png", "-o", "faces.npz")
    assert result.stderr.splitlines() == [
        "2 pictures have the content of an earlier one: searched once",
        "3 faces of 3 pictures: faces.npz",
    ]
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as file:
        assert file["picture"].tolist() == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("packed", ["photos.tar", "photos.parquet"])
def test_packed_pictures_give_what_the_folder_gives(run: Run, album: Path, tmp_path: Path, packed: str) -> None:
    pack(album, tmp_path / packed)
    for source, output in ((album, "folder.npz"), (packed, "packed.npz")):
        assert run("embed", source, "-o", output, "--workers", 2).exit_code == 3
    with np.load(tmp_path / "folder.npz") as folder, np.load(tmp_path / "packed.npz") as file:
        assert [name.partition(":")[2] for name in file["picture"]] == [Path(p).name for p in folder["picture"]]
        for column in ("number", "box", "landmarks", "score", "embedding"):
            np.testing.assert_array_equal(folder[column], file[column])


def test_progress_tells_the_time_left_and_what_was_skipped(
    run: Run, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = run("embed", album, "-o", "faces.npz").stderr
    assert "of 30" in shown
    assert "1 skipped" in shown
    assert "0:00:0" in shown
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    assert "of 30" not in run("embed", album, "-o", "faces.npz").stderr


def test_a_tar_file_that_was_cut_off_gives_what_is_whole(run: Run, album: Path, tmp_path: Path) -> None:
    path = pack(album, tmp_path / "photos.tar")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("embed", path, "-o", "faces.jsonl")
    assert result.exit_code == 3
    assert "damaged or unreadable tar file after '" in result.stderr
    assert len(records(tmp_path / "faces.jsonl")) > 10


def test_stdin_is_a_picture_too(run: Run, tmp_path: Path) -> None:
    data = toy.save(tmp_path / "a.png", toy.RED).read_bytes()
    assert run("embed", "-", "-o", "faces.jsonl", stdin=data).exit_code == 0
    assert [record["picture"] for record in records(tmp_path / "faces.jsonl")] == ["-"]


def test_a_file_of_one_s_own_at_the_place_of_the_journal_is_left_alone(run: Run, album: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.npz.unfinished").write_text("a letter to a friend, long enough to be no database")
    result = run("embed", album, "-o", "faces.npz")
    assert (result.exit_code, "move it away, or choose another output" in result.stderr) == (3, True)
    assert (tmp_path / "faces.npz.unfinished").read_text().startswith("a letter")


# Runs that end early


@pytest.fixture
def slow(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command line with a detector that takes 50 ms a picture."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import toy
import sameface.cli, sameface.cli.options

class SlowSquares(toy.FindSquares):
    def run(self, pixels):
        with open("begun", "a") as file:
            file.write(f"{{os.getpid()}} ")
        time.sleep(0.05)
        return super().run(pixels)

class SlowModel:
    @staticmethod
    def load(weights, *, threads=None):
        return SlowSquares() if weights == "centerface" else toy.ToyModel.load(weights)

if __name__ == "__main__":
    sameface.cli.options.Model = SlowModel
    sameface.cli.main(prog_name="sameface")
"""
    (tmp_path / "slow.py").write_text(code)

    def start(*words: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "slow.py", *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload, no-any-return]

    return start


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and stderr of a process."""
    with process:
        _, stderr = process.communicate(timeout=100)
    return process.returncode, stderr


def wait_for_pictures(workers: int) -> None:
    """Return when every worker has begun its third picture: the first ones are then in the journal."""
    end = time.monotonic() + 60
    begun: Counter[str] = Counter()
    while len(begun) < workers or min(begun.values()) < 3:
        assert time.monotonic() < end, "nothing was done within a minute"
        time.sleep(0.01)
        begun = Counter(Path("begun").read_text().split()) if Path("begun").exists() else begun


def wait_until_gone(group: int) -> None:
    """Return when no process of a group is left."""
    end = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    slow: Callable[..., subprocess.Popen[str]], run: Run, album: Path, tmp_path: Path, output: str, workers: int
) -> None:
    assert run("embed", "album", "-o", f"whole-{output}").exit_code == 3
    words = ("--workers", workers)
    killed = slow("embed", "album", "-o", output, *words)
    wait_for_pictures(workers)
    killed.kill()
    assert finish(killed)[0] == -signal.SIGKILL
    assert not (tmp_path / output).exists()
    again = run("embed", "album", "-o", output, *words)
    assert (again.exit_code, "searched in an earlier run" in again.stderr) == (3, True)
    assert (tmp_path / output).read_bytes() == (tmp_path / f"whole-{output}").read_bytes()
    left = {path.name for path in tmp_path.iterdir()} - {"slow.py", "__pycache__", "begun"}
    assert left == {"album", output, f"whole-{output}"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_at_once_says_where_what_is_done_is_and_leaves_no_process(
    slow: Callable[..., subprocess.Popen[str]], run: Run, album: Path, tmp_path: Path, workers: int
) -> None:
    process = slow("embed", "album", "-o", "faces.jsonl", "--workers", workers)
    wait_for_pictures(workers)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process
    code, stderr = finish(process)
    assert code == 130
    assert stderr.splitlines() == [
        "what is done is kept in faces.jsonl.unfinished: the same command goes on from there",
        "interrupted",
    ]
    wait_until_gone(process.pid)
    assert not (tmp_path / "faces.jsonl").exists()
    again = run("embed", "album", "-o", "faces.jsonl")
    assert (again.exit_code, "searched in an earlier run" in again.stderr) == (3, True)


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_behind(
    slow: Callable[..., subprocess.Popen[str]], album: Path, tmp_path: Path
) -> None:
    process = slow("embed", "album", "-o", "faces.jsonl", "--workers", "2")
    wait_for_pictures(2)
    process.kill()
    finish(process)
    wait_until_gone(process.pid)


@pytest.mark.slow
def test_an_album_that_was_killed_is_sorted_as_if_nothing_had_been(
    slow: Callable[..., subprocess.Popen[str]], run: Run, album: Path, tmp_path: Path
) -> None:
    assert run("cluster", "album", "-o", "whole").exit_code == 3
    killed = slow("cluster", "album", "-o", "sorted", "--workers", "2")
    wait_for_pictures(2)
    killed.kill()
    finish(killed)
    again = run("cluster", "album", "-o", "sorted")
    assert (again.exit_code, "searched in an earlier run" in again.stderr) == (3, True)
    assert contents(tmp_path / "sorted") == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# enroll


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """Two people with two pictures each, and one of nobody's."""
    team = tmp_path / "team"
    for number in range(2):
        toy.save(team / "Rosa" / f"{number}.png", toy.RED, note=number)
        toy.save(team / "Bo" / f"{number}.png", toy.BLUE, note=9 + number)
    toy.save(team / "lost.png", toy.GREEN)
    return team


@pytest.mark.parametrize("options", [[], ["--keep-crops"]])
def test_workers_enroll_what_one_process_enrolls(run: Run, team: Path, tmp_path: Path, options: list[str]) -> None:
    kept = []
    for workers in (1, 2):
        words = ["--gallery", f"{workers}.db", "--workers", str(workers), *options]
        result = run("enroll", "--people", team, *words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "Bo: 2 added\nRosa: 2 added\n", "")
        with Gallery.open(tmp_path / f"{workers}.db") as gallery:
            templates = [template for name in ("Rosa", "Bo") for template in gallery.templates(name)]
        kept.append([(one.picture, one.embedding.tobytes(), one.crop is None) for one in templates])
    assert kept[0] == kept[1]
    assert run("enroll", "--people", team, *words).stdout == "Bo: 0 added\nRosa: 0 added\n"


@pytest.mark.parametrize("packed", ["team.tar", "team.parquet"])
def test_people_are_enrolled_out_of_packed_files(run: Run, team: Path, tmp_path: Path, packed: str) -> None:
    result = run("enroll", "--people", pack(team, tmp_path / packed), "--json")
    assert (result.exit_code, result.stdout.splitlines()) == (
        3,
        ['{"name": "Bo", "added": 2}', '{"name": "Rosa", "added": 2}'],
    )
    assert f"{packed}:lost.png': it is in no person's folder" in result.stderr


def test_one_content_is_enrolled_once_and_under_one_name(run: Run, team: Path) -> None:
    for person in ("Rosa", "Zoe"):
        toy.save(team / person / "again.png", toy.RED, note=1)
    result = run("enroll", "--people", team, "--workers", "2")
    assert (result.exit_code, result.stdout) == (3, "Bo: 2 added\nRosa: 2 added\nZoe: 0 added\n")
    assert "the same face of the same picture is enrolled as 'Rosa'" in result.stderr


def test_a_folder_whose_name_nobody_can_have_is_skipped(run: Run, team: Path) -> None:
    toy.save(team / " " / "x.png", toy.GREEN)
    result = run("enroll", "--people", team)
    assert (result.exit_code, "Rosa: 2 added" in result.stdout) == (3, True)
    assert "cannot use the name ' ': it is empty" in result.stderr


# cluster


@pytest.mark.parametrize("packed", ["photos.tar", "photos.parquet"])
def test_an_album_is_sorted_out_of_a_packed_file(run: Run, tmp_path: Path, packed: str) -> None:
    album = tmp_path / "album"
    toy.save(album / "a.png", toy.RED, toy.BLUE)
    toy.save(album / "trip" / "a.png", toy.RED, note=1)
    path = pack(album, tmp_path / packed)
    result = run("cluster", path, "-o", "sorted")
    assert (result.exit_code, "3 faces of 2 people in 2 pictures" in result.stderr) == (0, True)
    sorted_into = {name: data for name, data in contents(tmp_path / "sorted").items() if name.endswith(".png")}
    first, second = ((album / name).read_bytes() for name in ("a.png", "trip/a.png"))
    named = {Path(name).parent.name: set() for name in sorted_into}  # type: ignore[var-annotated]
    for name, data in sorted_into.items():
        named[Path(name).parent.name].add(data)
    assert named == {"person-001": {first, second}, "person-002": {first}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", packed, "sorted"]
