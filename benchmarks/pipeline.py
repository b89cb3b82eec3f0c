"""Whole pictures per second: decode a JPEG, find its faces, align and embed them.

    python benchmarks/pipeline.py

Ours against the road of `face_recognition`, on the samples scaled to three sizes. By default ours searches a
large picture at half its size; the last row of each size is a search at up to 1280 pixels. Exit code 1 if a
target is missed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import PIL.Image

from peer import ROOT, HogRoad, describe
from report import Target, print_table, print_targets
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.model import Model
from sameface.recognizer import Recognizer
from timing import alternate

ROUNDS = {640: 7, 1080: 7, 4000: 3}  # by long side; the peer takes half a minute per round at 4000
TARGET_SIDE = 1080
Road = Callable[[bytes], int]


def sample_files(side: int) -> list[bytes]:
    """Return the samples as JPEG files whose longer side has `side` pixels."""
    files = []
    for path in sorted((ROOT / "samples").glob("*.jpg")):
        with PIL.Image.open(path) as picture:
            factor = side / max(picture.size)
            size = (round(picture.width * factor), round(picture.height * factor))
            buffer = io.BytesIO()
            picture.resize(size, PIL.Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            files.append(buffer.getvalue())
    return files


def our_road(*, flip: bool = False, max_side: int | None = None) -> Road:
    """Return our way from a file to the number of its faces."""
    embedder = Embedder(Model.load("resnet29"), flip=flip)
    recognizer = Recognizer(Detector(Model.load("centerface"), max_side=max_side), embedder)
    return lambda data: len(recognizer.embed(data)[0])


def measure(roads: dict[str, Road], side: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return pictures per second and the faces found, by road, at one size."""
    files = sample_files(side)
    faces = {}

    def walk(name: str) -> None:
        faces[name] = sum(roads[name](data) for data in files)

    steps = {name: partial(walk, name) for name in roads}
    seconds = alternate(steps, rounds=ROUNDS[side])
    return {name: len(files) / median(times) for name, times in seconds.items()}, faces


def main() -> int:
    """Print the table."""
    peer = HogRoad()
    roads = {
        "face_recognition": peer.embed,
        "ours": our_road(),
        "ours with flip": our_road(flip=True),
        "ours, max_side 1280": our_road(max_side=1280),
    }
    rows, targets = [], []
    for side in ROUNDS:
        speed, faces = measure(roads, side)
        for name in roads:
            times = speed[name] / speed["face_recognition"]
            rows.append([name, str(side), f"{speed[name]:.3g}", f"{times:.1f}", str(faces[name])])
        if side == TARGET_SIDE:
            times = speed["ours"] / speed["face_recognition"]
            targets.append(Target(f"times the peer's speed at {side} px", times, 5, at_least=True))
    print_table(["road", "long side", "pictures/s", "times the peer", "faces"], rows)
    print(f"five pictures with one face each; peer: {describe()}, HOG detector, upsampled once, 5 points\n")
    return print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
