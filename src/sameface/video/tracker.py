"""Join the faces of searched frames into tracks: one person on the way through the picture."""

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

PATIENCE = 1.0  # seconds for which a face may be out of sight without the end of its track
FEWEST = 2  # searched frames in which a face must be seen to count: what is there once may be none
BEST = 8  # views of a track that are kept for its decision


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """A face in one searched frame.

    Attributes:
        time: Seconds from the beginning.
        face: Where it is.
        row: `(d,) float32` its embedding, a unit row.
        quality: How fit it is to be recognised, 0 to 1.
    """

    time: float
    face: Face
    row: NDArray[np.float32]
    quality: float


@dataclass(slots=True, eq=False)
class OpenTrack:
    """A track while it grows. A day in sight takes 60 MB.

    Attributes:
        number: Its place in the order in which tracks begin.
        latest: The view that came last.
        best: The views of the highest quality, of equals the surest, at most `BEST`; the best first.
        times: Seconds at which the face was seen.
        places: Where it was, one after the other: four numbers of the box, ten of the landmarks.
    """

    number: int
    latest: FaceView
    best: list[FaceView] = field(default_factory=list)
    times: array[float] = field(default_factory=lambda: array("d"))
    places: array[float] = field(default_factory=lambda: array("f"))

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean of the best views' embeddings, `(d,) float32`; the more they differ, the shorter."""
        row: NDArray[np.float32] = np.mean([view.row for view in self.best], axis=0, dtype=np.float32)
        return row

    def add(self, view: FaceView) -> None:
        """Go on with a view."""
        self.latest = view
        self.times.append(view.time)
        self.places.extend(view.face.box.tolist())
        self.places.extend(view.face.landmarks.ravel().tolist())
        self.best = sorted([*self.best, view], key=lambda seen: (-seen.quality, -seen.face.score))[:BEST]


class Tracker:
    """Joins the faces of one searched frame to those of the frames before.

    A face goes on a track only if its embedding is within `limit` of the track's latest view or of the mean
    of its best ones; where the box is only chooses among those. So no track goes over to another person: not
    where two cross, nor at a cut that puts one in the other's place.

    Args:
        limit: The squared distance at and under which two views may be of one person.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.trails: list[OpenTrack] = []
        self._begun = 0

    def step(self, views: Sequence[FaceView], time: float) -> list[OpenTrack]:
        """Take the views of the frame at `time`, and return the tracks that have ended before it."""
        ended = [trail for trail in self.trails if time - trail.latest.time > PATIENCE]
        self.trails = [trail for trail in self.trails if time - trail.latest.time <= PATIENCE]
        left = set(range(len(views)))
        for number, place in pair_nearest(self.costs(views)):
            self.trails[number].add(views[place])
            left.remove(place)
        for place in sorted(left):
            self._begin(views[place])
        return ended

    def finish(self) -> list[OpenTrack]:
        """Return the tracks that are left at the end."""
        ended, self.trails = self.trails, []
        return ended

    def costs(self, views: Sequence[FaceView]) -> NDArray[np.float64]:
        """Return what it costs to go on each track with each view, `(tracks, views)`.

        It is the distance as a part of the limit, and the part of the boxes that does not overlap; infinite
        over the limit.
        """
        if not views or not self.trails:
            return np.zeros((len(self.trails), len(views)))
        rows: Embeddings = np.stack([view.row for view in views])  # (n, d)
        boxes = np.stack([view.face.box for view in views])
        latest = squared_distances(np.stack([trail.latest.row for trail in self.trails]), rows)
        means = squared_distances(unit_rows(np.stack([trail.mean for trail in self.trails])), rows)
        distances = np.minimum(latest, means).astype(np.float64)  # (tracks, n)
        apart = 1 - np.stack([overlaps(trail.latest.face.box, boxes) for trail in self.trails])
        return np.where(distances <= self.limit, distances / self.limit + apart, np.inf)

    def _begin(self, view: FaceView) -> None:
        """Begin a track."""
        trail = OpenTrack(self._begun, view)
        self._begun += 1
        trail.add(view)
        self.trails.append(trail)


def pair_nearest(costs: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of row and column, the cheapest first, each row and column once, none of infinite cost."""
    rows, columns = set(range(costs.shape[0])), set(range(costs.shape[1]))
    for place in np.argsort(costs, axis=None, kind="stable").tolist():
        row, column = divmod(place, costs.shape[1])
        if np.isfinite(costs[row, column]) and row in rows and column in columns:
            rows.remove(row)
            columns.remove(column)
            yield row, column
