"""Read videos and cameras frame by frame, with PyAV (FFmpeg)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sameface.arrays import Image
from sameface.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_PIXELS = 36_000_000  # of a frame: 8K has 35 million

# Only what holds a video: no playlists, which lead to other files or into the network.
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,ivf,mxf,dv,nut,h264,hevc,m4v,mjpeg,rm,wtv,3gp"
DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
CAMERA = {"video_size": "1280x720", "framerate": "30"}
PAUSE = 0.005  # seconds between two attempts to read from a camera
TIMEOUT = 20  # seconds without data from a stream
SHORT = 1.0  # seconds that may be missing at the end before a video counts as cut off


class PyAV:
    """The module `av` (FFmpeg), imported when one of its names is first used: it is an extra."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_av(), name)


def import_av() -> Any:
    """Return the module `av`, or raise a `ModuleNotFoundError` that names the extra."""
    try:
        importlib.import_module("av.stream")
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        needed = "videos need av: pip install 'sameface[video]'"
        raise ModuleNotFoundError(needed, name="av") from error


av = PyAV()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded frame."""

    time: float  # seconds from the first frame
    raw: VideoFrame
    size: tuple[int, int]  # width and height with square pixels, before it is turned upright
    turns: int  # quarters to the left

    @property
    def image(self) -> Image:
        """The picture, `(h, w, 3) uint8` RGB, upright."""
        width, height = self.size
        pixels = self.raw.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(pixels, self.turns), np.uint8)


class Video:
    """An opened video or camera; iterate over it, once, for its frames.

    Attributes:
        name: Its name in messages.
        seconds: The stated length; None if there is none, as of a camera.
        rate: Frames per second on average; None if not stated.
        live: Frames come in real time, and a slow reader misses some.
        damage: The fault found so far, or None.
        complete: It was read to the end, and no frames are missing there.
    """

    def __init__(self, container: InputContainer, name: str, *, live: bool = False) -> None:
        self.name = name
        self.live = live
        self.damage: str | None = None
        self.complete = False
        self._container = container
        self._stream = choose_stream(container, name)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file.

        Raises:
            VideoError: It cannot be read, holds no video, or one of too many pixels.
        """
        name = repr(os.fspath(path))
        try:
            empty = Path(path).stat().st_size == 0
        except OSError as error:
            raise VideoError(name, (error.strerror or str(error)).lower()) from error
        if empty:
            raise VideoError(name, "the file is empty")
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        return cls(open_container(f"file:{os.fspath(path)}", name, options), name)

    @classmethod
    def open_camera(cls, number: int) -> Self:
        """Open a camera of this machine, the first is 0, or raise `VideoError`."""
        name = f"camera {number}"
        kind, device = find_camera(number, name)
        return cls(open_container(device, name, CAMERA, kind), name, live=True)

    @classmethod
    def open_stream(cls, address: str) -> Self:
        """Open a network stream, such as `rtsp://camera.example/1`, or raise `VideoError`."""
        name = repr(address)
        return cls(open_container(address, name, {}, timeout=TIMEOUT), name, live=True)

    @property
    def seconds(self) -> float | None:
        """The stated length in seconds."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        alone = len(self._container.streams) == 1  # with others it may be the length of one of them
        return self._container.duration / av.time_base if alone and self._container.duration else None

    @property
    def rate(self) -> float | None:
        """Frames per second on average."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    def close(self) -> None:
        """Close the file or device."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; their times never fall.

        Damaged parts are skipped and noted in `damage`.

        Raises:
            VideoError: There is no frame.
        """
        begin: float | None = None
        latest, size = 0.0, (0, 0)
        step = 1 / (self.rate or 25)
        for raw in self._decode():
            if begin is None:
                aspect = self._stream.sample_aspect_ratio  # of a pixel
                begin, size = raw.time or 0.0, (round(raw.width * aspect) if aspect else raw.width, raw.height)
            given = latest + step if raw.time is None else raw.time - begin
            if given < latest:  # the clock restarts, as where two streams were joined
                begin, given = raw.time - latest - step, latest + step
            latest = given
            yield Frame(latest, raw, size, round(raw.rotation / 90) % 4)
        if begin is None:
            raise VideoError(self.name, self.damage or "it has not one frame")
        if not self.live and self.seconds is not None and self.seconds - latest > SHORT:
            self.complete = False
            self.damage = f"it is cut off after {latest:.1f} of {self.seconds:.1f} seconds"

    def _decode(self) -> Iterator[VideoFrame]:
        """Yield every frame that can be decoded."""
        packets = self._container.demux(self._stream)
        lost = 0
        while True:
            try:
                packet = next(packets, None)
            except av.error.BlockingIOError:  # a camera of macOS that has no new frame yet
                sleep(PAUSE)
                packets = self._container.demux(self._stream)
                continue
            except av.FFmpegError as error:
                self.damage = f"it cannot be read on: {ffmpeg_reason(error)}"
                return
            if packet is None:
                self.complete = True
                return
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                lost += 1
                self.damage = f"{lost} of its pieces cannot be decoded: {ffmpeg_reason(error)}"
                continue
            yield from frames


def open_container(
    place: str, name: str, options: dict[str, str], kind: str | None = None, *, timeout: float | None = None
) -> InputContainer:
    """Open a file, device or address, or raise `VideoError`."""
    try:
        opened: InputContainer = av.open(place, "r", format=kind, container_options=options, timeout=timeout)
    except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
        raise VideoError(name, "it is no video, or it is damaged or cut off") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(name, ffmpeg_reason(error)) from error
    return opened


def ffmpeg_reason(error: Exception) -> str:
    """Return FFmpeg's message as a part of a sentence."""
    message = str(getattr(error, "strerror", None) or error)
    return message[:1].lower() + message[1:]


def choose_stream(container: InputContainer, name: str) -> VideoStream:
    """Return the first video stream that is no cover picture, or raise `VideoError`."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        sound = ", only sound" if container.streams.audio else ""
        raise VideoError(name, f"it holds no video{sound}")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(name, "nothing here decodes its video")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > MAX_PIXELS:
        raise VideoError(name, f"its frames have {pixels:,} pixels, the limit is {MAX_PIXELS:,}")
    return stream


def find_camera(number: int, name: str) -> tuple[str, str]:
    """Return FFmpeg's kind of device and the device of a camera, or raise `VideoError`."""
    if sys.platform in DEVICES:
        kind, device = DEVICES[sys.platform]
        return kind, device.format(number)
    if sys.platform != "win32":
        raise VideoError(name, f"no way is known to the cameras of {sys.platform!r}")
    cameras = [device for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
    if number >= len(cameras):
        raise VideoError(name, f"cameras of this machine: {len(cameras)}, counted from 0")
    return "dshow", f"video={cameras[number].name}"
