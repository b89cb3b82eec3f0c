"""A report as one HTML file: it loads nothing from elsewhere and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from pathlib import Path

import jinja2

from sameface.atomic import replace_file
from sameface.evaluation.plots import draw_chart
from sameface.evaluation.report import EvaluationReport

TITLES = {
    "pairs": "Verification on pairs of pictures",
    "ytf": "Verification on pairs of videos",
    "holdout": "Verification on all pairs of a folder of people",
    "identification": "Identification",
    "clusters": "Clusters",
    "sweep": "How VAL falls with worse pictures",
    "calibration": "Calibration of the threshold",
}
SHOWN_ROWS = 20  # of a table; longer ones are folded up
FACES_NOTE = (
    "This file shows people's faces. Treat it as personal data: do not publish it or pass it on without their consent."
)


def data_address(kind: str, data: bytes) -> str:
    """Return data as an address that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("sameface.evaluation"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["jpeg_address"] = partial(data_address, "image/jpeg")
TEMPLATES.filters["keep_percent"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")


def write_html(report: EvaluationReport, path: Path) -> None:
    """Write the page whole or not at all."""
    page = to_html(report)
    with replace_file(path) as part:
        part.write_text(page, "utf-8", errors="backslashreplace")  # a file's name may hold any bytes


def to_html(report: EvaluationReport) -> str:
    """Return the page."""
    style = TEMPLATES.get_template("report.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Each plot is a picture of its own, so that the names inside two of them cannot meet.
    drawings = [draw_chart(chart).encode("utf-8", errors="backslashreplace") for chart in report.charts]
    return TEMPLATES.get_template("report.html").render(
        report=report,
        title=TITLES.get(report.kind, report.kind),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        notes=[FACES_NOTE, *report.warnings] if report.pictures else report.warnings,
        plots=list(zip(report.charts, (data_address("image/svg+xml", svg) for svg in drawings), strict=True)),
        shown_rows=SHOWN_ROWS,
    )
