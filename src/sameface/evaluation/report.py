"""What an evaluation hands back: facts, tables and charts for people, numbers for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from sameface.arrays import Image
from sameface.atomic import replace_file
from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import Chart
from sameface.evaluation.errors import ProtocolError

FORMAT = 1  # of the JSON file
THUMBNAIL = 128


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class PairThumbnails:
    """Two faces side by side. They are shown only when somebody asks for them.

    Attributes:
        first: A JPEG.
        second: A JPEG.
        caption: Whose they are, and what is wrong.
    """

    first: bytes
    second: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The result of one evaluation.

    Attributes:
        kind: Which evaluation: `pairs`, `holdout` and so on.
        facts: What was measured, with what.
        tables: The measures.
        charts: The curves.
        data: The measures as numbers, and what `compare_reports` needs. JSON can hold all of it.
        failures: Pictures without an embedding, and why.
        warnings: What a reader must know before the numbers.
        pictures: Pairs that were judged wrongly, for the page; never in the JSON.
    """

    kind: str
    facts: Mapping[str, str]
    tables: tuple[ReportTable, ...]
    charts: tuple[Chart, ...]
    data: Mapping[str, Any]
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pictures: tuple[PairThumbnails, ...] = ()


def pair_pictures(a: Image, b: Image, caption: str) -> PairThumbnails:
    """Return two faces for the page.

    Args:
        a: `(h, w, 3) uint8` RGB.
        b: `(h, w, 3) uint8` RGB.
        caption: Whose they are, and what is wrong.
    """
    return PairThumbnails(to_thumbnail(a), to_thumbnail(b), caption)


def to_thumbnail(image: Image) -> bytes:
    """Return a picture as a small JPEG that holds nothing but the picture."""
    small = PIL.Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


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


def report_record(report: EvaluationReport) -> dict[str, Any]:
    """Return a report as one JSON object."""
    return {
        "format": FORMAT,
        "kind": report.kind,
        "facts": dict(report.facts),
        "warnings": list(report.warnings),
        "failures": list(report.failures),
        "data": plain(report.data),
        "charts": [chart_record(chart) for chart in report.charts],
    }


def chart_record(chart: Chart) -> dict[str, Any]:
    """Return the curves of a chart as a JSON object, for a later comparison."""
    lines = [
        plain({"name": line.name, "x": line.x, "y": line.y, "low": line.low, "high": line.high})
        for line in chart.lines
    ]
    return {"title": chart.title, "lines": lines}


def write_json(report: EvaluationReport, path: Path) -> None:
    """Write a report for programs, and for a later comparison."""
    with replace_file(path) as part:
        text = json.dumps(report_record(report), ensure_ascii=False)
        part.write_text(text, "utf-8", errors="backslashreplace")  # a name that is no text comes back whole


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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


def gap_table(by_slice: Mapping[str, Mapping[str, Estimate]]) -> ReportTable:
    """Return the largest gap between two slices in every measure; `by_slice` has the measures of each."""
    rows = []
    for name in dict.fromkeys(name for found in by_slice.values() for name in found):
        gap = largest_gap({group: found[name] for group, found in by_slice.items() if name in found})
        if gap is not None:
            rows.append((name, percent(gap[2]), gap[0], gap[1], gap[3]))
    columns = ("measure", "gap", "lowest", "highest", "intervals")
    return ReportTable("Largest gap between slices", columns, tuple(rows))


def largest_gap(estimates: Mapping[str, Estimate]) -> tuple[str, str, float, str] | None:
    """Return the lowest and the highest slice, their difference, and whether their intervals overlap."""
    defined = {name: one for name, one in estimates.items() if not np.isnan(one.value)}
    if len(defined) < 2:
        return None
    low = min(defined, key=lambda name: defined[name].value)
    high = max(defined, key=lambda name: defined[name].value)
    apart = defined[low].high < defined[high].low
    return low, high, defined[high].value - defined[low].value, "apart" if apart else "overlap"
