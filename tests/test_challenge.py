"""Challenges to turn the head: faces drawn by hand, and photographs laid over a rough relief of a face."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from heads import TURN_OF, turn_portrait

from sameface import Recognizer, read_image
from sameface.challenge import (
    GAP,
    HOLD,
    SECONDS,
    STRAIGHT,
    TURNED,
    TURNS,
    ChallengeFrame,
    Pose,
    draw_poses,
    judge_frames,
)
from sameface.face import Face

POSES: list[Pose] = ["straight", "left", "straight", "right"]
LEVEL = np.array([[40, 40], [80, 40], [60, 60], [45, 80], [75, 80]], np.float32)
PATH = (0, 0, 0.2, 0.4, 0.4, 0, 0, -0.2, -0.4, -0.4)  # what passes
THRESHOLD = 0.1


def see(turn: float, at: float, *, aside: float = 0, colour: tuple[int, int, int] = toy.RED) -> ChallengeFrame:
    """Return a frame of a face that is turned so far; `aside` moves it, in its widths."""
    landmarks = LEVEL.copy()
    landmarks[2, 0] += 40 * turn
    box = np.array([20, 20, 100, 120], np.float32) + np.array([80, 0, 80, 0], np.float32) * aside
    return ChallengeFrame(at, Face(box, landmarks, 0.9), toy.row_of(colour))


def film(turns: Sequence[float], step: float = 0.3) -> list[ChallengeFrame]:
    """Return frames of one person that turns so, a frame after the other."""
    return [see(turn, number * step) for number, turn in enumerate(turns)]


def judge(frames: Sequence[ChallengeFrame], at: float | None = None):
    """Return the verdict at the time of the last frame."""
    at = (frames[-1].at if frames else 0.0) if at is None else at
    return judge_frames(POSES, frames, at=at, threshold=THRESHOLD)


def test_who_takes_every_pose_passes() -> None:
    verdict = judge(film(PATH))
    assert (verdict.state, verdict.met, verdict.total, verdict.reason) == ("passed", 4, 4, None)


def test_every_step_is_told() -> None:
    met = [judge(film(PATH[:number])).met for number in range(len(PATH) + 1)]
    assert met == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4]


def test_what_comes_after_it_was_passed_changes_nothing() -> None:
    assert judge([*film(PATH), see(0, 50, colour=toy.BLUE)]).state == "passed"


def test_a_still_face_never_turns() -> None:
    verdict = judge(film([0] * 50))
    assert (verdict.state, verdict.met) == ("running", 1)


@pytest.mark.parametrize(("turn", "met"), [(TURNED, 2), (TURNED - 0.01, 1)])
def test_a_turn_of_just_the_limit_counts(turn: float, met: int) -> None:
    assert judge(film([0, 0, 0.2, turn, turn])).met == met


@pytest.mark.parametrize(("turn", "met"), [(STRAIGHT - 0.001, 1), (-STRAIGHT + 0.001, 1), (STRAIGHT + 0.01, 0)])
def test_a_face_within_the_limit_looks_straight_ahead(turn: float, met: int) -> None:
    assert judge(film([turn] * HOLD)).met == met


def test_a_pose_must_be_held() -> None:
    assert judge(film([0, 0, 0.2, *[0.4, 0.2] * 5])).met == 1


def test_a_face_that_was_not_seen_on_the_way_did_not_turn() -> None:
    verdict = judge(film([0, 0, 0.4, 0.4, 0.4]))
    assert (verdict.met, verdict.too_fast, verdict.state) == (1, True, "running")
    assert judge(film([0, 0, 0.4, 0.4, 0.2, 0.4, 0.4])).met == 2


def test_the_way_on_the_other_side_does_not_count() -> None:
    assert judge(film([0, 0, -0.2, 0.4, 0.4])).met == 1


def test_the_other_side_fails() -> None:
    verdict = judge(film([0, 0, -0.2, -0.4]))
    assert (verdict.state, verdict.reason) == ("failed", "wrong_way")
    assert judge(film([0, 0, 0.2, 0.4, 0.4, 0.4, 0.4])).state == "running"  # turned back late is well


def test_another_person_fails() -> None:
    frames = film(PATH)
    frames[3] = replace(frames[3], row=toy.row_of(toy.BLUE))
    assert judge(frames).reason == "other_person"


def test_somebody_who_changes_little_by_little_fails_when_they_look_straight_ahead() -> None:
    shades = [toy.row_of((255, level, 0)) for level in range(0, 250, 25)]
    frames = [replace(frame, row=row) for frame, row in zip(film(PATH), shades, strict=True)]
    assert judge(frames).reason == "other_person"


def test_a_face_that_leaps_fails() -> None:
    frames = film(PATH)
    assert judge([*frames[:3], see(0.4, frames[3].at, aside=0.9)]).reason == "jumped"
    assert judge([*frames[:3], see(0.4, frames[3].at, aside=0.3)]).state == "running"


def test_a_face_that_goes_away_fails() -> None:
    frames = film(PATH[:3])
    assert judge(frames, frames[-1].at + GAP).state == "running"
    assert judge(frames, frames[-1].at + GAP + 0.1).reason == "lost"
    assert judge([*frames, see(0.4, frames[-1].at + GAP + 0.1)]).reason == "lost"


def test_nothing_fails_before_the_first_pose_but_the_time() -> None:
    frames = [see(0, 1, colour=toy.BLUE), see(0.3, 9, aside=3), see(0, 20), see(0, 20.1)]
    assert judge(frames).met == 1
    assert judge([], SECONDS).state == "running"
    assert judge([], SECONDS + 0.1).reason == "late"


def test_too_slow_is_too_late() -> None:
    frames = film([0] * 40, step=1.9)
    assert judge(frames[:31]).state == "running"
    assert judge(frames).reason == "late"


def test_only_the_sides_are_left_to_chance() -> None:
    drawn = {tuple(draw_poses(random.Random(seed))) for seed in range(200)}
    assert len(drawn) == 2**TURNS
    for poses in drawn:
        assert poses[::2] == ("straight",) * (TURNS + 1)
        assert set(poses[1::2]) <= {"left", "right"}
    assert draw_poses(random.Random(7)) == draw_poses(random.Random(7))


def look(recognizer: Recognizer, images: Sequence[np.ndarray]) -> list[ChallengeFrame]:
    """Return frames of pictures, a quarter of a second apart."""
    frames = []
    for number, image in enumerate(images):
        face, row = recognizer.embed_face(image, face="largest")
        frames.append(ChallengeFrame(number / 4, face, row))
    return frames


@pytest.mark.slow
def test_a_head_with_depth_passes_and_its_photograph_does_not(
    recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    image = read_image(samples["barack-obama-2"])
    face, _ = recognizer.embed_face(image)
    parts = [part for pose in POSES for part in TURN_OF[pose]]
    turned = {part: turn_portrait(image, face, part) for part in set(parts)}
    threshold, end = recognizer.thresholds.at(1e-2), len(parts) / 4
    head = judge_frames(POSES, look(recognizer, [turned[part] for part in parts]), at=end, threshold=threshold)
    assert (head.state, head.reason) == ("passed", None)
    still = judge_frames(POSES, look(recognizer, [turned[0]] * len(parts)), at=end, threshold=threshold)
    assert (still.state, still.met) == ("running", 1)
