"""Challenges over HTTP, in the toy world: the last pixels of a picture say how far the face is turned."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from heads import TURN_OF
from service_world import enroll, error_of, png, serve

import sameface.challenge as rules
from sameface.challenge import GAP, SECONDS, TURNS, ChallengeFrame
from sameface.client import Client
from sameface.detect import Detector
from sameface.face import Face
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service import challenges
from sameface.service.access_file import OWNER, Access
from sameface.service.app import create_app
from sameface.service.challenges import KEPT_SECONDS, ChallengeStore
from sameface.service.config import ServiceConfig
from sameface.service.errors import BusyError, NotFoundError

STEPS = 2 * TURNS + 1


class TurningSquares(Detector):
    """Finds squares whose noses are put by the number in the picture's corner: 500 straight ahead."""

    def find(self, image: np.ndarray) -> list[Face]:
        return [turn(face, read_note(image) / 500 - 1) for face in super().find(image)]


def read_note(image: np.ndarray) -> int:
    """Return the number that `toy.paint` put into a picture."""
    return int(image[-1, -2, 0]) * 256 + int(image[-1, -1, 0])


def turn(face: Face, part: float) -> Face:
    landmarks = face.landmarks.copy()
    landmarks[2] += part * 0.4 * (landmarks[1] - landmarks[0])
    return replace(face, landmarks=landmarks)


def turned(part: float, *colours: tuple[int, int, int]) -> bytes:
    """Return a picture of faces that are turned so far, 1 to their own left."""
    return png(*(colours or (toy.RED,)), note=round(500 * (1 + part)))


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(tmp_path: Path, toy_recognizer: Recognizer, clock: Clock) -> Iterator[httpx.Client]:
    finder = TurningSquares(toy_recognizer.detector.model)
    recognizer = Recognizer(finder, toy_recognizer.embedder)
    with Gallery.open(tmp_path / "people.db", recognizer) as gallery:
        app = create_app(recognizer, gallery, ServiceConfig())
        app.state.sameface.challenges = ChallengeStore(clock, random.Random(3))
        with serve(app) as client:
            yield client


def begin(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/v1/challenge")
    assert answer.status_code == 201
    told: dict[str, Any] = answer.json()
    return told


def show(client: httpx.Client, number: str, picture: bytes) -> dict[str, Any]:
    answer = client.post(f"/v1/challenge/{number}", files={"picture": picture})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def act(client: httpx.Client, clock: Clock, *colours: tuple[int, int, int]) -> tuple[str, dict[str, Any]]:
    """Do what a challenge asks for, step by step, and return its number and the last answer."""
    told = begin(client)
    number, wanted = told["id"], told["wanted"]
    while wanted is not None:
        for part in TURN_OF[wanted]:
            clock.now += 0.3
            told = show(client, number, turned(part, *colours))
            if told["wanted"] is None:
                break
        wanted = told["wanted"]
    return number, told


def test_who_does_what_is_asked_for_passes(client: httpx.Client, clock: Clock) -> None:
    first = begin(client)
    assert (first["wanted"], first["met"], first["total"], first["seconds"]) == ("straight", 0, STEPS, SECONDS)
    _, told = act(client, clock)
    assert (told["state"], told["met"], told["reason"], told["wanted"]) == ("passed", STEPS, None, None)
    assert told["face"]["box"] == [16, 16, 48, 48]
    assert (told["width"], told["height"]) == (64, 64)


def test_a_picture_that_is_held_still_never_passes(client: httpx.Client, clock: Clock) -> None:
    number = begin(client)["id"]
    told: dict[str, Any] = {}
    for _ in range(int(SECONDS / 1.5) + 2):
        clock.now += 1.5
        told = show(client, number, turned(0))
        if told["state"] != "running":
            break
    assert (told["state"], told["met"], told["reason"]) == ("failed", 1, "late")


def test_the_other_side_fails_and_ends_it(client: httpx.Client, clock: Clock) -> None:
    number = begin(client)["id"]
    wanted = [show(client, number, turned(0))["wanted"] for _ in range(2)][-1]
    wrong = {"left": "right", "right": "left"}[wanted]
    for part in TURN_OF[wrong]:
        clock.now += 0.1
        told = show(client, number, turned(part))
        if told["state"] != "running":
            break
    assert (told["state"], told["reason"], told["wanted"]) == ("failed", "wrong_way", None)
    again = client.post(f"/v1/challenge/{number}", files={"picture": turned(0)})
    assert error_of(again) == (404, "not_found")


def test_a_picture_without_a_face_is_no_error_for_a_while(client: httpx.Client, clock: Clock) -> None:
    number = begin(client)["id"]
    for _ in range(2):
        show(client, number, turned(0))
    clock.now += GAP - 0.1
    told = show(client, number, png())
    assert (told["state"], told["face"], told["width"]) == ("running", None, None)
    clock.now += 0.2
    assert show(client, number, png())["reason"] == "lost"


def test_somebody_else_half_way_fails(client: httpx.Client, clock: Clock) -> None:
    number = begin(client)["id"]
    for _ in range(2):
        show(client, number, turned(0))
    assert show(client, number, turned(0, toy.BLUE))["reason"] == "other_person"


def test_the_time_that_the_service_takes_is_not_the_clients() -> None:
    clock = Clock()
    kept = ChallengeStore(clock, random.Random(1))
    challenge = kept.begin(OWNER)
    clock.now += 1
    with kept.timed(challenge) as first:
        clock.now += 50
    clock.now += 2
    with kept.timed(challenge) as second:
        pass
    assert (first, second) == (1, 3)


def test_a_passed_challenge_tells_once_whether_it_is_the_same_person(client: httpx.Client, clock: Clock) -> None:
    enroll(client, "Rosa", toy.RED, note=500)
    number, _ = act(client, clock)
    two = {"picture": turned(0, toy.RED, toy.BLUE)}
    answer = client.post("/v1/identify", files=two, data={"challenge": number}).json()
    assert [(face["name"], face["live"]) for face in answer["faces"]] == [("Rosa", True), (None, False)]
    again = client.post("/v1/identify", files=two, data={"challenge": number})
    assert error_of(again) == (404, "not_found")
    assert [face["live"] for face in client.post("/v1/identify", files=two).json()["faces"]] == [None, None]


def test_of_two_pictures_the_first_must_show_who_passed(client: httpx.Client, clock: Clock) -> None:
    pair = {"a": turned(0), "b": turned(0, toy.BLUE)}
    for order, live in ((pair, True), ({"a": pair["b"], "b": pair["a"]}, False)):
        number, _ = act(client, clock)
        answer = client.post("/v1/verify", files=order, data={"challenge": number}).json()
        assert (answer["live"], answer["same"]) == (live, False)
    assert client.post("/v1/verify", files=pair).json()["live"] is None


def test_the_python_client_has_the_same_words(client: httpx.Client, clock: Clock) -> None:
    ours = Client(client)
    begun = ours.begin_challenge()
    assert (begun.wanted, begun.total, begun.seconds) == ("straight", STEPS, SECONDS)
    steps = [ours.show_challenge(begun.id, turned(0)) for _ in range(2)]
    assert [(step.state, step.met, step.too_fast) for step in steps] == [("running", 0, False), ("running", 1, False)]
    assert steps[1].wanted in ("left", "right")
    assert steps[1].face is not None
    assert ours.show_challenge(begun.id, turned(0, toy.BLUE)).reason == "other_person"
    number, _ = act(client, clock)
    assert ours.identify(turned(0, toy.RED, toy.BLUE), challenge=number).live == (True, False)
    number, _ = act(client, clock)
    assert ours.verify(turned(0), turned(0), challenge=number).live
    assert ours.verify(turned(0), turned(0)).live is None


def test_a_challenge_that_goes_on_proves_nothing(client: httpx.Client) -> None:
    number = begin(client)["id"]
    answer = client.post("/v1/identify", files={"picture": turned(0)}, data={"challenge": number})
    assert error_of(answer) == (404, "not_found")


def test_how_it_ended_and_that_it_was_used_is_in_the_audit_log(client: httpx.Client, clock: Clock) -> None:
    number, _ = act(client, clock)
    client.post("/v1/identify", files={"picture": turned(0)}, data={"challenge": number})
    told = [(entry["action"], entry["detail"]) for entry in client.get("/v1/audit").json()["entries"]]
    assert told[:2] == [
        ("identify", {"faces": 1, "named": 0, "live": 1}),
        ("challenge", {"passed": True, "reason": None}),
    ]


def test_pictures_that_come_at_once_are_looked_at_one_after_the_other(client: httpx.Client) -> None:
    number = begin(client)["id"]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: show(client, number, turned(0)), range(8)))
    assert max(answer["met"] for answer in answers) == 1


def test_a_challenge_belongs_to_the_key_that_began_it(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with contextlib.closing(Access.open(tmp_path / "access.db")) as access:
        rosa, gil = ({"Authorization": f"Bearer {access.make_key(name, 'read')}"} for name in ("rosa", "gil"))
        app = create_app(toy_recognizer, None, ServiceConfig(keys_required=True), access=access)
        with serve(app) as client:
            number = client.post("/v1/challenge", headers=rosa).json()["id"]
            path, picture = f"/v1/challenge/{number}", {"picture": png(toy.RED)}
            assert error_of(client.post(path, files=picture, headers=gil)) == (404, "not_found")
            assert client.post(path, files=picture, headers=rosa).status_code == 200


def test_old_challenges_are_forgotten_and_of_too_many_the_next_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "MOST", 2)
    clock = Clock()
    kept = ChallengeStore(clock, random.Random(1))
    first, _ = kept.begin(OWNER), kept.begin(OWNER)
    with pytest.raises(BusyError, match="2 challenges are under way"):
        kept.begin(OWNER)
    clock.now += KEPT_SECONDS
    assert kept.find(OWNER, first.id) is first
    clock.now += 0.1
    with pytest.raises(NotFoundError):
        kept.find(OWNER, first.id)
    kept.begin(OWNER)


def test_each_frame_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    monkeypatch.setattr(rules, "is_on_the_way", lambda _wanted, frame: judged.append(frame))
    challenge = ChallengeStore(Clock(), random.Random(1)).begin(OWNER)
    landmarks = np.array([[40, 40], [80, 40], [72, 60], [45, 80], [75, 80]], np.float32)  # turned
    face = Face(np.array([20, 20, 100, 120], np.float32), landmarks, 0.9)
    frames = [ChallengeFrame(number / 100, face, toy.row_of(toy.RED)) for number in range(300)]
    for frame in frames:
        challenge.judge(frame.at, frame, 0.1)
    assert judged == frames
