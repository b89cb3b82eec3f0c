"""The video with faces and names drawn into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import toy
from pictures import draw_quarters
from video_world import walk, write_clip

from sameface.arrays import Image
from sameface.draw import GOOD, PLAIN
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.video import Frame, Timeline, Video, VideoSearch, annotate_video, identify_video
from sameface.video import annotate as module


@pytest.fixture
def gallery(toy_recognizer: Recognizer, tmp_path: Path) -> Iterator[Gallery]:
    """Only red is known, under a name of another script."""
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Розa 名", [toy_recognizer.template(toy.paint(toy.RED))])
        yield gallery


def identify(recognizer: Recognizer, gallery: Gallery, path: Path, every: float = 0.1) -> Timeline:
    """Return the timeline of a clip."""
    return identify_video(path, recognizer, gallery, VideoSearch(every=every, far=0.1))


def read_frames(path: Path) -> list[tuple[int, Image]]:
    """Return the milliseconds and the picture of each frame."""
    with Video.open(path) as video:
        return [(round(1000 * frame.time), frame.image) for frame in video]


def enlarge(images: Iterable[Image]) -> list[Image]:
    """Return pictures four times as large, in which lines are wide enough to keep their colour."""
    return [image.repeat(4, axis=0).repeat(4, axis=1) for image in images]


def left_edge(image: Image, colour: tuple[int, int, int]) -> int | None:
    """Return the leftmost column in which a line of this colour goes down, if there is one."""
    near = np.abs(image[80:176].astype(int) - colour).max(axis=2) < 60
    columns = np.flatnonzero(near.all(axis=0))
    return int(columns[0]) if len(columns) else None


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_boxes_go_with_the_faces_green_for_who_is_known(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path, ending: str
) -> None:
    images = enlarge(walk((toy.RED, 16, 60), (toy.BLUE, 220, 200), frames=12))
    path, output = write_clip(tmp_path / "a.mkv", images), tmp_path / f"named.{ending}"
    annotate_video(path, identify(toy_recognizer, gallery, path, every=0.3), output)
    frames = read_frames(output)
    assert [time for time, _ in frames] == list(range(0, 1200, 100))
    lefts = np.linspace([64, 880], [240, 800], 12)
    for (_, image), left in list(zip(frames, lefts, strict=True))[:10]:  # the last was searched at 0.9
        assert (left_edge(image, GOOD), left_edge(image, PLAIN)) == pytest.approx(left, abs=5)
    assert left_edge(frames[10][1], GOOD) is None
    assert [file.name for file in tmp_path.glob("*named*")] == [output.name]


def test_frames_keep_their_times_and_turn_upright(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    times = [0, 0.033, 0.5, 0.9, 2]
    how = {"codec": "libx264", "pixels": "yuv420p", "times": times, "turned": 90}
    path = write_clip(tmp_path / "a.mp4", [draw_quarters(64, 48)] * 5, **how)
    annotate_video(path, identify(toy_recognizer, gallery, path), tmp_path / "b.mp4")
    frames = read_frames(tmp_path / "b.mp4")
    assert [time for time, _ in frames] == [0, 33, 500, 900, 2000]
    assert frames[0][1].shape == (64, 48, 3)


def test_odd_sides_become_even(toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [toy.paint_squares([], width=81, height=65)] * 2)
    annotate_video(path, identify(toy_recognizer, gallery, path), tmp_path / "b.mp4")
    assert read_frames(tmp_path / "b.mp4")[0][1].shape == (66, 82, 3)


def test_between_two_views_far_apart_nothing_is_drawn(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    images = [*walk((toy.RED, 50, 50), frames=3), *walk(frames=6), *walk((toy.RED, 50, 50), frames=3)]
    path = write_clip(tmp_path / "a.mkv", enlarge(images))
    timeline = identify(toy_recognizer, gallery, path)
    assert len(timeline.tracks) == 1
    annotate_video(path, timeline, tmp_path / "b.mp4")
    edges = [left_edge(image, GOOD) is not None for _, image in read_frames(tmp_path / "b.mp4")]
    assert edges == [True] * 3 + [False] * 6 + [True] * 3


def test_frames_after_the_end_of_the_timeline_are_left_out(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    def half(frames: Iterable[Frame]) -> Iterator[Frame]:
        return (frame for frame in frames if frame.time < 0.5)

    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50)))
    timeline = identify_video(path, toy_recognizer, gallery, VideoSearch(far=0.1), follow=half)
    annotate_video(path, timeline, tmp_path / "b.mp4")
    assert len(read_frames(tmp_path / "b.mp4")) == 5


def test_without_h264_it_is_mpeg4(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENCODERS", ("no such encoder", "mpeg4"))
    path = write_clip(tmp_path / "a.mkv", enlarge(walk((toy.RED, 50, 50))))
    annotate_video(path, identify(toy_recognizer, gallery, path), tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert left_edge(read_frames(tmp_path / "b.mp4")[3][1], GOOD) == pytest.approx(200, abs=5)


def test_nothing_is_written_when_it_is_interrupted(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    def interrupt(frames: Iterable[Frame]) -> Iterator[Frame]:
        for number, frame in enumerate(frames):
            if number == 5:
                raise KeyboardInterrupt
            yield frame

    path, output = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50))), tmp_path / "b.mp4"
    output.write_bytes(b"as before")
    with pytest.raises(KeyboardInterrupt):
        annotate_video(path, identify(toy_recognizer, gallery, path), output, follow=interrupt)
    assert output.read_bytes() == b"as before"
    assert sorted(file.name for file in tmp_path.glob("*b.mp4*")) == ["b.mp4"]


@pytest.mark.parametrize("name", ["b", "b.gif", "b.webm"])
def test_another_ending_is_refused(toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50)))
    with pytest.raises(ValueError, match=r"path must end in \.mp4, \.m4v, \.mov, \.mkv, got"):
        annotate_video(path, identify(toy_recognizer, gallery, path), tmp_path / name)


def test_a_folder_that_is_not_there_is_an_error_of_the_system(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50)))
    with pytest.raises(OSError, match="No such file or directory"):
        annotate_video(path, identify(toy_recognizer, gallery, path), tmp_path / "none" / "b.mp4")
