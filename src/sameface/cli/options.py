"""The options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.face import Choice
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.recognizer import Recognizer

Command: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Command], Command]

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
existing_path = click.Path(exists=True, path_type=Path)
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
rate = click.FloatRange(0, 1, min_open=True, max_open=True)
positive = click.IntRange(min=1)
new_file = click.Path(dir_okay=False, path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
cache_option = click.option(
    "--cache",
    default="sameface-cache.db",
    envvar="SAMEFACE_CACHE",
    type=click.Path(dir_okay=False),
    help="Stores embeddings between runs; biometric data, readable by you only.",
)
far_option = click.option("--far", type=rate, help="The false-accept rate to allow.")


def output_option(help_text: str) -> Option:
    """Return the option -o for the file to write."""
    return click.option("-o", "--output", required=True, type=new_file, help=help_text)


def join_options(*options: Option) -> Option:
    """Return one decorator that adds several options, in this order."""
    return lambda command: functools.reduce(lambda done, option: option(done), reversed(options), command)


embedder_parameters = join_options(
    click.option(
        "--weights",
        default=DEFAULT_WEIGHTS,
        envvar="SAMEFACE_WEIGHTS",
        help="Embedder: a name or an .onnx file; or set SAMEFACE_WEIGHTS.",
    ),
    click.option("--no-flip", is_flag=True, help="Do not average each face with its mirror image."),
    click.option(
        "--population",
        type=click.Choice(["alike", "mixed"]),
        help="Rates for people alike in age, sex and origin, or for mixed people.",
    ),
)
detector_parameters = join_options(
    click.option("--threads", type=positive, help="Processor cores to use; all by default."),
    click.option("--min-score", type=click.FloatRange(0, 1), help="The lowest score of a face."),
    click.option("--min-size", default=20, help="Leave out faces under so many pixels."),
    click.option(
        "--max-side",
        type=click.IntRange(min=32),
        help="Shrink the longer side to so many pixels; to half, 640 to 1280, by default.",
    ),
    click.option("--any-rotation", is_flag=True, help="Also find sideways and upside-down faces."),
)


def detector_options(command: Command) -> Command:
    """Add the options of the detector; the command gets one `detector`."""

    @functools.wraps(command)
    def with_detector(**options: Any) -> Any:
        detector = take_detector(options)
        return command(detector=detector, **options)

    return detector_parameters(with_detector)


def recognizer_options(command: Command) -> Command:
    """Add the options of the embedder and the detector; the command gets one `recognizer`."""

    @functools.wraps(command)
    def with_recognizer(*, weights: str, no_flip: bool, population: str | None, **options: Any) -> Any:
        embedder = load_embedder(weights, flip=not no_flip, threads=options["threads"])
        detector = take_detector(options)
        try:
            recognizer = Recognizer(detector, embedder, population)
        except ValueError as error:
            raise click.BadParameter(f"of {weights}: {error}", param_hint="--population") from error
        return command(recognizer=recognizer, **options)

    return embedder_parameters(detector_parameters(with_recognizer))


def load_embedder(weights: str, *, flip: bool, threads: int | None) -> Embedder:
    return Embedder(Model.load(weights, threads=threads), flip=flip)


def take_detector(options: dict[str, Any]) -> Detector:
    """Take the values of `detector_parameters` out of `options` and make the detector."""
    model = Model.load("centerface", threads=options.pop("threads"))
    names = ("min_score", "min_size", "max_side", "any_rotation")
    return Detector(model, **{name: options.pop(name) for name in names})


class FaceChoice(click.ParamType[Choice]):
    """`only`, `largest`, `first`, or the number of a face."""

    name = "only|largest|first|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Choice:
        if value in ("only", "largest", "first"):
            choice: Choice = value
            return choice
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is not 'only', 'largest', 'first' or a number", param, ctx)


def pair_choices(_ctx: click.Context, _param: click.Parameter, given: tuple[Choice, ...]) -> tuple[Choice, Choice]:
    """Return the choice for A and for B; a single choice is for both."""
    if len(given) > 2:
        raise click.BadParameter("give it once for both pictures, or twice: for A, then for B")
    of_a, of_b = (given * 2)[:2] if given else ("only", "only")
    return of_a, of_b


face_option = click.option(
    "--face",
    type=FaceChoice(),
    default="only",
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
