"""What the commands that measure share: options, embedding with progress, and how a report is handed over."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sameface.cli.options import Command, cache_option, json_option, recognizer_options
from sameface.cli.output import print_json, print_table, progress
from sameface.evaluation.bootstrap import REPEATS
from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.compare_report import compare_reports
from sameface.evaluation.pictures import NO_FACE, Change, EmbeddedPictures, FacePolicy, PictureEmbedder
from sameface.evaluation.report import EvaluationReport, percent, report_record, write_json
from sameface.recognizer import Recognizer

SHARED = (
    cache_option,
    click.option(
        "--face",
        "policy",
        type=click.Choice(["central", "largest"]),
        default="central",
        show_default=True,
        help="Which face of a picture that holds several.",
    ),
    click.option(
        "--report",
        "report_path",
        type=click.Path(dir_okay=False),
        help="Write one HTML file with tables and plots, and its numbers beside it as .json.",
    ),
    click.option("--show-faces", is_flag=True, help="Show pairs judged wrongly in the report: people's faces."),
    click.option("--compare", type=click.Path(exists=True, dir_okay=False), help="The .json of another run."),
    click.option("--seed", default=0, show_default=True, help="For every random draw."),
    click.option(
        "--repeats",
        type=click.IntRange(min=2),
        default=REPEATS,
        show_default=True,
        help="How often people are drawn for an interval.",
    ),
    json_option,
)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The choices that every measuring command has.

    Attributes:
        recognizer: What is measured.
        cache: Where embeddings are kept.
        policy: Which face of a picture counts.
        report_path: Where to write the report, or None.
        show_faces: Show the faces of pairs that were judged wrongly in it.
        compare: The numbers of another run, or None.
        as_json: Print the numbers and not the tables.
        seed: For every random draw.
        repeats: Draws for an interval.
    """

    recognizer: Recognizer
    cache: str
    policy: FacePolicy
    report_path: str | None
    show_faces: bool
    compare: str | None
    as_json: bool
    seed: int
    repeats: int

    @contextmanager
    def enroller(self) -> Iterator[PictureEmbedder]:
        """Hold the cache open."""
        with EmbeddingCache.open(self.cache) as cache:
            yield PictureEmbedder(self.recognizer, cache, self.policy)

    def embed(self, paths: Sequence[str], *, change: Change | None = None, name: str = "") -> EmbeddedPictures:
        """Return the rows of pictures, and tell how much was computed."""
        with self.enroller() as enroller:
            found = list(enroller.embed_all(progress(paths), change=change, name=name))
        computed = sum(one.computed for one in found)
        click.echo(f"{computed:,} of {len(found):,} pictures embedded, the rest remembered", err=True)
        return EmbeddedPictures(found)

    def facts(self, found: EmbeddedPictures, **more: str) -> dict[str, str]:
        """Return what was measured, with what, and how many pictures or videos failed to enrol."""
        manifest = self.recognizer.embedder.model.manifest
        failed, count = len(found.failures), len(found.enrolled)
        return {
            "weights": f"{manifest.name} (sha-256 {manifest.sha256[:12]}…)",
            "signature": self.recognizer.signature,
            "face that counts": self.policy,
            **more,
            "failures to enrol": f"{failed:,} of {count:,} ({percent(failed / max(count, 1))})",
        }

    def finish(self, report: EvaluationReport) -> None:
        """Print the report, write it if asked to, and end with 3 if a picture could not be used."""
        if self.compare is not None:
            report = compare_reports(report, Path(self.compare), repeats=self.repeats, seed=self.seed)
        if self.report_path is not None:
            write_report(report, Path(self.report_path))
        if self.as_json:
            print_json(report_record(report))
        else:
            print_report(report)
        finish_skipped(report.failures)


def finish_skipped(failures: Sequence[str]) -> None:
    """List the pictures that were skipped; end with 3 if one of them could not be read."""
    for reason in failures:
        click.echo(f"skipped: {reason}", err=True)
    if failures:
        click.echo(f"{len(failures)} skipped", err=True)
    if any(not reason.endswith(NO_FACE) for reason in failures):
        click.get_current_context().exit(3)


def check_report(path: Path, compare: str | None) -> None:
    """Refuse a report that could not be written, before the work is done.

    Raises:
        click.UsageError: It could not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--report needs Matplotlib: pip install 'sameface[evaluate]'")
    if path.suffix == ".json":
        raise click.UsageError("--report is a page: its numbers go beside it, give it a name that ends in .html")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {str(path.parent)!r}")
    if compare is not None and path.with_suffix(".json").absolute() == Path(compare).absolute():
        raise click.UsageError(f"--report would overwrite {compare!r}, which it is compared with: rename one")


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the page, and its numbers beside it as .json."""
    from sameface.evaluation.report_html import write_html  # only now: Matplotlib takes half a second

    write_html(report, path)
    write_json(report, path.with_suffix(".json"))
    click.echo(f"written: {path} and {path.with_suffix('.json').name}", err=True)


def print_report(report: EvaluationReport) -> None:
    """Print what was measured and every table."""
    for name, text in report.facts.items():
        click.echo(f"{name}: {text}")
    for warning in report.warnings:
        click.echo(f"note: {warning}")
    for table in report.tables:
        click.echo(f"\n{table.title}")
        print_table(table.columns, table.rows)


def measuring_options(command: Command) -> Command:
    """Add the shared options and those of the pipeline; the command gets them as one `run`."""

    @functools.wraps(command)
    def with_run(*, recognizer: Recognizer, **rest: Any) -> Any:
        if rest["report_path"] is not None:
            check_report(Path(rest["report_path"]), rest["compare"])
        if rest["show_faces"] and rest["report_path"] is None:
            raise click.UsageError("--show-faces needs --report")
        names = ("cache", "policy", "report_path", "show_faces", "compare", "as_json", "seed", "repeats")
        shared = {name: rest.pop(name) for name in names}
        return command(run=Run(recognizer=recognizer, **shared), **rest)

    wrapped = recognizer_options(with_run)
    for option in reversed(SHARED):
        wrapped = option(wrapped)
    return wrapped
