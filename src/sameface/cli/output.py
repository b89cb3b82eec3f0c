"""Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import rich.box
import rich.table
import rich.text
from rich.console import Console
from rich.progress import Progress, ProgressColumn, track

from sameface.errors import FaceError, ImageError
from sameface.face import Face
from sameface.picture_files import find_pictures

Item = TypeVar("Item")
Result = TypeVar("Result")


def list_pictures(paths: Iterable[str]) -> list[str]:
    """Return the paths, each folder replaced by the pictures in it; `-` stands for stdin."""
    found: list[str] = []
    for path in paths:
        inside = [str(picture) for picture in find_pictures(path)] if Path(path).is_dir() else [path]
        if not inside:
            raise click.UsageError(f"no pictures in the folder {path!r}")
        found += inside
    return found


def open_source(path: str) -> str | bytes:
    """Return what `read_image` takes for a path of the command line."""
    return sys.stdin.buffer.read() if path == "-" else path


def each(items: Sequence[Item], work: Callable[[Item], Result], failures: list[str]) -> Iterator[tuple[Item, Result]]:
    """Yield every item with the result of `work`; the message of a bad picture goes to `failures` instead."""
    for item in progress(items):
        try:
            result = work(item)
        except (ImageError, FaceError) as error:
            failures.append(str(error))
        else:
            yield item, result


def progress(items: Sequence[Item]) -> Iterable[Item]:
    """Yield the items with a progress bar on stderr, on a terminal and for more than one item."""
    console = Console(stderr=True)
    if not console.is_terminal or len(items) < 2:
        return items
    return track(items, "pictures", console=console, transient=True)


def progress_bar(*columns: str | ProgressColumn, hidden: bool = False) -> Progress:
    """Return a progress bar on stderr; only a terminal shows it."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def print_skipped(failures: Sequence[str]) -> None:
    for reason in failures:
        click.echo(f"skipped: {reason}", err=True)
    if failures:
        click.echo(f"{len(failures)} skipped", err=True)


def finish(failures: Sequence[str], code: int = 0) -> None:
    """List what was skipped and end the command: with 3 if there was anything, else with `code`."""
    print_skipped(failures)
    if failures or code:
        click.get_current_context().exit(3 if failures else code)


def print_json(record: dict[str, Any]) -> None:
    """Print one JSON object on one line, in UTF-8 whatever the terminal's encoding."""
    # The bytes of a file's name need not be text: other bytes become a JSON escape.
    click.echo(json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace"))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people; cells are never taken for markup."""
    table = rich.table.Table(*columns, box=rich.box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(rich.text.Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no edge to wrap at
    with console.capture() as text:
        console.print(table)
    click.echo(text.get(), nl=False)


def print_records(records: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print records as JSON objects, or some columns of them as a table, in which None is an empty cell."""
    if not as_json:
        rows = [[record[column] for column in columns] for record in records]
        titles = [column.replace("_", " ") for column in columns]
        print_table(titles, [["" if cell is None else cell for cell in row] for row in rows])
        return
    for record in records:
        print_json(record)


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 face`, `2 faces`, `0 people`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def face_record(number: int, face: Face) -> dict[str, Any]:
    return {
        "number": number,
        "box": [round(float(side), 2) for side in face.box],
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
        "score": round(face.score, 4),
    }
