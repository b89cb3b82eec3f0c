"""A report as one HTML file: it loads nothing from elsewhere and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from sameface.atomic import replace_file
from sameface.evaluation.charts import Chart
from sameface.evaluation.plots import draw_chart
from sameface.evaluation.report import EvaluationReport, PairThumbnails, ReportTable

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
STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--panel:#f6f8fa;
--note:#fff8c5;--note-line:#d4a72c}
@media (prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;
--panel:#161b22;--note:#272115;--note-line:#9e6a03}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--ground);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 1rem}
h2{font-size:1.2rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:0 0 .25rem}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.15rem 1rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
td,th,dd,figcaption{unicode-bidi:isolate}
.note{background:var(--note);border-left:.25rem solid var(--note-line);padding:.5rem .75rem;margin:1rem 0}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.4rem}
.wide:focus-visible{outline:2px solid #0969da}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .7rem;text-align:left;vertical-align:top;font-weight:400;max-width:28rem;min-width:3rem}
thead th{font-weight:600;background:var(--panel)}
tbody tr{border-top:1px solid var(--line)}
.plots,.faces{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr))}
.faces{grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr))}
figure{margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.4rem;background:var(--ground);
min-width:0}
.plots img{display:block;width:100%;height:auto;border-radius:.25rem}
.faces img{vertical-align:top;width:calc(50% - .25rem);height:auto;border-radius:.25rem}
.faces img+img{margin-left:.5rem}
figcaption{color:var(--soft);font-size:.85rem;margin-top:.5rem;overflow-wrap:anywhere}
summary{cursor:pointer;padding:.35rem 0}
ul{padding-left:1.25rem;overflow-wrap:anywhere}
@media print{.wide{overflow:visible}figure,tr{break-inside:avoid}}
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def write_html(report: EvaluationReport, path: Path) -> None:
    """Write the page whole or not at all."""
    page = to_html(report)
    with replace_file(path) as part:
        part.write_text(page, "utf-8", errors="backslashreplace")  # a file's name may hold any bytes


def to_html(report: EvaluationReport) -> str:
    """Return the page."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    sections = (
        show_facts(report),
        *(show_table(table) for table in report.tables),
        show_charts(report.charts),
        show_faces(report.pictures),
        show_failures(report.failures),
    )
    return PAGE.format(
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=f"sameface: {html.escape(TITLES.get(report.kind, report.kind))}",
        style=STYLE,
        body="\n".join(section for section in sections if section),
    )


def show_facts(report: EvaluationReport) -> str:
    """Return what was measured, and what a reader must know before the numbers."""
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>\n" for name, text in report.facts.items()
    )
    notes = [FACES_NOTE, *report.warnings] if report.pictures else report.warnings
    return "".join(
        [*(f'<p class="note" role="note">{html.escape(note)}</p>\n' for note in notes), f"<dl>{facts}</dl>"]
    )


def show_table(table: ReportTable) -> str:
    """Return a table under its heading; a long one is folded up."""
    title = html.escape(table.title)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    body = "\n".join(show_row(row) for row in table.rows)
    shown = (
        f'<div class="wide" role="region" aria-label="{title}" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )
    if not table.rows:
        shown = "<p>None.</p>"
    if len(table.rows) > SHOWN_ROWS:
        shown = f"<details><summary>{len(table.rows):,} rows</summary>\n{shown}</details>"
    return f"<section>\n<h2>{title}</h2>\n{shown}\n</section>"


def show_row(row: Sequence[str]) -> str:
    """Return a row; its first cell names it."""
    first, *rest = (html.escape(text.replace(" %", "\N{NO-BREAK SPACE}%")) for text in row)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>'


def show_charts(charts: Iterable[Chart]) -> str:
    """Return the plots, side by side where there is room."""
    plots = "\n".join(show_chart(chart) for chart in charts)
    return f'<section>\n<h2>Plots</h2>\n<div class="plots">\n{plots}\n</div>\n</section>' if plots else ""


def show_chart(chart: Chart) -> str:
    """Return one plot; as a picture of its own, so that the names inside two of them cannot meet."""
    curves = ", ".join(line.name for line in chart.lines)
    alt = html.escape(f"Plot of {chart.y_label} against {chart.x_label}: {curves}")
    svg = draw_chart(chart).encode("utf-8", errors="backslashreplace")
    source = data_address("image/svg+xml", svg)
    return (
        f'<figure><h3>{html.escape(chart.title)}</h3><img src="{source}" alt="{alt}">'
        f"<figcaption>{html.escape(chart.caption)}</figcaption></figure>"
    )


def show_faces(pictures: Sequence[PairThumbnails]) -> str:
    """Return the pairs of faces, or nothing if none were asked for."""
    figures = "\n".join(
        f'<figure><img src="{data_address("image/jpeg", pair.first)}" alt="first face">'
        f'<img src="{data_address("image/jpeg", pair.second)}" alt="second face">'
        f"<figcaption>{html.escape(pair.caption)}</figcaption></figure>"
        for pair in pictures
    )
    title = "Pairs judged wrongly, as pictures"
    return f'<section>\n<h2>{title}</h2>\n<div class="faces">\n{figures}\n</div>\n</section>' if figures else ""


def show_failures(failures: Sequence[str]) -> str:
    """Return the pictures that could not be used, and why."""
    if not failures:
        return ""
    items = "\n".join(f"<li>{html.escape(reason)}</li>" for reason in failures)
    title = f"Pictures that could not be used: {len(failures):,}"
    shown = f"<details><summary>show</summary><ul>\n{items}\n</ul></details>"
    return f"<section>\n<h2>{title}</h2>\n{shown}\n</section>"


def data_address(kind: str, data: bytes) -> str:
    """Return data as an address that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
