"""What an evaluation hands back: facts, tables and charts for people, numbers for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameface.atomic import replace_file
from sameface.errors import ProtocolError
from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.roc import Flags, Numbers, Roc

FORMAT = 1  # of the JSON file
BINS = 60


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve, with its interval where there is one.

    Attributes:
        name: For the legend.
        x: `(k,) float64`.
        y: `(k,) float64`.
        low: `(k,) float64` the lower end of the interval, or None.
        high: `(k,) float64` the upper end, or None.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one evaluation.

    Attributes:
        kind: Which evaluation: `pairs`, `holdout` and so on.
        facts: What was measured, with what.
        tables: The measures.
        charts: The curves.
        data: The measures as numbers, and what `compare_reports` needs. JSON can hold all of it.
        failures: Pictures without an embedding, and why.
        warnings: What a reader must know before the numbers.
    """

    kind: str
    facts: Mapping[str, str]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    data: Mapping[str, Any]
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plain(value: Any) -> Any:
    """Return a value as JSON holds it; what is not defined becomes null."""
    if isinstance(value, Estimate):
        return {"value": plain(value.value), "low": plain(value.low), "high": plain(value.high)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def report_record(report: Report) -> dict[str, Any]:
    """Return a report as one JSON object."""
    return {
        "format": FORMAT,
        "kind": report.kind,
        "facts": dict(report.facts),
        "warnings": list(report.warnings),
        "failures": list(report.failures),
        "data": plain(report.data),
    }


def write_json(report: Report, path: Path) -> None:
    """Write a report for programs, and for a later comparison."""
    with replace_file(path) as part:
        part.write_text(json.dumps(report_record(report), ensure_ascii=False), "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ProtocolError(str(path), f"not the JSON of a report ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ProtocolError(str(path), "not the JSON of a report of this version")
    return record


def percent(value: float, digits: int = 2) -> str:
    """Return a part of 1 in percent."""
    return "not defined" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def with_interval(estimate: Estimate) -> str:
    """Return a part of 1 in percent with its interval."""
    if math.isnan(estimate.value):
        return "not defined"
    return f"{percent(estimate.value)} ({100 * estimate.low:.2f} to {100 * estimate.high:.2f})"


def roc_charts(curves: Mapping[str, Roc]) -> tuple[Chart, ...]:
    """Return ROC and DET with a logarithmic false-accept rate; a rate of 0 has no place there."""
    roc, det = [], []
    for name, curve in curves.items():
        shown = curve.far > 0
        far, val = curve.far[shown], curve.val[shown]
        roc.append(Line(name, far, val))
        missed = val < 1
        det.append(Line(name, far[missed], 1 - val[missed]))
    return (
        Chart("ROC", "false-accept rate (FAR)", "validation rate (VAL)", tuple(roc), log_x=True),
        Chart("DET", "false-accept rate (FAR)", "1 - VAL", tuple(det), log_x=True, log_y=True),
    )


def histogram_chart(distance: Numbers, same: Flags) -> Chart:
    """Return how the distances of both kinds of pairs are spread."""
    edges = np.linspace(0, max(float(distance.max(initial=0.0)), 1e-6), BINS + 1)
    lines = []
    for name, part in (("one person", distance[same]), ("different people", distance[~same])):
        counts, _ = np.histogram(part, edges)
        lines.append(Line(name, edges[:-1], counts / max(len(part), 1)))
    return Chart("Distances", "squared distance", "part of the pairs", tuple(lines), steps=True)


def estimate_line(name: str, x: Sequence[float], estimates: Sequence[Estimate]) -> Line:
    """Return a curve of estimates with their intervals."""
    return Line(
        name,
        np.array(x, np.float64),
        np.array([estimate.value for estimate in estimates]),
        np.array([estimate.low for estimate in estimates]),
        np.array([estimate.high for estimate in estimates]),
    )
