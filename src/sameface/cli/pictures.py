"""Commands on single pictures: detect, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sameface.align import align_faces
from sameface.cli.options import detector_options, face_pair_option, far_option, json_option, recognizer_options
from sameface.cli.output import each, face_record, finish, list_pictures, open_source, print_json, print_table
from sameface.detect import Detector
from sameface.draw import draw_faces, save_picture, writable
from sameface.face import Choice, Face
from sameface.image import read_image
from sameface.model import DEFAULT_WEIGHTS, rule_of_weights
from sameface.quality import Quality, measure_quality
from sameface.recognizer import Recognizer


class PicturePath(click.Path):
    """Where to write a picture: the name must end in a format that Pillow writes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if not writable(Path(str(path))):
            self.fail(f"{path!r} must end in .png, .jpg or another picture format", param, ctx)
        return path


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--draw", "drawing", type=PicturePath(dir_okay=False), help="Write the picture with its faces.")
@click.option("--quality", "with_quality", is_flag=True, help="Show the quality of each face for enrolment.")
@json_option
@detector_options
def detect(
    *, detector: Detector, pictures: tuple[str, ...], drawing: str | None, with_quality: bool, as_json: bool
) -> None:
    """Find the faces in PICTURES: files, folders, or - for stdin.

    Faces are numbered from 0, the highest score first.
    """
    named = list_pictures(pictures)
    if drawing is not None and len(named) > 1:
        raise click.UsageError("--draw takes one picture")
    failures: list[str] = []
    rows: list[tuple[object, ...]] = []
    rule = rule_of_weights(DEFAULT_WEIGHTS) if with_quality else None

    def work(picture: str) -> list[tuple[Face, Quality | None]]:
        image = read_image(open_source(picture))
        faces = detector.find(image)
        if drawing is not None:
            labels = [f"{number}: {face.score:.2f}" for number, face in enumerate(faces)]
            save_picture(draw_faces(image, faces, labels, [True] * len(faces)), Path(drawing))
        if rule is None:
            return [(face, None) for face in faces]
        crops = align_faces(image, faces, rule)
        return [(face, measure_quality(face, crop)) for face, crop in zip(faces, crops, strict=True)]

    columns = ["picture", "face", "left, top", "size", "score", *["quality", "worst"] * with_quality]
    for picture, found in each(named, work, failures):
        if as_json:
            records = [face_record(number, face) | quality_record(q) for number, (face, q) in enumerate(found)]
            print_json({"picture": picture, "faces": records})
        rows += [(picture, *face_row(number, *one)) for number, one in enumerate(found)]
        rows += [] if found else [(picture, "none", *[""] * (len(columns) - 2))]
    if rows and not as_json:
        print_table(columns, rows)
    finish(failures)


def quality_record(quality: Quality | None) -> dict[str, Any]:
    """Return the quality and its parts for JSON; nothing where it was not measured."""
    if quality is None:
        return {}
    parts = {"total": quality.total, **asdict(quality)}
    return {"quality": {name: round(value, 4) for name, value in parts.items()}}


def face_row(number: int, face: Face, quality: Quality | None) -> tuple[object, ...]:
    place = f"{face.box[0]:.0f}, {face.box[1]:.0f}"
    graded = () if quality is None else (f"{quality.total:.2f}", quality.weakest)
    return number, place, f"{face.width:.0f} x {face.height:.0f}", f"{face.score:.3f}", *graded


@click.command()
@click.argument("a")
@click.argument("b")
@far_option
@face_pair_option
@json_option
@recognizer_options
def verify(
    *, recognizer: Recognizer, a: str, b: str, far: float | None, face: tuple[Choice, Choice], as_json: bool
) -> None:
    """Decide whether the pictures A and B show the same person.

    --far is the part of the pairs of different people that may be accepted; 0.001 by default.
    """
    decision = recognizer.verify(open_source(a), open_source(b), far=1e-3 if far is None else far, face=face)
    if as_json:
        known = {name: getattr(decision, name) for name in ("same", "distance", "threshold", "far")}
        trust = {name: getattr(decision, name) for name in ("population", "extrapolated", "probability", "in_range")}
        print_json({"a": a, "b": b, **known, "rule": "pair", **trust})
    else:
        answer, sign = ("same person", "<=") if decision.same else ("different people", ">")
        click.echo(
            f"{answer}: distance {decision.distance:.4f} {sign} {decision.threshold:.4f} "
            f"(false-accept rate {decision.far:g}, population {decision.population})"
        )
        if decision.extrapolated:
            click.echo("warning: this rate is below those that were counted: it rests on an extrapolated tail")
        if decision.curve is not None:
            ends = f"{decision.curve.distance[0]:.4f} to {decision.curve.distance[-1]:.4f}"
            note = f"; the distance is outside the calibrated range, {ends}: the nearer end's was taken"
            text = f"probability {decision.probability:.4f}, one half at the threshold"
            click.echo(text if decision.in_range else f"{text}{note}")
    finish([], 0 if decision.same else 1)
