"""The command that enrolls people: enroll."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from sameface.batch import Finder, Picture, Result, embed_pictures, open_pictures
from sameface.cli.batch import Tally, batch_options, check_sources, follow, open_named
from sameface.cli.gallery_options import gallery_option, key_options, quality_option
from sameface.cli.options import face_option, json_option
from sameface.cli.output import count, finish, print_json
from sameface.errors import GalleryError, ImageError
from sameface.face import Choice, Template
from sameface.gallery import Gallery
from sameface.gallery.errors import BadNameError, FaceTakenError
from sameface.gallery.expiry import parse_moment
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer


@click.command()
@click.argument("name", required=False)
@click.argument("pictures", nargs=-1)
@click.option(
    "--people",
    "people_folder",
    type=click.Path(exists=True, path_type=Path),
    help="A folder that holds one folder per person, called by the person's name; or a tar or Parquet file.",
)
@click.option("--keep-crops", is_flag=True, help="Also store the face that was cut out.")
@click.option(
    "--expire-after",
    metavar="WHEN",
    help="Delete whoever is enrolled after so many days (365d), or when a day begins in UTC (2030-01-31).",
)
@quality_option
@gallery_option
@key_options
@face_option
@json_option
@batch_options
def enroll(
    *,
    recognizer: Recognizer,
    name: str | None,
    pictures: tuple[str, ...],
    people_folder: Path | None,
    keep_crops: bool,
    expire_after: str | None,
    min_quality: float,
    gallery_path: str,
    keys: Keys,
    face: Choice,
    as_json: bool,
    workers: int,
) -> None:
    """Enroll the person NAME with PICTURES, or everyone in a folder of --people.

    PICTURES are files, folders, tar files and Parquet files. A picture that is enrolled already is passed
    over, so that the command can be repeated, also after it was interrupted.
    """
    if bool(name) != bool(pictures) or not (name or people_folder):
        raise click.UsageError("give a NAME and PICTURES, or a folder with --people")
    check_sources(pictures)
    if people_folder is not None and next(open_people(people_folder), None) is None:
        raise click.UsageError(f"no folders with pictures in {str(people_folder)!r}")
    expires = None if expire_after is None else parse_moment(expire_after, time.time())
    finder = Finder(recognizer, face, keep_crops, min_quality)
    tally = Tally()

    def open_all() -> Iterator[Picture]:
        if people_folder is not None:
            yield from open_people(people_folder)
        if name:
            yield from open_named(pictures, name)

    with Gallery.open(gallery_path, recognizer, keys=keys) as gallery:
        results = embed_pictures(open_all(), finder, workers=workers, leave_out=partial(is_enrolled, gallery))
        with closing(follow(results, lambda: sum(1 for _ in open_all()), tally)) as followed:
            counts = enroll_results(gallery, followed, expires, tally.failures)
    for person, added in counts.items():
        if as_json:
            print_json({"name": person, "added": added})
        else:
            click.echo(f"{person}: {added} added")
    finish(tally.failures)


def open_people(source: Path) -> Iterator[Picture]:
    """Yield the pictures of a folder that holds one folder per person, or of a tar or Parquet file."""
    if source.is_dir():
        for place in sorted(source.iterdir()):
            if place.is_dir() and not place.name.startswith("."):
                for picture in open_pictures([place]):
                    yield replace(picture, person=place.name)
        return
    for picture in open_pictures([source]):
        # A source that cannot be read is a picture of the source's name, and fails with the reason when it is read.
        lost = not picture.person and picture.name != str(source)
        yield replace(picture, read=partial(refuse_homeless, picture.name)) if lost else picture


def refuse_homeless(name: str) -> bytes:
    """Raise the error of a picture outside a person's folder."""
    raise ImageError(repr(name), "it is in no person's folder")


def is_enrolled(gallery: Gallery, picture: Picture, sha256: str) -> bool:
    """Return whether the picture's person is enrolled with this content."""
    try:
        return gallery.holds(picture.person, sha256)
    except BadNameError:
        return False


def enroll_results(
    gallery: Gallery, results: Iterator[Result], expires: datetime | None, failures: list[str]
) -> Counter[str]:
    """Enroll the face of each picture, and return how many were added of each person.

    An error of the gallery ends the work, and what was added stays; a name or face that is refused is skipped.
    """
    counts: Counter[str] = Counter()
    try:
        for result in results:
            name, found = result.picture.person, result.found
            counts[name] += 0
            if found is None:
                continue
            crop = found.crops[0] if len(found.crops) else None
            template = Template(result.sha256, found.faces[0].box, found.faces[0].score, found.rows[0], crop)
            try:
                counts[name] += gallery.enroll(name, [template], expires=expires)
            except (BadNameError, FaceTakenError) as error:
                failures.append(str(error))
    except GalleryError:
        done = count(counts.total(), "face")
        click.echo(f"{done} added before this: the same command goes on from there", err=True)
        raise
    counts.pop("", None)  # unreadable pictures, and those outside a person's folder
    return counts
