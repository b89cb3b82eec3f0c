"""Small clips, written by PyAV: of the toy world without any loss, and of portraits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import toy

from sameface.arrays import Image

CLOCK = Fraction(1, 1000)  # seconds
RATE = 10  # frames a second
GREY = 60


def write_clip(
    path: Path,
    images: Iterable[Image],
    *,
    times: Sequence[float] | None = None,
    codec: str = "ffv1",
    pixels: str = "bgr0",
    **stream: Any,
) -> Path:
    """Write pictures as a video, by default without loss; `stream` sets what else its encoder should know."""
    turned = stream.pop("turned", None)
    with av.open(str(path), "w", options=stream.pop("container", {})) as container:
        output = None
        for number, image in enumerate(images):
            if output is None:
                output = container.add_stream(codec, rate=RATE)
                output.height, output.width = image.shape[:2]
                output.pix_fmt, output.codec_context.time_base = pixels, CLOCK
                for name, value in stream.items():
                    setattr(output.codec_context, name, value)
                if turned is not None:
                    output.set_display_rotation(turned)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = round(1000 * (number / RATE if times is None else times[number]))
            frame.time_base = CLOCK
            container.mux(output.encode(frame))
        if output is None:
            container.add_stream(codec, rate=RATE)
            container.start_encoding()
        else:
            container.mux(output.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """Write a second of silence."""
    with av.open(str(path), "w") as container:
        output = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            container.mux(output.encode(frame))
        container.mux(output.encode(None))
    return path


def walk(*squares: tuple[tuple[int, int, int], int, int], frames: int = 10) -> list[Image]:
    """Return frames in which squares of these colours go from one left side to another."""
    images = []
    for part in np.linspace(0, 1, frames):
        places = [(colour, round(start + part * (end - start))) for colour, start, end in squares]
        images.append(
            toy.paint_squares([toy.Square(colour, left, 16) for colour, left in places], width=320, height=64)
        )
    return images


def read_portrait(path: Path, height: int = 200) -> Image:
    """Return the middle of a photograph, so high: what is beside the face would hide another."""
    with PIL.Image.open(path) as picture:
        whole = np.asarray(picture.convert("RGB").resize((picture.width * height // picture.height, height)))
    side = whole.shape[1] // 5
    return whole[:, side:-side]


def paste(*portraits: tuple[Image, int]) -> Image:
    """Return a frame with portraits at these left sides; the later ones are in front."""
    frame = np.full((220, 384, 3), GREY, np.uint8)
    for portrait, left in portraits:
        start, end = max(left, 0), min(left + portrait.shape[1], frame.shape[1])
        if start < end:
            frame[10 : 10 + len(portrait), start:end] = portrait[:, start - left : end - left]
    return frame
