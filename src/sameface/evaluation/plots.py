"""Draw charts as SVG with matplotlib, from the extra `evaluate`.

The same chart gives the same bytes with the same version of matplotlib. A picture brings its own background,
light or dark as the reader's system is.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from sameface.evaluation.charts import Chart, Line
from sameface.evaluation.roc import Numbers

WIDTH, HEIGHT, ROW = 4.6, 3.3, 0.2  # inches; a phone shows it with letters that can be read
LONGEST_NAME = 52
MOST_TICKS = 10  # of ranks or levels that an axis names
MOST_POWERS = 6  # of ten that an axis names
INK = "#1f2328"
# Okabe and Ito's colours, which colour-blind people can tell apart; the dashes help where there is no colour.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
MARK_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
STYLE = matplotlib.rc_params_from_file(
    Path(__file__).parent / "templates" / "plots.mplstyle", use_default_template=False
)
# After matplotlib's own style, so that a page in the dark gets light letters on a dark ground.
THEME = (
    "<style>svg{color:#1f2328;background:#fff;color-scheme:light dark}"
    "@media (prefers-color-scheme:dark){svg{color:#e6edf3;background:#161b22}}</style>"
)
# Points of paths, which are rounded to a hundredth: finer than any screen.
POINT = re.compile(r"(?m)^L (-?[\d.]+) (-?[\d.]+) $")
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw_chart(chart: Chart) -> str:
    """Return a chart as one SVG element."""
    names = [shorten(name) for name in [line.name for line in chart.lines] + [mark.name for mark in chart.marks]]
    names = names if len(names) > 1 else []  # a single curve needs no legend
    columns = 2 if max(map(len, names), default=0) <= LONGEST_NAME // 2 else 1
    rows = math.ceil(len(names) / columns)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The reader's own fonts write the names, so that ours need not have every letter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH, HEIGHT + ROW * rows), layout="constrained")
        axes = figure.add_subplot(xlabel=printable(chart.x_label), ylabel=printable(chart.y_label))
        axes.grid(visible=True)
        drawn = [draw_line(axes, chart, line, number) for number, line in enumerate(chart.lines)]
        for number, mark in enumerate(chart.marks):
            dashes = MARK_DASHES[number % len(MARK_DASHES)]
            drawn.append(axes.axvline(mark.x, color=INK, linewidth=1.2, linestyle=dashes))
        limit_axes(axes, chart)
        if names:
            figure.legend(drawn, names, loc="outside lower center", ncols=columns)
        return write_svg(figure, chart.title)


def draw_line(axes: Any, chart: Chart, line: Line, number: int) -> Any:
    """Draw one curve with its interval and return its line for the legend."""
    x, y = on_axis(line.x, log=chart.log_x), on_axis(line.y, log=chart.log_y)
    colour = COLOURS[number % len(COLOURS)]
    points = chart.style == "points"
    step = None if chart.style in ("line", "points") else "post"
    (drawn,) = axes.plot(
        x,
        y,
        color=colour,
        linestyle=DASHES[number % len(DASHES)],
        drawstyle="steps-post" if step else "default",
        marker=MARKERS[number % len(MARKERS)] if points or len(line.x) == 1 else "",
        markersize=4,
    )
    if chart.style == "filled":
        axes.fill_between(x, y, step=step, color=colour, alpha=0.25, linewidth=0)
    if line.low is not None and line.high is not None:
        low, high = on_axis(line.low, log=chart.log_y), on_axis(line.high, log=chart.log_y)
        if points:
            axes.vlines(x, low, high, color=colour, linewidth=1)
        else:
            axes.fill_between(x, low, high, step=step, color=colour, alpha=0.18, linewidth=0)
    return drawn


def on_axis(values: Numbers, *, log: bool) -> Numbers:
    """Return the values, NaN where they have no place on the axis."""
    return np.where(values > 0, values, np.nan) if log else values


def limit_axes(axes: Any, chart: Chart) -> None:
    """Set the ranges and scales of the axes."""
    if chart.diagonal:
        axes.axline((0, 0), slope=1, color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
    if chart.log_x:
        axes.set_xlim(0.1, 1)  # else Matplotlib warns of a curve of one point
        axes.set_xscale("log")
        limit_log(axes.xaxis, axes.set_xlim, [line.x for line in chart.lines])
    elif chart.style == "points" and all(np.all(line.x == np.floor(line.x)) for line in chart.lines):
        places = np.unique(np.concatenate([np.zeros(0), *(line.x for line in chart.lines)]))
        axes.set_xticks(places[:: math.ceil(len(places) / MOST_TICKS) or 1])
    if chart.log_y:
        axes.set_ylim(0.1, 1)
        axes.set_yscale("log")
        limit_log(axes.yaxis, axes.set_ylim, [line.y for line in chart.lines])
    elif chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    elif chart.style == "filled":
        axes.set_ylim(bottom=0)
    if not any(np.isfinite(on_axis(line.y, log=chart.log_y)).any() for line in chart.lines):
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", va="center")


def limit_log(axis: Any, set_limits: Callable[[float, float], Any], values: Sequence[Numbers]) -> None:
    """Show whole powers of ten, each with its name."""
    joined = np.concatenate([np.zeros(0), *values])
    shown = np.log10(joined[np.isfinite(joined) & (joined > 0)])
    low, high = (math.floor(shown.min() + 1e-9), math.ceil(shown.max() - 1e-9)) if len(shown) else (-3, 0)
    low = min(low, high - 1)
    set_limits(10.0**low, 10.0**high)
    every = math.ceil((high - low) / MOST_POWERS)
    axis.set_major_locator(FixedLocator([10.0**power for power in range(low, high + 1, every)]))
    axis.set_major_formatter(FuncFormatter(name_power))
    axis.set_minor_formatter(NullFormatter())


def name_power(value: float, _place: int | None = None) -> str:
    """Return a power of ten as people write it: 0.1, 0.01, 10⁻³, 10⁻⁴."""
    power = round(math.log10(value))
    return f"{value:g}" if -2 <= power <= 3 else "10" + str(power).translate(SUPERSCRIPT)


def write_svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element with a title, our theme, and nothing of this machine or day."""
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    start = svg.index("<svg")
    end = svg.index(">", start) + 1
    body = svg[end:].replace(f": {INK}", ": currentColor")
    body = POINT.sub(lambda point: f"L {float(point[1]):.2f} {float(point[2]):.2f}", body)
    return f"{svg[start:end]}\n <title>{html.escape(printable(title))}</title>\n {THEME}{body}"


def shorten(name: str) -> str:
    """Return a name cut to the room of a legend."""
    text = printable(name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def printable(text: str) -> str:
    """Return text with everything escaped that is not a letter, a sign or a space."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
