"""The curves of a report as plain numbers: how they are drawn is the business of `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.roc import Flags, Numbers, Roc

Style = Literal["line", "steps", "filled", "points"]

BINS = 60
GRID = 300  # cells along each side of a plot; a curve needs one point in each that it crosses


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve, with its interval where there is one.

    Attributes:
        name: For the legend.
        x: `(k,) float64`.
        y: `(k,) float64`; NaN where it is not defined.
        low: `(k,) float64` the lower end of the interval, or None.
        high: `(k,) float64` the upper end, or None.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis with a name, such as a threshold."""

    name: str
    x: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes.

    Attributes:
        title: What it shows.
        x_label: The x axis and its unit.
        y_label: The y axis and its unit.
        lines: One for each model, slice or kind of pair.
        caption: How to read it, in plain words.
        log_x: Whether each step along x is a factor of ten; what is not above 0 has no place there.
        log_y: The same along y.
        style: `line`, `steps` (y holds until the next x), `filled` (steps with the area below) or `points`.
        diagonal: Whether to draw where y equals x.
        marks: Places along x that are drawn as vertical lines.
        y_range: What the y axis shows; None for what the curves need.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    caption: str = ""
    log_x: bool = False
    log_y: bool = False
    style: Style = "line"
    diagonal: bool = False
    marks: tuple[Mark, ...] = ()
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
    return (
        Chart(
            "ROC",
            "false-accept rate (FAR)",
            "validation rate (VAL)",
            tuple(roc),
            caption="How many pairs of one person are accepted (up) when so many pairs of different people "
            "are (to the right). Higher and further left is better.",
            log_x=True,
            style="steps",
        ),
        Chart(
            "DET",
            "false-accept rate (FAR)",
            "missed pairs of one person (1 − VAL)",
            tuple(det),
            caption="The two kinds of errors against each other. Lower and further left is better.",
            log_x=True,
            log_y=True,
            style="steps",
        ),
    )


def histogram_chart(distance: Numbers, same: Flags, *, thresholds: Mapping[str, float] | None = None) -> Chart:
    """Return how the distances of both kinds of pairs are spread.

    Args:
        distance: `(n,) float64` squared distances, none of them NaN.
        same: `(n,) bool` whether each pair shows one person.
        thresholds: Distances to draw, by name.
    """
    edges = np.linspace(0, max(float(distance.max(initial=0.0)), 1e-6), BINS + 1)
    lines = []
    for name, part in (("one person", distance[same]), ("different people", distance[~same])):
        counts, _ = np.histogram(part, edges)
        lines.append(Line(name, edges, np.append(counts, 0) / max(len(part), 1)))
    return Chart(
        "Distances",
        "squared distance",
        "part of the pairs",
        tuple(lines),
        caption="How far apart the two faces of a pair are. A pair at or under the threshold is taken for "
        "one person: what lies on the wrong side of it is an error.",
        style="filled",
        marks=tuple(Mark(name, threshold) for name, threshold in (thresholds or {}).items()),
    )


def cmc_chart(rates: Mapping[str, Numbers], intervals: Mapping[str, Numbers] | None = None) -> Chart:
    """Return the part of the probes whose person is among the nearest 1, 2, ... of the gallery.

    Args:
        rates: `(r,) float64` for each curve.
        intervals: `(r, 2) float64` the ends of the interval of each.
    """
    lines = []
    for name, rate in rates.items():
        low, high = (None, None) if intervals is None else intervals[name].T
        lines.append(Line(name, np.arange(1.0, len(rate) + 1), rate, low, high))
    return Chart(
        "CMC",
        "rank",
        "own person among the nearest",
        tuple(lines),
        caption="Everybody is enrolled: how often the right person is among the nearest 1, 2, 3, … people of "
        "the gallery.",
        style="points",
    )


def open_set_chart(curves: Mapping[str, tuple[Numbers, Numbers]]) -> Chart:
    """Return FNIR against FPIR.

    Args:
        curves: For each, `(k,) float64` FPIR and `(k,) float64` FNIR, in the order of the threshold.
    """
    lines = []
    for name, (fpir, fnir) in curves.items():
        shown = last_of_equal(fpir) & (fpir > 0) & (fnir > 0)
        lines.append(thin_line(Line(name, fpir[shown], fnir[shown]), log_x=True, log_y=True))
    return Chart(
        "FNIR against FPIR",
        "strangers who are given a name (FPIR)",
        "enrolled not given their own (FNIR)",
        tuple(lines),
        caption="Some probes are strangers. Lower and further left is better; the threshold moves along the curve.",
        log_x=True,
        log_y=True,
        style="steps",
    )


def sweep_chart(title: str, unit: str, levels: Sequence[float], vals: Mapping[str, Sequence[Estimate]]) -> Chart:
    """Return VAL at each level of something that is varied.

    Args:
        title: What is varied, and the false-accept rate.
        unit: What the levels are.
        levels: In that unit.
        vals: For each curve, one for each level; NaN where it is not defined.
    """
    return Chart(
        title,
        unit,
        "validation rate (VAL)",
        tuple(estimate_line(name, levels, estimates) for name, estimates in vals.items()),
        caption="The bars are 95 % intervals over people. A gap: in too few pairs both faces were found.",
        style="points",
    )


def reliability_chart(curves: Mapping[str, tuple[Numbers, Numbers, Numbers, Numbers]]) -> Chart:
    """Return how often pairs are of one person that are said to be so with some probability.

    Args:
        curves: For each, `(b,) float64` the mean probability of each bin, the part of its pairs that shows
            one person, and the lower and upper end of that part's interval.
    """
    return Chart(
        "Reliability",
        "probability that was told",
        "part that is one person",
        tuple(Line(name, *values) for name, values in curves.items()),
        caption="Of the pairs that are told to be one person with 0.8, 0.8 should be. On the dashed line the "
        "probability is right; under it, it promises too much.",
        style="points",
        diagonal=True,
        y_range=(0.0, 1.0),
    )


def last_of_equal(rates: Numbers) -> Flags:
    """Return which rates are the last of a run of equal ones: the largest threshold that keeps the rate."""
    return np.append(rates[1:] != rates[:-1], np.ones(min(len(rates), 1), bool))


def estimate_line(name: str, x: Sequence[float], estimates: Sequence[Estimate]) -> Line:
    """Return a curve of estimates with their intervals."""
    return Line(
        name,
        np.array(x, np.float64),
        np.array([estimate.value for estimate in estimates], np.float64),
        np.array([estimate.low for estimate in estimates], np.float64),
        np.array([estimate.high for estimate in estimates], np.float64),
    )


def thin_line(line: Line, *, log_x: bool = False, log_y: bool = False) -> Line:
    """Return the line with no more points than a plot can show; first and last stay."""
    if len(line.x) <= 2:
        return line
    cells = np.column_stack([to_cells(line.x, log=log_x), to_cells(line.y, log=log_y)])
    moved = (cells[1:] != cells[:-1]).any(axis=1)
    kept = np.append(True, moved)
    kept[-1] = True
    return Line(line.name, line.x[kept], line.y[kept])


def to_cells(values: Numbers, *, log: bool) -> Numbers:
    """Return the number of the plot's cell that each value falls into; for `log` they must be above 0."""
    scaled = np.log(values) if log else values
    span = float(np.ptp(scaled))
    return np.floor((scaled - scaled.min()) / span * GRID) if span > 0 else np.zeros(len(values))
