"""The command that sorts an album: cluster."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sameface.album import PictureFace, thumbnail, write_album
from sameface.arrays import Embeddings
from sameface.batch import Finder, Result, count_pictures, embed_pictures, is_packed, open_pictures
from sameface.cli import BadInputError
from sameface.cli.batch import Tally, batch_options, check_sources, follow, unfinished
from sameface.cli.options import far_option, json_option, warn_of_others
from sameface.cli.output import count, finish, print_json
from sameface.cli.unlock import key_options
from sameface.cluster import cluster_embeddings, same_picture_pairs
from sameface.gallery import Gallery, Identification
from sameface.recognizer import Recognizer

MOST = 100_000  # faces of an album, whose thumbnails are in memory: 400 MB


@click.command()
@click.argument("album", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder to make.")
@click.option("--copy", is_flag=True, help="Copy the pictures instead of linking to them.")
@click.option(
    "--gallery",
    "gallery_path",
    envvar="SAMEFACE_GALLERY",
    callback=warn_of_others,
    help="Name the people known there.",
)
@key_options
@far_option
@json_option
@batch_options
def cluster(*, recognizer: Recognizer, album: str, output: str, far: float | None, **choices: Any) -> None:
    """Sort the pictures of ALBUM into one folder per person; the album is not touched.

    The new folder holds a folder with links (or copies) for each person, `contact-sheet.html` to look
    through, and `clusters.json`. Faces of one picture are never taken for one person. --far, 0.0003 by
    default and less for more than 5,000 faces, sets how near the faces of one person must be: less gives
    more and purer groups.

    ALBUM is a folder, or a tar or Parquet file, out of which pictures are always copied. A run that was
    ended, in whatever way, goes on where it was when the same command is given again.
    """
    target = Path(output)
    check_target(Path(album), target)
    check_sources([album])
    finder, tally = Finder(recognizer, crops=True), Tally()
    with open_known(choices, recognizer) as known, unfinished(target) as journal:
        results = embed_pictures(open_pictures([album]), finder, workers=choices["workers"], journal=journal)
        followed = follow(results, partial(count_pictures, [album]), tally)
        faces, rows = gather_faces(followed, recognizer.embedder.spec.dimension)
        pairs = same_picture_pairs([str(face.picture) for face in faces])
        threshold = recognizer.thresholds.at_album(len(rows), far)
        labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
        names = name_groups(labels, [] if known is None else known.identify(rows))
        with unpack_pictures(Path(album), {face.picture for face in faces}, target) as files:
            write_album(target.resolve(), faces, labels, names, copy=choices["copy"], files=files)
    tally.print_shortcuts()
    sizes = Counter(names[label] for label in labels)
    if choices["as_json"]:
        for name, size in sizes.most_common():
            print_json({"name": name, "faces": size})
    told = f"{count(len(faces), 'face')} of {count(len(sizes), 'person', 'people')}"
    click.echo(f"{told} in {count(tally.pictures - len(tally.failures), 'picture')}: {output}", err=True)
    finish(tally.failures)


def check_target(album: Path, output: Path) -> None:
    """Refuse a place for the new folder before the work begins."""
    if output.resolve().is_relative_to(album.resolve()):
        raise click.UsageError(f"{str(output)!r} lies inside the album: choose a place beside it")
    if os.path.lexists(output):
        raise click.UsageError(f"{str(output)!r} exists: choose a new folder")


def open_known(choices: dict[str, Any], recognizer: Recognizer) -> AbstractContextManager[Gallery | None]:
    """Open the gallery before the work begins, if there is one."""
    path, keys = choices["gallery_path"], choices["keys"]
    return nullcontext() if path is None else Gallery.open(path, recognizer, create=False, keys=keys)


def gather_faces(results: Iterable[Result], dimension: int) -> tuple[list[PictureFace], Embeddings]:
    """Return every face of the album, and their embeddings `(n, d)`."""
    faces: list[PictureFace] = []
    rows: list[Embeddings] = [np.zeros((0, dimension), np.float32)]
    for result in results:
        found = result.found
        if found is None:
            continue
        picture = Path(result.picture.name)
        faces += [
            PictureFace(picture, face, thumbnail(crop)) for face, crop in zip(found.faces, found.crops, strict=True)
        ]
        rows.append(found.rows)
        if len(faces) > MOST:
            way = "take a part of it at a time, or `sameface embed` and `sameface group`"
            raise BadInputError(f"the album holds over {MOST:,} faces: {way}")
    return faces, np.concatenate(rows)


@contextmanager
def unpack_pictures(album: Path, wanted: set[Path], output: Path) -> Iterator[dict[Path, Path]]:
    """Write the pictures out of a tar or Parquet file beside the output for a while; of a folder none."""
    files: dict[Path, Path] = {}
    if not is_packed(album):
        yield files
        return
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.") as folder:
        for picture in open_pictures([album]):
            if Path(picture.name) in wanted:
                files[Path(picture.name)] = Path(folder, str(len(files)))
                files[Path(picture.name)].write_bytes(picture.read())
        yield files


def name_groups(labels: NDArray[np.int64], answers: Sequence[Identification]) -> list[str]:
    """Return a name for each group: what most of its faces are identified as, else a number.

    Args:
        labels: `(n,) int64` the number of each face's group.
        answers: Who each face is; empty without a gallery.
    """
    names: dict[int, str] = {}
    members: dict[int, list[str | None]] = {}
    for label, answer in zip(labels.tolist(), answers, strict=False):
        members.setdefault(label, []).append(answer.name)
    for group, known in members.items():
        name, count = Counter(known).most_common(1)[0]
        if name is not None and 2 * count > len(known):
            names[group] = name
    # A number must not be the name of someone who was enrolled from an earlier album.
    numbered = (f"person-{number:03d}" for number in itertools.count(1))
    free = (name for name in numbered if name not in names.values())
    return [names.get(group) or next(free) for group in range(labels.max(initial=-1) + 1)]
