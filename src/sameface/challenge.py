"""Ask somebody before a camera to turn the head, and tell from the pictures whether a head turned.

A flat picture of a face looks the same way however it is held: moving and tilting it shifts nose, eyes and
mouth together. What this stops, and what it does not, was measured (docs/liveness.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sameface.face import Face, overlaps
from sameface.quality import measure_turn

Pose = Literal["straight", "left", "right"]
Reason = Literal["late", "lost", "jumped", "other_person", "wrong_way"]

TURNS = 3  # of the head; each to one of two sides
STRAIGHT = 0.12  # a face that looks straight ahead turns no farther, as `measure_turn` has it
TURNED = 0.3  # and one that is turned at least so far
HOLD = 2  # pictures, one after the other, that must show a pose
SECONDS = 60.0  # for everything
GAP = 2.0  # seconds between two pictures of the face at most
OVERLAP = 0.2  # of the boxes of a face in two pictures that follow each other, at least


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeFrame:
    """A picture of the camera in which a face was found.

    Attributes:
        at: Seconds since the challenge began.
        face: The face.
        row: `(d,) float32` its embedding, of length 1.
    """

    at: float
    face: Face
    row: NDArray[np.float32]

    @property
    def turn(self) -> float:
        """How far the head is turned, above 0 to the person's own left."""
        return measure_turn(self.face.landmarks)

    @property
    def pose(self) -> Pose | None:
        """Which way the face looks; None is something in between."""
        if abs(self.turn) <= STRAIGHT:
            return "straight"
        if abs(self.turn) < TURNED:
            return None
        return "left" if self.turn > 0 else "right"


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeVerdict:
    """How far somebody is with a challenge; true once it is passed.

    Attributes:
        met: How many poses were taken.
        total: How many were asked for.
        anchor: The picture of the first pose, with which the others are compared; None before it was taken.
        too_fast: The pose that is wanted was taken, but the way to it was not seen.
        reason: Why the challenge has failed, if it has: the time is over (late), no face was seen for too
            long (lost), the face leapt (jumped), it is another person's, or it turned to the other side.
    """

    met: int
    total: int
    anchor: ChallengeFrame | None = None
    too_fast: bool = False
    reason: Reason | None = None

    def __bool__(self) -> bool:
        """Whether the challenge is passed."""
        return self.state == "passed"

    @property
    def state(self) -> Literal["running", "passed", "failed"]:
        """Whether it is over."""
        if self.reason is not None:
            return "failed"
        return "passed" if self.met == self.total else "running"


def draw_poses(dice: random.Random) -> list[Pose]:
    """Return the poses to ask for: straight, to a side, straight again. Only the sides are left to chance.

    The last is straight, so that its picture is one to recognise somebody in.
    """
    sides: list[Pose] = ["left", "right"]
    turns: list[Pose] = [pose for _ in range(TURNS) for pose in ("straight", dice.choice(sides))]
    return [*turns, "straight"]


class ChallengeJudge:
    """ChallengeJudge the frames of one challenge, each once; memory stays the same however many come.

    A turn counts if the face was also seen on the way there, so that pictures cannot simply be exchanged.

    Args:
        poses: What is asked for, each once the one before it was taken.
    """

    def __init__(self, poses: Sequence[Pose]) -> None:
        self._poses = poses
        self._last: ChallengeFrame | None = None
        self._held = 0
        self._on_the_way = False
        self.verdict = ChallengeVerdict(0, len(poses))

    def add(self, frame: ChallengeFrame, threshold: float) -> None:
        """ChallengeJudge the next frame in which a face was found, unless the challenge is over.

        Args:
            frame: What was seen.
            threshold: The squared distance at and under which two faces are one person's.
        """
        if self.verdict.state != "running":
            return
        verdict, wanted = self.verdict, self._poses[self.verdict.met]
        if verdict.anchor is not None:
            assert self._last is not None
            reason = find_fault(wanted, frame, self._last, verdict.anchor, threshold)
            if reason is not None:
                self.verdict = replace(verdict, reason=reason)
                return
        self._last = frame
        self._on_the_way = self._on_the_way or is_on_the_way(wanted, frame)
        self._held = self._held + 1 if frame.pose == wanted and self._on_the_way else 0
        self.verdict = replace(verdict, too_fast=frame.pose == wanted and not self._on_the_way)
        if self._held == HOLD:
            self.verdict = replace(self.verdict, met=verdict.met + 1, anchor=verdict.anchor or frame)
            self._held, self._on_the_way = 0, False

    def tick(self, at: float) -> None:
        """Fail the challenge if at `at` the time is over, or no face was seen for too long."""
        if self.verdict.state == "running":
            delay = find_delay(self.verdict.anchor, self._last, at)
            self.verdict = replace(self.verdict, reason=delay)


def judge_frames(
    poses: Sequence[Pose], frames: Sequence[ChallengeFrame], *, at: float, threshold: float
) -> ChallengeVerdict:
    """Return how far the poses were taken, in order, by one person who was seen all the time.

    Args:
        poses: What was asked for.
        frames: What was seen, in order; pictures without a face are left out.
        at: What the clock says, in seconds since the challenge began.
        threshold: As for `ChallengeJudge.add`.
    """
    judge = ChallengeJudge(poses)
    for frame in frames:
        judge.add(frame, threshold)
    judge.tick(at)
    return judge.verdict


def find_fault(
    wanted: Pose, frame: ChallengeFrame, before: ChallengeFrame, anchor: ChallengeFrame, threshold: float
) -> Reason | None:
    """Return what is wrong with a frame after the first pose, seen beside the one before it, or None."""
    if frame.at - before.at > GAP:
        return "lost"
    if overlaps(before.face.box, frame.face.box[None])[0] < OVERLAP:
        return "jumped"
    others = [before, anchor] if frame.pose == "straight" else [before]  # a turned face lies farther off
    if any(((frame.row - other.row) ** 2).sum() > threshold for other in others):
        return "other_person"
    return "wrong_way" if {wanted, frame.pose} == {"left", "right"} else None


def is_on_the_way(wanted: Pose, frame: ChallengeFrame) -> bool:
    """Return whether a face is between straight ahead and the side that is wanted."""
    if wanted == "straight":
        return True
    return STRAIGHT < (frame.turn if wanted == "left" else -frame.turn) < TURNED


def find_delay(anchor: ChallengeFrame | None, last: ChallengeFrame | None, at: float) -> Reason | None:
    """Return whether the time is over, or the face has not been seen for too long since the first pose."""
    if at > SECONDS:
        return "late"
    return "lost" if anchor is not None and last is not None and at - last.at > GAP else None
