"""Liveness: ask a person before a camera to turn the head, and judge the frames.

A flat picture of a face looks the same way however it is held: moving and tilting it shifts nose, eyes and
mouth together. The limits were measured (docs/liveness.md).
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
STRAIGHT = 0.12  # the largest turn of a face that looks straight ahead, as `measure_turn` has it
TURNED = 0.3  # the smallest turn of a turned face
HOLD = 2  # consecutive frames that must show a pose
SECONDS = 60.0  # for the whole challenge
GAP = 2.0  # the longest time between two frames with the face
OVERLAP = 0.2  # the smallest intersection over union of the face in two consecutive frames


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeFrame:
    """A frame of the camera with a face."""

    at: float  # seconds since the challenge began
    face: Face
    row: NDArray[np.float32]  # (d,) its embedding

    @property
    def turn(self) -> float:
        """The turn of the head, above 0 to the person's own left."""
        return measure_turn(self.face.landmarks)

    @property
    def pose(self) -> Pose | None:
        """The pose of the head; None between two poses."""
        if abs(self.turn) <= STRAIGHT:
            return "straight"
        if abs(self.turn) < TURNED:
            return None
        return "left" if self.turn > 0 else "right"


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeVerdict:
    """The state of a challenge; true once it is passed.

    It fails because the time is over (`late`), no face was seen for too long (`lost`), the face leapt (`jumped`),
    it is another person's, or it turned to the other side.
    """

    met: int  # the number of poses taken
    total: int  # the number of poses asked for
    anchor: ChallengeFrame | None = None  # of the first pose; later frames are compared with it
    too_fast: bool = False  # the wanted pose was taken, but the way to it was not seen
    reason: Reason | None = None  # why it failed

    def __bool__(self) -> bool:
        """Return whether the challenge is passed."""
        return self.state == "passed"

    @property
    def state(self) -> Literal["running", "passed", "failed"]:
        """Whether it is over."""
        if self.reason is not None:
            return "failed"
        return "passed" if self.met == self.total else "running"


def draw_poses(dice: random.Random) -> list[Pose]:
    """Return the poses to ask for: straight, a random side, straight again.

    The last is straight, so that its frame is good for identification.
    """
    sides: list[Pose] = ["left", "right"]
    turns: list[Pose] = [pose for _ in range(TURNS) for pose in ("straight", dice.choice(sides))]
    return [*turns, "straight"]


class ChallengeJudge:
    """Judges the frames of one challenge, one by one, in constant memory.

    A turn counts if the face was also seen on the way there, so that pictures cannot simply be exchanged.
    """

    def __init__(self, poses: Sequence[Pose]) -> None:
        self._poses = poses
        self._last: ChallengeFrame | None = None
        self._held = 0
        self._on_the_way = False
        self.verdict = ChallengeVerdict(0, len(poses))

    def add(self, frame: ChallengeFrame, threshold: float) -> None:
        """Judge the next frame with a face, unless the challenge is over.

        Args:
            frame: The frame.
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
        if self.verdict.state != "running":
            return
        if at > SECONDS:
            self.verdict = replace(self.verdict, reason="late")
        elif self.verdict.anchor is not None and self._last is not None and at - self._last.at > GAP:
            self.verdict = replace(self.verdict, reason="lost")


def judge_frames(
    poses: Sequence[Pose], frames: Sequence[ChallengeFrame], *, at: float, threshold: float
) -> ChallengeVerdict:
    """Return the verdict on all frames with a face, `at` seconds after the challenge began."""
    judge = ChallengeJudge(poses)
    for frame in frames:
        judge.add(frame, threshold)
    judge.tick(at)
    return judge.verdict


def find_fault(
    wanted: Pose, frame: ChallengeFrame, before: ChallengeFrame, anchor: ChallengeFrame, threshold: float
) -> Reason | None:
    """Return the fault of a frame after the first pose, compared with the frame before it, or None."""
    if frame.at - before.at > GAP:
        return "lost"
    if overlaps(before.face.box, frame.face.box[None])[0] < OVERLAP:
        return "jumped"
    others = [before, anchor] if frame.pose == "straight" else [before]  # a turned face lies farther off
    if any(((frame.row - other.row) ** 2).sum() > threshold for other in others):
        return "other_person"
    return "wrong_way" if {wanted, frame.pose} == {"left", "right"} else None


def is_on_the_way(wanted: Pose, frame: ChallengeFrame) -> bool:
    """Return whether a face is between straight ahead and the wanted side."""
    if wanted == "straight":
        return True
    return STRAIGHT < (frame.turn if wanted == "left" else -frame.turn) < TURNED
