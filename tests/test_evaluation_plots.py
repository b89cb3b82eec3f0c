"""Charts and how they are drawn: what a reader sees, and what must never be in the file."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import (
    GRID,
    Chart,
    Line,
    Mark,
    cmc_chart,
    histogram_chart,
    open_set_chart,
    reliability_chart,
    roc_charts,
    sweep_chart,
    thin_line,
)
from sameface.evaluation.plots import COLOURS, LONGEST_NAME, draw_chart, name_power, printable
from sameface.evaluation.roc import make_roc, val_under

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")
AWKWARD = ["<script>alert(1)</script>", "a & b", "$x_1$ and $2", "_hidden", "two\nlines", "\0\x1b", "\udce9t", "人"]


def make_chart(*names, **choices):
    """Return a chart of lines with these names."""
    x = np.array([1e-3, 1e-2, 1e-1])
    lines = tuple(Line(name, x, x * number) for number, name in enumerate(names, start=1))
    return Chart("title", "across", "up", lines, **choices)


def texts(svg):
    """Return every piece of text in the picture; it must be well-formed."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def every_chart():
    """Return one of each kind."""
    rng = np.random.default_rng(0)
    distance, same = rng.random(200), rng.random(200) < 0.5
    level = np.linspace(0, 1, 5)
    return [
        *roc_charts({"a": make_roc(distance, same), "b": make_roc(distance**2, same)}),
        histogram_chart(distance, same, thresholds={"threshold": 0.4}),
        cmc_chart({"a": np.array([0.5, 0.8, 0.9])}, {"a": np.array([[0.4, 0.6], [0.7, 0.9], [0.8, 1]])}),
        open_set_chart({"a": (np.array([0, 0.01, 0.1]), np.array([1, 0.5, 0.1]))}),
        sweep_chart("blur", "pixels", [1, 2], {"a": [Estimate(0.9, 0.8, 1), Estimate(NAN, NAN, NAN)]}),
        reliability_chart({"a": (level, level, level, level)}),
    ]


@pytest.mark.parametrize("chart", every_chart(), ids=lambda chart: chart.title)
def test_the_same_chart_gives_the_same_bytes_and_names_its_axes(chart):
    svg = draw_chart(chart)
    assert svg == draw_chart(chart)
    assert {chart.x_label, chart.y_label} <= set(texts(svg))
    assert chart.caption


def test_a_picture_holds_nothing_of_this_machine_or_day_and_loads_nothing():
    svg = draw_chart(make_chart("a", "b"))
    assert "metadata" not in svg and "date" not in svg.lower()
    assert "url(http" not in svg and "@import" not in svg and "<image" not in svg
    addresses = {part.split('"')[0] for part in svg.split('"http')[1:]}
    assert addresses == {"://www.w3.org/2000/svg", "://www.w3.org/1999/xlink"}


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    draw_chart(make_chart("a"))
    assert dict(matplotlib.rcParams) == before


def test_drawing_needs_no_pyplot():
    code = "import sys, sameface.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_report_does_not_load_matplotlib():
    modules = "sameface.evaluation.report, sameface.evaluation.compare"
    code = f"import sys, {modules}; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_name_can_stand_in_the_legend():
    found = texts(draw_chart(make_chart(*AWKWARD)))
    assert {printable(name) for name in AWKWARD} <= set(found)


def test_a_long_name_is_cut_in_the_legend():
    found = texts(draw_chart(make_chart("a", "b" * 200)))
    assert "b" * (LONGEST_NAME - 1) + "…" in found


def test_a_single_curve_needs_no_legend_but_a_threshold_does():
    assert "model" not in texts(draw_chart(make_chart("model")))
    assert "threshold 0.3" in texts(draw_chart(make_chart("model", marks=(Mark("threshold 0.3", 0.3),))))


def test_two_curves_differ_in_colour_and_in_dashes():
    svg = draw_chart(make_chart("a", "b"))
    first, second = (
        next(part for part in svg.split("<path") if f"stroke: {colour}" in part) for colour in COLOURS[:2]
    )
    assert "stroke-dasharray" not in first
    assert "stroke-dasharray" in second


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("style", ["filled", "points"])
@pytest.mark.parametrize("values", [[], [NAN], [0.0], [0.5]])
def test_none_one_and_undefined_points_are_drawn_or_said_to_be_missing(style, values, log):
    y = np.array(values)
    line = Line("a", np.ones(len(y)), y, y, y)
    found = texts(draw_chart(Chart("t", "x", "y", (line,), style=style, log_x=log, log_y=log)))
    assert ("nothing to draw" in found) == (not np.isfinite(y).any() or (log and not (y > 0).any()))


def test_a_chart_without_curves_says_so():
    assert "nothing to draw" in texts(draw_chart(make_chart(log_x=True)))


def test_a_logarithmic_axis_names_whole_powers_of_ten():
    x = np.array([3e-5, 0.5])
    found = texts(draw_chart(Chart("t", "x", "y", (Line("a", x, np.ones(2)),), log_x=True)))
    assert {"10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1"} <= set(found)
    assert [name_power(value) for value in (1e-10, 0.001, 0.01, 1000, 10000)] == [
        "10⁻¹⁰",
        "10⁻³",
        "0.01",
        "1000",
        "10⁴",
    ]


def test_a_single_point_is_marked():
    one = np.array([0.5])
    assert "<use" in draw_chart(Chart("t", "x", "y", (Line("a", one, one),))).split('id="line2d')[-1]


def test_the_intervals_are_drawn():
    y = np.array([0.2, 0.3])
    bare, told = Line("a", y, y), Line("a", y, y, y - 0.1, y + 0.1)
    for style in ("line", "points"):
        assert draw_chart(Chart("t", "x", "y", (told,), style=style)) != draw_chart(
            Chart("t", "x", "y", (bare,), style=style)
        )


def test_the_diagonal_is_drawn():
    assert draw_chart(make_chart("a", diagonal=True)) != draw_chart(make_chart("a"))


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60))
def test_each_point_of_the_roc_is_val_at_that_rate(pairs):
    curve = make_roc(np.array([float(distance) for distance, _ in pairs]), np.array([same for _, same in pairs]))
    roc, det = (chart.lines[0] for chart in roc_charts({"a": curve}))
    assert np.all(roc.x > 0) and np.all(np.diff(roc.x) > 0)
    np.testing.assert_array_equal(roc.y, [val_under(curve, far) for far in roc.x])
    np.testing.assert_allclose(det.y, [1 - val_under(curve, far) for far in det.x])
    assert np.all((det.y > 0) | np.isnan(det.y))


def test_a_thinned_curve_stays_within_a_cell_of_the_whole_one():
    x = np.linspace(0, 1, 100_000)
    y = np.sqrt(x)
    thin = thin_line(Line("a", x, y))
    assert len(thin.x) <= 2 * GRID + 2
    assert (thin.x[0], thin.x[-1]) == (0, 1)
    place = np.searchsorted(thin.x, x, side="right") - 1
    assert np.abs(thin.y[place] - y).max() <= 1 / GRID


def test_a_histogram_adds_up_to_all_pairs_of_each_kind():
    chart = histogram_chart(np.array([0.0, 0.5, 1.0, 4.0]), np.array([True, True, False, False]))
    assert [float(line.y.sum()) for line in chart.lines] == [1, 1]
    empty = histogram_chart(np.zeros(0), np.zeros(0, bool))
    assert [float(line.y.sum()) for line in empty.lines] == [0, 0]


def test_the_cmc_begins_at_rank_one_and_has_its_interval():
    (line,) = cmc_chart({"a": np.array([0.5, 0.99])}, {"a": np.array([[0.4, 0.6], [0.89, 1]])}).lines
    assert line.x.tolist() == [1, 2]
    assert (line.low.tolist(), line.high.tolist()) == ([0.4, 0.89], [0.6, 1])


def test_the_open_set_curve_keeps_the_largest_threshold_of_each_rate():
    (line,) = open_set_chart({"a": (np.array([0, 0.1, 0.1, 1]), np.array([1, 0.6, 0.4, 0.0]))}).lines
    assert (line.x.tolist(), line.y.tolist()) == ([0.1], [0.4])


def test_a_level_that_is_not_defined_is_a_gap():
    chart = sweep_chart("blur", "pixels", [1, 2], {"a": [Estimate(0.9, 0.8, 1.0), Estimate(NAN, NAN, NAN)]})
    assert np.isnan(chart.lines[0].y).tolist() == [False, True]


def test_every_picture_of_the_docs_comes_from_the_tool(load_tool):
    tool = load_tool("draw_measures")
    drawn = tool.draw_charts()
    assert {path.stem for path in tool.MEASURES.glob("*")} == set(drawn)
    for name, chart in drawn.items():
        written = texts((tool.MEASURES / f"{name}.svg").read_text("utf-8"))
        assert {chart.x_label, chart.y_label} <= set(written)
