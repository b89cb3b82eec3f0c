"""The command that enrolls people: enroll."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import click
import numpy as np
from numpy.typing import NDArray

from sameface.album_folders import is_unnamed, read_boxes
from sameface.batch import Finder, FoundFaces, Picture, Result, embed_pictures, open_pictures
from sameface.cli.batch import Tally, batch_options, check_sources, follow, open_named
from sameface.cli.gallery_options import gallery_option, key_options, quality_option
from sameface.cli.options import existing_path, face_option, json_option
from sameface.cli.output import count, finish, print_json
from sameface.errors import FaceError, GalleryError, ImageError, NoFaceError
from sameface.face import Choice, Template, overlaps
from sameface.gallery import Gallery, Identification
from sameface.gallery.errors import BadNameError, FaceTakenError
from sameface.gallery.expiry import parse_moment
from sameface.gallery.keys import Keys
from sameface.gallery.names import clean_name
from sameface.quality import require_quality
from sameface.recognizer import Recognizer, choose_face

SAME_PLACE = 0.5  # intersection over union of a face and the box of the album's list
Add: TypeAlias = Callable[[str, list[Template]], int]  # enrolls faces of a person


@click.command()
@click.argument("name", required=False)
@click.argument("pictures", nargs=-1)
@click.option(
    "--people", "people_folder", type=existing_path, help="A folder, tar or Parquet file with a folder per person."
)
@click.option("--keep-crops", is_flag=True, help="Also store the face that was cut out.")
@click.option(
    "--expire-after", metavar="WHEN", help="Delete the person after days (365d), or on a day in UTC (2030-01-31)."
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

    PICTURES are files, folders, tar files and Parquet files. Pictures that are already enrolled are
    skipped, so the same command resumes an interrupted run.

    In a folder of `sameface cluster` or `sameface album export`, the list there says which face of a picture
    is the person; folders that were not renamed (person-001) are left out.
    """
    if bool(name) != bool(pictures) or not (name or people_folder):
        raise click.UsageError("give a NAME and PICTURES, or a folder with --people")
    check_sources(pictures)
    if people_folder is not None and next(open_people(people_folder), None) is None:
        raise click.UsageError(f"no folders with pictures in {str(people_folder)!r}")
    boxes = read_boxes(people_folder) if people_folder is not None and people_folder.is_dir() else None
    expires = None if expire_after is None else parse_moment(expire_after, time.time())
    finder = Finder(recognizer, face, keep_crops, min_quality)
    if boxes is not None:
        finder = Finder(recognizer, crops=True)  # every face, of which `pick` takes the known one
    pick = partial(pick_face, boxes, face, min_quality)
    tally, unnamed = Tally(), set()

    def open_all() -> Iterator[Picture]:
        for picture in () if people_folder is None else open_people(people_folder):
            if boxes is not None and is_unnamed(picture.person):
                unnamed.add(picture.person)
            else:
                yield picture
        if name:
            yield from open_named(pictures, name)

    lookalikes: dict[tuple[str, str], list[Identification]] = {}
    with Gallery.open(gallery_path, recognizer, keys=keys) as gallery:
        results = embed_pictures(open_all(), finder, workers=workers, leave_out=partial(is_enrolled, gallery))
        with closing(follow(results, lambda: sum(1 for _ in open_all()), tally)) as followed:
            add = partial(enroll_faces, gallery, expires, lookalikes)
            counts = enroll_results(add, followed, pick, tally.failures, keep_crop=keep_crops)
    for person, added in counts.items():
        if as_json:
            print_json({"name": person, "added": added})
        else:
            click.echo(f"{person}: {added} added")
    print_lookalikes(lookalikes)
    if unnamed:
        left_out = count(len(unnamed), "folder")
        click.echo(f"{left_out} without a person's name left out: rename a folder to enroll it", err=True)
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


def pick_face(
    boxes: Mapping[str, NDArray[np.float32]] | None,
    choice: Choice,
    min_quality: float,
    result: Result,
    found: FoundFaces,
) -> int:
    """Return the place of the face to enroll: the face at a known box, the only one searched for, or the choice.

    Raises:
        FaceError: No face is at the box, the choice cannot be made, or the quality is too low.
    """
    if boxes is None:
        return 0  # the finder made the choice
    name = repr(result.picture.name)
    box = boxes.get(result.picture.name)
    if box is None:
        face = choose_face(list(found.faces), choice, name)
        place = next(place for place, each in enumerate(found.faces) if each is face)
    else:
        shared = [float(overlaps(each.box, box[None])[0]) for each in found.faces]
        place = int(np.argmax(shared)) if shared else 0
        if not shared or shared[place] < SAME_PLACE:
            raise NoFaceError(f"{name} at the place that the list of the album names")
    require_quality(found.faces[place], found.crops[place], min_quality, name)
    return place


def enroll_faces(
    gallery: Gallery,
    expires: datetime | None,
    lookalikes: dict[tuple[str, str], list[Identification]],
    person: str,
    templates: list[Template],
) -> int:
    """Enroll faces of a person; note under both names whom else a new face would be named as."""
    answers = gallery.identify(np.stack([template.embedding for template in templates]))
    added = gallery.enroll(person, templates, expires=expires)
    name = clean_name(person)
    for answer in answers if added else ():
        if answer.name is not None and answer.name != name:
            lookalikes.setdefault((name, answer.name), []).append(answer)
    return added


def print_lookalikes(lookalikes: Mapping[tuple[str, str], list[Identification]]) -> None:
    """Warn on stderr of people who may be enrolled already under another name."""
    for (name, other), answers in lookalikes.items():
        nearest = min(answer.matches[0].distance for answer in answers)
        evidence = f"{count(len(answers), 'face')}, distance {nearest:.4f}, threshold {answers[0].threshold:.4f}"
        click.echo(f"warning: {name} looks like {other}, who is enrolled: {evidence}", err=True)


def enroll_results(
    add: Add,
    results: Iterator[Result],
    pick: Callable[[Result, FoundFaces], int],
    failures: list[str],
    *,
    keep_crop: bool,
) -> Counter[str]:
    """Enroll the picked face of each picture, and return how many were added of each person.

    An error of the gallery ends the work, and what was added stays; a face or a name that is refused is skipped.
    """
    counts: Counter[str] = Counter()
    try:
        for result in results:
            person, found = result.picture.person, result.found
            counts[person] += 0
            if found is None:
                continue
            try:
                place = pick(result, found)
                face, crop = found.faces[place], found.crops[place] if keep_crop else None
                template = Template(result.sha256, face.box, face.score, found.rows[place], crop)
                counts[person] += add(person, [template])
            except (BadNameError, FaceError, FaceTakenError) as error:
                failures.append(str(error))
    except GalleryError:
        done = count(counts.total(), "face")
        click.echo(f"{done} added before this: the same command goes on from there", err=True)
        raise
    counts.pop("", None)  # unreadable pictures, and those outside a person's folder
    return counts
