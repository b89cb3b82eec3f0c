"""Videos on the command line: in the toy world, and as anybody would with the installed command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from click.testing import Result
from numpy.typing import NDArray
from video_world import paste, read_portrait, walk, write_clip

import sameface.cli.options
from sameface.model import Tensor
from sameface.video import Video

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _people(run: Run, tmp_path: Path) -> None:
    """Rosa is enrolled; a clip in which she and a stranger pass, one of a stranger, one of nobody."""
    toy.save(tmp_path / "red.png", toy.RED)
    assert run("enroll", "Rosa", "red.png").exit_code == 0
    both = [*walk((toy.RED, 16, 60)), *walk((toy.RED, 60, 60), (toy.BLUE, 200, 190))]
    write_clip(tmp_path / "clip.mkv", both)
    write_clip(tmp_path / "stranger.mkv", walk((toy.BLUE, 50, 60)))
    write_clip(tmp_path / "nobody.mkv", walk())


def record(result: Result) -> dict[str, Any]:
    """Return the one JSON object that was printed."""
    [line] = result.stdout.splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_video_is_told_as_a_table(run: Run) -> None:
    result = run("identify", "clip.mkv", "--far", "0.1")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines() if "clip.mkv" in line]
    assert rows[0] == ["clip.mkv", "0", "0:00.0", "0:01.8", "Rosa", "0.0000"]
    assert rows[1][:5] == ["clip.mkv", "1", "0:01.0", "0:01.8", "unknown"]
    assert "nearest Rosa, over" in result.stdout


def test_a_video_is_told_in_json(run: Run) -> None:
    told = record(run("identify", "clip.mkv", "--json", "--far", "0.1", "--every", "0.1"))
    tracks = told.pop("tracks")
    assert told == {
        "video": "clip.mkv",
        "seconds": 1.9,
        "frames": 20,
        "searched": 20,
        "every": 0.1,
        "complete": True,
        "damage": None,
    }
    rosa, stranger = tracks
    assert (rosa["track"], rosa["name"], rosa["from"], rosa["to"]) == (0, "Rosa", 0, 1.9)
    assert (rosa["frames"], rosa["views"], rosa["far"], rosa["ambiguous"]) == (20, 8, 0.1, False)
    assert rosa["distance"] == pytest.approx(0, abs=1e-6)
    assert set(rosa["best"]) == {"time", "box", "landmarks", "score"}
    assert rosa["best"]["box"][2] - rosa["best"]["box"][0] == pytest.approx(32, abs=0.1)
    assert (stranger["name"], stranger["from"], stranger["matches"][0]["name"]) == (None, 1, "Rosa")
    assert stranger["distance"] > stranger["threshold"] == rosa["threshold"]


def test_pictures_and_videos_go_together(run: Run) -> None:
    result = run("identify", "nobody.mkv", "red.png", "stranger.mkv", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one.get("picture") or one["video"] for one in told] == ["red.png", "nobody.mkv", "stranger.mkv"]
    assert [len(one.get("faces", one.get("tracks"))) for one in told] == [1, 0, 1]
    assert result.exit_code == 0


@pytest.mark.parametrize(("clip", "shown"), [("stranger.mkv", "unknown"), ("nobody.mkv", "none")])
def test_a_video_in_which_nobody_is_known_ends_with_one(run: Run, clip: str, shown: str) -> None:
    result = run("identify", clip)
    assert (result.exit_code, result.stderr) == (1, "")
    assert shown in result.stdout


def test_a_bad_video_is_passed_over_and_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    result = run("identify", "bad.mp4", "clip.mkv", "none.mov", "--json")
    assert (result.exit_code, record(result)["video"]) == (3, "clip.mkv")
    assert result.stderr.splitlines() == [
        "skipped: cannot read 'bad.mp4': it is no video, or it is damaged or cut off",
        "skipped: cannot read 'none.mov': no such file or directory",
        "2 skipped",
    ]


def test_a_video_that_is_cut_off_is_told_as_far_as_it_goes(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "whole.mkv", walk((toy.RED, 16, 60), frames=30), gop_size=1)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    result = run("identify", "cut.mkv", "--json")
    told = record(result)
    assert (result.exit_code, told["complete"], told["tracks"][0]["name"]) == (3, False, "Rosa")
    assert told["damage"] == f"it is cut off after {told['seconds']:.1f} of 3.0 seconds"
    assert result.stderr.startswith(f"skipped: the rest of 'cut.mkv': {told['damage']}\n")


def edge(image: NDArray[np.uint8], channel: int) -> int:
    """Return the sharpest step of a colour from one pixel to the next."""
    return int(np.abs(np.diff(image[:, :, channel].astype(int), axis=1)).max())


def test_faces_of_a_video_are_blurred(run: Run, tmp_path: Path) -> None:
    words = ["clip.mkv", "--annotated", "hidden.mp4", "--blur", "Rosa", "--far", "0.1", "--every", "0.1"]
    result = run("identify", *words)
    assert (result.exit_code, result.stderr) == (0, "written: hidden.mp4\n")
    with Video.open(tmp_path / "clip.mkv") as before, Video.open(tmp_path / "hidden.mp4") as after:
        pairs = [(old.image, new.image) for old, new in zip(before, after, strict=True)]
    assert min(edge(old, 0) for old, _ in pairs) > 200
    assert max(edge(new, 0) for _, new in pairs) < 150
    assert edge(pairs[15][1], 2) > 200  # the stranger stays as she was


def test_the_annotated_video_is_written(run: Run, tmp_path: Path) -> None:
    result = run("identify", "clip.mkv", "--annotated", "named.mp4")
    assert (result.exit_code, result.stderr) == (0, "written: named.mp4\n")
    with Video.open(tmp_path / "named.mp4") as video:
        assert len(list(video)) == 20


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["clip.mkv", "--annotated", "a.gif"], "--annotated must end in .mp4, .m4v, .mov, .mkv, got 'a.gif'"),
        (["clip.mkv", "nobody.mkv", "--annotated", "a.mp4"], "--annotated takes one video"),
        (
            ["red.png", "--annotated", "a.mp4"],
            "--annotated must end in .png, .jpg or another picture format, got 'a.mp4'",
        ),
        (["red.png", "--blur", "everybody"], "--blur needs --annotated"),
        (["clip.mkv", "-k", "3"], "-k is for pictures: in a video the nearest template or face decides"),
        (["clip.mkv", "--every", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_wrong_usage_is_refused_before_the_work(run: Run, tmp_path: Path, words: list[str], reason: str) -> None:
    result = run("identify", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert not list(tmp_path.glob("a.*"))


def test_who_watches_sees_how_far_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "searching" in run("identify", "clip.mkv").stderr
    result = run("identify", "clip.mkv", "--annotated", "named.mp4")
    assert "searching" in result.stderr
    assert "drawing" in result.stderr
    assert "of 2 s" in result.stderr


class Interrupting(toy.FindSquares):
    """The toy detector, in which Ctrl-C is pressed while it looks at a frame for the sixth time."""

    def __init__(self) -> None:
        self.looks = 0

    def run(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Answer as ever."""
        self.looks += 1
        if self.looks == 6:
            signal.raise_signal(signal.SIGINT)
        return super().run(pixels)


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is pressed in the middle of the clip."""

    class Model(toy.ToyModel):
        @staticmethod
        def load(weights: str | Path, *, threads: int | None = None) -> object:
            return Interrupting() if weights == "centerface" else toy.ToyModel.load(weights, threads=threads)

    monkeypatch.setattr(sameface.cli.options, "Model", Model)


@pytest.mark.usefixtures("pressed")
def test_ctrl_c_tells_what_was_found_so_far(run: Run, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = run("identify", "clip.mkv", "nobody.mkv", "--json", "--every", "0.1")
    told = record(result)
    assert (result.exit_code, told["video"], told["complete"], told["damage"]) == (130, "clip.mkv", False, None)
    assert [(track["name"], track["to"]) for track in told["tracks"]] == [("Rosa", 0.5)]
    assert result.stderr == "clip.mkv: this is until second 0.5\ninterrupted\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("pressed")
def test_ctrl_c_leaves_no_half_written_video(run: Run, tmp_path: Path) -> None:
    result = run("identify", "clip.mkv", "--annotated", "named.mp4")
    assert result.exit_code == 130
    assert not list(tmp_path.glob("*named*"))


def test_watch_tells_who_comes_and_who_has_left(run: Run) -> None:
    result = run("watch", "--stream", "clip.mkv", "--json", "--far", "0.1")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["name"], one["over"]) for one in told] == [
        ("Rosa", False),
        (None, False),
        ("Rosa", True),
        (None, True),
    ]
    assert all(one["at"][10] == "T" for one in told)
    assert (told[2]["from"], told[2]["to"], result.exit_code, result.stderr) == (0, 1.8, 0, "")


def test_watch_tells_people_in_words(run: Run) -> None:
    result = run("watch", "--stream", "stranger.mkv")
    came, left = result.stdout.splitlines()
    assert "track 0: unknown is here, distance 2.0000, nearest Rosa, over" in came
    assert "track 0: unknown left after 0:00:01, distance 2.0000" in left
    assert result.exit_code == 1


@pytest.mark.usefixtures("pressed")
def test_ctrl_c_is_how_watching_ends(run: Run) -> None:
    result = run("watch", "--stream", "clip.mkv", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["name"], one["over"]) for one in told] == [("Rosa", False), ("Rosa", True)]
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_camera_that_is_not_there_is_bad_input(run: Run) -> None:
    result = run("watch", "--camera", "63")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: cannot read camera 63: ")


@pytest.mark.parametrize("words", [["identify", "clip.mkv"], ["watch"]])
def test_without_the_extra_the_error_names_it(tmp_path: Path, words: list[str]) -> None:
    code = f"import sys; sys.modules['av'] = None; from sameface.cli import main; main({words})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Error: videos need av: pip install 'sameface[video]'" in result.stderr


def test_without_the_extra_pictures_are_identified() -> None:
    code = "import sys; sys.modules['av'] = None; from sameface.cli import main; main(['identify', '--help'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_installed_command_names_who_is_in_a_video(samples: dict[str, Path], tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("sameface")

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *words], capture_output=True, text=True, check=False, timeout=100)

    gallery = ["--gallery", tmp_path / "real.db"]
    call("enroll", "Barack Obama", samples["barack-obama-1"], samples["barack-obama-2"], *gallery)
    portraits = [read_portrait(samples[name]) for name in ("barack-obama-3", "eileen-collins")]
    images = [paste((portraits[0], 20 + 3 * n), (portraits[1], 230 - 3 * n)) for n in range(12)]
    path = write_clip(tmp_path / "real.mp4", images, codec="libx264", pixels="yuv420p")
    result = call("identify", path, "--json", "--annotated", tmp_path / "named.mp4", *gallery)
    assert (result.returncode, result.stderr) == (0, f"written: {tmp_path / 'named.mp4'}\n")
    tracks = json.loads(result.stdout)["tracks"]
    assert {(track["name"], track["from"], track["to"]) for track in tracks} == {("Barack Obama", 0, 1), (None, 0, 1)}
    assert all(track["frames"] == 6 for track in tracks)
