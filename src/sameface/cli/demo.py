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
from sameface.face import Face
from sameface.gallery import Gallery, Identification
from sameface.image import read_image
from sameface.picture_files import find_pictures
from sameface.recognizer import Recognizer

ENROLLED = {"Barack Obama": ("barack-obama-1", "barack-obama-2"), "Joe Biden": ("joe-biden",)}
STRANGER = "eileen-collins"
PROBE = "barack-obama-3"


@click.command()
@click.option(
    "-o",
    "--output",
    default="sameface-demo.png",
    show_default=True,
    type=PicturePath(dir_okay=False),
    help="The picture to write.",
)
@recognizer_options
def demo(*, recognizer: Recognizer, output: str) -> None:
    """Find, compare, enroll, identify and cluster the faces of the sample photographs."""
    samples = {path.stem: read_image(path) for path in find_pictures(samples_folder())}
    show_verification(recognizer, samples)
    with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder, "demo.db"), recognizer) as gallery:
        enroll_samples(recognizer, gallery, samples)
        picture, faces, answers = identify_group(recognizer, gallery, samples)
    show_clusters(recognizer, samples)
    labels = [f"{answer.name or 'unknown'} {answer.matches[0].distance:.2f}" for answer in answers]
    known = [answer.name is not None for answer in answers]
    save_picture(draw_faces(picture, faces, labels, known), Path(output))
    click.echo(f"\nwritten: {output}")


def samples_folder() -> Path:
    """Return the folder of the photographs: in the installed package, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "samples"
    return installed if installed.is_dir() else package.parents[1] / "samples"


def show_verification(recognizer: Recognizer, samples: dict[str, Image]) -> None:
    """Compare a portrait with a picture of the same man and with one of another."""
    click.echo("verify: is it the same person?")
    for a, b in ((PROBE, "barack-obama-1"), (PROBE, "joe-biden")):
        decision = recognizer.verify(samples[a], samples[b])
        answer = "same person" if decision.same else "different people"
        sign = "<=" if decision.same else ">"
        click.echo(f"  {a} | {b}: {answer} ({decision.distance:.3f} {sign} {decision.threshold:.3f})")


def enroll_samples(recognizer: Recognizer, gallery: Gallery, samples: dict[str, Image]) -> None:
    """Enroll two of the people."""
    click.echo("enroll:")
    for name, pictures in ENROLLED.items():
        templates = [recognizer.template(samples[picture]) for picture in pictures]
        click.echo(f"  {name}: {count(gallery.enroll(name, templates), 'face')}")


def identify_group(
    recognizer: Recognizer, gallery: Gallery, samples: dict[str, Image]
) -> tuple[Image, list[Face], list[Identification]]:
    """Paste a group picture and name everyone in it; the astronaut is a stranger."""
    picture = paste_row([samples[PROBE], samples[STRANGER], samples["joe-biden"]])
    faces, rows = recognizer.embed(picture)
    answers = gallery.identify(rows)
    click.echo("identify, in one picture pasted from three:")
    for face, answer in zip(faces, answers, strict=True):
        nearest = answer.matches[0]
        name = answer.name or f"unknown (nearest {nearest.name})"
        click.echo(f"  {face}: {name}, distance {nearest.distance:.3f}, threshold {answer.threshold:.3f}")
    return picture, faces, answers


def paste_row(images: list[Image]) -> Image:
    """Return pictures side by side, all as high as the first."""
    height = len(images[0])
    pictures = [PIL.Image.fromarray(image) for image in images]
    scaled = [picture.resize((picture.width * height // picture.height, height)) for picture in pictures]
    return np.concatenate([np.asarray(picture) for picture in scaled], axis=1)


def show_clusters(recognizer: Recognizer, samples: dict[str, Image]) -> None:
    """Group all photographs without using a name."""
    rows = np.stack([recognizer.embed_face(image)[1] for image in samples.values()])
    labels = cluster_embeddings(rows, threshold=recognizer.thresholds.at(1e-3))
    click.echo("cluster, without any name:")
    for group in range(labels.max() + 1):
        members = [name for name, label in zip(samples, labels, strict=True) if label == group]
        click.echo(f"  person {group + 1}: {', '.join(members)}")
