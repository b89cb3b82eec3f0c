"""The command that cuts faces out of photographs to train on: prepare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich.progress
from rich.console import Console

from sameface.cli.options import detector_options
from sameface.cli.output import finish
from sameface.detect import Detector
from sameface.model import rule_of_weights
from sameface.training.prepare import MARGIN, REPORT, Cutter, Prepared, check_names, make_rule, prepare_pictures

if TYPE_CHECKING:
    from sameface.evaluation.pictures import FacePolicy
    from sameface.manifest import CropRule

SIZE = 160
COLUMNS = ("{task.description}", rich.progress.BarColumn(), "{task.completed} of {task.total}")


@click.command()
@click.argument("photographs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the crops.")
@click.option("--weights", help="Cut as this embedder wants its crops: a name or an .onnx file.")
@click.option(
    "--rule",
    type=click.Choice(["similarity", "box"]),
    help="Straighten the face by its five points, or take its box as it is.  [default: similarity]",
)
@click.option("--size", type=click.IntRange(16, 2048), help=f"Side of a crop in pixels.  [default: {SIZE}]")
@click.option(
    "--margin",
    type=click.FloatRange(0, 4),
    help=f"What is added round a face, in parts of the crop's side.  [default: {MARGIN:g} to a box, else 0]",
)
@click.option(
    "--face",
    type=click.Choice(["largest", "central"]),
    default="largest",
    show_default=True,
    help="Which face of a picture with several.",
)
@click.option("--as-is", is_flag=True, help="The pictures are crops by this rule already: resize them only.")
@detector_options
def prepare(  # noqa: PLR0913, one for each option
    *,
    detector: Detector,
    photographs: tuple[Path, ...],
    output: Path,
    weights: str | None,
    rule: str | None,
    size: int | None,
    margin: float | None,
    face: FacePolicy,
    as_is: bool,
) -> None:
    """Cut one face out of each picture in PHOTOGRAPHS: folders, or tar files, with a folder per person.

    Crops are JPEG files in a folder per person. `crops.toml` beside them tells how they were cut, and
    `left-out.jsonl` which pictures gave none. Called again, it does only what is missing
    or was replaced.
    """
    crop_rule = take_rule(weights, rule, size, margin)
    cutter = Cutter(None if as_is else detector, crop_rule, face)
    crops, new, failures = 0, 0, []
    for done in follow(photographs, output, cutter):
        crops += done.crop is not None
        new += done.new
        if done.crop is None:
            failures.append(done.reason)
    click.echo(f"{crops} crops in {output} ({new} pictures looked at)", err=True)
    if failures:
        click.echo(f"{len(failures)} pictures gave none: {output / REPORT}", err=True)
    finish(failures)


def take_rule(weights: str | None, rule: str | None, size: int | None, margin: float | None) -> CropRule:
    """Return the crop rule that the options describe."""
    if weights is None:
        return make_rule(rule or "similarity", SIZE if size is None else size, margin=margin)
    if any(given is not None for given in (rule, size, margin)):
        raise click.UsageError("--weights brings its own --rule, --size and --margin")
    return rule_of_weights(weights)


def follow(photographs: tuple[Path, ...], output: Path, cutter: Cutter) -> Iterator[Prepared]:
    """Yield what became of each picture; show on stderr how far the work is, if a person is watching."""
    check_names(photographs)
    console = Console(stderr=True)
    with rich.progress.Progress(
        *COLUMNS, rich.progress.TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        for source in photographs:
            task = bar.add_task(source.name, total=None)
            for done in prepare_pictures(source, output, cutter):
                bar.update(task, total=done.total, advance=1)
                yield done
