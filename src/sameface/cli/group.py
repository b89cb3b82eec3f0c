"""The command that groups embeddings in a file: group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import rich.progress
from numpy.typing import NDArray
from rich.console import Console

from sameface.adapter import ARCHIVE_ERRORS
from sameface.arrays import expect_unit_rows
from sameface.atomic import replace_file
from sameface.cli import BadInputError
from sameface.cli.options import far_option, json_option, recognizer_options
from sameface.cli.output import count, print_json
from sameface.cli.table import Columns, import_pyarrow, join, to_arrow
from sameface.cluster import Told, cluster_embeddings, extend_clusters, same_picture_pairs
from sameface.recognizer import Recognizer

ENDINGS = (".npz", ".parquet")
WANTED = ("picture", "number", "box", "landmarks", "score", "embedding")  # what `sameface embed` writes
ROWS = 1 << 16  # of a Parquet file's row group

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("faces", type=existing_file)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file ending in .npz or .parquet.",
)
@click.option(
    "--update",
    "earlier",
    type=existing_file,
    help="An output of before: only pictures that are not in it are compared, and its groups stay.",
)
@far_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 4),
    help="The distance to allow instead, such as one below every rate that was calibrated.",
)
@json_option
@recognizer_options
def group(
    *, recognizer: Recognizer, faces: Path, output: Path, earlier: Path | None, as_json: bool, **choices: Any
) -> None:
    """Group the embeddings in FACES, a .npz or .parquet file that `sameface embed` wrote, into people.

    The output holds what FACES does and a column `group`, a number for each person. There may be millions of
    faces. Faces of one picture are never one person. --far, 0.0003 by default and less for more than 5,000
    faces, sets how near the faces of one person must be.

    With --update the output holds the faces of before too. It may be that very file, which is then replaced.
    """
    check_output(output)
    if choices["far"] is not None and choices["threshold"] is not None:
        raise click.UsageError("--far and --threshold each set the distance: give one")
    new = read_faces(faces, recognizer.signature, WANTED)
    known = {name: values[:0] for name, values in new.items()} | {"group": np.zeros(0, np.int64)}
    if earlier is not None:
        known = read_faces(earlier, recognizer.signature, (*WANTED, "group"))
        new = leave_out(new, set(known["picture"].tolist()))
    threshold = choose_threshold(recognizer, len(known["group"]) + len(new["number"]), **choices)
    with progress() as told:
        new["group"] = group_faces(new, known, threshold, told)
    write_groups(output, join([known, new]), recognizer.signature)
    report(np.concatenate([known["group"], new["group"]]), output, as_json=as_json)


def check_output(output: Path) -> None:
    """Refuse a file that cannot be written before the work begins."""
    if output.suffix not in ENDINGS:
        raise click.UsageError(f"{str(output)!r} must end in .npz or .parquet")
    if not output.parent.is_dir():
        raise click.UsageError(f"no folder {str(output.parent)!r}")
    if output.suffix == ".parquet":
        import_pyarrow()


def choose_threshold(recognizer: Recognizer, size: int, *, far: float | None, threshold: float | None) -> float:
    """Return the threshold to group so many faces with."""
    return recognizer.thresholds.at_album(size, far) if threshold is None else threshold


def read_faces(path: Path, signature: str, wanted: tuple[str, ...]) -> Columns:
    """Return the wanted columns of a file; those of several numbers are `(n, k)`.

    Raises:
        BadInputError: It is damaged, holds something else, or was made by another pipeline.
        click.UsageError: Another ending, or Parquet without pyarrow.
    """
    if path.suffix not in ENDINGS:
        raise click.UsageError(f"{str(path)!r} must end in .npz or .parquet")
    read = read_npz if path.suffix == ".npz" else read_parquet
    try:
        theirs, columns = read(path, wanted)
    except MemoryError as error:
        raise BadInputError(f"cannot use {str(path)!r}: not enough memory to read it") from error
    except ARCHIVE_ERRORS as error:
        told = "damaged, or not written by `sameface embed` or `sameface group`"
        raise BadInputError(f"cannot use {str(path)!r}: {told} ({error})") from error
    try:
        expect_unit_rows("embedding", columns["embedding"])
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot use {str(path)!r}: {error}") from error
    if theirs != signature:
        way = "use the weights and options that it was made with"
        raise BadInputError(f"{str(path)!r} was made with pipeline {theirs}; this is {signature}: {way}")
    return columns


def read_npz(path: Path, wanted: tuple[str, ...]) -> tuple[str, Columns]:
    """Return the signature and the columns of an `.npz` file."""
    with path.open("rb") as opened, np.load(opened) as file:
        return str(file["signature"]), {name: file[name] for name in wanted}


def read_parquet(path: Path, wanted: tuple[str, ...]) -> tuple[str, Columns]:
    """Return the signature and the columns of a Parquet file."""
    table = import_pyarrow().parquet.read_table(path, columns=list(wanted))
    facts = table.schema.metadata or {}
    columns: Columns = {}
    for name in wanted:
        column = table.column(name).combine_chunks()
        width = getattr(column.type, "list_size", 0)
        values = (column.flatten() if width else column).to_numpy(zero_copy_only=False)
        columns[name] = values.reshape(-1, width) if width else values
    columns["picture"] = columns["picture"].astype(np.str_)
    return facts[b"sameface.signature"].decode(), columns


def leave_out(columns: Columns, pictures: set[str]) -> Columns:
    """Return the faces whose picture is none of these."""
    new = np.array([picture not in pictures for picture in columns["picture"].tolist()], bool)
    return {name: values[new] for name, values in columns.items()}


def group_faces(new: Columns, known: Columns, threshold: float, told: Told) -> NDArray[np.int64]:
    """Return the group of each new face, `(n,) int64`."""
    pairs = same_picture_pairs(new["picture"].tolist())
    rows = np.ascontiguousarray(new["embedding"])
    if not len(known["group"]):
        return cluster_embeddings(rows, threshold=threshold, cannot_link=pairs, told=told)
    return extend_clusters(
        rows,
        known=np.ascontiguousarray(known["embedding"]),
        labels=known["group"],
        threshold=threshold,
        cannot_link=pairs,
        told=told,
    )


@contextmanager
def progress() -> Iterator[Told]:
    """Show who watches how far the work is and how long it will take."""
    console = Console(stderr=True)
    with rich.progress.Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("comparing", total=1.0)
        yield lambda part: bar.update(task, completed=part)


def write_groups(path: Path, columns: Columns, signature: str) -> None:
    """Write the columns whole or not at all."""
    with replace_file(path, private=True) as part:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"signature": np.array(signature), **columns}
            with part.open("wb") as file:
                np.savez(file, **arrays)
            return
        pieces = (slice(low, low + ROWS) for low in range(0, max(len(columns["group"]), 1), ROWS))
        tables = (to_arrow({name: values[piece] for name, values in columns.items()}, signature) for piece in pieces)
        first = next(tables)
        with import_pyarrow().parquet.ParquetWriter(part, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)


def report(groups: NDArray[np.int64], output: Path, *, as_json: bool) -> None:
    """Tell how many people there are; as JSON one line for each, the one with the most faces first."""
    numbers, sizes = np.unique(groups, return_counts=True)
    if as_json:
        for place in np.argsort(-sizes, kind="stable").tolist():
            print_json({"group": int(numbers[place]), "faces": int(sizes[place])})
    told = f"{count(len(groups), 'face')} of {count(len(numbers), 'person', 'people')}"
    click.echo(f"{told}: {output}", err=True)
