"""The result of an evaluation: facts, tables and charts for people, numbers for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from sameface.arrays import Image
from sameface.atomic import replace_file
from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import Chart, Line
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
    """Two faces side by side, shown only on request."""

    first: bytes  # a JPEG
    second: bytes  # a JPEG
    caption: str  # the names of the pictures and the error


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The result of one evaluation."""

    kind: str  # `pairs`, `holdout` and so on
    facts: Mapping[str, str]  # the model, the pictures and the options
    tables: tuple[ReportTable, ...]
    charts: tuple[Chart, ...]
    data: Mapping[str, Any]  # the measures as numbers that JSON can hold, and the input of `compare_reports`
    failures: tuple[str, ...] = ()  # pictures without an embedding, and why
    warnings: tuple[str, ...] = ()  # to be read before the numbers
    pictures: tuple[PairThumbnails, ...] = ()  # pairs judged wrongly, for the page; never in the JSON


def to_jpeg(image: Image) -> bytes:
    """Return a picture, `(h, w, 3) uint8` RGB, as a small JPEG that holds nothing but the picture."""
    small = PIL.Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def plain(value: Any) -> Any:
    """Return a value as JSON holds it; undefined numbers become null."""
    if isinstance(value, Estimate | Line):
        return plain(asdict(value))
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
    """Return everything but tables and pictures of faces as a JSON object; its curves serve a later comparison."""
    return {
        "format": FORMAT,
        "kind": report.kind,
        "facts": dict(report.facts),
        "warnings": list(report.warnings),
        "failures": list(report.failures),
        "data": plain(report.data),
        "charts": [{"title": chart.title, "lines": plain(chart.lines)} for chart in report.charts],
    }


def write_json(report: EvaluationReport, path: Path) -> None:
    """Write a report for programs, and for a later comparison."""
    with replace_file(path) as part:
        text = json.dumps(report_record(report), ensure_ascii=False)
        part.write_text(text, "utf-8", errors="backslashreplace")  # a name that is no text comes back whole


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote.

    Raises:
        ProtocolError: The file holds something else.
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


def far_table(title: str, rows: Iterable[tuple[str, ...]], refused: Iterable[float]) -> ReportTable:
    """Return a table of VAL at FAR, with the rates that the pairs do not support."""
    needed = [(f"{far:g}", f"not supported: needs {round(1 / far):,} pairs of different people") for far in refused]
    columns = ("FAR", "VAL", "threshold", "false accepts behind it")
    return ReportTable(title, columns, (*rows, *((*row, "", "") for row in needed)))


def gap_table(by_slice: Mapping[str, Mapping[str, Estimate]]) -> ReportTable:
    """Return the largest gap between two slices in every measure; `by_slice` has the measures of each."""
    rows = []
    for name in dict.fromkeys(name for found in by_slice.values() for name in found):
        defined = [(found[name], group) for group, found in by_slice.items() if name in found]
        defined = [(estimate, group) for estimate, group in defined if not math.isnan(estimate.value)]
        if len(defined) >= 2:
            lowest, low = min(defined, key=lambda one: one[0].value)
            highest, high = max(defined, key=lambda one: one[0].value)
            overlap = "apart" if lowest.high < highest.low else "overlap"
            rows.append((name, percent(highest.value - lowest.value), low, high, overlap))
    columns = ("measure", "gap", "lowest", "highest", "intervals")
    return ReportTable("Largest gap between slices", columns, tuple(rows))
