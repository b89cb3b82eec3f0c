"""Commands that make weights from photographs: prepare, train, export."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from sameface.cli.options import Command, detector_options, existing_path
from sameface.cli.output import finish, print_table, progress_bar
from sameface.detect import Detector
from sameface.model import rule_of_weights
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet, open_pictures, split_people
from sameface.training.networks.tables import RESIDUALS, TABLES, count_residual, count_table, totals
from sameface.training.prepare import MARGIN, REPORT, Cutter, check_names, make_rule, prepare_pictures

if TYPE_CHECKING:
    from sameface.evaluation.pictures import FacePolicy
    from sameface.training.train import StepReport

SIZE = 160  # pixels of a crop
EVERY = 20  # steps between two lines without a terminal

new_path = click.Path(path_type=Path)


@click.command()
@click.argument("photographs", nargs=-1, required=True, type=existing_path)
@click.option("-o", "--output", required=True, type=new_path, help="Folder for the crops.")
@click.option("--weights", help="Cut crops for this embedder: a name or an .onnx file.")
@click.option(
    "--rule",
    type=click.Choice(["similarity", "box"]),
    help="Align by five points, or cut the box.  [default: similarity]",
)
@click.option("--size", type=click.IntRange(16, 2048), help=f"Side of a crop in pixels.  [default: {SIZE}]")
@click.option(
    "--margin",
    type=click.FloatRange(0, 4),
    help=f"Margin in parts of the crop's side.  [default: {MARGIN:g} to a box, else 0]",
)
@click.option(
    "--face", type=click.Choice(["largest", "central"]), default="largest", help="Which of several faces counts."
)
@click.option("--as-is", is_flag=True, help="The pictures are already crops by this rule: only resize them.")
@detector_options
def prepare(
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

    Crops are JPEG files in a folder per person. `crops.toml` beside them holds the crop rule, and
    `left-out.jsonl` the pictures without a crop. Called again, the command cuts only missing or replaced
    pictures.
    """
    if weights is not None and any(option is not None for option in (rule, size, margin)):
        raise click.UsageError("--weights brings its own --rule, --size and --margin")
    own_rule = make_rule(rule or "similarity", size or SIZE, margin=margin)
    cut = own_rule if weights is None else rule_of_weights(weights)
    cutter = Cutter(None if as_is else detector, cut, face)
    check_names(photographs)
    crops, new, failures = 0, 0, []
    columns = ("{task.description}", BarColumn(), "{task.completed} of {task.total}", TimeRemainingColumn())
    with progress_bar(*columns) as bar:
        for source in photographs:
            task = bar.add_task(source.name, total=None)
            for prepared in prepare_pictures(source, output, cutter):
                bar.update(task, total=prepared.total, advance=1)
                crops += prepared.crop is not None
                new += prepared.new
                failures += [prepared.reason] if prepared.crop is None else []
    click.echo(f"{crops} crops in {output} ({new} pictures looked at)", err=True)
    if failures:
        click.echo(f"{len(failures)} pictures gave none: {output / REPORT}", err=True)
    finish(failures)


def import_training() -> Any:
    """Import what needs torch, or say how to get it; return the package."""
    try:
        import sameface.training.checkpoint
        import sameface.training.export
        import sameface.training.train
        import sameface.training.validate
    except ModuleNotFoundError as error:
        if error.name in ("torch", "onnx", "onnxscript", "tensorboard"):
            raise click.UsageError(f"this needs {error.name}: pip install 'sameface[train]'") from error
        raise
    return sameface.training


def config_options(command: Command) -> Command:
    """Add an option for each field of `TrainConfig`."""
    for each in reversed(fields(TrainConfig)):
        name = each.name.replace("_", "-")
        assert each.default is not MISSING
        given = {"default": each.default, "show_default": each.default != "", "help": each.metadata["help"] + "."}
        among = each.metadata["among"]
        if isinstance(each.default, bool):
            command = click.option(f"--{name}/--no-{name}", each.name, **given)(command)
        else:
            kind: Any = click.Choice(list(among)) if among else type(each.default)
            command = click.option(f"--{name}", each.name, type=kind, **given)(command)
    return command


@click.command()
@click.argument("crops", nargs=-1, type=existing_path)
@click.option("-o", "--output", type=new_path, help="Folder of the run.")
@click.option("--list-networks", is_flag=True, help="Print what can be trained, and stop.")
@config_options
def train(*, crops: tuple[Path, ...], output: Path | None, list_networks: bool, **config_fields: Any) -> None:
    """Train a network on CROPS: folders or tar files with a folder per person, from `sameface prepare`.

    The same command resumes an ended run. Ctrl-C saves and ends it.
    """
    if list_networks:
        print_networks()
        return
    if not crops or output is None:
        raise click.UsageError("give the CROPS to train on and the folder of the run with -o")
    try:
        config = TrainConfig(**config_fields)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    training = import_training()
    pictures, held_out = split(open_pictures(crops), config.held_out)
    leader = os.environ.get("RANK", "0") == "0"  # the first process of `torchrun`, or the only one
    console = Console(stderr=True, quiet=not leader)
    others = f"{len(held_out)} of {len(held_out.people)} others held out"
    print_line(console, f"{len(pictures)} pictures of {len(pictures.people)} people, {others}")
    columns = ("{task.description}", BarColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=console, disable=not console.is_terminal)
    with catch_signals() as stop, shown:
        bar = TrainingBar(shown, console, config.steps)
        last = config.steps  # of a run that has no step left
        for step in training.train.train(
            pictures, held_out, config, output, stop=lambda: bool(stop.signals), on_progress=bar.show_teacher
        ):
            stop.begun = True
            last = step.step
            bar.show_step(step)
    if last < config.steps:
        print_line(console, f"ended after step {last}; the same command goes on from there")
        click.get_current_context().exit(130 if stop.signals else 0)
    if leader:
        for line in training.validate.report_run(output, config, pictures, held_out):
            click.echo(line)


def print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def split(pictures: PictureSet, held_out: str) -> tuple[PictureSet, PictureSet]:
    """Return the pictures to train on and those to test on."""
    try:
        part = float(held_out)
    except ValueError:
        return pictures, open_pictures([held_out])
    if not 0 <= part < 1:
        raise click.UsageError(f"--held-out must be a part from 0 to under 1, or a path, got {held_out}")
    return split_people(pictures, part)


@dataclass(slots=True)
class StopSignals:
    """The signals that asked a run to end."""

    signals: list[int] = field(default_factory=list)
    begun: bool = False  # there is a step to save; before, a signal ends the program at once


@contextlib.contextmanager
def catch_signals() -> Iterator[StopSignals]:
    """Note Ctrl-C and SIGTERM; before the first step, or at the second Ctrl-C, end at once."""
    stop = StopSignals()

    def note(number: int, _frame: object) -> None:
        if not stop.begun or (stop.signals and number == signal.SIGINT):
            raise KeyboardInterrupt
        stop.signals.append(number)
        click.echo("saving ...", err=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class TrainingBar:
    """Shows a run: a live line on a terminal, else a line every `EVERY` steps."""

    def __init__(self, bar: Progress, console: Console, total: int) -> None:
        self._bar, self._console, self._total = bar, console, total
        self._task = bar.add_task("starting", total=total)
        self._tenth = -1

    def show_teacher(self, who: str, done: int, count: int) -> None:
        """Show how many pictures a teacher has embedded."""
        text = f"{who} looks at {count:,} pictures"
        self._bar.update(self._task, completed=done, total=count, description=text)
        tenth = done * 10 // count
        if not self._console.is_terminal and tenth != self._tenth:
            print_line(self._console, f"{text}: {tenth * 10} %")
        self._tenth = tenth

    def show_step(self, step: StepReport) -> None:
        line = format_step(step)
        self._bar.update(self._task, completed=step.step, total=self._total, description=line)
        if step.val is not None or step.note or (not self._console.is_terminal and step.step % EVERY == 0):
            print_line(self._console, line)


def format_step(step: StepReport) -> str:
    stats = step.stats
    if step.step == 0 and step.val is not None:
        return f"before the first step VAL {step.val:.1%} at FAR 1e-2"
    line = (
        f"step {step.step} loss {step.loss:.4f} active {stats.active_fraction:.0%} "
        f"AP {stats.positive:.3f} AN {stats.negative:.3f} spread {stats.spread:.3f} "
        f"{step.pictures_per_second:.0f} pictures/s waiting {step.waiting:.0%}"
    )
    line += "" if step.val is None else f" VAL {step.val:.1%} at FAR 1e-2"
    return f"{line} {step.note}".rstrip()


def print_networks() -> None:
    counted = [(t.name, f"{t.size} x {t.width}", count_table(t)) for t in TABLES.values()]
    counted += [(name, f"{r.size} x {r.size}", count_residual(r)) for name, r in RESIDUALS.items()]
    rows = []
    for name, size, counts in counted:
        weights, macs = totals(counts)
        rows.append((name, size, f"{weights / 1e6:.1f} M", f"{macs / 1e6:,.0f} M"))
    print_table(["network", "input", "weights", "multiply-adds"], rows)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("crops", nargs=-1, required=True, type=existing_path)
@click.option("-o", "--output", required=True, type=new_path, help="A file ending in .onnx.")
@click.option("--licence", required=True, help="The licence of the weights.")
@click.option("--training-data", required=True, help="The training data, in words.")
@click.option(
    "--blend",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    help="The part of the way from the initial to the trained weights.",
)
@click.option("--float16", is_flag=True, help="Store the weights in half the bytes.")
@click.option("--int8", is_flag=True, help="Compute in 8 bits; the loss of accuracy is measured and printed.")
def export(
    *,
    checkpoint: Path,
    crops: tuple[Path, ...],
    output: Path,
    licence: str,
    training_data: str,
    blend: float,
    float16: bool,
    int8: bool,
) -> None:
    """Write CHECKPOINT as weights that every other command takes with --weights.

    CROPS are those it was trained on; the thresholds are calibrated on the people that were held out.
    """
    if output.suffix != ".onnx":
        raise click.UsageError(f"{str(output)!r} must end in .onnx")
    if float16 and int8:
        raise click.UsageError("--float16 and --int8 exclude each other")
    training = import_training()
    store = "float16" if float16 else "int8" if int8 else "float32"
    trained = training.export.blend(training.checkpoint.load_trained(checkpoint), blend)
    _, held_out = split(open_pictures(crops), trained.config.held_out)
    terms = training.export.Terms(licence, training_data)
    for line in training.export.export_weights(trained, output, held_out, terms=terms, store=store):
        click.echo(line, err=True)
