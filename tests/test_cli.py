"""Every command, end to end in the toy world."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest
import toy
from click.testing import Result

import sameface
import sameface.cli.demo
import sameface.cli.doctor
from sameface import album_folders
from sameface.cli import COMMANDS, main
from sameface.cli.output import count
from sameface.draw import GOOD
from sameface.gallery import Gallery, Person
from sameface.image import read_image
from sameface.recognizer import Recognizer

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path) -> None:
    """A picture of each person, one of two, one of nobody, and a file that is no picture."""
    toy.save(tmp_path / "red.png", toy.RED)
    toy.save(tmp_path / "reddish.png", toy.REDDISH)
    toy.save(tmp_path / "orange.png", toy.ORANGE)
    toy.save(tmp_path / "blue.png", toy.BLUE)
    toy.save(tmp_path / "two.png", toy.BLUE, toy.RED)
    toy.save(tmp_path / "nobody.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")


def records(result: Result) -> list[dict[str, object]]:
    """Return the JSON objects that were printed, one a line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


BELOW = ("rule ", "warning: ")  # what stands below the table of identify


def cells(result: Result) -> list[list[str]]:
    """Return the rows of the table that was printed, split where two spaces stand; no line below it."""
    lines = [line for line in result.stdout.splitlines() if line.strip() and not line.startswith(BELOW)]
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [row for row in rows if set("".join(row)) != {"─"}]


def people_of(path: Path) -> list[Person]:
    """Return who is enrolled in a file."""
    with Gallery.open(path) as gallery:
        return gallery.people()


# The program


def test_every_command_of_the_table_exists_by_its_name(run: Run) -> None:
    ctx = click.Context(main)
    assert main.list_commands(ctx) == list(COMMANDS)
    for name in COMMANDS:
        command = main.get_command(ctx, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_shows_the_texts_of_the_table(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 0
    shown = result.stdout.partition("Commands:")[2].split()
    assert shown == [word for name, (_, text) in COMMANDS.items() for word in (name, *text.split())]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name} ")
    assert "-h, --help" in result.stdout
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts} has no help"


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout == f"sameface, version {sameface.__version__}\n"


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    result = run("recognise")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'recognise'" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["detect"], "Missing argument 'PICTURES...'"),
        (["detect", "red.png", "--colour"], "No such option"),
        (["detect", "red.png", "--threads", "0"], "0 is not in the range"),
        (["detect", "red.png", "--max-side", "31"], "31 is not in the range"),
        (["detect", "red.png", "--min-score", "2"], "2.0 is not in the range"),
        (["verify", "red.png", "red.png", "--far", "0"], "0.0 is not in the range"),
        (["verify", "red.png", "red.png", "--far", "1"], "1.0 is not in the range"),
        (["verify", "red.png", "red.png", "--face", "-1"], "is not 'only', 'largest', 'first' or a number"),
        (["identify", "red.png", "-k", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_code_2_and_says_why(run: Run, words: list[str], reason: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_weights_that_do_not_exist_are_bad_input(run: Run) -> None:
    result = run("verify", "red.png", "red.png", "--weights", "resnet30")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "weights 'resnet30': unknown: give the path of an .onnx file" in result.stderr


def test_a_fault_of_the_system_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object, **choices: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(sameface.cli.people.Gallery, "open", fail)
    result = run("people")
    assert (result.exit_code, result.stderr) == (3, "Error: the disk is on fire\n")


def test_a_reader_that_has_had_enough_ends_the_command_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object, **choices: object) -> None:
        raise BrokenPipeError

    replaced: list[int] = []
    monkeypatch.setattr(sameface.cli.people.Gallery, "open", fail)
    monkeypatch.setattr(os, "dup2", lambda source, target: replaced.append(target))
    result = run("people")
    assert (result.exit_code, result.output, replaced) == (0, "", [1])


def test_the_program_runs_with_another_stdout(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("enroll", "Rosa", "red.png")
    page = io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    main.main(["people"], standalone_mode=False)
    assert "Rosa" in page.getvalue()


# detect


def test_detect_prints_a_row_for_each_face(run: Run) -> None:
    result = run("detect", "two.png", "nobody.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert cells(result) == [
        ["picture", "face", "left, top", "size", "score"],
        ["two.png", "0", "16, 16", "32 x 32", "0.950"],
        ["two.png", "1", "80, 16", "32 x 32", "0.940"],
        ["nobody.png", "none"],
    ]


def test_detect_prints_a_json_object_for_each_picture(run: Run) -> None:
    result = run("detect", "red.png", "nobody.png", "--json")
    face = {
        "number": 0,
        "box": [16, 16, 48, 48],
        "landmarks": [[25.6, 25.6], [38.4, 25.6], [32, 32], [25.6, 38.4], [38.4, 38.4]],
        "score": 0.95,
    }
    assert records(result) == [{"picture": "red.png", "faces": [face]}, {"picture": "nobody.png", "faces": []}]


def test_detect_takes_a_folder(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "trip" / "b.png", toy.RED)
    toy.save(tmp_path / "trip" / "day" / "a.png", toy.RED)
    (tmp_path / "trip" / "notes.txt").write_text("no picture")
    found = [record["picture"] for record in records(run("detect", "trip", "--json"))]
    assert found == [os.path.join("trip", "b.png"), os.path.join("trip", "day", "a.png")]


def test_detect_refuses_a_folder_without_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("detect", "red.png", "empty")
    assert (result.exit_code, "no pictures in the folder 'empty'" in result.stderr) == (2, True)


def test_detect_reads_stdin(run: Run, tmp_path: Path) -> None:
    [record] = records(run("detect", "-", "--json", stdin=(tmp_path / "two.png").read_bytes()))
    assert (record["picture"], len(record["faces"])) == ("-", 2)  # type: ignore[arg-type]


def test_bad_pictures_are_skipped_and_listed_at_the_end(run: Run) -> None:
    result = run("detect", "bad.png", "red.png", "missing.png", "--json")
    assert result.exit_code == 3
    assert [record["picture"] for record in records(result)] == ["red.png"]
    assert result.stderr.splitlines() == [
        "skipped: cannot read 'bad.png': not a picture in a format that sameface reads",
        "skipped: cannot read 'missing.png': no such file or directory",
        "2 skipped",
    ]


@pytest.mark.parametrize("command", ["detect", "identify"])
def test_where_every_picture_is_bad_no_table_is_printed(run: Run, command: str) -> None:
    run("enroll", "Rosa", "red.png")
    result = run(command, "bad.png", "missing.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith("2 skipped\n")


def test_detect_draws_the_picture(run: Run, tmp_path: Path) -> None:
    assert run("detect", "two.png", "--draw", "drawn.png").exit_code == 0
    before, after = read_image(tmp_path / "two.png"), read_image(tmp_path / "drawn.png")
    assert before.shape == after.shape
    assert tuple(after[30, 16]) == tuple(after[30, 80]) == sameface.draw.GOOD


def test_detect_draws_one_picture_only(run: Run, tmp_path: Path) -> None:
    result = run("detect", "red.png", "blue.png", "--draw", "drawn.png")
    assert (result.exit_code, "--draw takes one picture" in result.stderr) == (2, True)
    assert not (tmp_path / "drawn.png").exists()


def test_detect_draws_only_what_can_be_written(run: Run) -> None:
    result = run("detect", "red.png", "--draw", "drawn.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert ".png" in result.stderr


def faces_found(run: Run, picture: str, *options: str) -> int:
    [record] = records(run("detect", picture, "--json", *options))
    return len(record["faces"])  # type: ignore[arg-type]


def test_min_score_leaves_out_the_unsure(run: Run) -> None:
    assert faces_found(run, "two.png", "--min-score", "0.945") == 1


def test_min_size_leaves_out_the_small(run: Run) -> None:
    assert faces_found(run, "two.png", "--min-size", "32") == 2
    assert faces_found(run, "two.png", "--min-size", "33") == 0


def test_max_side_shrinks_the_picture_that_is_searched(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "wide.png", *[toy.RED] * 5)  # 320 pixels wide: at 32 a square is 3 pixels wide
    assert faces_found(run, "wide.png") == 5
    assert faces_found(run, "wide.png", "--max-side", "32") == 0


def test_a_name_that_is_no_text_is_printed_escaped(run: Run, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    toy.save(tmp_path / odd, toy.RED)
    assert "caf\\udce9.png" in run("detect", odd).stdout
    assert records(run("detect", odd, "--json"))[0]["picture"] == odd


def test_a_name_is_never_taken_for_markup(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "[bold]x[" / "[red]a.png", toy.RED)
    assert os.path.join("[bold]x[", "[red]a.png") in run("detect", "[bold]x[").stdout


def test_progress_is_silent_without_a_terminal(run: Run) -> None:
    assert run("detect", "red.png", "blue.png").stderr == ""


def test_progress_is_shown_to_a_person_and_not_in_the_results(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = run("detect", "red.png", "blue.png", "--json")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = run("detect", "red.png", "blue.png", "--json")
    assert shown.stdout == silent.stdout
    assert "pictures" in shown.stderr
    assert run("detect", "red.png", "--json").stderr == ""  # one picture needs none


def test_a_table_in_a_pipe_is_never_wrapped(run: Run, tmp_path: Path) -> None:
    name = f"{'x' * 200}.png"
    toy.save(tmp_path / name, toy.RED)
    assert cells(run("detect", name))[1] == [name, "0", "16, 16", "32 x 32", "0.950"]


def test_a_table_for_a_person_has_the_width_of_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "40")
    assert max(len(line) for line in run("detect", "two.png").stdout.splitlines()) <= 40


# embed


def test_embed_writes_what_the_recognizer_gives(run: Run, tmp_path: Path, toy_recognizer: Recognizer) -> None:
    result = run("embed", "two.png", "nobody.png", "orange.png", "-o", "faces.npz")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "3 faces of 3 pictures: faces.npz\n"
    faces, rows = toy_recognizer.embed(tmp_path / "two.png")
    more, last = toy_recognizer.embed(tmp_path / "orange.png")
    faces += more
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as file:
        assert file["picture"].tolist() == ["two.png", "two.png", "orange.png"]
        assert file["number"].tolist() == [0, 1, 0]
        assert str(file["signature"]) == toy_recognizer.signature
        np.testing.assert_array_equal(file["box"], [face.box for face in faces])
        np.testing.assert_array_equal(file["landmarks"], [face.landmarks.ravel() for face in faces])
        np.testing.assert_array_equal(file["score"], np.array([face.score for face in faces], np.float32))
        np.testing.assert_array_equal(file["embedding"], np.concatenate([rows, last]))
        assert {name: file[name].dtype.str for name in ("number", "box", "embedding")} == {
            "number": "<i8",
            "box": "<f4",
            "embedding": "<f4",
        }


def test_parquet_holds_the_same(run: Run, tmp_path: Path, toy_recognizer: Recognizer) -> None:
    for output in ("faces.npz", "faces.parquet"):
        assert run("embed", "two.png", "orange.png", "-o", output).exit_code == 0
    table = pyarrow.parquet.read_table(tmp_path / "faces.parquet")
    assert table.schema.metadata[b"sameface.signature"].decode() == toy_recognizer.signature
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as file:
        assert table.column_names == [name for name in file.files if name != "signature"]
        for name in table.column_names:
            assert table[name].to_pylist() == file[name].tolist()


@pytest.mark.parametrize("output", ["faces.npz", "faces.parquet"])
def test_embed_writes_a_file_without_faces(run: Run, tmp_path: Path, output: str) -> None:
    assert run("embed", "nobody.png", "-o", output).stderr == f"0 faces of 1 picture: {output}\n"
    if output.endswith("npz"):
        with np.load(tmp_path / output, allow_pickle=False) as file:
            shapes = {name: file[name].shape for name in file.files}
        assert shapes == {
            "signature": (),
            "picture": (0,),
            "number": (0,),
            "box": (0, 4),
            "landmarks": (0, 10),
            "score": (0,),
            "embedding": (0, 3),
        }
    else:
        assert pyarrow.parquet.read_table(tmp_path / output).num_rows == 0


@pytest.mark.parametrize("output", ["faces.npz", "faces.parquet"])
def test_embed_writes_a_name_that_is_no_text(run: Run, tmp_path: Path, output: str) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    toy.save(tmp_path / odd, toy.RED)
    assert run("embed", odd, "-o", output).exit_code == 0


def test_embed_skips_bad_pictures(run: Run, tmp_path: Path) -> None:
    result = run("embed", "bad.png", "red.png", "-o", "faces.npz")
    assert result.exit_code == 3
    assert "1 face of 1 picture: faces.npz" in result.stderr
    assert "1 skipped" in result.stderr


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("faces.csv", "must end in .npz or .parquet or .jsonl"),
        ("faces", "must end in .npz or .parquet or .jsonl"),
        ("missing/faces.npz", "no folder 'missing'"),
    ],
)
def test_embed_refuses_an_output_before_the_work(run: Run, output: str, reason: str) -> None:
    result = run("embed", "bad.png", "-o", output)
    assert (result.exit_code, reason in result.stderr, "skipped" in result.stderr) == (2, True, False)


def test_parquet_without_pyarrow_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    result = run("embed", "red.png", "-o", "faces.parquet")
    assert (result.exit_code, "pip install 'sameface[parquet]'" in result.stderr) == (2, True)


# verify


def test_the_same_person_is_code_0(run: Run) -> None:
    result = run("verify", "red.png", "reddish.png", "--far", "0.01")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "same person: distance 0.1026 <= 0.2000 (false-accept rate 0.01, population mixed)\n"


def test_different_people_are_code_1(run: Run) -> None:
    result = run("verify", "red.png", "reddish.png")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "different people: distance 0.1026 > 0.0500 (false-accept rate 0.001, population mixed)\n"


def test_verify_prints_json(run: Run) -> None:
    result = run("verify", "red.png", "blue.png", "--json")
    assert result.exit_code == 1
    [record] = records(result)
    assert record == {
        "a": "red.png",
        "b": "blue.png",
        "same": False,
        "distance": pytest.approx(2),
        "threshold": pytest.approx(0.05),
        "far": 0.001,
        "rule": "pair",
        "population": "mixed",
        "extrapolated": False,
        "probability": None,
        "in_range": False,
    }


@pytest.mark.parametrize(("face", "code"), [("0", 1), ("1", 0), ("first", 1), ("largest", 1)])
def test_face_chooses_among_several(run: Run, face: str, code: int, tmp_path: Path) -> None:
    # red.png holds one face, so number 1 is asked of two pictures that hold two.
    toy.save(tmp_path / "other.png", toy.GREEN, toy.RED)
    assert run("verify", "two.png", "other.png", "--face", face).exit_code == code


@pytest.mark.parametrize(
    ("a", "b", "code"), [("0", "only", 1), ("1", "only", 0), ("1", "0", 0), ("largest", "first", 1)]
)
def test_face_given_twice_is_for_a_and_for_b(run: Run, a: str, b: str, code: int) -> None:
    assert run("verify", "two.png", "red.png", "--face", a, "--face", b).exit_code == code


def test_face_is_not_given_three_times(run: Run) -> None:
    result = run("verify", "two.png", "red.png", "--face", "0", "--face", "0", "--face", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give it once for both pictures, or twice" in result.stderr


def test_verify_tells_the_probability_of_calibrated_weights(run: Run) -> None:
    result = run("verify", "red.png", "reddish.png", "--weights", "calibrated", "--far", "0.01")
    # The log odds are 20 x (0.2 - 0.1026) = 1.948.
    told = "probability 0.8752, one half at the threshold"
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, told)


def test_a_probability_outside_the_calibrated_range_says_so(run: Run) -> None:
    result = run("verify", "red.png", "blue.png", "--weights", "calibrated")
    told = "outside the calibrated range, 0.0500 to 0.3000: the nearer end's was taken"
    assert (result.exit_code, result.stdout.endswith(f"{told}\n")) == (1, True)
    assert "probability 0.0067, " in result.stdout  # the log odds fall by 5 from 0.05, the threshold, to 0.3
    [record] = records(run("verify", "red.png", "blue.png", "--weights", "calibrated", "--json"))
    assert record["probability"] == pytest.approx(0.0067, abs=1e-4)
    assert record["in_range"] is False


def test_face_largest_takes_the_largest(run: Run, tmp_path: Path) -> None:
    squares = [toy.Square(toy.RED, 16, 16, 32), toy.Square(toy.BLUE, 80, 16, 40)]
    sameface.draw.save_picture(toy.paint_squares(squares), tmp_path / "uneven.png")
    assert run("verify", "uneven.png", "blue.png", "--face", "largest").exit_code == 0
    assert run("verify", "uneven.png", "red.png", "--face", "first").exit_code == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nobody.png", "red.png"], "no face found in 'nobody.png'"),
        (["red.png", "two.png"], "2 faces found in 'two.png', wanted one"),
        (["two.png", "red.png", "--face", "2"], "no face 2 in 'two.png': it has faces 0 to 1"),
        (["red.png", "bad.png"], "cannot read 'bad.png'"),
        (["red.png", "missing.png"], "cannot read 'missing.png'"),
        (["red.png", "red.png", "--far", "0.5"], "no threshold is known for a false-accept rate of 0.5"),
    ],
)
def test_pictures_that_cannot_be_compared_are_code_3(run: Run, words: list[str], reason: str) -> None:
    result = run("verify", *words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_verify_reads_stdin(run: Run, tmp_path: Path) -> None:
    assert run("verify", "-", "red.png", stdin=(tmp_path / "red.png").read_bytes()).exit_code == 0


# enroll


def test_enroll_adds_a_person(run: Run, tmp_path: Path) -> None:
    result = run("enroll", "Rosa", "red.png", "reddish.png")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Rosa: 2 added\n", "")
    assert people_of(tmp_path / "people.db") == [Person("Rosa", 2)]


def test_enroll_can_be_repeated(run: Run, tmp_path: Path) -> None:
    run("enroll", "Rosa", "red.png")
    result = run("enroll", "Rosa", "red.png", "reddish.png", "--json")
    assert (result.exit_code, records(result)) == (0, [{"name": "Rosa", "added": 1}])
    (tmp_path / "red.png").rename(tmp_path / "renamed.png")
    assert run("enroll", "Rosa", "renamed.png").stdout == "Rosa: 0 added\n"


def test_enroll_takes_a_folder_per_person(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "team" / "Rosa" / "a.png", toy.RED)
    toy.save(tmp_path / "team" / "Rosa" / "b.png", toy.REDDISH)
    toy.save(tmp_path / "team" / "Bo" / "a.png", toy.BLUE)
    toy.save(tmp_path / "team" / ".hidden" / "a.png", toy.GREEN)
    (tmp_path / "team" / "Empty").mkdir()
    result = run("enroll", "--people", "team")
    assert (result.exit_code, result.stdout) == (0, "Bo: 1 added\nRosa: 2 added\n")
    assert people_of(tmp_path / "people.db") == [Person("Bo", 1), Person("Rosa", 2)]


def test_enroll_takes_one_person_and_a_folder_of_others(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "team" / "Rosa" / "a.png", toy.RED, note=1)
    assert run("enroll", "Bo", "blue.png", "--people", "team").stdout == "Rosa: 1 added\nBo: 1 added\n"


@pytest.mark.parametrize(
    "words", [[], ["Rosa"], ["", "red.png"], ["Rosa", "--people", "."], ["--people", "empty"], ["Rosa", "empty"]]
)
def test_half_an_instruction_is_wrong_usage(run: Run, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run("enroll", *words).exit_code == 2
    assert not (tmp_path / "people.db").exists()


def test_enroll_goes_on_after_a_bad_picture(run: Run, tmp_path: Path) -> None:
    run("enroll", "Bo", "blue.png")
    result = run("enroll", "Rosa", "bad.png", "nobody.png", "two.png", "blue.png", "red.png")
    assert (result.exit_code, result.stdout) == (3, "Rosa: 1 added\n")
    assert result.stderr.splitlines() == [
        "skipped: cannot read 'bad.png': not a picture in a format that sameface reads",
        "skipped: no face found in 'nobody.png'",
        "skipped: 2 faces found in 'two.png', wanted one: choose 'largest', 'first' or a number "
        "(0: 32x32 at 16,16 score 0.95; 1: 32x32 at 80,16 score 0.94)",
        "skipped: cannot enroll this face as 'Rosa': the same face of the same picture is enrolled as 'Bo'",
        "4 skipped",
    ]
    assert people_of(tmp_path / "people.db") == [Person("Bo", 1), Person("Rosa", 1)]


def test_enroll_chooses_a_face(run: Run) -> None:
    run("enroll", "Rosa", "two.png", "--face", "1")
    run("enroll", "Bo", "two.png", "--face", "0")
    [record] = records(run("identify", "two.png", "--json"))
    assert [face["name"] for face in record["faces"]] == ["Bo", "Rosa"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("options", "kept"), [([], False), (["--keep-crops"], True)])
def test_crops_are_kept_only_on_request(run: Run, tmp_path: Path, options: list[str], kept: bool) -> None:
    run("enroll", "Rosa", "red.png", *options)
    with Gallery.open(tmp_path / "people.db") as gallery:
        [template] = gallery.templates("Rosa")
    assert (template.crop is not None) == kept
    if template.crop is not None:
        assert template.crop.shape == (8, 8, 3)
        np.testing.assert_array_equal(template.crop[1:-1, 1:-1], np.full((6, 6, 3), toy.RED))


def test_enroll_reads_stdin_and_knows_the_picture_again(run: Run, tmp_path: Path) -> None:
    data = (tmp_path / "red.png").read_bytes()
    assert run("enroll", "Rosa", "-", stdin=data).stdout == "Rosa: 1 added\n"
    assert run("enroll", "Rosa", "red.png").stdout == "Rosa: 0 added\n"


ROSA = {"name": "Rosa", "faces": 1, "consent": None, "expires": None}


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_gallery_is_where_one_says(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    options = ["--gallery", "mine.db"] if way == "option" else []
    if way == "variable":
        monkeypatch.setenv("SAMEFACE_GALLERY", "mine.db")
    assert run("enroll", "Rosa", "red.png", *options).exit_code == 0
    assert run("identify", "red.png", *options).exit_code == 0
    assert records(run("people", "--json", *options)) == [ROSA]
    assert not (tmp_path / "people.db").exists()


def test_a_bad_name_is_bad_input(run: Run) -> None:
    result = run("enroll", " ", "red.png")
    assert (result.exit_code, "cannot use the name ' ': it is empty" in result.stderr) == (3, True)


def test_an_interrupted_enrolment_keeps_what_is_finished_and_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        toy.save(tmp_path / "many" / f"{number}.png", toy.RED, note=number)
    find, seen = toy.FindSquares.run, []

    def interrupt(self: toy.FindSquares, pixels: np.ndarray) -> object:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return find(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(toy.FindSquares, "run", interrupt)
        result = run("enroll", "Rosa", "many")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
    assert people_of(tmp_path / "people.db") == [Person("Rosa", 2)]
    assert run("enroll", "Rosa", "many").stdout == "Rosa: 2 added\n"


# identify


@pytest.fixture
def team(run: Run, tmp_path: Path) -> Path:
    """A gallery of two people."""
    toy.save(tmp_path / "team" / "Rosa" / "1.png", toy.RED, note=1)
    toy.save(tmp_path / "team" / "Bo" / "2.png", toy.BLUE, note=2)
    assert run("enroll", "--people", "team").exit_code == 0
    return tmp_path / "people.db"


def test_identify_prints_who_is_who(run: Run, team: Path) -> None:
    result = run("identify", "two.png", "orange.png", "nobody.png")
    assert (result.exit_code, result.stderr) == (0, "")
    threshold = toy.THRESHOLDS.at(1 - 0.99**0.5)
    assert cells(result) == [
        ["picture", "face", "who", "distance", "note"],
        ["two.png", "0", "Bo", "0.0000"],
        ["two.png", "1", "Rosa", "0.0000"],
        ["orange.png", "0", "unknown", "0.2111", f"nearest Rosa, over {threshold:.4f}"],
        ["nobody.png", "none"],
    ]


def test_identify_draws_names_on_a_copy_of_a_picture(run: Run, team: Path, tmp_path: Path) -> None:
    result = run("identify", "two.png", "--annotated", "named.png")
    assert (result.exit_code, result.stderr) == (0, "written: named.png\n")
    drawn, plain = (np.asarray(PIL.Image.open(tmp_path / name)) for name in ("named.png", "two.png"))
    assert drawn.shape == plain.shape
    assert (drawn == GOOD).all(axis=2).any()


def test_identify_blurs_strangers_or_people_by_name(run: Run, team: Path, tmp_path: Path) -> None:
    def changed(blur: str, number: int) -> bool:
        """Return whether the face at this place is blurred: its square's edge is gone."""
        result = run("identify", "two.png", "orange.png", "--annotated", f"out-{blur}", "--blur", blur)
        assert result.exit_code == 0, result.stderr
        name, left = (("two.png", 16), ("two.png", 80), ("orange.png", 16))[number]
        before, after = (np.asarray(PIL.Image.open(tmp_path / place / name)) for place in ("", f"out-{blur}"))
        return bool((before[16:48, left - 4 : left + 36] != after[16:48, left - 4 : left + 36]).any())

    table = {blur: [changed(blur, number) for number in range(3)] for blur in ("everybody", "unknown", "Rosa")}
    assert table == {"everybody": [True] * 3, "unknown": [False, False, True], "Rosa": [False, True, False]}
    wrong = run("identify", "two.png", "--annotated", "a.png", "--blur", "Rose")
    assert (wrong.exit_code, "Rose" in wrong.stderr, (tmp_path / "a.png").exists()) == (3, True, False)


def test_a_blurred_copy_holds_no_metadata(run: Run, team: Path, tmp_path: Path) -> None:
    image = PIL.Image.open(tmp_path / "two.png")
    exif = image.getexif()
    exif[0x010E] = "secret"
    image.save(tmp_path / "two.jpg", exif=exif, quality=95, comment=b"secret")
    assert run("identify", "two.jpg", "--annotated", "safe.jpg", "--blur", "everybody").exit_code in (0, 1)
    assert b"secret" in (tmp_path / "two.jpg").read_bytes()
    assert b"secret" not in (tmp_path / "safe.jpg").read_bytes()


def test_enrolling_warns_of_a_person_who_looks_like_another(run: Run, team: Path, tmp_path: Path) -> None:
    toy.save(tmp_path / "again.png", toy.RED, note=99)
    result = run("enroll", "Rosalind", "again.png")
    threshold = toy.THRESHOLDS.at(1 - 0.99**0.5)
    assert (result.exit_code, result.stdout) == (0, "Rosalind: 1 added\n")
    evidence = f"1 face, distance 0.0000, threshold {threshold:.4f}"
    assert result.stderr == f"warning: Rosalind looks like Rosa, who is enrolled: {evidence}\n"
    assert run("enroll", "Rosalind", "again.png").stderr == ""  # nothing is new


def test_people_who_may_be_one_and_faces_that_may_be_anothers_are_listed(run: Run, team: Path, tmp_path: Path) -> None:
    assert run("gallery", "lookalikes", "people.db").exit_code == 0
    assert records(run("gallery", "lookalikes", "people.db", "--json")) == []
    for number, (name, colour) in enumerate({"Rosalind": toy.RED, "Bo": toy.GREEN, "Gus": toy.GREEN}.items()):
        toy.save(tmp_path / f"{name}.png", colour, note=50 + number)
        run("enroll", name, f"{name}.png")
    found = records(run("gallery", "lookalikes", "people.db", "--far", "0.1", "--json"))
    assert [(each["person"], each["other"]) for each in found if each["face"] is None] == [("Rosa", "Rosalind")]
    [face] = [each for each in found if each["face"] is not None and each["person"] == "Bo"]
    assert (face["other"], face["distance"]) == ("Gus", pytest.approx(0, abs=1e-6))


def test_identify_prints_json(run: Run, team: Path) -> None:
    [record] = records(run("identify", "reddish.png", "--json"))
    [face] = record["faces"]  # type: ignore[misc]
    assert (record["picture"], face["number"], face["box"]) == ("reddish.png", 0, [16, 16, 48, 48])
    assert (face["name"], face["ambiguous"], face["far"]) == ("Rosa", False, 0.01)
    assert face["threshold"] == pytest.approx(toy.THRESHOLDS.at(1 - 0.99**0.5))
    bo, rosa = (person.number for person in people_of(team))
    wanted = [
        {
            "person": rosa,
            "name": "Rosa",
            "distance": pytest.approx(toy.distance_of(toy.REDDISH, toy.RED), abs=1e-6),
            "votes": 1,
        },
        {"person": bo, "name": "Bo", "distance": pytest.approx(2, abs=1e-6), "votes": 0},
    ]
    assert face["matches"] == wanted
    assert (face["person"], face["closed_set"], face["rule"], face["size"]) == (rosa, False, "template", 2)
    assert (face["asked"], face["population"], face["extrapolated"]) == (0.01, "mixed", False)
    assert face["warning"] is None


def test_identify_says_by_which_rule_threshold_and_rate(run: Run, team: Path) -> None:
    threshold = toy.THRESHOLDS.at(1 - 0.99**0.5)
    told = f"size 2: threshold {threshold:.4f}, 1 % of strangers named (1 % asked), population mixed"
    for options, rule in (([], "template"), (["-k", "2"], "rows"), (["--rule", "rows"], "rows")):
        last = run("identify", "red.png", "two.png", *options).stdout.splitlines()[-1]
        assert last == f"rule {rule}, {told}"
    last = run("identify", "red.png", "--closed-set").stdout.splitlines()[-1]
    assert last == "rule template, closed set: the nearest is named at any distance"


def test_a_rate_that_the_calibration_does_not_hold_is_told(run: Run, team: Path) -> None:
    told = run("identify", "red.png", "--weights", "coarse").stdout.splitlines()[-2:]
    assert told[0].endswith("9.75 % of strangers named (1 % asked), population mixed")
    assert told[1].startswith("warning: asked for 1 % of strangers named at most; the calibration (mixed)")
    assert "holds 9.75 % among 2 templates. Search a smaller gallery" in told[1]
    [record] = records(run("identify", "red.png", "--weights", "coarse", "--json", "--rule", "rows"))
    [face] = record["faces"]  # type: ignore[misc]
    assert (face["far"], face["asked"]) == (pytest.approx(0.0975), 0.01)
    assert "among 2 faces. Search by templates" in face["warning"]
    assert run("identify", "red.png", "--weights", "coarse", "--far", "0.01").exit_code == 3


def test_a_rate_on_the_extrapolated_tail_is_told(run: Run, team: Path) -> None:
    told = run("identify", "red.png", "--weights", "tailed").stdout.splitlines()[-2:]
    assert told[0].endswith("1 % of strangers named (1 % asked), population alike")
    words = "warning: the calibration (alike) holds 1 % among 2 templates, and that by an extrapolated tail"
    assert told[1].startswith(words)
    told = run("verify", "red.png", "red.png", "--weights", "tailed", "--far", "1e-5").stdout.splitlines()
    assert told[0].endswith("(false-accept rate 1e-05, population alike)")
    assert "extrapolated tail" in told[1]
    [record] = records(run("verify", "red.png", "red.png", "--weights", "tailed", "--far", "1e-5", "--json"))
    assert (record["extrapolated"], record["population"]) == (True, "alike")
    assert run("verify", "red.png", "red.png", "--weights", "tailed", "--far", "1e-7").exit_code == 3


def test_the_population_is_chosen(run: Run, team: Path) -> None:
    pair = ("verify", "red.png", "reddish.png", "--far", "0.05", "--weights", "tailed")
    assert run(*pair).exit_code == 1  # the threshold is 0.05 for people alike, 0.2 for all
    result = run(*pair, "--population", "mixed")
    assert (result.exit_code, "population mixed" in result.stdout) == (0, True)
    refused = run("verify", "red.png", "red.png", "--population", "alike")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "population must be one of mixed, got 'alike'" in refused.stderr


def test_one_wrong_picture_among_five_counts_by_rows_but_not_by_template(run: Run, tmp_path: Path) -> None:
    for number, colour in enumerate((*[toy.RED] * 4, toy.BLUE)):
        toy.save(tmp_path / "five" / f"{number}.png", colour, note=number)
    run("enroll", "Rosa", "five")
    by_template = run("identify", "blue.png")
    by_rows = run("identify", "blue.png", "--rule", "rows")
    assert (by_template.exit_code, by_rows.exit_code) == (1, 0)
    assert cells(by_rows)[1][2] == "Rosa"
    assert run("identify", "red.png", "-k", "2", "--rule", "template").exit_code == 2


def test_nobody_known_is_code_1(run: Run, team: Path) -> None:
    assert run("identify", "orange.png", "nobody.png").exit_code == 1
    assert run("identify", "orange.png", "red.png").exit_code == 0
    assert run("identify", "orange.png", "bad.png").exit_code == 3


def test_far_lets_more_or_fewer_through(run: Run, team: Path) -> None:
    assert run("identify", "orange.png", "--far", "0.15").exit_code == 0
    assert run("identify", "reddish.png", "--far", "0.001").exit_code == 1


def test_a_far_that_cannot_be_held_is_bad_input(run: Run, team: Path) -> None:
    result = run("identify", "red.png", "--far", "0.0001")
    assert result.exit_code == 3
    assert "no threshold is known for a gallery of 2 and a rate of 0.0001" in result.stderr


def test_a_closed_set_names_everyone(run: Run, team: Path, tmp_path: Path) -> None:
    toy.save(tmp_path / "green.png", (10, 255, 0))
    assert run("identify", "green.png").exit_code == 1
    result = run("identify", "green.png", "--closed-set")
    assert (result.exit_code, cells(result)[1][2]) == (0, "Rosa")


def test_k_neighbours_vote(run: Run, team: Path, tmp_path: Path) -> None:
    for number in range(2):
        toy.save(tmp_path / "near" / f"{number}.png", (250, 30, 0), note=number)
    run("enroll", "Robin", "near")
    assert cells(run("identify", "red.png"))[1][2] == "Rosa"
    row = cells(run("identify", "red.png", "-k", "3"))[1]
    distance = f"{toy.distance_of(toy.RED, (250, 30, 0)):.4f}"
    assert row[2:] == ["Robin", distance, "ambiguous: also Rosa"]


def test_in_an_empty_gallery_everyone_is_unknown(run: Run, team: Path) -> None:
    for name in ("Rosa", "Bo"):
        run("forget", name, "--yes")
    result = run("identify", "red.png")
    assert (result.exit_code, cells(result)[1]) == (1, ["red.png", "0", "unknown", "the gallery is empty"])


def test_identify_needs_a_gallery(run: Run, tmp_path: Path) -> None:
    result = run("identify", "red.png")
    assert (result.exit_code, "there is no such file: enroll someone first" in result.stderr) == (3, True)
    assert not (tmp_path / "people.db").exists()


@pytest.mark.parametrize("options", [["--no-flip"], ["--weights", "other"]])
def test_rows_of_another_pipeline_are_refused(run: Run, team: Path, options: list[str]) -> None:
    result = run("identify", "red.png", *options)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "was made with pipeline" in result.stderr


def test_identify_reads_stdin(run: Run, team: Path, tmp_path: Path) -> None:
    [record] = records(run("identify", "-", "--json", stdin=(tmp_path / "red.png").read_bytes()))
    assert record["faces"][0]["name"] == "Rosa"  # type: ignore[index]


# people, consent, rename, merge, forget


def test_people_are_listed(run: Run, team: Path) -> None:
    assert run("consent", "Rosa", "on paper").stdout == "noted with Rosa\n"
    columns = ["name", "faces", "consent", "expires"]
    assert cells(run("people")) == [columns, ["Bo", "1"], ["Rosa", "1", "on paper"]]
    assert records(run("people", "--json")) == [ROSA | {"name": "Bo"}, ROSA | {"consent": "on paper"}]


def test_names_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    name = "[red]دانا 👩‍🚀 Zoë[/]"
    run("enroll", name, "red.png")
    assert cells(run("people"))[1] == [name, "1"]
    assert name in run("people", "--json").stdout


def test_rename_gives_another_name(run: Run, team: Path) -> None:
    result = run("rename", "Rosa", "Rose")
    assert (result.exit_code, result.stdout) == (0, "Rosa is now Rose\n")
    assert people_of(team) == [Person("Bo", 1), Person("Rose", 1)]


def test_merge_makes_two_people_one(run: Run, team: Path) -> None:
    result = run("merge", "Bo", "Rosa")
    assert (result.exit_code, result.stdout) == (0, "Bo is now Rosa: 1 face moved\n")
    assert people_of(team) == [Person("Rosa", 2)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["rename", "Nobody", "Ann"], "nobody named 'Nobody' is enrolled"),
        (["rename", "Bo", "Rosa"], "a person named 'Rosa' is enrolled already"),
        (["rename", "Bo", ""], "cannot use the name '': it is empty"),
        (["consent", "Nobody", "yes"], "nobody named 'Nobody' is enrolled"),
        (["consent", "Bo", " "], "cannot keep the note ' ': it is empty"),
        (["merge", "Bo", "Nobody"], "nobody named 'Nobody' is enrolled"),
        (["merge", "Bo", "Bo"], "it is the very person to merge"),
        (["forget", "Nobody", "--yes"], "nobody named 'Nobody' is enrolled"),
    ],
)
def test_what_cannot_be_done_to_a_person_is_code_3(run: Run, team: Path, words: list[str], reason: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert reason in result.stderr
    assert people_of(team) == [Person("Bo", 1), Person("Rosa", 1)]


@pytest.mark.parametrize("command", [["people"], ["rename", "a", "b"], ["merge", "a", "b"], ["forget", "a", "--yes"]])
def test_commands_on_people_need_a_gallery(run: Run, tmp_path: Path, command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code, "there is no such file" in result.stderr) == (3, True)
    assert not (tmp_path / "people.db").exists()


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 2), ("\n", 1, 2), ("", 1, 2)])
def test_forget_asks_first(run: Run, team: Path, answer: str, code: int, left: int) -> None:
    result = run("forget", "Rosa", stdin=answer)
    assert result.exit_code == code
    assert "delete Rosa with every face for good?" in result.stderr
    assert len(people_of(team)) == left


def test_forget_does_not_ask_with_yes(run: Run, team: Path) -> None:
    result = run("forget", "Rosa", "--yes")
    assert (result.exit_code, result.stderr.partition(":")[0]) == (0, "not covered")
    first, second = result.stdout.splitlines()
    assert first == "Rosa is forgotten: 1 face, 0 crops, 1 picture hash deleted"
    assert second.startswith("receipt 1: nothing left in log, table; ")
    assert b"Rosa" not in team.read_bytes()


# doctor, demo


def test_doctor_tells_what_is_installed(run: Run, toy_recognizer: Recognizer) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = dict(line.split(None, 1) for line in result.stdout.splitlines() if " " in line)
    assert facts["sameface"] == sameface.__version__
    assert facts["numpy"] == np.__version__
    assert facts["colours"] == "sha-256 cccccccccccc… checked, licence none, runs on toy"
    assert facts["signature"] == toy_recognizer.signature
    assert "1,000,000 pairs of different people: coloured squares" in facts["thresholds"]
    assert "ms per face" in facts["embedding"]
    assert result.stdout.endswith("all is well\n")


def test_doctor_tells_what_is_not_installed() -> None:
    assert sameface.cli.doctor.version_of("no-such-package") is None


def test_doctor_prints_json(run: Run, toy_recognizer: Recognizer) -> None:
    result = run("doctor", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    [record] = records(result)
    assert record["sameface"] == sameface.__version__
    assert record["packages"]["numpy"] == np.__version__  # type: ignore[index]
    assert record["weights"] == [
        {"name": "squares", "sha256": "5" * 64, "licence": "none", "providers": ["toy"]},
        {"name": "colours", "sha256": "c" * 64, "licence": "none", "providers": ["toy"]},
    ]
    assert record["thresholds"]["far"] == list(toy.THRESHOLDS.far)  # type: ignore[index]
    assert record["signature"] == toy_recognizer.signature
    assert record["ms_per_face"] > 0  # type: ignore[operator]


def test_doctor_says_which_optional_package_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sameface.cli.doctor, "PACKAGES", ("numpy", "no-such-package"))
    assert "no-such-package not installed (optional)\n" in run("doctor").stdout
    [record] = records(run("doctor", "--json"))
    assert record["packages"] == {"numpy": np.__version__, "no-such-package": None}


def test_the_samples_of_an_installed_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sameface.cli.demo.samples_folder() == Path(__file__).parent.parent / "samples"
    (tmp_path / "sameface" / "samples").mkdir(parents=True)
    monkeypatch.setattr(sameface.cli.demo, "__file__", str(tmp_path / "sameface" / "cli" / "demo.py"))
    assert sameface.cli.demo.samples_folder() == tmp_path / "sameface" / "samples"


@pytest.mark.parametrize(
    ("number", "one", "many", "told"),
    [(0, "face", "", "0 faces"), (1, "face", "", "1 face"), (2, "person", "people", "2 people")],
)
def test_a_number_has_its_noun(number: int, one: str, many: str, told: str) -> None:
    assert count(number, one, many) == told


@pytest.mark.parametrize(("version", "warned"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)])
def test_doctor_warns_of_a_sqlite_that_can_damage_a_gallery(version: tuple[int, ...], warned: bool) -> None:
    warning = sameface.cli.doctor.warn_of_sqlite(version)
    assert (warning is not None and "gallery backup" in warning) is warned


@pytest.mark.parametrize("name", ["faces.npz", "faces.parquet", "faces.jsonl"])
def test_only_the_owner_may_read_what_embed_writes(run: Run, name: str) -> None:
    assert run("embed", "red.png", "--output", name).exit_code == 0
    assert Path(name).stat().st_mode & 0o777 == 0o600


def test_only_the_owner_may_read_what_group_writes(run: Run) -> None:
    run("embed", "red.png", "--output", "faces.npz")
    assert run("group", "faces.npz", "--output", "groups.npz").exit_code == 0
    assert Path("groups.npz").stat().st_mode & 0o777 == 0o600


def test_only_the_owner_may_read_the_lists_that_cluster_writes(run: Run) -> None:
    Path("album").mkdir()
    Path("album/red.png").write_bytes(Path("red.png").read_bytes())
    assert run("cluster", "album", "--output", "sorted").exit_code == 0
    for name in (album_folders.LIST, album_folders.SHEET):
        assert Path("sorted", name).stat().st_mode & 0o777 == 0o600
