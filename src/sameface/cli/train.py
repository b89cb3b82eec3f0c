"""Commands that make weights of one's own: train, export."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import rich.progress
from rich.console import Console

from sameface.cli.output import print_table
from sameface.training.config import TrainConfig
from sameface.training.count import count_residual, count_table, totals
from sameface.training.pictures import PictureSet, open_pictures, split_people
from sameface.training.tables import RESIDUALS, TABLES

if TYPE_CHECKING:
    from sameface.training.train import Progress

EVERY = 20  # steps between two lines where nobody is watching


def import_training() -> Any:
    """Import what needs torch, or say how to get it."""
    try:
        import sameface.training.export as export_module
        import sameface.training.finish as finish_module
        import sameface.training.train as train_module
    except ModuleNotFoundError as error:
        if error.name in ("torch", "onnx"):
            raise click.UsageError(f"this needs {error.name}: pip install 'sameface[train]'") from error
        raise
    return train_module, finish_module, export_module


def config_options(command: Callable[..., None]) -> Callable[..., None]:
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
@click.argument("crops", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--list-networks", is_flag=True, help="Print what can be trained, and stop.")
@config_options
def train(*, crops: tuple[Path, ...], output: Path | None, list_networks: bool, **choices: Any) -> None:
    """Train a network on CROPS: folders or tar files with a folder per person, from `sameface prepare`.

    Called again with the same options, it goes on where it was ended. Ctrl-C saves and ends it.
    """
    if list_networks:
        print_networks()
        return
    if not crops or output is None:
        raise click.UsageError("give the CROPS to train on and the folder of the run with -o")
    try:
        config = TrainConfig(**choices)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    train_module, finish_module, _ = import_training()
    pictures, held_out = split(open_pictures(crops), config.held_out)
    console = Console(stderr=True, quiet=not is_leader())
    told = f"{len(held_out)} of {len(held_out.people)} others held out"
    tell(console, f"{len(pictures)} pictures of {len(pictures.people)} people, {told}")
    with stop_on_signals() as stop, show_bar(console, config.steps) as bar:
        steps = train_module.train(pictures, held_out, config, output, stop=lambda: bool(stop.signals), told=bar.ask)
        last = config.steps  # of a run that has no step left
        for done in steps:
            stop.begun = True
            last = done.step
            bar.show(done)
    if last < config.steps:
        tell(console, f"ended after step {last}; the same command goes on from there")
        click.get_current_context().exit(130 if stop.signals else 0)
    if is_leader():
        for line in finish_module.report_run(output, config, pictures, held_out):
            click.echo(line)


def is_leader() -> bool:
    """Return whether this process speaks for those that `torchrun` started, or is alone."""
    return os.environ.get("RANK", "0") == "0"


def tell(console: Console, line: str) -> None:
    """Print one line as it is."""
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
class Stop:
    """What signals asked for.

    Attributes:
        signals: Those that came.
        begun: Whether there is a step to save; until then a signal ends the program at once.
    """

    signals: list[int] = field(default_factory=list)
    begun: bool = False


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Note Ctrl-C and SIGTERM instead of dying; before the first step, or the second time, end at once."""
    stop = Stop()

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


class Bar:
    """Shows a run: a live line for a person, else a line every so often."""

    def __init__(self, bar: rich.progress.Progress, console: Console, total: int) -> None:
        self._bar, self._console, self._total = bar, console, total
        self._task = bar.add_task("starting", total=total)
        self._asked = -1

    def ask(self, who: str, done: int, count: int) -> None:
        """Show how many pictures a teacher has seen."""
        told = f"{who} looks at {count:,} pictures"
        self._bar.update(self._task, completed=done, total=count, description=told)
        tenth = done * 10 // count
        if not self._console.is_terminal and tenth != self._asked:
            tell(self._console, f"{told}: {tenth * 10} %")
        self._asked = tenth

    def show(self, done: Progress) -> None:
        """Show a step."""
        line = describe(done)
        self._bar.update(self._task, completed=done.step, total=self._total, description=line)
        told = done.val is not None or done.note
        if told or (not self._console.is_terminal and done.step % EVERY == 0):
            tell(self._console, line)


@contextlib.contextmanager
def show_bar(console: Console, total: int) -> Iterator[Bar]:
    """Show how far a run is while it goes on."""
    columns = ("{task.description}", rich.progress.BarColumn(), rich.progress.TimeRemainingColumn())
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Bar(bar, console, total)


def describe(done: Progress) -> str:
    """Return a step in one line."""
    stats = done.stats
    if done.step == 0 and done.val is not None:
        return f"before the first step VAL {done.val:.1%} at FAR 1e-2"
    line = (
        f"step {done.step} loss {done.loss:.4f} active {stats.active_fraction:.0%} "
        f"AP {stats.positive:.3f} AN {stats.negative:.3f} spread {stats.spread:.3f} "
        f"{done.pictures_per_second:.0f} pictures/s waiting {done.waiting:.0%}"
    )
    line += "" if done.val is None else f" VAL {done.val:.1%} at FAR 1e-2"
    return f"{line} {done.note}".rstrip()


def print_networks() -> None:
    """Print the table of networks."""
    rows = []
    counted = [(t.name, f"{t.size} x {t.width}", count_table(t)) for t in TABLES.values()]
    counted += [(name, f"{r.size} x {r.size}", count_residual(r)) for name, r in RESIDUALS.items()]
    for name, size, counts in counted:
        weights, macs = totals(counts)
        rows.append((name, size, f"{weights / 1e6:.1f} M", f"{macs / 1e6:,.0f} M"))
    print_table(["network", "input", "weights", "multiply-adds"], rows)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A file ending in .onnx.")
@click.option("--licence", required=True, help="Under which the weights may be used.")
@click.option("--training-data", required=True, help="What they were trained on, in words.")
@click.option(
    "--blend",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="How far to go from the weights that the run began with to those it came to; less forgets less.",
)
@click.option("--float16", is_flag=True, help="Store the weights in half the bytes.")
@click.option("--int8", is_flag=True, help="Compute in 8 bits; what that costs is measured and told.")
def export(  # noqa: PLR0913, one for each option
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
    _, _, module = import_training()
    store = "float16" if float16 else "int8" if int8 else "float32"
    trained = module.blend(module.open_trained(checkpoint), blend)
    _, held_out = split(open_pictures(crops), trained.config.held_out)
    terms = module.Terms(licence, training_data)
    for line in module.export_weights(trained, output, held_out, terms=terms, store=store):
        click.echo(line, err=True)
