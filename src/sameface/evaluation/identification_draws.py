"""How sure are the measures of identification? The people of the probes are drawn; the galleries stay.

What another choice of the enrolled would do is told by the standard error over the galleries instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.ranking import Ranking
from sameface.evaluation.roc import Flags, Numbers

BLOCK = 1 << 22  # weights at a time

Draws = NDArray[np.int64]


def count_by_person(ranking: Ranking, flags: Flags, people: int) -> NDArray[np.int64]:
    """Return how many enrolled probes of each person are flagged, and how many there are, `(p, 2)`."""
    known = ranking.known
    flagged = np.bincount(ranking.person[known & flags], minlength=people)
    return np.column_stack([flagged, np.bincount(ranking.person[known], minlength=people)])


def draw_parts(ranking: Ranking, flags: Sequence[Flags], draws: Draws) -> Numbers:
    """Return which part of the enrolled probes is flagged in each draw, `(r, k)`; NaN of nothing.

    Args:
        ranking: What the gallery says of each probe.
        flags: `k` times `(n,) bool`, for each probe.
        draws: `(r, p) int64` how often each person was drawn.
    """
    people = draws.shape[1]
    counts = [count_by_person(ranking, one, people) for one in flags]
    columns = np.column_stack([counts[0][:, 1], *(count[:, 0] for count in counts)]).astype(np.float64)
    sums: Numbers = draws.astype(np.float64) @ columns  # (r, 1 + k)
    whole = np.where(sums[:, :1] > 0, sums[:, :1], np.nan)
    return sums[:, 1:] / whole


def draw_limits(ranking: Ranking, draws: Draws, fpirs: Sequence[float]) -> Numbers:
    """Return the distance of the first stranger who is too many, `(r, f)`; NaN without strangers.

    Args:
        ranking: What the gallery says of each probe.
        draws: `(r, p) int64` how often each person was drawn.
        fpirs: The part of the drawn strangers that may be named.
    """
    strangers = np.flatnonzero(~ranking.known)
    order = strangers[np.argsort(ranking.distance[strangers, 0], kind="stable")]
    places = np.append(ranking.distance[order, 0], np.inf)
    limits = np.full((len(draws), len(fpirs)), np.nan)
    for part in blocks(len(draws), len(order)):
        running = np.cumsum(draws[part][:, ranking.person[order]], axis=1)
        for row, sums in zip(limits[part], running, strict=True):
            if len(sums) and sums[-1]:
                allowed = np.array(fpirs) * float(sums[-1]) * (1 + 1e-12)
                row[:] = places[np.searchsorted(sums, allowed, side="right")]
    return limits


def draw_detections(ranking: Ranking, draws: Draws, limits: Numbers, *, voters: int) -> Numbers:
    """Return DIR in each draw with a threshold just under each limit, `(r, f)`; NaN without enrolled probes.

    Args:
        ranking: What the gallery says of each probe.
        draws: `(r, p) int64` how often each person was drawn.
        limits: `(r, f) float64` from `draw_limits`.
        voters: How many nearest faces vote.
    """
    whole = draws @ np.bincount(ranking.person[ranking.known], minlength=draws.shape[1])
    places, steps, owners = list_steps(ranking, voters)
    right = np.zeros(limits.shape)
    for part in blocks(len(draws), len(owners)):
        running = np.cumsum(draws[part][:, owners] * steps, axis=1)
        running = np.column_stack([np.zeros(len(running), np.int64), running])
        right[part] = np.take_along_axis(running, np.searchsorted(places, limits[part]), axis=1)
    defined = (whole[:, None] > 0) & ~np.isnan(limits)
    return np.where(defined, right / np.maximum(whole[:, None], 1), np.nan)


def list_steps(ranking: Ranking, voters: int) -> tuple[Numbers, NDArray[np.int64], NDArray[np.int64]]:
    """Return where answers to enrolled probes become right (1) or wrong again (-1), rising, and whose."""
    known = ranking.known
    right = (ranking.named[known, :voters] == ranking.truth[known, None]).astype(np.int64)
    steps = np.diff(right, axis=1, prepend=0).ravel()
    places = ranking.distance[known, :voters].ravel()
    owners = np.repeat(ranking.person[known], voters)
    used = np.flatnonzero((steps != 0) & np.isfinite(places))
    used = used[np.argsort(places[used], kind="stable")]
    return places[used], steps[used], owners[used]


def blocks(draws: int, columns: int) -> Iterator[slice]:
    """Yield parts of the draws whose weights fit in memory."""
    size = max(1, BLOCK // max(columns, 1))
    for start in range(0, draws, size):
        yield slice(start, start + size)
