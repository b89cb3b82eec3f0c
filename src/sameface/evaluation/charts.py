"""The curves of a report as plain numbers; `plots` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.roc import Flags, Numbers, Roc, last_of_equal

BINS = 60
GRID = 300  # cells along each side of a plot; a curve needs one point in each that it crosses
CAPTIONS = {
    "ROC": "How many pairs of one person are accepted (up) when so many pairs of different people are (to the right). "
    "Higher and further left is better.",
    "DET": "The two kinds of errors against each other. Lower and further left is better.",
    "distances": "How far apart the two faces of a pair are. A pair at or under the threshold is taken for one "
    "person: what lies on the wrong side of it is an error.",
    "CMC": "Everybody is enrolled: how often the right person is among the nearest 1, 2, 3, … people of the gallery.",
    "open set": "Some probes are strangers. Lower and further left is better; the threshold moves along the curve.",
    "sweep": "The bars are 95 % intervals over people. A gap: in too few pairs both faces were found.",
    "reliability": "Of the pairs that are told to be one person with 0.8, 0.8 should be. On the dashed line the "
    "probability is right; under it, it promises too much.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve, with its interval where there is one."""

    name: str  # for the legend
    x: Numbers  # (k,)
    y: Numbers  # (k,) NaN where it is not defined
    low: Numbers | None = None  # (k,) the lower end of the interval
    high: Numbers | None = None  # (k,) the upper end


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis with a name, such as a threshold."""

    name: str
    x: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes.

    `steps` holds y until the next x, and `filled` also colours the area below. A logarithmic axis has no
    place for what is not above 0. `y_range` are the ends of the y axis; None fits them to the curves.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]  # one for each model, slice or kind of pair
    caption: str = ""  # how to read it, in plain words
    log_x: bool = False
    log_y: bool = False
    style: Literal["line", "steps", "filled", "points"] = "line"
    diagonal: bool = False  # draw where y equals x
    marks: tuple[Mark, ...] = ()  # drawn as vertical lines
    y_range: tuple[float, float] | None = None


def roc_charts(curves: Mapping[str, Roc]) -> tuple[Chart, ...]:
    """Return ROC and DET with a logarithmic false-accept rate; a rate of 0 has no place there."""
    roc, det = [], []
    for name, curve in curves.items():
        shown = last_of_equal(curve.far) & (curve.far > 0)
        far, val = curve.far[shown], curve.val[shown]
        roc.append(thin_line(Line(name, far, val), log_x=True))
        missed = val < 1
        det.append(thin_line(Line(name, far[missed], 1 - val[missed]), log_x=True, log_y=True))
    x, y, missed_y = "false-accept rate (FAR)", "validation rate (VAL)", "missed pairs of one person (1 − VAL)"
    return (
        Chart("ROC", x, y, tuple(roc), CAPTIONS["ROC"], log_x=True, style="steps"),
        Chart("DET", x, missed_y, tuple(det), CAPTIONS["DET"], log_x=True, log_y=True, style="steps"),
    )


def histogram_chart(distance: Numbers, same: Flags, *, thresholds: Mapping[str, float] | None = None) -> Chart:
    """Return the spread of the distances of both kinds of pairs, `(n,)` without NaN, with named thresholds."""
    kinds = [(part, np.ones(len(part))) for part in (distance[same], distance[~same])]
    end = max(float(distance.max(initial=0.0)), 1e-6)
    return distance_chart(kinds, end, CAPTIONS["distances"], thresholds or {})


def distance_chart(
    kinds: Sequence[tuple[Numbers, Numbers]], end: float, caption: str, thresholds: Mapping[str, float]
) -> Chart:
    """Return the spread of distances from 0 to `end`, with named thresholds.

    `kinds` holds `(k,)` distances and how many pairs have each, of one person and of different people.
    """
    edges = np.linspace(0, end, BINS + 1)
    lines = []
    for name, (distance, pairs) in zip(("one person", "different people"), kinds, strict=True):
        spread, _ = np.histogram(distance, edges, weights=pairs)
        lines.append(Line(name, edges, np.append(spread, 0) / max(int(pairs.sum()), 1)))
    marks = tuple(Mark(name, threshold) for name, threshold in thresholds.items())
    labels = ("Distances", "squared distance", "part of the pairs")
    return Chart(*labels, tuple(lines), caption, style="filled", marks=marks)


def cmc_chart(rates: Mapping[str, Numbers], intervals: Mapping[str, Numbers] | None = None) -> Chart:
    """Return the part of the probes whose person is among the nearest 1, 2, ... r, `(r,)` with intervals `(r, 2)`."""
    lines = []
    for name, rate in rates.items():
        low, high = (None, None) if intervals is None else intervals[name].T
        lines.append(Line(name, np.arange(1.0, len(rate) + 1), rate, low, high))
    return Chart("CMC", "rank", "own person among the nearest", tuple(lines), CAPTIONS["CMC"], style="points")


def open_set_chart(curves: Mapping[str, tuple[Numbers, Numbers]]) -> Chart:
    """Return FNIR against FPIR, from `(k,)` FPIR and FNIR of each curve in the order of the threshold."""
    lines = []
    for name, (fpir, fnir) in curves.items():
        shown = last_of_equal(fpir) & (fpir > 0) & (fnir > 0)
        lines.append(thin_line(Line(name, fpir[shown], fnir[shown]), log_x=True, log_y=True))
    labels = ("FNIR against FPIR", "strangers who are given a name (FPIR)", "enrolled not given their own (FNIR)")
    return Chart(*labels, tuple(lines), CAPTIONS["open set"], log_x=True, log_y=True, style="steps")


def sweep_chart(title: str, unit: str, levels: Sequence[float], vals: Mapping[str, Sequence[Estimate]]) -> Chart:
    """Return VAL at each of some levels in a unit; `vals` holds one estimate for each level of each curve."""
    lines = []
    for name, estimates in vals.items():
        y, low, high = np.array([(one.value, one.low, one.high) for one in estimates], np.float64).reshape(-1, 3).T
        lines.append(Line(name, np.array(levels, np.float64), y, low, high))
    return Chart(title, unit, "validation rate (VAL)", tuple(lines), CAPTIONS["sweep"], style="points")


def reliability_chart(curves: Mapping[str, tuple[Numbers, Numbers, Numbers, Numbers]]) -> Chart:
    """Return how often pairs are of one person that are said to be so with some probability.

    Each curve has `(b,)` the mean probability of each bin, the part of its pairs that shows one person, and the ends
    of that part's interval.
    """
    lines = tuple(Line(name, *values) for name, values in curves.items())
    labels = ("Reliability", "probability that was told", "part that is one person")
    return Chart(*labels, lines, CAPTIONS["reliability"], style="points", diagonal=True, y_range=(0.0, 1.0))


def thin_line(line: Line, *, log_x: bool = False, log_y: bool = False) -> Line:
    """Return the line with no more points than a plot can show; first and last stay."""
    if len(line.x) <= 2:
        return line
    cells = np.column_stack([to_cells(line.x, log=log_x), to_cells(line.y, log=log_y)])
    kept = np.append(True, (cells[1:] != cells[:-1]).any(axis=1))
    kept[-1] = True
    return Line(line.name, line.x[kept], line.y[kept])


def to_cells(values: Numbers, *, log: bool) -> Numbers:
    """Return the number of the plot's cell that each value falls into; for `log` they must be above 0."""
    scaled = np.log(values) if log else values
    span = float(np.ptp(scaled))
    return np.floor((scaled - scaled.min()) / span * GRID) if span > 0 else np.zeros(len(values))
