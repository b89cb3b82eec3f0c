"""Commands that look at pictures: detect, embed, verify."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from sameface.align import align_faces
from sameface.batch import Finder, embed_pictures
from sameface.batch.distributed import embed_on_ray
from sameface.cli.batch import Tally, batch_options, check_sources, count_named, follow, open_named, unfinished
from sameface.cli.options import (
    PicturePath,
    detector_options,
    face_pair_option,
    far_option,
    json_option,
    recognizer_options,
)
from sameface.cli.output import count, each, face_record, finish, list_pictures, open_source, print_json, print_table
from sameface.cli.table import EmbeddingTable
from sameface.compare import Decision
from sameface.detect import Detector
from sameface.draw import draw_faces, save_picture
from sameface.face import Face
from sameface.image import read_image
from sameface.manifest import ProbabilityCurve
from sameface.model import DEFAULT_WEIGHTS, rule_of_weights
from sameface.quality import Quality, measure_quality
from sameface.recognizer import Choice, Recognizer


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--draw", "drawing", type=PicturePath(dir_okay=False), help="Write the picture with its faces.")
@click.option("--quality", "with_quality", is_flag=True, help="Tell how fit each face is to be enrolled.")
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
        rows += [(picture, *describe(number, *one)) for number, one in enumerate(found)]
        rows += [] if found else [(picture, "none", *[""] * (len(columns) - 2))]
    if rows and not as_json:
        print_table(columns, rows)
    finish(failures)


def quality_record(quality: Quality | None) -> dict[str, Any]:
    """Return what is printed of a quality and its parts in JSON, nothing where it was not measured."""
    if quality is None:
        return {}
    parts = {"total": quality.total, **asdict(quality)}
    return {"quality": {name: round(value, 4) for name, value in parts.items()}}


def describe(number: int, face: Face, quality: Quality | None) -> tuple[object, ...]:
    """Return the columns of one face."""
    place = f"{face.box[0]:.0f}, {face.box[1]:.0f}"
    told = () if quality is None else (f"{quality.total:.2f}", quality.weakest)
    return number, place, f"{face.width:.0f} x {face.height:.0f}", f"{face.score:.3f}", *told


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A file ending in .npz, .parquet or .jsonl."
)
@click.option("--ray", "address", metavar="ADDRESS", help="Search on a Ray cluster: auto, host:port or local.")
@batch_options
def embed(
    *, recognizer: Recognizer, pictures: tuple[str, ...], output: str, workers: int, address: str | None
) -> None:
    """Write the embedding of every face in PICTURES to a file.

    PICTURES are files, folders, tar files and Parquet files. Beside the rows stand the picture, the number
    and the box of each face, and the pipeline's signature. A run that was ended, in whatever way, goes on
    where it was when the same command is given again.
    """
    finder, tally = Finder(recognizer), Tally()
    table = EmbeddingTable(Path(output), recognizer.signature, recognizer.embedder.spec.dimension)
    check_sources(pictures)
    with unfinished(Path(output)) as journal:
        how: dict[str, Any] = {"workers": workers, "journal": journal}
        if address is None:
            results = embed_pictures(open_named(pictures), finder, **how)
        else:
            results = embed_on_ray(open_named(pictures), finder, address=address, **how)
        for _ in follow(results, partial(count_named, pictures), tally):
            pass
        faces = table.write(partial(journal.entries, finder.pipeline))
    tally.print_shortcuts()
    pictures_read = count(tally.pictures - len(tally.failures), "picture")
    click.echo(f"{count(faces, 'face')} of {pictures_read}: {output}", err=True)
    finish(tally.failures)


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
    """Tell whether the pictures A and B show the same person.

    --far is the part of the pairs of different people that may be accepted; 0.001 by default.
    """
    decision = recognizer.verify(open_source(a), open_source(b), far=1e-3 if far is None else far, face=face)
    if as_json:
        print_json(
            {
                "a": a,
                "b": b,
                "same": decision.same,
                "distance": decision.distance,
                "threshold": decision.threshold,
                "far": decision.far,
                "rule": "pair",
                "population": decision.population,
                "extrapolated": decision.extrapolated,
                "probability": decision.probability,
                "in_range": decision.in_range,
            }
        )
    else:
        answer, sign = ("same person", "<=") if decision.same else ("different people", ">")
        click.echo(
            f"{answer}: distance {decision.distance:.4f} {sign} {decision.threshold:.4f} "
            f"(false-accept rate {decision.far:g}, population {decision.population})"
        )
        if decision.extrapolated:
            click.echo("warning: this rate is below those that were counted: it rests on an extrapolated tail")
        if decision.curve is not None:
            click.echo(describe_probability(decision.curve, decision))
    finish([], 0 if decision.same else 1)


def describe_probability(curve: ProbabilityCurve, decision: Decision) -> str:
    """Return the chance of one person, and say where it is not to be trusted."""
    told = f"probability {decision.probability:.4f}, one half at the threshold"
    if decision.in_range:
        return told
    ends = f"{curve.distance[0]:.4f} to {curve.distance[-1]:.4f}"
    return f"{told}; the distance is outside the calibrated range, {ends}: the nearer end's was taken"
