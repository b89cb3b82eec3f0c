"""Who is in a video: one decision for each track."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.embed import unit_rows
from sameface.face import Face
from sameface.gallery import Gallery, Identification, Match
from sameface.gallery.records import Rule
from sameface.quality import measure_quality
from sameface.recognizer import Recognizer
from sameface.thresholds import Thresholds
from sameface.video.source import Frame, Video
from sameface.video.tracker import FEWEST, FaceView, OpenTrack, Tracker

SAME_FAR = 1e-3  # of the distance at which two views may be of one track
SLACK = 0.02  # of a step: times in files are rounded
DRIFT = 0.01  # seconds in a second by which a camera's clock may go wrong


@dataclass(frozen=True)
class VideoSearch:
    """How the faces of a video are looked for and named.

    Attributes:
        every: Seconds from one searched frame to the next; faces are not looked for in those between.
        far: The chance that a stranger is given any name, as in `Gallery.identify`.
        closed_set: Everyone is enrolled for certain: the nearest is named.
        rule: What a track is compared with: one `template` per person (also None), or all `rows`.
    """

    every: float = 0.2
    far: float | None = None
    closed_set: bool = False
    rule: Rule | None = None

    def __post_init__(self) -> None:
        if self.every <= 0:
            raise ValueError(f"every must be over 0, got {self.every}")


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person on the way through the picture, from coming into sight to leaving it.

    Attributes:
        number: In the order in which the tracks of the video begin.
        answer: Who it is.
        best: The face in the best view of it.
        best_time: Seconds at which that is.
        views: How many of its best views the decision rests on.
        times: `(n,) float64` seconds at which the face was seen.
        boxes: `(n, 4) float32` where it was then.
        landmarks: `(n, 5, 2) float32` its landmarks.
        over: It has ended; a track of a camera is told of before.
    """

    number: int
    answer: Identification
    best: Face
    best_time: float
    views: int
    times: NDArray[np.float64]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    over: bool

    @property
    def start(self) -> float:
        """Seconds at which the face was first seen."""
        return float(self.times[0])

    @property
    def end(self) -> float:
        """Seconds at which it was last seen."""
        return float(self.times[-1])

    @property
    def nearest(self) -> Match | None:
        """The person who is named, for a stranger the nearest; None if nobody is enrolled."""
        matches = self.answer.matches
        named = [match for match in matches if match.name == self.answer.name]
        return next(iter([*named, *matches]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Who is in a video, and when.

    Attributes:
        tracks: In the order in which they begin.
        seconds: The time of the last frame.
        frames: How many were decoded.
        searched: How many of them were searched for faces.
        every: Seconds from one of these to the next.
        complete: The video was read to its end.
        damage: What is wrong with it, or None.
    """

    tracks: tuple[Track, ...]
    seconds: float
    frames: int
    searched: int
    every: float
    complete: bool
    damage: str | None


class Watcher:
    """Looks at the frames of one video in turn, and tells who is in it.

    Args:
        recognizer: Finds the faces.
        gallery: Who may be recognised; of the recognizer's pipeline.
        search: How.
        clock: Seconds of a clock that only goes on; frames of a live video that come late by it are not
            searched, so that it does not fall behind.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        gallery: Gallery,
        search: VideoSearch | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.search = VideoSearch() if search is None else search
        self.frames = self.searched = 0
        self.seconds = 0.0
        self._recognizer = recognizer
        self._gallery = gallery
        self._tracker = Tracker(recognizer.thresholds.at(SAME_FAR))
        self._step = -1
        self._told: dict[int, str | None] = {}
        self._clock = clock
        self._now = clock()
        self._delay = math.inf

    def look(self, frame: Frame) -> list[Track]:
        """Look at the next frame, and return the tracks that have ended."""
        if not self._takes(frame):
            return []
        ended = self._tracker.step(self._find(frame), frame.time)
        return [make_track(*named, over=True) for named in self._name(ended)]

    def look_live(self, frame: Frame) -> list[Track]:
        """Look at the next frame of a camera.

        Returns:
            The tracks that have ended, and those whose name is new or has changed since they were returned.
        """
        if self._is_late(frame):
            self.frames += 1
            return []
        before = self.searched
        ended = self.look(frame)
        return ended if self.searched == before else ended + self._changed()

    def finish(self) -> list[Track]:
        """Return the tracks that are left at the end."""
        return [make_track(*named, over=True) for named in self._name(self._tracker.finish())]

    def _is_late(self, frame: Frame) -> bool:
        """Return whether a frame of a camera comes by more than a step later than the promptest before it.

        What counts as prompt grows by and by, as the clock of a camera may be slower than ours.
        """
        before, self._now = self._now, self._clock()
        delay = self._now - frame.time
        self._delay = min(delay, self._delay + DRIFT * (self._now - before))
        return delay - self._delay > self.search.every

    def _takes(self, frame: Frame) -> bool:
        """Count a frame, and return whether it is to be searched."""
        self.frames += 1
        self.seconds = frame.time
        step = int(frame.time / self.search.every + SLACK)
        if step == self._step:
            return False
        self._step = step
        self.searched += 1
        return True

    def _find(self, frame: Frame) -> list[FaceView]:
        """Return the faces of a frame."""
        faces, crops = self._recognizer.cut_faces(frame.image)
        rows = self._recognizer.embedder.embed(crops)
        qualities = [measure_quality(*pair).total for pair in zip(faces, crops, strict=True)]
        return [FaceView(frame.time, *found) for found in zip(faces, rows, qualities, strict=True)]

    def _changed(self) -> list[Track]:
        """Return the open tracks whose name is another than was told."""
        named = self._name(self._tracker.trails)
        news = [(trail, answer) for trail, answer in named if self._told.get(trail.number, "") != answer.name]
        self._told = {trail.number: answer.name for trail, answer in named}
        return [make_track(trail, answer, over=False) for trail, answer in news]

    def _name(self, trails: Iterable[OpenTrack]) -> list[tuple[OpenTrack, Identification]]:
        """Return who each trail is, of those that were seen often enough to be tracks."""
        tracks = [trail for trail in trails if len(trail.times) >= min(FEWEST, self.searched)]
        if not tracks:
            return []
        means = np.stack([trail.mean for trail in tracks])  # (n, d)
        wish: dict[str, Any] = {name: getattr(self.search, name) for name in ("far", "closed_set", "rule")}
        answers = self._gallery.identify(unit_rows(means), **wish)
        thresholds = self._recognizer.thresholds
        named = [judge_mean(*pair, thresholds) for pair in zip(answers, tracks, strict=True)]
        return list(zip(tracks, named, strict=True))


def judge_mean(answer: Identification, trail: OpenTrack, thresholds: Thresholds) -> Identification:
    """Return who a track is, given who is near the direction of the mean of its views.

    That mean is nearer to everybody than a view is, to strangers too; the gallery's threshold is for single
    views. The factors of the thresholds say by how much, so that each distance is divided by that of the
    number of views. Weights without factors: see `widen`.
    """
    if not thresholds.templates:
        return widen(answer, float(np.linalg.norm(trail.mean)))
    [factor] = thresholds.template_factors(np.array([len(trail.best)])).tolist()
    return move_matches(answer, [match.distance / factor for match in answer.matches])


def widen(answer: Identification, length: float) -> Identification:
    """Return an answer for a mean of views without a factor that was measured.

    The more the views differ, the shorter their mean is: each distance d counts as
    d + (1 - sqrt(length)) (2 - d), and the rate of false names stays what was asked for (docs/video.md).

    Args:
        answer: From a search with `k` = 1.
        length: Of the mean, before it was brought to length 1: 1 if all views are the same.
    """
    part = 1 - math.sqrt(length)
    return move_matches(answer, [match.distance + part * (2 - match.distance) for match in answer.matches])


def move_matches(answer: Identification, distances: Sequence[float]) -> Identification:
    """Return an answer from a search with `k` = 1 with other distances, in the same order."""
    within = sum(distance <= answer.threshold for distance in distances)
    voters = 1 if within or answer.closed_set else 0  # the nearest
    matches = tuple(
        replace(match, distance=distance, votes=int(place < voters))
        for place, (match, distance) in enumerate(zip(answer.matches, distances, strict=True))
    )
    return replace(answer, matches=matches, ambiguous=within > 1)


def make_track(trail: OpenTrack, answer: Identification, *, over: bool) -> Track:
    """Return what is known of a track."""
    places = np.array(trail.places, np.float32).reshape(-1, 14)
    return Track(
        number=trail.number,
        answer=answer,
        best=trail.best[0].face,
        best_time=trail.best[0].time,
        views=len(trail.best),
        times=np.array(trail.times),
        boxes=places[:, :4],
        landmarks=places[:, 4:].reshape(-1, 5, 2),
        over=over,
    )


Follow: TypeAlias = Callable[[Iterable[Frame]], Iterable[Frame]]


def identify_video(
    source: Video | str | os.PathLike[str],
    recognizer: Recognizer,
    gallery: Gallery,
    search: VideoSearch | None = None,
    *,
    follow: Follow = iter,
) -> Timeline:
    """Say who is in a video, and when.

    Some frames are searched, `search.every` seconds apart. The faces in them are joined to tracks by their
    embeddings and places, and each track is named once, by the mean of the embeddings of its best views and
    the one enrolled face nearest to it.

    Args:
        source: A file, or a video that was opened and not yet read.
        recognizer: Finds the faces.
        gallery: Who may be recognised; opened with the recognizer.
        search: How the faces are looked for and named.
        follow: Hands on the frames as they come, to show how far the work is. If it ends early the timeline
            goes so far, and is not `complete`.

    Raises:
        VideoError: The video cannot be opened, or has not one frame.
        ThresholdError: As in `Gallery.identify`.
    """
    if not isinstance(source, Video):
        with Video.open(source) as video:
            return identify_video(video, recognizer, gallery, search, follow=follow)
    watcher = Watcher(recognizer, gallery, search)
    tracks = [track for frame in follow(source) for track in watcher.look(frame)]
    return Timeline(
        tracks=tuple(sorted([*tracks, *watcher.finish()], key=lambda track: track.number)),
        seconds=watcher.seconds,
        frames=watcher.frames,
        searched=watcher.searched,
        every=watcher.search.every,
        complete=source.complete,
        damage=source.damage,
    )
