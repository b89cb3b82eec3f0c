"""Commands that group faces into people without a name: cluster, group."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sameface.album_folders import PictureFace, thumbnail, write_album
from sameface.arrays import Embeddings
from sameface.atomic import replace_file
from sameface.batch import Finder, Result, count_pictures, embed_pictures, is_packed, open_pictures
from sameface.cli import BadInputError
from sameface.cli.batch import Tally, batch_options, check_sources, follow, unfinished
from sameface.cli.embed import (
    ARRAY_ENDINGS,
    Columns,
    check_output,
    import_pyarrow,
    join_columns,
    read_columns,
    to_arrow,
)
from sameface.cli.gallery_options import key_options, warn_of_others
from sameface.cli.options import existing_file, far_option, json_option, output_option, recognizer_options
from sameface.cli.output import count, finish, print_json, progress_bar
from sameface.cluster import cluster_embeddings, extend_clusters, same_picture_pairs
from sameface.cluster.neighbours import ProgressCallback
from sameface.gallery import Gallery, Identification
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer

MOST_FACES = 100_000  # of an album, whose thumbnails are in memory: 400 MB
FACE_COLUMNS = ("picture", "number", "box", "landmarks", "score", "embedding")  # what `sameface embed` writes
ROW_GROUP = 1 << 16  # faces of a Parquet file's row group


@click.command()
@click.argument("album", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder to make.")
@click.option("--copy", is_flag=True, help="Copy the pictures instead of linking them.")
@click.option(
    "--gallery",
    "gallery_path",
    envvar="SAMEFACE_GALLERY",
    callback=warn_of_others,
    help="Name the people of this gallery.",
)
@key_options
@far_option
@json_option
@batch_options
def cluster(
    *,
    recognizer: Recognizer,
    album: str,
    output: str,
    copy: bool,
    gallery_path: str | None,
    keys: Keys,
    far: float | None,
    as_json: bool,
    workers: int,
) -> None:
    """Sort the pictures of ALBUM into one folder per person; the album is not touched.

    The new folder holds a folder with links (or copies) for each person, `contact-sheet.html` to look
    through, and `clusters.json`. Faces of one picture are never one person. --far, 0.0003 by
    default and less for more than 5,000 faces, sets how near the faces of one person must be: less gives
    more and purer groups.

    ALBUM is a folder, or a tar or Parquet file, out of which pictures are always copied. The same
    command resumes an interrupted run.
    """
    target = Path(output)
    if target.resolve().is_relative_to(Path(album).resolve()):
        raise click.UsageError(f"{output!r} lies inside the album: choose a place beside it")
    if os.path.lexists(output):
        raise click.UsageError(f"{output!r} exists: choose a new folder")
    check_sources([album])
    finder, tally = Finder(recognizer, crops=True), Tally()
    known = nullcontext() if gallery_path is None else Gallery.open(gallery_path, recognizer, create=False, keys=keys)
    with known as gallery, unfinished(target) as journal:
        results = embed_pictures(open_pictures([album]), finder, workers=workers, journal=journal)
        followed = follow(results, partial(count_pictures, [album]), tally)
        faces, rows = gather_faces(followed, recognizer.embedder.spec.dimension)
        pairs = same_picture_pairs([str(face.picture) for face in faces])
        threshold = recognizer.thresholds.at_album(len(rows), far)
        labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
        names = name_groups(labels, [] if gallery is None else gallery.identify(rows))
        with unpack_pictures(Path(album), {face.picture for face in faces}, target) as files:
            write_album(target.resolve(), faces, labels, names, copy=copy, files=files)
    tally.print_shortcuts()
    sizes = Counter(names[label] for label in labels)
    for name, size in sizes.most_common() if as_json else ():
        print_json({"name": name, "faces": size})
    people = f"{count(len(faces), 'face')} of {count(len(sizes), 'person', 'people')}"
    click.echo(f"{people} in {count(tally.pictures - len(tally.failures), 'picture')}: {output}", err=True)
    finish(tally.failures)


def gather_faces(results: Iterable[Result], dimension: int) -> tuple[list[PictureFace], Embeddings]:
    """Return every face of the album, and the embeddings `(n, d)`."""
    faces: list[PictureFace] = []
    rows: list[Embeddings] = [np.zeros((0, dimension), np.float32)]
    for result in results:
        found = result.found
        if found is None:
            continue
        picture = Path(result.picture.name)
        pairs = zip(found.faces, found.crops, strict=True)
        faces += [PictureFace(picture, face, thumbnail(crop)) for face, crop in pairs]
        rows.append(found.rows)
        if len(faces) > MOST_FACES:
            way = "take a part of it at a time, or `sameface embed` and `sameface group`"
            raise BadInputError(f"the album holds over {MOST_FACES:,} faces: {way}")
    return faces, np.concatenate(rows)


@contextmanager
def unpack_pictures(album: Path, wanted: set[Path], output: Path) -> Iterator[dict[Path, Path]]:
    """Give the pictures of a tar or Parquet file as temporary files beside the output; of a folder none."""
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
    """Return a name for each group: the name given to more than half of its faces, else a number.

    `labels` are the groups of the faces, `(n,) int64`; `answers` are empty without a gallery.
    """
    members: dict[int, list[str | None]] = {}
    for label, answer in zip(labels.tolist(), answers, strict=False):
        members.setdefault(label, []).append(answer.name)
    names: dict[int, str] = {}
    for group, known in members.items():
        name, votes = Counter(known).most_common(1)[0]
        if name is not None and 2 * votes > len(known):
            names[group] = name
    # A number must not be the name of someone who was enrolled from an earlier album.
    numbered = (f"person-{number:03d}" for number in itertools.count(1))
    free = (name for name in numbered if name not in names.values())
    return [names.get(group) or next(free) for group in range(labels.max(initial=-1) + 1)]


@click.command()
@click.argument("faces", type=existing_file)
@output_option("A file ending in .npz or .parquet.")
@click.option(
    "--update", "earlier", type=existing_file, help="An earlier output: groups stay, new pictures are added."
)
@far_option
@click.option("--threshold", type=click.FloatRange(0, 4), help="The distance to allow, instead of --far.")
@json_option
@recognizer_options
def group(
    *,
    recognizer: Recognizer,
    faces: Path,
    output: Path,
    earlier: Path | None,
    far: float | None,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Group the embeddings in FACES, a .npz or .parquet file that `sameface embed` wrote, into people.

    The output holds what FACES does and a column `group`, a number for each person. There may be millions of
    faces. Faces of one picture are never one person. --far, 0.0003 by default and less for more than 5,000
    faces, sets how near the faces of one person must be.

    With --update the output also holds the earlier faces. It may be the same file, which is then replaced.
    """
    check_output(output, ARRAY_ENDINGS)
    if far is not None and threshold is not None:
        raise click.UsageError("--far and --threshold each set the distance: give one")
    new = read_columns(faces, recognizer.signature, FACE_COLUMNS)
    known = {name: values[:0] for name, values in new.items()} | {"group": np.zeros(0, np.int64)}
    if earlier is not None:
        known = read_columns(earlier, recognizer.signature, (*FACE_COLUMNS, "group"))
        pictures = set(known["picture"].tolist())
        unknown = np.array([picture not in pictures for picture in new["picture"].tolist()], bool)
        new = {name: values[unknown] for name, values in new.items()}
    if threshold is None:
        threshold = recognizer.thresholds.at_album(len(known["group"]) + len(new["number"]), far)
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=1.0)
        new["group"] = group_faces(new, known, threshold, lambda part: bar.update(task, completed=part))
    columns = join_columns([known, new])
    write_groups(output, columns, recognizer.signature)
    sizes = Counter(columns["group"].tolist())
    for number, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])) if as_json else ():
        print_json({"group": number, "faces": size})
    people = f"{count(len(columns['group']), 'face')} of {count(len(sizes), 'person', 'people')}"
    click.echo(f"{people}: {output}", err=True)


def group_faces(new: Columns, known: Columns, threshold: float, report: ProgressCallback) -> NDArray[np.int64]:
    """Return the group of each new face, `(n,) int64`."""
    rows = np.ascontiguousarray(new["embedding"])
    options: dict[str, Any] = {
        "threshold": threshold,
        "cannot_link": same_picture_pairs(new["picture"].tolist()),
        "told": report,
    }
    if not len(known["group"]):
        return cluster_embeddings(rows, **options)
    return extend_clusters(rows, known=np.ascontiguousarray(known["embedding"]), labels=known["group"], **options)


def write_groups(path: Path, columns: Columns, signature: str) -> None:
    with replace_file(path, private=True) as part, part.open("wb") as file:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"signature": np.array(signature), **columns}
            np.savez(file, **arrays)
        else:
            import_pyarrow().parquet.write_table(to_arrow(columns, signature), file, row_group_size=ROW_GROUP)
