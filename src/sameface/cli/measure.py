"""What the commands that measure share: options, embeddings of a folder of people, and reports."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from sameface.cli.options import (
    Command,
    Option,
    cache_option,
    existing_file,
    existing_folder,
    join_options,
    json_option,
    new_file,
    recognizer_options,
)
from sameface.cli.output import print_json, print_skipped, print_table, progress
from sameface.evaluation.bootstrap import REPEATS
from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.compare import compare_reports
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.pictures import NO_FACE, Change, EmbeddedPictures, FacePolicy, PictureEmbedder, gather_people
from sameface.evaluation.protocols import PeopleSet, read_people, read_slices
from sameface.evaluation.report import EvaluationReport, percent, report_record, write_json
from sameface.recognizer import Recognizer

folder_argument = click.argument("folder", type=existing_folder, metavar="PEOPLE_FOLDER")
slices_option = click.option("--slices", type=existing_file, help="A CSV file with the columns person and --slice-by.")
slice_options: Option = join_options(click.option("--slice-by", help="The column of --slices."), slices_option)
run_options = join_options(
    cache_option,
    click.option(
        "--face",
        "policy",
        type=click.Choice(["central", "largest"]),
        default="central",
        help="Which of several faces counts.",
    ),
    click.option(
        "--report",
        "report_path",
        type=new_file,
        help="Write an HTML page with tables and plots, and its numbers as .json.",
    ),
    click.option("--show-faces", is_flag=True, help="Show misjudged pairs in the report: people's faces."),
    click.option("--compare", type=existing_file, help="The .json of another run."),
    click.option("--seed", default=0, help="Seed of every random draw."),
    click.option("--repeats", type=click.IntRange(min=2), default=REPEATS, help="Bootstrap samples of people."),
    json_option,
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EvaluationRun:
    """The recognizer to measure, and the options of every measuring command."""

    recognizer: Recognizer
    cache: str
    policy: FacePolicy = "central"
    report_path: Path | None = None
    show_faces: bool = False  # the faces of pairs that were judged wrongly, in the report
    compare: Path | None = None  # the numbers of another run
    as_json: bool = False
    seed: int = 0
    repeats: int = REPEATS  # draws for an interval

    @contextmanager
    def embedder(self) -> Iterator[PictureEmbedder]:
        """Hold the cache open."""
        with EmbeddingCache.open(self.cache) as cache:
            yield PictureEmbedder(self.recognizer, cache, self.policy)

    def embed(self, paths: Sequence[str], *, change: Change | None = None, name: str = "") -> EmbeddedPictures:
        """Return the embeddings of pictures, and print how many were computed."""
        with self.embedder() as embedder:
            found = list(embedder.embed_all(progress(paths), change=change, name=name))
        computed = sum(one.computed for one in found)
        click.echo(f"{computed:,} of {len(found):,} pictures embedded, the rest remembered", err=True)
        return EmbeddedPictures(found)

    def facts(self, found: EmbeddedPictures, **more: str) -> dict[str, str]:
        """Return what was measured, with what, and how many pictures or videos failed to enrol."""
        manifest = self.recognizer.embedder.model.manifest
        failed, count = len(found.failures), len(found.pictures)
        return {
            "weights": f"{manifest.name} (sha-256 {manifest.sha256[:12]}…)",
            "signature": self.recognizer.signature,
            "face that counts": self.policy,
            **more,
            "failures to enrol": f"{failed:,} of {count:,} ({percent(failed / max(count, 1))})",
        }

    def finish(self, report: EvaluationReport, failures: Sequence[str]) -> None:
        """Print the report, write it if asked to, and end with 3 if a picture could not be used."""
        report = replace(report, failures=tuple(failures))
        if self.compare is not None:
            report = compare_reports(report, self.compare, repeats=self.repeats, seed=self.seed)
        if self.report_path is not None:
            write_report(report, self.report_path)
        if self.as_json:
            print_json(report_record(report))
        else:
            print_report(report)
        finish_skipped(failures)


def measuring_options(command: Command) -> Command:
    """Add the options of a run and of the recognizer; the command gets one `run`."""

    @functools.wraps(command)
    def with_run(**options: Any) -> Any:
        run = EvaluationRun(**{field.name: options.pop(field.name) for field in fields(EvaluationRun)})
        if run.report_path is not None:
            check_report(run.report_path, run.compare)
        elif run.show_faces:
            raise click.UsageError("--show-faces needs --report")
        return command(run=run, **options)

    return run_options(recognizer_options(with_run))


def check_report(path: Path, compare: Path | None) -> None:
    """Refuse a report that could not be written, before the work is done."""
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--report needs Matplotlib: pip install 'sameface[evaluate]'")
    if path.suffix == ".json":
        raise click.UsageError("--report is a page: its numbers go beside it, give it a name that ends in .html")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {str(path.parent)!r}")
    if compare is not None and path.with_suffix(".json").absolute() == compare.absolute():
        raise click.UsageError(f"--report would overwrite {str(compare)!r}, which it is compared with: rename one")


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the page, and its numbers beside it as .json."""
    from sameface.evaluation.report_html import write_html  # only now: Matplotlib takes half a second

    write_html(report, path)
    write_json(report, path.with_suffix(".json"))
    click.echo(f"written: {path} and {path.with_suffix('.json').name}", err=True)


def print_report(report: EvaluationReport) -> None:
    for name, text in report.facts.items():
        click.echo(f"{name}: {text}")
    for warning in report.warnings:
        click.echo(f"note: {warning}")
    for table in report.tables:
        click.echo(f"\n{table.title}")
        print_table(table.columns, table.rows)


def finish_skipped(failures: Sequence[str]) -> None:
    """List the pictures that were skipped; end with 3 if one of them could not be read."""
    print_skipped(failures)
    if any(not reason.endswith(NO_FACE) for reason in failures):
        click.get_current_context().exit(3)


class EmbeddedPeople(NamedTuple):
    """A folder of people, ready to be measured."""

    people: PeopleSet
    failures: list[str]
    facts: dict[str, str]


def embed_people(run: EvaluationRun, folder: Path) -> EmbeddedPeople:
    """Return the embeddings of a folder that holds one folder per person."""
    photos = read_people(folder)
    found = run.embed([photo.path for photo in photos])
    people = gather_people(photos, found)
    counted = f"{len(people.rows):,} pictures of {len(people.names):,} people in {folder.name}"
    return EmbeddedPeople(people, found.failures, run.facts(found, pictures=counted))


def embed_slices(
    run: EvaluationRun, folder: Path, slices: Path | None, slice_by: str | None
) -> tuple[EmbeddedPeople, dict[str, PeopleSet]]:
    """Return the embeddings of a folder, and the people by slice; the slice `""` is everybody.

    Raises:
        ProtocolError: The slices are of other people.
    """
    if (slices is None) != (slice_by is None):
        raise click.UsageError("--slices and --slice-by go together")
    groups = {} if slices is None or slice_by is None else read_slices(slices, slice_by)
    embedded = embed_people(run, folder)
    people = embedded.people
    if groups and not groups.keys() & set(people.names):
        raise ProtocolError(str(slices), f"it names nobody of the folder, such as {people.names[0]!r}")
    return embedded, {"": people} | (people.split(groups) if groups else {})
