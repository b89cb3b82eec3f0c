"""Is a video named in less time than it lasts? Times real time, and what takes them.

    python benchmarks/video.py

The clips are made here: 1280 x 720, 30 frames a second, H.264, in which one, two or four portraits of the
samples move. "cores" is the work: seconds of all cores per second of video, which hold on a machine that has
other work too. Under 1 it keeps up with the video on one idle core. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import av
import numpy as np
import PIL.Image

from peer import ROOT
from report import Target, print_table, print_targets
from sameface.align import align_faces
from sameface.arrays import Image
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.video import Frame, Timeline, Video, VideoSearch, annotate_video, identify_video
from sameface.video.annotate import VideoWriter, draw_tracks
from timing import alternate

WIDTH, HEIGHT, RATE, SECONDS = 1280, 720, 30, 2
PORTRAITS = ("barack-obama-3", "joe-biden", "eileen-collins", "barack-obama-1")
ENROLLED = {"Barack Obama": ("barack-obama-1", "barack-obama-2"), "Joe Biden": ("joe-biden",)}
USUAL = VideoSearch().every
CASES = ((1, USUAL), (2, 0.1), (2, USUAL), (2, 0.5), (4, USUAL))  # faces, seconds between searches
ROUNDS = 3
Step = Callable[[], object]


def read_portraits(height: int) -> list[Image]:
    """Return the portraits, so high."""
    pictures = [PIL.Image.open(ROOT / "samples" / f"{name}.jpg").convert("RGB") for name in PORTRAITS]
    return [np.asarray(one.resize((one.width * height // one.height, height))) for one in pictures]


def draw_frames(people: int) -> Iterator[Image]:
    """Yield the frames of a clip in which portraits go to the right and back, each in its own part."""
    room = WIDTH // people
    portraits = [one[:, : room - 20] for one in read_portraits(min(480, room + 60))[:people]]
    for number in range(RATE * SECONDS):
        frame = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
        part = (1 - np.cos(2 * np.pi * number / RATE / SECONDS)) / 2
        for place, portrait in enumerate(portraits):
            high, wide = portrait.shape[:2]
            left = place * room + int(part * (room - wide))
            frame[40 * place : 40 * place + high, left : left + wide] = portrait
        yield frame


def write_clip(path: Path, images: Iterable[Image]) -> None:
    """Write pictures as a video."""
    with av.open(str(path), "w") as container:
        writer = VideoWriter(container)
        for number, image in enumerate(images):
            writer.add(image, number / RATE)
        writer.finish()


def time_steps(steps: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each step, by the clock and of the processor's cores; they take turns."""
    work: dict[str, list[float]] = defaultdict(list)

    def count_work(name: str) -> None:
        before = process_time()
        steps[name]()
        work[name].append(process_time() - before)

    seconds = alternate({name: partial(count_work, name) for name in steps}, rounds=ROUNDS)
    return {name: (median(seconds[name]), median(work[name])) for name in steps}


def read_frames(path: Path) -> list[Frame]:
    """Return the frames of a video."""
    with Video.open(path) as video:
        return list(video)


def list_parts(path: Path, recognizer: Recognizer, timeline: Timeline) -> dict[str, Step]:
    """Return what naming and annotating a clip is made of."""
    frames = read_frames(path)
    searched = frames[:: round(USUAL * RATE)]
    images = [frame.image for frame in searched]
    faces = [recognizer.detector.find(image) for image in images]
    pairs = list(zip(images, faces, strict=True))
    crops = [align_faces(*pair, recognizer.embedder.spec.crop) for pair in pairs]
    drawn = [draw_tracks(frame.image, timeline, frame.time) for frame in frames]
    return {
        "decode": lambda: read_frames(path),
        "to RGB": lambda: [frame.image for frame in searched],
        "detect": lambda: [recognizer.detector.find(image) for image in images],
        "align": lambda: [align_faces(*pair, recognizer.embedder.spec.crop) for pair in pairs],
        "embed": lambda: [recognizer.embedder.embed(each) for each in crops],
        "annotated: to RGB, draw": lambda: [draw_tracks(one.image, timeline, one.time) for one in frames],
        "annotated: encode": lambda: write_clip(path.with_name("encoded.mp4"), drawn),
    }


def measure_speeds(folder: Path, recognizer: Recognizer, gallery: Gallery) -> list[Target]:
    """Print how fast clips are named and annotated, and return the targets."""
    rows, targets = [], []
    for people, every in CASES:
        path = folder / f"{people}.mp4"
        write_clip(path, draw_frames(people))
        search = VideoSearch(every=every)
        timeline = identify_video(path, recognizer, gallery, search)
        seconds = time_steps(
            {
                "name": partial(identify_video, path, recognizer, gallery, search),
                "draw": partial(annotate_video, path, timeline, folder / "annotated.mp4"),
            }
        )
        (naming, work), (drawing, more) = seconds["name"], seconds["draw"]
        named, both = SECONDS / naming, SECONDS / (naming + drawing)
        names = sorted(track.answer.name or "unknown" for track in timeline.tracks)
        told = [f"{named:.2f}", f"{work / SECONDS:.2f}", f"{both:.2f}", f"{(work + more) / SECONDS:.2f}"]
        rows.append([str(people), f"{every:g}", str(timeline.searched), *told, ", ".join(names)])
        if (people, every) == (2, USUAL):
            targets += [Target("to name 2 faces", work / SECONDS, 1, "cores")]
            targets += [Target("to name and annotate", (work + more) / SECONDS, 1, "cores")]
    header = ["faces", "every s", "searched", "times real time", "cores", "annotated too", "cores", "tracks"]
    print_table(header, rows)
    return targets


def measure_parts(folder: Path, recognizer: Recognizer, gallery: Gallery) -> None:
    """Print what takes the time of the clip of two people."""
    path = folder / "2.mp4"
    timeline = identify_video(path, recognizer, gallery)
    seconds = time_steps(list_parts(path, recognizer, timeline))
    whole = sum(work for _, work in seconds.values())
    rows = [
        [name, *(f"{1000 * each / SECONDS:.0f}" for each in both), f"{both[1] / whole:.0%}"]
        for name, both in seconds.items()
    ]
    print_table(["ms per second of video: 2 faces, every 0.2 s", "clock", "cores", "share"], rows)


def main() -> int:
    """Print the tables."""
    recognizer = Recognizer.load()
    with tempfile.TemporaryDirectory() as name, Gallery.open(Path(name, "people.db"), recognizer) as gallery:
        for person, pictures in ENROLLED.items():
            gallery.enroll(person, [recognizer.template(ROOT / "samples" / f"{one}.jpg") for one in pictures])
        print(f"{WIDTH} x {HEIGHT}, {RATE} frames/s, {SECONDS} s, H.264; median of {ROUNDS} rounds\n")
        targets = measure_speeds(Path(name), recognizer, gallery)
        measure_parts(Path(name), recognizer, gallery)
    return print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
