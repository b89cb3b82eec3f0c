"""What the commands that work on many pictures share: options, sources, progress, and how a run goes on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import rich.progress
from rich.console import Console

from sameface.batch import Journal, Picture, Result, count_pictures, open_pictures
from sameface.cli import BadInputError
from sameface.cli.options import Command, recognizer_options
from sameface.cli.output import count

COLUMNS = ("{task.description}", rich.progress.BarColumn(), "{task.completed} of {task.total}", "{task.fields[told]}")


def batch_options(command: Command) -> Command:
    """Add --workers and the options that shape the pipeline; of several workers each takes one core."""
    whole = recognizer_options(command)

    @functools.wraps(whole)
    def with_threads(*, workers: int, **choices: Any) -> Any:
        if workers > 1 and choices["threads"] is None:
            choices["threads"] = 1
        return whole(workers=workers, **choices)

    option: Callable[[Command], Command] = click.option(
        "--workers",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        help="Processes that search pictures, each on one core if --threads says nothing else.",
    )
    return option(with_threads)


def check_sources(sources: Sequence[str]) -> None:
    """Refuse a folder without a picture before the work begins."""
    for source in sources:
        if Path(source).is_dir() and next(open_pictures([source]), None) is None:
            raise click.UsageError(f"no pictures in the folder {source!r}")


def open_named(sources: Sequence[str], person: str = "") -> Iterator[Picture]:
    """Yield the pictures that were named; `-` stands for stdin. A person given is on every one."""
    for source in sources:
        found = [read_stdin()] if source == "-" else open_pictures([source])
        for picture in found:
            yield replace(picture, person=person) if person else picture


def read_stdin() -> Picture:
    """Return the picture on stdin, which is read when its turn comes."""
    return Picture("-", sys.stdin.buffer.read)


def count_named(sources: Sequence[str]) -> int:
    """Return how many pictures were named."""
    return count_pictures(source for source in sources if source != "-") + sources.count("-")


class Tally:
    """What a run has come across.

    Attributes:
        pictures: How many there were.
        failures: Why some gave nothing.
        same: How many have the content of an earlier one.
        known: How many were searched in an earlier run.
    """

    def __init__(self) -> None:
        self.pictures = 0
        self.failures: list[str] = []
        self.same = 0
        self.known = 0

    @property
    def told(self) -> str:
        """What a person who watches is told beside the bar."""
        return f"{len(self.failures)} skipped" if self.failures else ""

    def add(self, result: Result) -> None:
        """Count one."""
        self.pictures += 1
        if result.failure is not None:
            self.failures.append(result.failure.reason)
        self.same += bool(result.same_as)
        self.known += result.found is not None and not result.new and not result.same_as

    def print_shortcuts(self) -> None:
        """Tell on stderr how many pictures were not searched, because their content was known."""
        if self.known:
            click.echo(f"{count(self.known, 'picture')} searched in an earlier run", err=True)
        if self.same:
            has = "picture has" if self.same == 1 else "pictures have"
            click.echo(f"{self.same} {has} the content of an earlier one: searched once", err=True)


def follow(
    results: Generator[Result, None, None], total: Callable[[], int], tally: Tally
) -> Generator[Result, None, None]:
    """Yield every result and count it; show who watches how far the work is and how long it will take.

    Close it where the work may end before it does.
    """
    console = Console(stderr=True)
    whole = total() if console.is_terminal else 0
    with (
        closing(results),
        rich.progress.Progress(
            *COLUMNS, rich.progress.TimeRemainingColumn(), console=console, transient=True, disable=whole < 2
        ) as bar,
    ):
        task = bar.add_task("pictures", total=whole, told="")
        for result in results:
            tally.add(result)
            yield result
            bar.update(task, advance=1, told=tally.told)


@contextmanager
def unfinished(output: Path) -> Iterator[Journal]:
    """Keep what is done beside the output until that is there; the same command goes on from it."""
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
