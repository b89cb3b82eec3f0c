"""What the commands on many pictures share: the option --workers, sources, progress, and resuming a run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TimeRemainingColumn

from sameface.batch import Journal, Picture, Result, count_pictures, open_pictures
from sameface.cli import BadInputError
from sameface.cli.options import Command, Option, positive, recognizer_options
from sameface.cli.output import count, progress_bar


def batch_options(command: Command) -> Command:
    """Add --workers and the options of the recognizer; each of several workers takes one core."""
    whole = recognizer_options(command)

    @functools.wraps(whole)
    def with_threads(*, workers: int, **options: Any) -> Any:
        if workers > 1 and options["threads"] is None:
            options["threads"] = 1
        return whole(workers=workers, **options)

    option: Option = click.option(
        "--workers",
        default=1,
        type=positive,
        help="Processes that search pictures, one core each unless --threads is given.",
    )
    return option(with_threads)


def check_sources(sources: Sequence[str]) -> None:
    """Refuse a folder without a picture before the work begins."""
    for source in sources:
        if Path(source).is_dir() and next(open_pictures([source]), None) is None:
            raise click.UsageError(f"no pictures in the folder {source!r}")


def open_named(sources: Sequence[str], person: str = "") -> Iterator[Picture]:
    """Yield the pictures of the sources, as those of `person` if one is given; `-` stands for stdin."""
    for source in sources:
        found = [Picture("-", sys.stdin.buffer.read)] if source == "-" else open_pictures([source])
        for picture in found:
            yield replace(picture, person=person) if person else picture


def count_named(sources: Sequence[str]) -> int:
    return count_pictures(source for source in sources if source != "-") + sources.count("-")


@dataclass(slots=True)
class Tally:
    """What happened to the pictures of a run."""

    pictures: int = 0
    failures: list[str] = field(default_factory=list)  # why some gave nothing
    same: int = 0  # pictures with the content of an earlier one
    known: int = 0  # pictures that an earlier run searched

    def add(self, result: Result) -> None:
        self.pictures += 1
        if result.failure is not None:
            self.failures.append(result.failure.reason)
        self.same += bool(result.same_as)
        self.known += result.found is not None and not result.new and not result.same_as

    def print_shortcuts(self) -> None:
        """Print on stderr how many pictures were not searched, because their content was known."""
        if self.known:
            click.echo(f"{count(self.known, 'picture')} searched in an earlier run", err=True)
        if self.same:
            has = "picture has" if self.same == 1 else "pictures have"
            click.echo(f"{self.same} {has} the content of an earlier one: searched once", err=True)


def follow(
    results: Generator[Result, None, None], total: Callable[[], int], tally: Tally
) -> Generator[Result, None, None]:
    """Yield and count every result, with a progress bar on a terminal. Close it to end the work early."""
    whole = total() if Console(stderr=True).is_terminal else 0
    columns = ("{task.description}", BarColumn(), "{task.completed} of {task.total}", "{task.fields[skipped]}")
    with closing(results), progress_bar(*columns, TimeRemainingColumn(), hidden=whole < 2) as bar:
        task = bar.add_task("pictures", total=whole, skipped="")
        for result in results:
            tally.add(result)
            yield result
            bar.update(task, advance=1, skipped=f"{len(tally.failures)} skipped" if tally.failures else "")


@contextmanager
def unfinished(output: Path) -> Iterator[Journal]:
    """Keep finished pictures in a journal beside the output, from which the same command resumes."""
    path = output.with_name(f"{output.name}.unfinished")
    journal = Journal.open(path)
    try:
        yield journal
    except BadInputError:
        journal.close(remove=True)  # another run would end in the same way
        raise
    except BaseException:
        journal.close()
        click.echo(f"what is done is kept in {path}: the same command goes on from there", err=True)
        raise
    journal.close(remove=True)
