"""Who is in a video: one decision for each track."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

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

SAME_FAR = 1e-3  # false-accept rate of the distance within a track
SLACK = 0.02  # of a step: times in files are rounded
DRIFT = 0.01  # seconds per second by which a camera's clock may be wrong


@dataclass(frozen=True)
class VideoSearch:
    """Options of the search in a video.

    Attributes:
        every: Seconds from one searched frame to the next; the frames between are skipped.
        far: The chance that a stranger gets any name, as in `Gallery.identify`.
        closed_set: Everyone is certainly enrolled: the nearest person is named.
        rule: Compare a track with one `template` per person (also None), or with all `rows`.
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
    """One person, from coming into sight to leaving it.

    Attributes:
        number: In the order in which the tracks of the video begin.
        answer: The identification.
        best: The face in its best view.
        best_time: Seconds of that view.
        views: The number of best views that the decision rests on.
        times: `(n,) float64` seconds at which the face was seen.
        boxes: `(n, 4) float32`.
        landmarks: `(n, 5, 2) float32`.
        over: It has ended; open tracks of a camera are returned too.
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
        """The named person, for a stranger the nearest; None if no one is enrolled."""
        matches = self.answer.matches
        named = [match for match in matches if match.name == self.answer.name]
        return next(iter([*named, *matches]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Who is in a video, and when.

    Attributes:
        tracks: In the order in which they begin.
        seconds: The time of the last frame.
        frames: The number of decoded frames.
        searched: The number of frames searched for faces.
        every: Seconds from one searched frame to the next.
        complete: The video was read to its end.
        damage: The fault of the file, or None.
    """

    tracks: tuple[Track, ...]
    seconds: float
    frames: int
    searched: int
    every: float
    complete: bool
    damage: str | None


class Watcher:
    """Identifies people in the frames of one video, frame by frame.

    Args:
        recognizer: Detector and embedder.
        gallery: The enrolled people; of the recognizer's pipeline.
        search: The options.
        clock: A monotonic clock in seconds; late frames of a live video are skipped, so that it does not lag.
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
        self._reported: dict[int, str | None] = {}
        self._clock = clock
        self._now = clock()
        self._delay = math.inf

    def look(self, frame: Frame) -> list[Track]:
        """Add the next frame, and return the tracks that have ended."""
        if not self._takes(frame):
            return []
        ended = self._tracker.step(self._find(frame), frame.time)
        return self._identify(ended, over=True)

    def look_live(self, frame: Frame) -> list[Track]:
        """Add the next frame of a camera.

        Returns:
            The tracks that have ended, and those with a new or changed name since the last call.
        """
        if self._is_late(frame):
            self.frames += 1
            return []
        before = self.searched
        ended = self.look(frame)
        return ended if self.searched == before else ended + self._changed()

    def finish(self) -> list[Track]:
        """Return the remaining tracks."""
        return self._identify(self._tracker.finish(), over=True)

    def _is_late(self, frame: Frame) -> bool:
        """Return whether a camera's frame is over a step later than the promptest one before it.

        The smallest delay may grow slowly, as the clock of a camera may be slower than ours.
        """
        before, self._now = self._now, self._clock()
        delay = self._now - frame.time
        self._delay = min(delay, self._delay + DRIFT * (self._now - before))
        return delay - self._delay > self.search.every

    def _takes(self, frame: Frame) -> bool:
        """Count a frame, and return whether to search it."""
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
        """Return the open tracks with another name than reported before."""
        tracks = self._identify(self._tracker.tracks, over=False)
        changed = [track for track in tracks if self._reported.get(track.number, "") != track.answer.name]
        self._reported = {track.number: track.answer.name for track in tracks}
        return changed

    def _identify(self, tracks: Iterable[OpenTrack], *, over: bool) -> list[Track]:
        """Identify the tracks that were seen often enough."""
        kept = [track for track in tracks if len(track.times) >= min(FEWEST, self.searched)]
        if not kept:
            return []
        rows, search = unit_rows(np.stack([track.mean for track in kept])), self.search  # (n, d)
        answers = self._gallery.identify(rows, far=search.far, closed_set=search.closed_set, rule=search.rule)
        thresholds = self._recognizer.thresholds
        pairs = zip(kept, answers, strict=True)
        return [make_track(track, judge_mean(answer, track, thresholds), over=over) for track, answer in pairs]


def judge_mean(answer: Identification, track: OpenTrack, thresholds: Thresholds) -> Identification:
    """Correct the identification of a track's mean embedding to the gallery's threshold for single views.

    The mean of views is nearer to everyone than a view is, strangers included. So each distance is divided by
    the template factor of the number of views. For weights without factors see `widen`.
    """
    if not thresholds.templates:
        return widen(answer, float(np.linalg.norm(track.mean)))
    [factor] = thresholds.template_factors(np.array([len(track.best)])).tolist()
    return move_matches(answer, [match.distance / factor for match in answer.matches])


def widen(answer: Identification, length: float) -> Identification:
    """Correct the identification of a mean of views, of this `length` before scaling, without a measured factor.

    The more the views differ, the shorter their mean is: each distance d becomes
    d + (1 - sqrt(length)) (2 - d), which keeps the requested rate of false names (docs/video.md).
    """
    part = 1 - math.sqrt(length)
    return move_matches(answer, [match.distance + part * (2 - match.distance) for match in answer.matches])


def move_matches(answer: Identification, distances: Sequence[float]) -> Identification:
    """Replace the distances of an identification with `k` = 1; their order stays."""
    within = sum(distance <= answer.threshold for distance in distances)
    voters = 1 if within or answer.closed_set else 0  # the nearest
    matches = tuple(
        replace(match, distance=distance, votes=int(place < voters))
        for place, (match, distance) in enumerate(zip(answer.matches, distances, strict=True))
    )
    return replace(answer, matches=matches, ambiguous=within > 1)


def make_track(track: OpenTrack, answer: Identification, *, over: bool) -> Track:
    """Return the track with its identification."""
    places = np.array(track.places, np.float32).reshape(-1, 14)
    return Track(
        number=track.number,
        answer=answer,
        best=track.best[0].face,
        best_time=track.best[0].time,
        views=len(track.best),
        times=np.array(track.times),
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
    """Return who is in a video, and when.

    Frames `search.every` seconds apart are searched. Their faces are joined to tracks by embedding and place.
    Each track is identified once, by the mean embedding of its best views.

    Args:
        source: A file, or an opened video that was not read yet.
        recognizer: Detector and embedder.
        gallery: The enrolled people; opened with the recognizer.
        search: The options.
        follow: Passes the frames on, to show progress. If it ends early the timeline ends there, and is not
            `complete`.

    Raises:
        VideoError: The video cannot be opened, or has no frame.
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
