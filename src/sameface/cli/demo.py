"""The command that shows everything on the sample photographs: demo."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import PIL.Image

from sameface.arrays import Image
from sameface.cli.options import recognizer_options
from sameface.cli.output import count
from sameface.cli.pictures import PicturePath
from sameface.cluster import cluster_embeddings
from sameface.draw import draw_faces, save_picture
from sameface.gallery import Gallery
from sameface.image import read_image
from sameface.picture_files import find_pictures
from sameface.recognizer import Recognizer

ENROLLED = {"Barack Obama": ("barack-obama-1", "barack-obama-2"), "Joe Biden": ("joe-biden",)}
STRANGER = "eileen-collins"
PROBE = "barack-obama-3"


@click.command()
@click.option("-o", "--output", default="sameface-demo.png", type=PicturePath(dir_okay=False), help="The picture.")
@recognizer_options
def demo(*, recognizer: Recognizer, output: str) -> None:
    """Find, compare, enroll, identify and cluster the faces of the sample photographs."""
    samples = {path.stem: read_image(path) for path in find_pictures(samples_folder())}
    click.echo("verify: is it the same person?")
    for name in ("barack-obama-1", "joe-biden"):
        decision = recognizer.verify(samples[PROBE], samples[name])
        verdict, sign = ("same person", "<=") if decision.same else ("different people", ">")
        click.echo(f"  {PROBE} | {name}: {verdict} ({decision.distance:.3f} {sign} {decision.threshold:.3f})")
    picture = paste_row([samples[PROBE], samples[STRANGER], samples["joe-biden"]])
    faces, rows = recognizer.embed(picture)
    with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder, "demo.db"), recognizer) as gallery:
        click.echo("enroll:")
        for name, pictures in ENROLLED.items():
            templates = [recognizer.template(samples[taken]) for taken in pictures]
            click.echo(f"  {name}: {count(gallery.enroll(name, templates), 'face')}")
        answers = gallery.identify(rows)
    click.echo("identify, in one picture pasted from three:")
    for face, answer in zip(faces, answers, strict=True):
        nearest = answer.matches[0]
        name = answer.name or f"unknown (nearest {nearest.name})"
        click.echo(f"  {face}: {name}, distance {nearest.distance:.3f}, threshold {answer.threshold:.3f}")
    portraits = np.stack([recognizer.embed_face(image)[1] for image in samples.values()])  # (n, d)
    labels = cluster_embeddings(portraits, threshold=recognizer.thresholds.at(1e-3))
    click.echo("cluster, without any name:")
    for group in range(labels.max() + 1):
        members = [name for name, label in zip(samples, labels, strict=True) if label == group]
        click.echo(f"  person {group + 1}: {', '.join(members)}")
    captions = [f"{answer.name or 'unknown'} {answer.matches[0].distance:.2f}" for answer in answers]
    known = [answer.name is not None for answer in answers]
    save_picture(draw_faces(picture, faces, captions, known), Path(output))
    click.echo(f"\nwritten: {output}")


def samples_folder() -> Path:
    """Return the folder of the photographs: in the installed package, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "samples"
    return installed if installed.is_dir() else package.parents[1] / "samples"


def paste_row(images: list[Image]) -> Image:
    """Return pictures side by side, all as high as the first."""
    height = len(images[0])
    pictures = [PIL.Image.fromarray(image) for image in images]
    scaled = [picture.resize((picture.width * height // picture.height, height)) for picture in pictures]
    return np.concatenate([np.asarray(picture) for picture in scaled], axis=1)
