"""Grouping the embeddings in a file, and letting new ones join."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import toy
from click.testing import Result

from sameface import cluster
from sameface.cli.cluster import FACE_COLUMNS

Run = Callable[..., Result]


@pytest.fixture(params=[".npz", ".parquet"])
def ending(request: pytest.FixtureRequest) -> str:
    """Run a test with both kinds of file."""
    return str(request.param)


def save_day(folder: Path, *pictures: tuple[tuple[int, int, int], ...]) -> None:
    """Save a folder of pictures, each with faces of these colours."""
    for number, colours in enumerate(pictures):
        toy.save(folder / f"{number}.png", *colours, note=len(folder.name) * 10 + number)


@pytest.fixture
def first(run: Run, tmp_path: Path, ending: str) -> Path:
    """The embeddings of a first day: Red twice, Blue once, two Greens in one picture."""
    save_day(tmp_path / "day", (toy.RED, toy.BLUE), (toy.RED,), (toy.GREEN, toy.GREEN))
    assert run("embed", "day", "-o", f"first{ending}").exit_code == 0
    return tmp_path / f"first{ending}"


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a file."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    table = pyarrow.parquet.read_table(path)
    return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}


def colours_of(columns: dict[str, np.ndarray]) -> dict[int, set[tuple[float, ...]]]:
    """Return the different embeddings in each group; each colour has one."""
    found: dict[int, set[tuple[float, ...]]] = {}
    for number, row in zip(columns["group"].tolist(), columns["embedding"], strict=True):
        found.setdefault(number, set()).add(tuple(np.round(row, 3).tolist()))
    return found


def test_every_face_gets_the_number_of_its_person(run: Run, first: Path, ending: str) -> None:
    result = run("group", first, "-o", f"groups{ending}")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"5 faces of 4 people: groups{ending}" in result.stderr
    columns, faces = read(first.with_name(f"groups{ending}")), read(first)
    assert len(set(columns["group"][3:].tolist())) == 2  # the two Greens of one picture
    assert all(len(colours) == 1 for colours in colours_of(columns).values())
    for name in FACE_COLUMNS:
        np.testing.assert_array_equal(columns[name], faces[name])


def test_json_lines_tell_the_sizes(run: Run, first: Path, ending: str) -> None:
    lines = run("group", first, "-o", f"groups{ending}", "--json").stdout.splitlines()
    assert [json.loads(line)["faces"] for line in lines] == [2, 1, 1, 1]
    assert sorted(json.loads(line)["group"] for line in lines) == [0, 1, 2, 3]


@pytest.mark.parametrize("few", [0, 2000])
def test_new_pictures_join_groups_or_open_new_ones(
    run: Run, first: Path, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(cluster, "FEW", few)
    run("group", first, "-o", f"groups{ending}")
    before = read(tmp_path / f"groups{ending}")
    save_day(tmp_path / "later", (toy.BLUE, toy.WHITE), (toy.WHITE,))
    run("embed", "day", "later", "-o", f"both{ending}")
    result = run("group", f"both{ending}", "--update", f"groups{ending}", "-o", f"groups{ending}")
    assert (result.exit_code, "8 faces of 5 people" in result.stderr) == (0, True)
    after = read(tmp_path / f"groups{ending}")
    assert after["group"][:5].tolist() == before["group"].tolist()
    assert [len(colours) for colours in colours_of(after).values()] == [1] * 5
    assert sorted(np.bincount(after["group"]).tolist()) == [1, 1, 2, 2, 2]


def test_nothing_new_changes_nothing(run: Run, first: Path, ending: str, tmp_path: Path) -> None:
    run("group", first, "-o", f"groups{ending}")
    assert run("group", first, "--update", f"groups{ending}", "-o", f"again{ending}").exit_code == 0
    before, after = read(tmp_path / f"groups{ending}"), read(tmp_path / f"again{ending}")
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_no_faces_give_an_empty_table(run: Run, tmp_path: Path, ending: str) -> None:
    toy.save(tmp_path / "day" / "empty.png")
    run("embed", "day", "-o", f"none{ending}")
    result = run("group", f"none{ending}", "-o", f"groups{ending}")
    assert (result.exit_code, "0 faces of 0 people" in result.stderr) == (0, True)
    assert len(read(tmp_path / f"groups{ending}")["group"]) == 0


def test_far_makes_larger_or_smaller_groups(run: Run, tmp_path: Path, ending: str) -> None:
    save_day(tmp_path / "day", (toy.RED,), (toy.REDDISH,))
    run("embed", "day", "-o", f"faces{ending}")
    for far, people in (("0.01", "1 person"), ("0.001", "2 people")):
        told = run("group", f"faces{ending}", "-o", f"groups{ending}", "--far", far).stderr
        assert f"2 faces of {people}" in told


def test_a_threshold_takes_the_place_of_a_rate(run: Run, tmp_path: Path, ending: str) -> None:
    save_day(tmp_path / "day", (toy.RED,), (toy.REDDISH,))
    run("embed", "day", "-o", f"faces{ending}")
    words = ("group", f"faces{ending}", "-o", f"groups{ending}", "--threshold")
    assert "2 faces of 1 person" in run(*words, "4").stderr
    assert "2 faces of 2 people" in run(*words, "0").stderr
    both = run(*words, "0.1", "--far", "0.01")
    assert (both.exit_code, "--far and --threshold each set the distance: give one" in both.stderr) == (2, True)


def test_embeddings_of_another_pipeline_are_refused(run: Run, first: Path, ending: str) -> None:
    result = run("group", first, "-o", f"groups{ending}", "--no-flip")
    assert (result.exit_code, "was made with pipeline" in result.stderr) == (3, True)
    assert not first.with_name(f"groups{ending}").exists()


@pytest.mark.parametrize("data", [b"", b"no table", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_told(run: Run, tmp_path: Path, ending: str, data: bytes) -> None:
    (tmp_path / f"faces{ending}").write_bytes(data)
    result = run("group", f"faces{ending}", "-o", f"groups{ending}")
    assert result.exit_code == 3
    assert "damaged, or not written by `sameface embed` or `sameface group`" in result.stderr


def test_a_file_without_groups_cannot_be_updated(run: Run, first: Path, ending: str) -> None:
    result = run("group", first, "--update", first, "-o", f"groups{ending}")
    assert (result.exit_code, "damaged, or not written by" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("output", "told"), [("groups.csv", "must end in .npz or .parquet"), ("missing/groups.npz", "no folder 'missing'")]
)
def test_an_output_that_cannot_be_written_is_told_before_the_work(
    run: Run, first: Path, output: str, told: str
) -> None:
    result = run("group", first, "-o", output)
    assert (result.exit_code, told in result.stderr) == (2, True)


def test_a_failure_while_writing_leaves_the_groups_of_before(
    run: Run, first: Path, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("group", first, "-o", f"groups{ending}")
    shutil.copy(tmp_path / f"groups{ending}", tmp_path / "kept")

    def interrupt(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.savez" if ending == ".npz" else "sameface.cli.cluster.to_arrow", interrupt)
    result = run("group", first, "--update", f"groups{ending}", "-o", f"groups{ending}")
    assert result.exit_code == 130
    assert (tmp_path / f"groups{ending}").read_bytes() == (tmp_path / "kept").read_bytes()
    assert not list(tmp_path.glob(".*.part"))
