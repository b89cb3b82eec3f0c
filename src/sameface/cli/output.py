"""Results to stdout, progress and faults to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import rich.box
import rich.progress
import rich.table
import rich.text
from rich.console import Console

from sameface.errors import FaceError, ImageError
from sameface.face import Face
from sameface.image import find_pictures

Item = TypeVar("Item")
Result = TypeVar("Result")


def list_pictures(paths: Iterable[str]) -> list[str]:
    """Return the pictures that were named, those of a folder in its order; `-` stands for stdin."""
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
    """Yield every item with what `work` made of it; the message of a bad picture goes to `failures` instead.

    Any other error would be that of the next picture too, and ends the work.
    """
    for item in progress(items):
        try:
            result = work(item)
        except (ImageError, FaceError) as error:
            failures.append(str(error))
        else:
            yield item, result


def progress(items: Sequence[Item]) -> Iterable[Item]:
    """Show on stderr how far the work is, if a person is watching and there is more than one item."""
    console = Console(stderr=True)
    if not console.is_terminal or len(items) < 2:
        return items
    return rich.progress.track(items, "pictures", console=console, transient=True)


def finish(failures: Sequence[str], code: int = 0) -> None:
    """List what was passed over and end the command: 3 if there was anything, else `code`."""
    for reason in failures:
        click.echo(f"skipped: {reason}", err=True)
    if failures:
        click.echo(f"{len(failures)} skipped", err=True)
    if failures or code:
        click.get_current_context().exit(3 if failures else code)


def print_json(record: dict[str, Any]) -> None:
    """Print one JSON object on one line, in UTF-8 whatever the terminal speaks."""
    # The bytes of a file's name need not be text: what is none becomes a JSON escape.
    click.echo(json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace"))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people; names come from outside and are never taken for markup."""
    table = rich.table.Table(*columns, box=rich.box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(rich.text.Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no edge to wrap at
    with console.capture() as text:
        console.print(table)
    click.echo(text.get(), nl=False)


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 face`, `2 faces`, `0 people`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def face_record(number: int, face: Face) -> dict[str, Any]:
    """Return a face as it is printed in JSON."""
    return {
        "number": number,
        "box": [round(float(side), 2) for side in face.box],
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
        "score": round(face.score, 4),
    }


def warn(warning: str | None) -> None:
    """Print a warning, if there is one, on stderr."""
    if warning is not None:
        click.echo(f"warning: {warning}", err=True)
