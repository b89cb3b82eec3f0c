"""Write a video with the faces and names drawn into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from sameface.arrays import Image
from sameface.atomic import replace_file
from sameface.draw import blur_faces, draw_faces
from sameface.face import Face
from sameface.video.identify import Follow, Timeline, Track
from sameface.video.source import Video, av

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Blur: TypeAlias = Callable[[Track], bool]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODERS = ("libx264", "mpeg4")  # the first that FFmpeg was built with
OPTIONS = {"libx264": {"preset": "superfast", "crf": "23"}, "mpeg4": {"b": "6000000"}}
CLOCK = Fraction(1, 60_000)  # seconds; the times of any usual frame rate are whole multiples, or nearly
HELD = 3.5  # steps without the face for which it is still drawn


def annotate_video(
    source: Video | str | os.PathLike[str],
    timeline: Timeline,
    output: str | os.PathLike[str],
    *,
    blur: Blur | None = None,
    follow: Follow = iter,
) -> None:
    """Copy a video with a box and a name on every face of its timeline, whole or not at all.

    Each frame keeps its time. Between searched frames the boxes move evenly. The copy has no sound.

    Args:
        source: The video of the timeline: a file, or opened once more.
        timeline: From `identify_video`; frames after its end are left out.
        output: Ends in .mp4, .m4v, .mov or .mkv; the video is H.264.
        blur: Blur the faces of these tracks instead of drawing boxes and names. A face that the search missed, or
            has not found yet, is not blurred.
        follow: As in `identify_video`.

    Raises:
        VideoError: The video cannot be read.
        ValueError: `output` has another ending.
        OSError: `output` cannot be written.
    """
    path = Path(output)
    if not writable(path):
        raise ValueError(f"path must end in {', '.join(FORMATS)}, got {str(path)!r}")
    if not isinstance(source, Video):
        with Video.open(source) as video:
            annotate_video(video, timeline, output, blur=blur, follow=follow)
        return
    with replace_file(path) as part, av.open(part, "w", format=FORMATS[path.suffix.lower()]) as container:
        writer = VideoWriter(container)
        for frame in follow(source):
            if frame.time <= timeline.seconds:
                writer.add(draw_tracks(frame.image, timeline, frame.time, blur), frame.time)
        writer.finish()


def writable(path: Path) -> bool:
    """Return whether the ending names a format that can be written."""
    return path.suffix.lower() in FORMATS


class VideoWriter:
    """Encodes pictures of one size into an opened file."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        self._stream: VideoStream | None = None
        self._latest = -1

    def add(self, image: Image, time: float) -> None:
        """Add a picture shown from `time` seconds on, later than the one before."""
        height, width = image.shape[:2]
        if self._stream is None:
            self._stream = self._begin(width, height)
        if height % 2 or width % 2:  # H.264 wants even sides
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", threads=2)
        self._latest = max(round(time / CLOCK), self._latest + 1)
        frame.pts, frame.time_base = self._latest, CLOCK
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))

    def _begin(self, width: int, height: int) -> VideoStream:
        """Return the stream, for pictures of this size."""
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        stream = cast("VideoStream", self._container.add_stream(encoder, rate=30, options=OPTIONS[encoder]))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = CLOCK
        return stream


def draw_tracks(image: Image, timeline: Timeline, time: float, blur: Blur | None = None) -> Image:
    """Return the frame at `time` with the visible faces of the tracks drawn or blurred, `(h, w, 3) uint8` RGB."""
    seen = [(track, face_at(track, time, HELD * timeline.every)) for track in timeline.tracks]
    faces = [(track, face) for track, face in seen if face is not None]
    if not faces:
        return image
    if blur is not None:
        return blur_faces(image, [face for track, face in faces if blur(track)])
    labels = [label_of(track) for track, _ in faces]
    known = [track.answer.name is not None for track, _ in faces]
    return draw_faces(image, [face for _, face in faces], labels, known)


def label_of(track: Track) -> str:
    """Return the label of a face: name and distance."""
    name = track.answer.name or "unknown"
    distance = "" if track.nearest is None else f" {track.nearest.distance:.2f}"
    return name + distance + (" ambiguous" if track.answer.ambiguous else "")


def face_at(track: Track, time: float, held: float) -> Face | None:
    """Interpolate the face of a track at a time; None outside it, and between views over `held` seconds apart."""
    if not track.start <= time <= track.end:
        return None
    after = int(np.searchsorted(track.times, time))
    before = after if track.times[after] == time else after - 1
    gap = float(track.times[after] - track.times[before])
    if gap > held:
        return None
    part = np.float32((time - track.times[before]) / gap if gap else 0)
    box = (1 - part) * track.boxes[before] + part * track.boxes[after]
    landmarks = (1 - part) * track.landmarks[before] + part * track.landmarks[after]
    return Face(box, landmarks, track.best.score)
