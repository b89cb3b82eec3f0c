"""Hold photographs before the challenge of turning the head, and count how many pass for a person.

    python benchmarks/liveness.py PICTURES [--number 40]

PICTURES is a folder of photographs. Of those that show one face looking straight ahead some are drawn, and
each is shown as a sheet before a camera, turned about its upright middle line from -60 to 60 degrees, flat,
tilted, near, or bent like a bottle's label. The sheet is computed (a pinhole camera, bilinear), found and
embedded like every frame. A challenge that asks for every side is then answered in the better of the two
ways to turn the sheet, with several limits from which a face counts as turned. There is no paper, no screen
and no hand in this: no blur, no glare, no edge. The second table is of other photographs as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from report import print_table
from sameface import challenge
from sameface.arrays import Image
from sameface.challenge import STRAIGHT, ChallengeFrame, Pose, judge_frames
from sameface.face import Face
from sameface.image import read_image
from sameface.picture_files import find_pictures
from sameface.quality import measure_turn
from sameface.recognizer import Recognizer

YAWS = tuple(range(-60, 61, 10))  # degrees
WIDTH, HEIGHT = 480, 360  # of the camera's pictures
FACE = 150  # pixels of the face in them, where the sheet is held straight
RATE = 4.0  # pictures a second
LIMITS = (0.25, 0.3, 0.35)  # from which a face counts as turned; the middle one is what is used
LINK_FAR = 1e-2  # as the service has it
POSES: tuple[Pose, ...] = ("straight", "left", "straight", "right", "straight", "left", "straight")

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hold:
    """A way to hold a photograph; lengths are in widths of the face.

    Attributes:
        name: What it is called.
        bend: The angle in degrees that the width of the face takes up of a cylinder; 0 is flat.
        pitch: By which its upper edge leans away, in degrees.
        distance: Of the camera.
    """

    name: str
    bend: float = 0.0
    pitch: float = 0.0
    distance: float = 3.0


HOLDS = (
    Hold("flat"),
    Hold("flat, leaning 25 degrees", pitch=25),
    Hold("flat, at 1.5 widths of the face", distance=1.5),
    Hold("bent by 45 degrees", bend=45),
    Hold("bent by 90 degrees", bend=90),
    Hold("bent by 135 degrees", bend=135),
    Hold("bent by 180 degrees", bend=180),
)


def show_sheet(image: Image, face: Face, hold: Hold, yaw: float) -> Image:
    """Return what a camera sees of a photograph, `(360, 480, 3) uint8`; black where there is nothing."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    focal = FACE * hold.distance
    rays = np.stack([(xs - WIDTH / 2) / focal, (ys - HEIGHT / 2) / focal, np.ones(xs.shape)], axis=-1)
    back = rotation(hold.pitch, yaw).T
    across, down = meet_sheet(back @ np.array([0, 0, -hold.distance]), rays @ back.T, hold.bend)
    centre = (face.box[:2] + face.box[2:]) / 2
    return sample(image, centre[0] + across * face.width, centre[1] + down * face.width)


def rotation(pitch: float, yaw: float) -> Points:
    """Return the matrix of a lean, then a turn, in degrees."""
    up, side = np.radians(pitch), np.radians(yaw)
    lean = np.array([[1, 0, 0], [0, np.cos(up), -np.sin(up)], [0, np.sin(up), np.cos(up)]])
    turn = np.array([[np.cos(side), 0, np.sin(side)], [0, 1, 0], [-np.sin(side), 0, np.cos(side)]])
    both: Points = turn @ lean
    return both


def meet_sheet(camera: Points, rays: Points, bend: float) -> tuple[Points, Points]:
    """Return where rays meet the sheet first, across and down on it in widths of the face; NaN for nowhere.

    Flat it is the plane z = 0; bent a cylinder about an upright line behind it, its middle nearest to z < 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if bend == 0:
            reach = np.where(rays[..., 2] > 0, -camera[2] / rays[..., 2], np.nan)
            return camera[0] + reach * rays[..., 0], camera[1] + reach * rays[..., 1]
        radius = 1 / np.radians(bend)
        a = rays[..., 0] ** 2 + rays[..., 2] ** 2
        b = camera[0] * rays[..., 0] + (camera[2] - radius) * rays[..., 2]
        c = camera[0] ** 2 + (camera[2] - radius) ** 2 - radius**2
        reach = (-b - np.sqrt(b**2 - a * c)) / a
        x, z = camera[0] + reach * rays[..., 0], camera[2] + reach * rays[..., 2]
        return radius * np.arctan2(x, radius - z), camera[1] + reach * rays[..., 1]


def sample(image: Image, x: Points, y: Points) -> Image:
    """Return the colours at places of a picture, bilinear; black outside."""
    height, width = image.shape[:2]
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    left, top = x.astype(int), y.astype(int)
    right, low = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    colours = upper * (1 - low) + lower * low
    return np.where(inside[..., None], np.rint(colours), 0).astype(np.uint8)


def see(recognizer: Recognizer, image: Image) -> ChallengeFrame | None:
    """Return the largest face of a picture and its row, with no time yet, or None."""
    faces, rows = recognizer.embed(image)
    if not faces:
        return None
    largest = max(range(len(faces)), key=lambda number: faces[number].area)
    return ChallengeFrame(0.0, faces[largest], rows[largest])


def passes(seen: dict[int, ChallengeFrame | None], threshold: float, limit: float) -> bool:
    """Return whether a sheet that was seen at these yaws passes a challenge, turned one way or the other."""
    with mock.patch.object(challenge, "TURNED", limit):
        return any(judge_path(seen, threshold, sign) for sign in (1, -1))


def judge_path(seen: dict[int, ChallengeFrame | None], threshold: float, sign: int) -> bool:
    """Return whether turning the sheet by `sign` degrees for every degree of the head passes."""
    steps = {"straight": [0, 0, 0], "left": sweep(sign), "right": sweep(-sign)}
    path = [seen[yaw] for pose in POSES for yaw in steps[pose]]
    frames = [
        ChallengeFrame(number / RATE, frame.face, frame.row) for number, frame in enumerate(path) if frame is not None
    ]
    return judge_frames(POSES, frames, at=len(path) / RATE, threshold=threshold).state == "passed"


def sweep(sign: int) -> list[int]:
    """Return the yaws of one turn to the side and back, held at every step for two pictures."""
    there = [sign * yaw for yaw in YAWS if yaw > 0 for _ in range(2)]
    return [*there, *reversed(there[:-2])]


def choose_pictures(recognizer: Recognizer, folder: Path, number: int) -> Iterator[tuple[Image, Face]]:
    """Yield photographs of one face that looks straight ahead, with it."""
    paths = list(find_pictures(folder))
    for place in np.random.default_rng(0).permutation(len(paths)):
        image = read_image(paths[place])
        faces = recognizer.detector.find(image)
        if len(faces) == 1 and abs(measure_turn(faces[0].landmarks)) <= STRAIGHT:
            yield image, faces[0]
            number -= 1
        if number == 0:
            return


def find_turns(recognizer: Recognizer, folder: Path, number: int) -> Iterator[float]:
    """Yield how far the largest face of each of so many photographs is turned."""
    paths = list(find_pictures(folder))
    for place in np.random.default_rng(1).permutation(len(paths))[:number]:
        faces = recognizer.detector.find(read_image(paths[place]))
        if faces:
            yield measure_turn(max(faces, key=lambda face: face.area).landmarks)


def measure(recognizer: Recognizer, pictures: Sequence[tuple[Image, Face]], hold: Hold) -> list[str]:
    """Return the row of the table for one way to hold a photograph."""
    threshold = recognizer.thresholds.at(LINK_FAR)
    turns, found, passed = [], 0, np.zeros(len(LIMITS), int)
    for image, face in pictures:
        seen = {yaw: see(recognizer, show_sheet(image, face, hold, yaw)) for yaw in YAWS}
        frames = [frame for frame in seen.values() if frame is not None]
        found += len(frames)
        turns += [frame.turn for frame in frames]
        passed += [passes(seen, threshold, limit) for limit in LIMITS]
    spread = np.quantile(np.abs(turns), [0.5, 0.95, 1.0])
    return [
        hold.name,
        f"{found / len(pictures) / len(YAWS):.0%}",
        *(f"{value:.2f}" for value in spread),
        *(f"{count} of {len(pictures)}" for count in passed),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--number", type=int, default=40)
    given = parser.parse_args()
    recognizer = Recognizer.load()
    pictures = list(choose_pictures(recognizer, given.pictures, given.number))
    limits = [f"pass at {limit:g}" for limit in LIMITS]
    head = ["held", "face found", "turn, median", "95 %", "most", *limits]
    print_table(head, [measure(recognizer, pictures, hold) for hold in HOLDS])
    turns = np.abs(list(find_turns(recognizer, given.pictures, 10 * given.number)))
    print_table(
        ["turned by at least", "of the photographs as they are"],
        [[f"{limit:g}", f"{(turns >= limit).mean():.1%} of {len(turns)}"] for limit in LIMITS],
    )


if __name__ == "__main__":
    main()
