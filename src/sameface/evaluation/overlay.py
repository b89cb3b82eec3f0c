"""The curves of another run in the same plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sameface.evaluation.charts import Chart, Line
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.report import EvaluationReport

SHOWN_LINES = 2  # of a chart; where there are more, only the first is drawn for both runs

Record = Mapping[str, Any]


def overlay_charts(ours: EvaluationReport, theirs: Record) -> EvaluationReport:
    """Return our report with the curves of the other run beside its own, each called after its model.

    Args:
        ours: This run.
        theirs: The JSON of the other one; a plot that it does not have stays as it is.

    Raises:
        ProtocolError: The curves of the other run are not what we wrote.
    """
    facts, charts = theirs.get("facts", {}), theirs.get("charts", [])
    if not isinstance(facts, dict) or not isinstance(charts, list) or not all(map(is_chart, charts)):
        raise ProtocolError("the other report", "its plots are not whole")
    names = name_models(ours.facts, facts)
    return replace(ours, charts=tuple(overlay_chart(chart, charts, names) for chart in ours.charts))


def name_models(ours: Mapping[str, str], theirs: Record) -> tuple[str, str]:
    """Return what to call the two: the names of their weights, unless those are equal."""
    first, second = (str(facts.get("weights", "weights")).split(" (")[0] for facts in (ours, theirs))
    return (first, second) if first != second else (f"{first}, this run", f"{second}, other run")


def overlay_chart(chart: Chart, others: Sequence[Record], names: tuple[str, str]) -> Chart:
    """Return the chart with the curves that the other run has under the same title and names."""
    found = next((other for other in others if other["title"] == chart.title), None)
    if found is None:
        return chart
    shown = chart.lines if len(chart.lines) <= SHOWN_LINES else chart.lines[:1]
    wanted = {line.name for line in shown}
    lines = [replace(line, name=name_line(line.name, names[0], shown)) for line in shown]
    lines += [
        replace(read_line(line), name=name_line(line["name"], names[1], shown))
        for line in found["lines"]
        if line["name"] in wanted
    ]
    return replace(chart, lines=tuple(lines))


def name_line(name: str, model: str, shown: Sequence[Line]) -> str:
    """Return the name of a curve with its model; a plot's only curve is the model's."""
    return model if len(shown) == 1 else f"{model}: {name}"


def read_line(record: Record) -> Line:
    """Return a curve of a JSON file; null is what is not defined."""
    x, y = (np.array(record[side], np.float64) for side in ("x", "y"))
    low, high = (None if record[end] is None else np.array(record[end], np.float64) for end in ("low", "high"))
    return Line(record["name"], x, y, low, high)


def is_chart(record: object) -> bool:
    """Return whether this is a chart as the report writes it."""
    match record:
        case {"title": str(), "lines": [*lines]}:
            return all(map(is_line, lines))
    return False


def is_line(record: object) -> bool:
    """Return whether this is a curve: as many numbers in each column, though the interval may be absent."""
    match record:
        case {"name": str(), "x": [*x], "y": [*y], "low": low, "high": high}:
            columns = [x, y, *(end for end in (low, high) if end is not None)]
            return all(is_column(column, len(x)) for column in columns)
    return False


def is_column(values: object, length: int) -> bool:
    """Return whether these are so many numbers, or null where one is not defined."""
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
