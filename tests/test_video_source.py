"""Videos of every kind, frame by frame, and those that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import toy
from av.container import InputContainer
from pictures import QUARTERS, draw_noise, draw_quarters
from video_world import RATE, write_clip, write_sound

from sameface.errors import VideoError
from sameface.video import Video
from sameface.video.source import find_camera

RED, GREEN, BLUE, YELLOW = QUARTERS


def corners(path: Path) -> list[tuple[int, ...]]:
    """Return the colours in the middle of the quarters of the first frame, each brought to the nearest."""
    with Video.open(path) as video:
        image = next(iter(video)).image
    high, wide = image.shape[:2]
    found = [image[y, x] for y in (high // 4, 3 * high // 4) for x in (wide // 4, 3 * wide // 4)]
    return [min(QUARTERS, key=lambda one: np.abs(np.subtract(one, colour)).sum()) for colour in found]


def read_times(path: Path) -> list[float]:
    """Return the times of the frames, in milliseconds."""
    with Video.open(path) as video:
        return [round(1000 * frame.time) for frame in video]


def test_frames_come_in_order_with_their_times_and_pixels(tmp_path: Path) -> None:
    images = [toy.paint(colour) for colour in (toy.RED, toy.GREEN, toy.BLUE)]
    with Video.open(write_clip(tmp_path / "a.mkv", images)) as video:
        frames = list(video)
    assert [round(frame.time, 3) for frame in frames] == [0, 0.1, 0.2]
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert (video.complete, video.damage, video.live) == (True, None, False)


def test_a_clip_may_have_one_frame(tmp_path: Path) -> None:
    assert read_times(write_clip(tmp_path / "a.mkv", [toy.paint(toy.RED)])) == [0]


def test_times_count_from_the_first_frame_whatever_the_rate(tmp_path: Path) -> None:
    times = [0.5, 0.533, 0.566, 1.2, 1.233, 3]
    path = write_clip(tmp_path / "a.mkv", [toy.paint(toy.RED)] * len(times), times=times)
    assert read_times(path) == [0, 33, 66, 700, 733, 2500]


def test_where_two_streams_were_joined_time_goes_on(tmp_path: Path) -> None:
    how = {"codec": "libx264", "pixels": "yuv420p"}
    parts = [write_clip(tmp_path / f"{part}.ts", [draw_quarters(64, 48)] * 5, **how) for part in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    times = read_times(joined)
    assert times == sorted(set(times))
    assert len(times) == 10


@pytest.mark.parametrize(
    ("turned", "wanted"),
    [
        (0, [RED, GREEN, BLUE, YELLOW]),
        (90, [GREEN, YELLOW, RED, BLUE]),
        (180, [YELLOW, BLUE, GREEN, RED]),
        (-90, [BLUE, RED, YELLOW, GREEN]),
    ],
)
def test_a_video_is_turned_upright(tmp_path: Path, turned: int, wanted: list[tuple[int, ...]]) -> None:
    how = {"codec": "libx264", "pixels": "yuv420p"}
    path = write_clip(tmp_path / "a.mp4", [draw_quarters(64, 48)], **how, turned=turned)
    assert corners(path) == wanted
    with Video.open(path) as video:
        assert next(iter(video)).image.shape == ((64, 48, 3) if turned % 180 else (48, 64, 3))


def test_a_squeezed_video_is_widened_as_players_do(tmp_path: Path) -> None:
    how = {"codec": "libx264", "pixels": "yuv420p", "sample_aspect_ratio": Fraction(2, 1)}
    path = write_clip(tmp_path / "a.mp4", [draw_quarters(64, 48)], **how)
    with Video.open(path) as video:
        assert next(iter(video)).image.shape == (48, 128, 3)


@pytest.mark.parametrize(
    ("ending", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mov", "libx264", "yuv444p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("ts", "libx264", "yuv420p"),
        ("flv", "flv1", "yuv420p"),
        ("wmv", "wmv2", "yuv420p"),
        ("mkv", "ffv1", "yuv420p10le"),
        ("mkv", "ffv1", "gray"),
    ],
)
def test_videos_of_many_kinds_are_read(tmp_path: Path, ending: str, codec: str, pixels: str) -> None:
    images = [draw_quarters(64, 48)] * 6
    path = write_clip(tmp_path / f"a.{ending}", images, codec=codec, pixels=pixels)
    assert read_times(path) == [0, 100, 200, 300, 400, 500]
    if pixels != "gray":
        assert corners(path) == list(QUARTERS)


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with (
        av.open(str(write_sound(tmp_path / "sound.mp4"))) as sound,
        av.open(
            str(write_clip(tmp_path / "cover.avi", [draw_quarters(64, 48)], codec="mjpeg", pixels="yuvj420p"))
        ) as cover,
        av.open(str(path), "w") as container,
    ):
        tracks = [(sound, sound.streams.audio[0]), (cover, cover.streams.video[0])]
        outputs = [container.add_stream_from_template(stream) for _, stream in tracks]
        outputs[1].disposition = av.stream.Disposition.attached_pic
        for (source, stream), output in zip(tracks, outputs, strict=True):
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = output
                    container.mux(packet)
    with pytest.raises(VideoError, match="it holds no video, only sound"):
        Video.open(path)


def make_whole(tmp_path: Path, **how: object) -> bytes:
    """Return the bytes of a video of three seconds whose index stands in front."""
    images = [draw_noise(64, 48)] * (3 * RATE)
    options = {"codec": "libx264", "pixels": "yuv420p", "container": {"movflags": "faststart"}} | how
    return write_clip(tmp_path / "whole.mp4", images, **options).read_bytes()  # type: ignore[arg-type]


def test_what_was_cut_off_is_told_and_what_is_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    data = make_whole(tmp_path, gop_size=1)
    path.write_bytes(data[: len(data) // 2])
    with Video.open(path) as video:
        frames = list(video)
    assert RATE < len(frames) < 2 * RATE
    assert video.damage == f"it is cut off after {frames[-1].time:.1f} of 3.0 seconds"
    assert not video.complete


def test_what_cannot_be_decoded_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    data = bytearray(make_whole(tmp_path, gop_size=1))
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    with Video.open(path) as video:
        frames = list(video)
    assert 2 * RATE < len(frames) < 3 * RATE
    assert video.damage is not None
    assert "of its pieces cannot be decoded: invalid data found" in video.damage
    assert frames[-1].time == pytest.approx(2.9)


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello\n" * 99, "it is no video, or it is damaged or cut off"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.mkv\n#EXT-X-ENDLIST\n", "it is no video"),
    "list": (b"ffconcat version 1.0\nfile a.mkv\n", "it is no video"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_video_is_refused(tmp_path: Path, kind: str) -> None:
    content, reason = BAD[kind]
    write_clip(tmp_path / "a.mkv", [toy.paint(toy.RED)])
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=rf"cannot read '.*bad\.mp4': {reason}"):
        Video.open(tmp_path / "bad.mp4")


def test_a_video_cut_off_before_its_index_is_refused(tmp_path: Path) -> None:
    data = make_whole(tmp_path, container={})
    (tmp_path / "bad.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="it is no video, or it is damaged or cut off"):
        Video.open(tmp_path / "bad.mp4")


def test_sound_alone_and_a_picture_are_no_videos(tmp_path: Path, samples: dict[str, Path]) -> None:
    with pytest.raises(VideoError, match="it holds no video, only sound"):
        Video.open(write_sound(tmp_path / "a.mp4"))
    with pytest.raises(VideoError, match="it is no video"):
        Video.open(samples["joe-biden"])


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file or directory"):
        Video.open(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="is a directory"):
        Video.open(tmp_path)


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(make_whole(tmp_path)[:2500])  # the index, and nothing of what it tells of
    with Video.open(path) as video, pytest.raises(VideoError, match=r"decoded|not one frame"):
        list(video)


def test_frames_over_the_limit_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", [draw_quarters(64, 48)], codec="ffv1")
    data = path.read_bytes()
    small, large = (number.to_bytes(4, "little") for number in (64, 6400))
    place = data.index(b"strf") + 12
    assert data[place : place + 4] == small
    path.write_bytes(data[:place] + large + large + data[place + 8 :])
    with pytest.raises(VideoError, match="its frames have 40,960,000 pixels, the limit is 36,000,000"):
        Video.open(path)


@pytest.mark.skipif(sys.platform != "linux", reason="a camera has another name elsewhere")
def test_a_camera_that_is_not_there_is_a_clear_error() -> None:
    assert find_camera(63, "camera 63") == ("v4l2", "/dev/video63")
    with pytest.raises(VideoError, match="cannot read camera 63: no such file or directory"):
        Video.open_camera(63)


@pytest.mark.parametrize(
    ("system", "wanted"), [("linux", ("v4l2", "/dev/video1")), ("darwin", ("avfoundation", "1:none"))]
)
def test_a_camera_is_reached_in_the_way_of_the_system(
    monkeypatch: pytest.MonkeyPatch, system: str, wanted: tuple[str, str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert find_camera(1, "camera 1") == wanted


def test_on_windows_cameras_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [
        SimpleNamespace(name="Microphone", media_types=["audio"]),
        SimpleNamespace(name="Front", media_types=["video"]),
    ]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(av, "enumerate_input_devices", {"dshow": devices}.get)
    assert find_camera(0, "camera 0") == ("dshow", "video=Front")
    with pytest.raises(VideoError, match="cannot read camera 1: cameras of this machine: 1, counted from 0"):
        find_camera(1, "camera 1")


def test_a_system_whose_cameras_are_not_known_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "aix")
    with pytest.raises(VideoError, match="no way is known to the cameras of 'aix'"):
        find_camera(0, "camera 0")


class Hesitating:
    """A video that at first has no frame yet, as a camera of macOS answers."""

    def __init__(self, container: InputContainer) -> None:
        self.container = container
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.container, name)

    def demux(self, stream: object) -> Iterator[object]:
        """Yield packets, from the third time on."""
        self.asked += 1
        if self.asked < 3:
            raise av.error.BlockingIOError(11, "Resource temporarily unavailable")
        yield from self.container.demux(stream)


def test_a_camera_that_has_no_frame_yet_is_asked_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [toy.paint(toy.RED)] * 3)
    container = Hesitating(av.open(str(path)))
    with Video(container, "camera 0", live=True) as video:
        assert len(list(video)) == 3
    assert container.asked == 3


def test_a_stream_that_nobody_sends_is_a_clear_error() -> None:
    with pytest.raises(VideoError, match=r"cannot read 'rtsp://127\.0\.0\.1:1/a': connection refused"):
        Video.open_stream("rtsp://127.0.0.1:1/a")
