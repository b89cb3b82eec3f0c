"""The installed command, with the shipped weights, on the sample photographs."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner, Result

import sameface.cli
from sameface.image import read_image

SAMEFACE = Path(sys.executable).with_name("sameface")
OBAMA = ("barack-obama-1", "barack-obama-2")
PROBE, STRANGER = "barack-obama-3", "eileen-collins"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAMEFACE_GALLERY", raising=False)
    return tmp_path


def sameface_run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the command as anybody would."""
    options = {"capture_output": True, "text": True, "check": False, "timeout": 100} | more
    return subprocess.run([SAMEFACE, *words], **options)  # type: ignore[call-overload, no-any-return]


def test_the_demo_shows_everything_and_writes_a_picture(folder: Path) -> None:
    result = CliRunner().invoke(sameface.cli.main, ["demo", "-o", "demo.png"], catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.strip() for line in result.stdout.splitlines()]
    [same] = [line for line in lines if line.startswith(f"{PROBE} | {OBAMA[0]}: same person")]
    [different] = [line for line in lines if line.startswith(f"{PROBE} | joe-biden: different people")]
    assert ("<=" in same, ">" in different) == (True, True)
    assert "Barack Obama: 2 faces" in lines
    found = [line for line in lines if " score " in line and ", distance " in line]
    told = [line.partition(": ")[2].partition(", distance")[0] for line in found]
    assert {"Barack Obama", "Joe Biden"} < set(told)
    assert len(told) == 3
    assert sum(answer.startswith("unknown (nearest ") for answer in told) == 1
    groups = {line.partition(": ")[2] for line in lines if line.startswith("person ")}
    assert groups == {f"{OBAMA[0]}, {OBAMA[1]}, {PROBE}", STRANGER, "joe-biden"}
    assert lines[-1] == "written: demo.png"
    assert read_image(folder / "demo.png").shape[2] == 3
    assert [file.name for file in folder.iterdir()] == ["demo.png"]


def test_verify_tells_who_is_the_same(samples: dict[str, Path]) -> None:
    same = sameface_run("verify", samples[OBAMA[0]], samples[PROBE])
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.startswith("same person: distance 0.")
    other = sameface_run("verify", samples["joe-biden"], samples[PROBE], "--json")
    assert (other.returncode, other.stderr) == (1, "")
    assert json.loads(other.stdout)["same"] is False


def test_a_picture_comes_through_a_pipe(samples: dict[str, Path]) -> None:
    with samples[PROBE].open("rb") as picture:
        result = sameface_run("detect", "-", "--json", stdin=picture)
    assert (result.returncode, result.stderr) == (0, "")
    [face] = json.loads(result.stdout)["faces"]
    assert face["score"] > 0.5


def test_any_rotation_finds_who_lies_on_their_side(samples: dict[str, Path]) -> None:
    turned = io.BytesIO()
    with PIL.Image.open(samples["joe-biden"]) as picture:
        picture.rotate(-90, expand=True).save(turned, "PNG")
    counts = []
    for options in ([], ["--any-rotation"]):
        result = sameface_run("detect", "-", "--json", *options, input=turned.getvalue(), text=False)
        counts.append(len(json.loads(result.stdout)["faces"]))
    assert counts == [0, 1]


def test_people_are_enrolled_named_and_forgotten(folder: Path, samples: dict[str, Path]) -> None:
    name = "Barack Obama"
    enrolled = sameface_run("enroll", name, *(samples[picture] for picture in OBAMA))
    assert (enrolled.returncode, enrolled.stdout) == (0, f"{name}: 2 added\n")
    found = sameface_run("identify", samples[PROBE], samples[STRANGER], "--json")
    assert (found.returncode, found.stderr) == (0, "")
    answers = [json.loads(line)["faces"] for line in found.stdout.splitlines()]
    assert [[face["name"] for face in faces] for faces in answers] == [[name], [None]]
    assert sameface_run("identify", samples[STRANGER]).returncode == 1
    gone = sameface_run("forget", name, input="y\n")
    assert gone.returncode == 0
    told, receipt = gone.stdout.splitlines()
    assert told == f"{name} is forgotten: 2 faces, 0 crops, 2 picture hashes deleted"
    assert receipt.startswith("receipt 1: nothing left in log, table; ")
    assert name.encode() not in (folder / "people.db").read_bytes()
    assert [file.name for file in folder.iterdir()] == ["people.db"]


def test_an_album_is_sorted(folder: Path, samples: dict[str, Path]) -> None:
    result = sameface_run("cluster", samples[PROBE].parent, "-o", "sorted")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "5 faces of 3 people in 5 pictures: sorted\n"
    people = {frozenset(file.stem for file in place.iterdir()) for place in folder.glob("sorted/person-*")}
    assert people == {frozenset({*OBAMA, PROBE}), frozenset({STRANGER}), frozenset({"joe-biden"})}


def test_the_installation_is_well() -> None:
    result = sameface_run("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert "centerface   sha-256 ce8c3168f0bd… checked, licence MIT, runs on " in result.stdout
    assert result.stdout.endswith("all is well\n")


def test_an_interrupted_enrolment_keeps_what_is_finished_and_goes_on(folder: Path, samples: dict[str, Path]) -> None:
    count = 20
    (folder / "many").mkdir()
    for number in range(count):
        data = samples[PROBE].read_bytes() + number.to_bytes(2, "big")  # the same picture, another content
        (folder / "many" / f"{number:03d}.jpg").write_bytes(data)
    command = [SAMEFACE, "enroll", "Somebody", "many"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_faces(folder / "people.db", 3)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    kept = faces_in(folder / "people.db")
    assert 3 <= kept < count
    again = sameface_run("enroll", "Somebody", "many")
    assert (again.returncode, again.stdout) == (0, f"Somebody: {count - kept} added\n")
    assert faces_in(folder / "people.db") == count


def faces_in(path: Path) -> int:
    """Return how many faces are enrolled, as any other program sees it; 0 before there is a table."""
    if not path.exists():
        return 0
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM faces").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()


def wait_for_faces(path: Path, count: int) -> None:
    """Return as soon as so many faces are enrolled."""
    end = time.monotonic() + 60
    while faces_in(path) < count:
        assert time.monotonic() < end, "nothing was enrolled within a minute"
        time.sleep(0.02)


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_has_had_enough_ends_the_command_quietly(samples: dict[str, Path], options: list[str]) -> None:
    pictures = list(samples.values()) * 3
    command = [SAMEFACE, "detect", *pictures, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if options:
            assert json.loads(process.stdout.readline())["picture"] == str(pictures[0])
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=100) == 0


def test_a_name_that_the_terminal_cannot_show_is_escaped(folder: Path, samples: dict[str, Path]) -> None:
    sameface_run("enroll", "Zoë 名", samples[PROBE])
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    table = sameface_run("people", env=environment, text=False)
    assert (table.returncode, table.stderr) == (0, b"")
    assert b"Zo\xeb \\u540d" in table.stdout
    lines = sameface_run("people", "--json", env=environment, text=False)
    assert lines.stdout == '{"name": "Zoë 名", "faces": 1, "consent": null, "expires": null}\n'.encode()


def test_help_imports_no_network_and_no_numbers() -> None:
    heavy = {"numpy", "onnxruntime", "PIL", "rich", "sqlite3"}
    code = f"""
import sys
from sameface.cli import main
main(["--help"], standalone_mode=False)
print({heavy} & set(sys.modules), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "set()\n"


def test_the_help_of_the_command_is_that_of_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = sameface_run("detect", "--help")
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    assert f"```text\n{result.stdout}```\n" in page


def test_a_gallery_of_the_old_default_says_the_way_out_goes_on_and_moves(
    folder: Path, samples: dict[str, Path]
) -> None:
    def call(*words: str | Path) -> Result:
        return CliRunner().invoke(sameface.cli.main, [str(word) for word in words], catch_exceptions=False)

    def who(*words: str) -> list[str]:
        result = call("identify", samples[PROBE], "--json", *words)
        assert result.exit_code == 0, result.stderr
        return [face["name"] for line in result.stdout.splitlines() for face in json.loads(line)["faces"]]

    old = ("--weights", "resnet29")
    assert call("enroll", "Barack Obama", *(samples[name] for name in OBAMA), *old).exit_code == 0
    refused = call("identify", samples[PROBE])
    assert refused.exit_code == 3
    assert "`--weights resnet29`" in refused.stderr
    assert "`sameface gallery upgrade`" in refused.stderr
    assert who(*old) == ["Barack Obama"]
    words = ("gallery", "upgrade", "people.db", "--to", "mobilefacenet", "--pictures", samples[PROBE].parent)
    assert call(*words).exit_code == 0
    assert call("gallery", "upgrade", "people.db", "--confirm").exit_code == 0
    assert who() == ["Barack Obama"]
