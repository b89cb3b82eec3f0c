"""A report with another run beside it, in its tables, plots and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sameface.evaluation.bootstrap import REPEATS
from sameface.evaluation.charts import Chart, Line
from sameface.evaluation.compare import Difference, compare_numbers, compare_pairs, compare_people, join_pairs
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.report import EvaluationReport, ReportTable, percent, read_json, report_record

SHOWN_LINES = 2  # of a chart; where there are more, only the first is drawn for both runs
MANY_TESTS = "each interval errs in one case of twenty: of many measures one may look real by chance"
SAME_PIPELINE = "both runs used the same pipeline: differences come from the pictures or the choices"

Record = Mapping[str, Any]


def compare_reports(
    report: EvaluationReport, path: Path, *, repeats: int = REPEATS, seed: int = 0
) -> EvaluationReport:
    """Return a report with another run beside it.

    Args:
        report: Of this run.
        path: The JSON of the other.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.

    Raises:
        ProtocolError: The other report is of another kind or not whole, or has nothing in common with this.
    """
    theirs = read_other(path, report)
    found = find_differences(report_record(report)["data"], theirs["data"], repeats=repeats, seed=seed)
    if not found:
        raise ProtocolError(str(path), "it has no pairs, people or measures in common with this run")
    name = str(theirs["facts"].get("weights", path.name))
    notes = [MANY_TESTS] if any(one.tested for one in found) else []
    notes += [SAME_PIPELINE] if report.facts.get("signature") == theirs["facts"].get("signature") else []
    both = replace(
        report,
        tables=(difference_table(name, found), *report.tables),
        data=dict(report.data) | {"compared_with": name, "differences": [difference_data(one) for one in found]},
        warnings=(*report.warnings, *notes),
    )
    return overlay_charts(both, theirs)


def read_other(path: Path, report: EvaluationReport) -> dict[str, Any]:
    """Return the other report, after a check of everything that the comparison needs.

    Raises:
        ProtocolError: It is of another kind, or not whole.
    """
    theirs = read_json(path)
    if theirs.get("kind") != report.kind:
        reason = f"it is a report of {theirs.get('kind')!r}, this one is of {report.kind!r}"
        raise ProtocolError(str(path), reason)
    for name in ("facts", "data"):
        if not isinstance(theirs.get(name), dict):
            raise ProtocolError(str(path), f"not a whole report: {name} is missing")
    if "pairs" in report.data:
        pairs = theirs["data"].get("pairs")
        check_entries(path, "pairs", enumerate(pairs) if isinstance(pairs, list) else None, is_pair)
    if "by_person" in report.data:
        measures = theirs["data"].get("by_person")
        whole = isinstance(measures, dict) and all(isinstance(counts, dict) for counts in measures.values())
        entries = [entry for counts in measures.values() for entry in counts.items()] if whole else None
        check_entries(path, "by_person", entries, is_count)
    return theirs


def check_entries(
    path: Path, name: str, found: Iterable[tuple[Any, Any]] | None, is_one: Callable[[Any], bool]
) -> None:
    """Check that the entries are there, by their places, and that each is whole.

    Raises:
        ProtocolError: They are not.
    """
    if found is None:
        raise ProtocolError(str(path), f"not a whole report: {name} are missing")
    for place, entry in found:
        if not is_one(entry):
            raise ProtocolError(str(path), f"not a whole report: {name} {place!r} is {entry!r}")


def is_pair(entry: object) -> bool:
    """Return whether this is a, b, same, person a, person b, distance or null, right."""
    match entry:
        case [str(), str(), bool(), str(), str(), float() | int() | None, bool()]:
            return True
    return False


def is_count(entry: object) -> bool:
    """Return whether these are the right pairs and all pairs of a person."""
    match entry:
        case [float() | int(), float() | int()]:
            return True
    return False


def find_differences(ours: dict[str, Any], theirs: dict[str, Any], *, repeats: int, seed: int) -> list[Difference]:
    """Return the measures that both runs have, with a paired test where pairs or people allow one."""
    if "pairs" in ours:
        twins = join_pairs(ours["pairs"], theirs["pairs"])
        return [] if twins is None else compare_pairs(twins, repeats=repeats, seed=seed)
    if "by_person" in ours:
        tested = compare_people(ours["by_person"], theirs["by_person"], repeats=repeats, seed=seed)
        return [*tested, *compare_chosen(ours, theirs)]
    return list(compare_numbers(ours, theirs))


def compare_chosen(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Difference]:
    """Yield the measures of chosen groups that are no sums over people, without a test."""
    match ours, theirs:
        case {"chosen": {"measures": dict(own)}}, {"chosen": {"measures": dict(others)}}:
            yield from compare_numbers({name: own[name] for name in own if name not in ours["by_person"]}, others)


def difference_table(name: str, found: Sequence[Difference]) -> ReportTable:
    """Return both runs side by side."""
    rows = tuple(
        (one.name, format_value(one, one.ours), format_value(one, one.theirs), format_gain(one), format_verdict(one))
        for one in found
    )
    return ReportTable(f"Compared with {name}", ("measure", "this", "other", "difference", "is it real?"), rows)


def format_value(difference: Difference, value: float) -> str:
    """Return a value; a tested measure is a part of 1."""
    return percent(value) if difference.tested else f"{value:.4g}"


def format_gain(difference: Difference) -> str:
    """Return the difference with its interval, in points of percent where it is tested."""
    gain = difference.gain
    if not difference.tested:
        return f"{gain.value:+.4g}"
    return f"{100 * gain.value:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f}) points"


def format_verdict(difference: Difference) -> str:
    """Return whether the difference is more than chance."""
    if not difference.tested:
        return "not tested"
    if not difference.gain.low and not difference.gain.high:
        return "no difference"
    verdict = "real" if difference.real else "may be chance"
    return verdict if difference.chance is None else f"{verdict} (McNemar: p = {difference.chance:.2g})"


def difference_data(difference: Difference) -> dict[str, Any]:
    """Return a difference as numbers."""
    return {
        "measure": difference.name,
        "ours": difference.ours,
        "theirs": difference.theirs,
        "gain": difference.gain,
        "p": difference.chance,
        "real": difference.real if difference.tested else None,
    }


def overlay_charts(ours: EvaluationReport, theirs: Record) -> EvaluationReport:
    """Return our report with the curves of the other run beside its own, each called after its model.

    Args:
        ours: This run.
        theirs: The JSON of the other one; a plot that it does not have stays as it is.

    Raises:
        ProtocolError: The curves of the other run are not in our format.
    """
    facts, charts = theirs.get("facts", {}), theirs.get("charts", [])
    if not isinstance(facts, dict) or not isinstance(charts, list) or not all(map(is_chart, charts)):
        raise ProtocolError("the other report", "its plots are not whole")
    first, second = (str(each.get("weights", "weights")).split(" (")[0] for each in (ours.facts, facts))
    names = (first, second) if first != second else (f"{first}, this run", f"{second}, other run")
    return replace(ours, charts=tuple(overlay_chart(chart, charts, names) for chart in ours.charts))


def overlay_chart(chart: Chart, others: Sequence[Record], names: tuple[str, str]) -> Chart:
    """Return the chart with the curves that the other run has under the same title and names."""
    found = next((other for other in others if other["title"] == chart.title), None)
    if found is None:
        return chart
    shown = chart.lines if len(chart.lines) <= SHOWN_LINES else chart.lines[:1]
    wanted = {line.name for line in shown}
    both = [(names[0], line) for line in shown]
    both += [(names[1], read_line(line)) for line in found["lines"] if line["name"] in wanted]
    # The only curve of a plot is called after the model alone.
    lines = [replace(line, name=model if len(shown) == 1 else f"{model}: {line.name}") for model, line in both]
    return replace(chart, lines=tuple(lines))


def read_line(record: Record) -> Line:
    """Return a curve of a JSON file; null is NaN."""
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
