"""Join the faces of searched frames into tracks of one person each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.face import Face, overlaps

PATIENCE = 1.0  # seconds without the face after which a track ends
FEWEST = 2  # searched frames in which a face must appear: a single detection may be false
BEST = 8  # views of a track that its decision rests on


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """A face in one searched frame."""

    time: float  # seconds from the beginning
    face: Face
    row: NDArray[np.float32]  # (d,) its embedding
    quality: float  # 0 to 1


@dataclass(slots=True, eq=False)
class OpenTrack:
    """A track that is not over yet. A day in sight takes 60 MB."""

    number: int  # in the order in which tracks begin
    latest: FaceView
    best: list[FaceView] = field(default_factory=list)  # of the highest quality, then score; the best first
    times: array[float] = field(default_factory=lambda: array("d"))  # seconds
    places: array[float] = field(default_factory=lambda: array("f"))  # 14 numbers each: box and landmarks

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean of the best views' embeddings, `(d,) float32`; the more they differ, the shorter."""
        row: NDArray[np.float32] = np.mean([view.row for view in self.best], axis=0, dtype=np.float32)
        return row

    def add(self, view: FaceView) -> None:
        """Add a view."""
        self.latest = view
        self.times.append(view.time)
        self.places.extend(view.face.box.tolist())
        self.places.extend(view.face.landmarks.ravel().tolist())
        self.best = sorted([*self.best, view], key=lambda seen: (-seen.quality, -seen.face.score))[:BEST]


class Tracker:
    """Joins the faces of each searched frame to the open tracks.

    A face joins a track only if its embedding is within `limit`, a squared distance, of the track's latest view
    or of the mean of its best ones. The box only chooses among such tracks. So no track passes to another
    person: not where two people cross, nor at a cut.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.tracks: list[OpenTrack] = []
        self._begun = 0

    def step(self, views: Sequence[FaceView], time: float) -> list[OpenTrack]:
        """Add the views of the frame at `time`, and return the tracks that ended before it."""
        ended = [track for track in self.tracks if time - track.latest.time > PATIENCE]
        self.tracks = [track for track in self.tracks if time - track.latest.time <= PATIENCE]
        left = set(range(len(views)))
        for number, place in pair_nearest(self.costs(views)):
            self.tracks[number].add(views[place])
            left.remove(place)
        for place in sorted(left):
            track = OpenTrack(self._begun, views[place])
            track.add(views[place])
            self.tracks.append(track)
            self._begun += 1
        return ended

    def finish(self) -> list[OpenTrack]:
        """Return the remaining tracks."""
        ended, self.tracks = self.tracks, []
        return ended

    def costs(self, views: Sequence[FaceView]) -> NDArray[np.float64]:
        """Return the cost of joining each view to each track, `(tracks, views)`.

        The cost is distance / limit plus 1 - intersection over union of the boxes; infinite over the limit.
        """
        if not views or not self.tracks:
            return np.zeros((len(self.tracks), len(views)))
        rows: Embeddings = np.stack([view.row for view in views])  # (n, d)
        boxes = np.stack([view.face.box for view in views])
        latest = squared_distances(np.stack([track.latest.row for track in self.tracks]), rows)
        means = squared_distances(unit_rows(np.stack([track.mean for track in self.tracks])), rows)
        distances = np.minimum(latest, means).astype(np.float64)  # (tracks, n)
        apart = 1 - np.stack([overlaps(track.latest.face.box, boxes) for track in self.tracks])
        return np.where(distances <= self.limit, distances / self.limit + apart, np.inf)


def pair_nearest(costs: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of row and column of finite cost, the cheapest first, each row and column once."""
    rows, columns = set(range(costs.shape[0])), set(range(costs.shape[1]))
    for place in np.argsort(costs, axis=None, kind="stable").tolist():
        row, column = divmod(place, costs.shape[1])
        if np.isfinite(costs[row, column]) and row in rows and column in columns:
            rows.remove(row)
            columns.remove(column)
            yield row, column
