"""The options that several commands share."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click

from sameface.atomic import may_others
from sameface.detect import Detector
from sameface.draw import writable
from sameface.embed import Embedder
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.recognizer import Choice, Recognizer

Command: TypeAlias = Callable[..., Any]


def warn_of_others(_ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Return where a gallery is, with a warning if others may read or write the file."""
    if path is not None and may_others(path):
        words = f"warning: others than you may read or write {path!r}: chmod 600 {shlex.quote(path)}"
        click.echo(words, err=True)
    return path


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
cache_option = click.option(
    "--cache",
    default="sameface-cache.db",
    show_default=True,
    envvar="SAMEFACE_CACHE",
    type=click.Path(dir_okay=False),
    help="Keeps embeddings from run to run; biometric data, readable by you only.",
)
gallery_option = click.option(
    "--gallery",
    "gallery_path",
    default="people.db",
    show_default=True,
    envvar="SAMEFACE_GALLERY",
    callback=warn_of_others,
    help="The gallery: a file, postgresql://user@host/database, or milvus://host/collection?people=PLACE.",
)
gallery_argument = click.argument("path", metavar="GALLERY", callback=warn_of_others)
gallery_file_argument = click.argument(
    "path", type=click.Path(dir_okay=False), metavar="GALLERY", callback=warn_of_others
)
every_option = click.option(
    "--every",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds of a video from one frame that is searched to the next.",
)
quality_option = click.option(
    "--min-quality",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Refuse a face of less quality, as `sameface detect --json` tells it; 0 takes every face.",
)
far_option = click.option(
    "--far", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="The false-accept rate to allow."
)


EMBEDDER = (
    click.option(
        "--weights",
        default=DEFAULT_WEIGHTS,
        show_default=True,
        envvar="SAMEFACE_WEIGHTS",
        help="Embedder: a name or an .onnx file. Without it SAMEFACE_WEIGHTS may name one.",
    ),
    click.option("--no-flip", is_flag=True, help="Do not average each face with its mirror image."),
    click.option(
        "--population",
        type=click.Choice(["alike", "mixed"]),
        help="Of whom the rates are to hold: people alike in age, sex and origin, or people of all kinds; "
        "the weights' own choice by default.",
    ),
)
DETECTOR = (
    click.option("--threads", type=click.IntRange(min=1), help="Processor cores to use; all by default."),
    click.option("--min-score", type=click.FloatRange(0, 1), help="The score from which a place is a face."),
    click.option("--min-size", default=20, show_default=True, help="Leave out faces under so many pixels."),
    click.option(
        "--max-side",
        type=click.IntRange(min=32),
        help="Search with the longer side shrunk to so many pixels; half of it by default, 640 to 1280.",
    ),
    click.option("--any-rotation", is_flag=True, help="Also find faces that lie or stand on their head."),
)


def detector_options(command: Command) -> Command:
    """Add the options that shape the detector; the command gets them as one `detector`."""

    @functools.wraps(command)
    def with_detector(**choices: Any) -> Any:
        detector = take_detector(choices)
        return command(detector=detector, **choices)

    return add_options(with_detector, DETECTOR)


def recognizer_options(command: Command) -> Command:
    """Add the options that shape the pipeline; the command gets them as one `recognizer`."""

    @functools.wraps(command)
    def with_recognizer(*, weights: str, no_flip: bool, population: str | None, **choices: Any) -> Any:
        embedder = load_embedder(weights, flip=not no_flip, threads=choices["threads"])
        detector = take_detector(choices)
        try:
            recognizer = Recognizer(detector, embedder, population)
        except ValueError as error:
            raise click.BadParameter(f"of {weights}: {error}", param_hint="--population") from error
        return command(recognizer=recognizer, **choices)

    return add_options(with_recognizer, EMBEDDER + DETECTOR)


def load_embedder(weights: str, *, flip: bool, threads: int | None) -> Embedder:
    """Open an embedder by its name or file."""
    return Embedder(Model.load(weights, threads=threads), flip=flip)


def take_detector(choices: dict[str, Any]) -> Detector:
    """Take the options of a detector out of `choices` and make it."""
    model = Model.load("centerface", threads=choices.pop("threads"))
    names = ("min_score", "min_size", "max_side", "any_rotation")
    return Detector(model, **{name: choices.pop(name) for name in names})


def add_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Return the command with more options, in this order."""
    return functools.reduce(lambda done, option: option(done), reversed(options), command)


class PicturePath(click.Path):
    """Where to write a picture: the name must end in a format that Pillow writes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail as wrong usage."""
        path = super().convert(value, param, ctx)
        if not writable(Path(str(path))):
            self.fail(f"{path!r} must end in .png, .jpg or another picture format", param, ctx)
        return path


class FaceChoice(click.ParamType[Choice]):
    """`only`, `largest`, `first`, or the number of a face."""

    name = "only|largest|first|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Choice:
        """Return the choice, or fail as wrong usage."""
        if value in ("only", "largest", "first"):
            choice: Choice = value
            return choice
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is not 'only', 'largest', 'first' or a number", param, ctx)


def pair_choices(_ctx: click.Context, _param: click.Parameter, given: tuple[Choice, ...]) -> tuple[Choice, Choice]:
    """Return the choice for A and that for B: one that was given alone is for both."""
    if len(given) > 2:
        raise click.BadParameter("give it once for both pictures, or twice: for A, then for B")
    of_a, of_b = (given * 2)[:2] if given else ("only", "only")
    return of_a, of_b


face_option = click.option(
    "--face",
    type=FaceChoice(),
    default="only",
    show_default=True,
    help="Which face of a picture that holds several; numbers count from 0 as `sameface detect` prints them.",
)
face_pair_option = click.option(
    "--face",
    type=FaceChoice(),
    multiple=True,
    callback=pair_choices,
    help="Which face of a picture that holds several; only by default; numbers count from 0 as "
    "`sameface detect` prints them. Once for both pictures, or twice: for A, then for B.",
)
