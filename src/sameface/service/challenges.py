"""Challenges that are under way, and those that were passed and not used yet."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sameface.arrays import Embeddings
from sameface.challenge import ChallengeFrame, ChallengeJudge, ChallengeVerdict, Pose, draw_poses
from sameface.service.access_file import ApiKey
from sameface.service.errors import BusyError, NotFoundError

MOST = 1000  # challenges in memory; each holds the rows of two frames
KEPT_SECONDS = 180.0  # from the beginning, passed or not
RETRY_SECONDS = 30
LINK_FAR = 1e-2  # the part of strangers that may be taken for the person before, from one frame to the next
LIVE_FAR = 1e-3  # and for the person who passed, in the picture that is looked at then


@dataclass(slots=True, eq=False)
class CameraChallenge:
    """The poses that one client was asked for, and the progress so far."""

    id: str  # random, against guessing
    owner: str | None  # the name of the key that began it; None without keys
    poses: list[Pose]
    began: float  # in seconds of the clock
    spent: float = 0.0  # seconds that the service itself took to look at frames, not the client
    _judge: ChallengeJudge = field(init=False)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one frame is judged at a time

    def __post_init__(self) -> None:
        self._judge = ChallengeJudge(self.poses)

    @property
    def verdict(self) -> ChallengeVerdict:
        """The progress."""
        return self._judge.verdict

    @property
    def wanted(self) -> Pose | None:
        """The pose to take now; None when the challenge is over."""
        return self.poses[self.verdict.met] if self.verdict.state == "running" else None

    def judge(self, at: float, frame: ChallengeFrame | None, threshold: float) -> None:
        """Judge what was seen `at` seconds after the beginning; None if no face was in the picture."""
        if frame is not None:
            self._judge.add(frame, threshold)
        self._judge.tick(at)


class ChallengeStore:
    """The challenges of one service; they are in memory only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, dice: random.Random | None = None) -> None:
        self._clock = clock
        self._dice = random.SystemRandom() if dice is None else dice
        self._challenges: dict[str, CameraChallenge] = {}

    def begin(self, key: ApiKey) -> CameraChallenge:
        """Begin a challenge; `BusyError` if there are as many as may be."""
        self.forget_old()
        if len(self._challenges) >= MOST:
            raise BusyError(f"{MOST:,} challenges are under way", RETRY_SECONDS)
        challenge = CameraChallenge(secrets.token_urlsafe(16), key.name, draw_poses(self._dice), self._clock())
        self._challenges[challenge.id] = challenge
        return challenge

    def find(self, key: ApiKey, number: str) -> CameraChallenge:
        """Return a challenge of this key that is not over; else raise `NotFoundError`."""
        challenge = self._get(key, number)
        if challenge is None or challenge.wanted is None:
            raise NotFoundError(f"challenge {number!r} of yours that goes on")
        return challenge

    @contextmanager
    def timed(self, challenge: CameraChallenge) -> Iterator[float]:
        """Yield the seconds since the beginning, without those of such blocks."""
        came = self._clock()
        try:
            yield came - challenge.began - challenge.spent
        finally:
            challenge.spent += self._clock() - came

    def take(self, key: ApiKey, number: str) -> Embeddings:
        """Return the row of the person who passed a challenge, `(1, d) float32`, and forget the challenge.

        Raises:
            NotFoundError: There is none of this key that was passed and not used.
        """
        challenge = self._get(key, number)
        if challenge is None or challenge.verdict.state != "passed":
            raise NotFoundError(f"challenge {number!r} of yours that was passed and not used")
        del self._challenges[number]
        assert challenge.verdict.anchor is not None
        return challenge.verdict.anchor.row[None]

    def _get(self, key: ApiKey, number: str) -> CameraChallenge | None:
        """Return a challenge of this key that is not forgotten, or None."""
        self.forget_old()
        challenge = self._challenges.get(number)
        return challenge if challenge is not None and challenge.owner == key.name else None

    def forget_old(self) -> None:
        """Forget challenges that began long ago, and those that failed."""
        self._challenges = {
            challenge.id: challenge
            for challenge in self._challenges.values()
            if challenge.verdict.state != "failed" and self._clock() - challenge.began <= KEPT_SECONDS
        }
