"""The command that sorts an album: cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np

from sameface.album import AlbumFace, write_album
from sameface.align import align_faces
from sameface.arrays import Embeddings
from sameface.cli.options import far_option, json_option, recognizer_options
from sameface.cli.output import each, finish, list_pictures, open_source, print_json
from sameface.cluster import cluster_embeddings, same_picture_pairs
from sameface.gallery import Gallery
from sameface.image import read_image
from sameface.recognizer import Recognizer


@click.command()
@click.argument("album", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder to make.")
@click.option("--copy", is_flag=True, help="Copy the pictures instead of linking to them.")
@click.option("--gallery", "gallery_path", envvar="SAMEFACE_GALLERY", help="Name the people known there.")
@far_option
@json_option
@recognizer_options
def cluster(*, recognizer: Recognizer, album: str, output: str, far: float | None, **choices: Any) -> None:
    """Sort the pictures of ALBUM into one folder per person; the album is not touched.

    The new folder holds a folder with links (or copies) for each person, `contact-sheet.html` to look
    through, and `clusters.json`. Faces of one picture are never taken for one person. --far, 0.0003 by
    default, sets how near the faces of one person must be: less gives more and purer groups.
    """
    place, target = Path(album).resolve(), Path(output).resolve()
    if target.is_relative_to(place):
        raise click.UsageError(f"{output!r} lies inside the album: choose a place beside it")
    if target.exists():
        raise click.UsageError(f"{output!r} exists: choose a new folder")
    failures: list[str] = []
    faces: list[AlbumFace] = []
    rows: list[Embeddings] = [np.zeros((0, recognizer.embedder.spec.dimension), np.float32)]

    def work(picture: str) -> tuple[list[AlbumFace], Embeddings]:
        image = read_image(open_source(picture))
        found, embeddings = recognizer.embed(image)
        crops = align_faces(image, found, recognizer.embedder.spec.crop)
        return [AlbumFace(Path(picture), *pair) for pair in zip(found, crops, strict=True)], embeddings

    pictures = list_pictures([album])
    for _, (found, embeddings) in each(pictures, work, failures):
        faces += found
        rows.append(embeddings)
    everyone = np.concatenate(rows)
    threshold = recognizer.thresholds.at(3e-4 if far is None else far)
    pairs = same_picture_pairs([str(face.picture) for face in faces])
    labels = cluster_embeddings(everyone, threshold=threshold, cannot_link=pairs)
    names = name_groups(recognizer, choices["gallery_path"], everyone, labels)
    write_album(target, faces, labels, names, copy=choices["copy"])
    sizes = Counter(labels.tolist())
    if choices["as_json"]:
        for group, size in sizes.items():
            print_json({"name": names[group], "faces": size})
    click.echo(f"{len(faces)} faces of {len(sizes)} people in {len(pictures)} pictures: {output}", err=True)
    finish(failures)


def name_groups(
    recognizer: Recognizer, gallery_path: str | None, rows: Embeddings, labels: np.ndarray[Any, Any]
) -> list[str]:
    """Return a name for each group: what most of its faces are identified as, else a number."""
    names = [f"person-{group + 1:03d}" for group in range(labels.max(initial=-1) + 1)]
    if gallery_path is None:
        return names
    with Gallery.open(gallery_path, recognizer, create=False) as gallery:
        answers = gallery.identify(rows)
    for group in range(len(names)):
        members = np.flatnonzero(labels == group)
        known = Counter(answers[member].name for member in members if answers[member].name)
        for name, count in known.most_common(1):
            if 2 * count > len(members):
                names[group] = str(name)
    return names
