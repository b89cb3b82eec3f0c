"""Commands on the gallery: enroll, identify, people, rename, merge, forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from sameface.batch import Finder, Picture, Result, embed_pictures, open_pictures
from sameface.cli.batch import Tally, batch_options, check_sources, follow, open_named
from sameface.cli.options import face_option, far_option, gallery_option, json_option, recognizer_options
from sameface.cli.output import (
    count,
    each,
    face_record,
    finish,
    list_pictures,
    open_source,
    print_json,
    print_table,
)
from sameface.errors import BadNameError, FaceTakenError, GalleryError, ImageError
from sameface.face import Face
from sameface.gallery import Gallery, Identification
from sameface.recognizer import Recognizer
from sameface.template import Template


@click.command()
@click.argument("name", required=False)
@click.argument("pictures", nargs=-1)
@click.option(
    "--people",
    "people_folder",
    type=click.Path(exists=True),
    help="A folder that holds one folder per person, called by the person's name; or a tar or Parquet file.",
)
@click.option("--keep-crops", is_flag=True, help="Also store the face that was cut out.")
@gallery_option
@face_option
@json_option
@batch_options
def enroll(
    *,
    recognizer: Recognizer,
    name: str | None,
    pictures: tuple[str, ...],
    people_folder: str | None,
    gallery_path: str,
    **choices: Any,
) -> None:
    """Enroll the person NAME with PICTURES, or everyone in a folder of --people.

    PICTURES are files, folders, tar files and Parquet files. A picture that is enrolled already is passed
    over, so that the command can be repeated, also after it was interrupted.
    """
    if bool(name) != bool(pictures) or not (name or people_folder):
        raise click.UsageError("give a NAME and PICTURES, or a folder with --people")
    check_sources(pictures)
    if people_folder:
        check_people(Path(people_folder))
    everyone = partial(open_everyone, people_folder, name, pictures)
    finder, tally = Finder(recognizer, face=choices["face"], crops=choices["keep_crops"]), Tally()
    with Gallery.open(gallery_path, recognizer) as gallery:
        results = embed_pictures(
            everyone(), finder, workers=choices["workers"], leave_out=partial(is_enrolled, gallery)
        )
        with closing(follow(results, lambda: sum(1 for _ in everyone()), tally)) as followed:
            counts = enroll_results(gallery, followed, tally.failures)
    counts.pop("", None)  # what could not be read, or is in nobody's folder
    for person, added in counts.items():
        if choices["as_json"]:
            print_json({"name": person, "added": added})
        else:
            click.echo(f"{person}: {added} added")
    finish(tally.failures)


def open_everyone(folder: str | None, name: str | None, pictures: tuple[str, ...]) -> Iterator[Picture]:
    """Yield the pictures of everyone to enroll; each says whose it is."""
    if folder is not None:
        yield from open_people(Path(folder))
    if name:
        yield from open_named(pictures, name)


def open_people(source: Path) -> Iterator[Picture]:
    """Yield the pictures of a folder that holds one folder per person, or of a tar or Parquet file."""
    if not source.is_dir():
        for picture in open_pictures([source]):
            # A source that cannot be read stands there under its own name, and says so when it is read.
            lost = not picture.person and picture.name != str(source)
            yield replace(picture, read=partial(refuse_homeless, picture.name)) if lost else picture
        return
    for place in sorted(source.iterdir()):
        if place.is_dir() and not place.name.startswith("."):
            for picture in open_pictures([place]):
                yield replace(picture, person=place.name)


def refuse_homeless(name: str) -> bytes:
    """Raise the error of a picture that nobody can be enrolled with."""
    raise ImageError(repr(name), "it is in no person's folder")


def check_people(source: Path) -> None:
    """Refuse a folder of people without a picture, before the work begins."""
    if next(open_people(source), None) is None:
        raise click.UsageError(f"no folders with pictures in {str(source)!r}")


def is_enrolled(gallery: Gallery, picture: Picture, sha256: str) -> bool:
    """Return whether a person is enrolled with a content; nobody is under a name that nobody can have."""
    try:
        return gallery.holds(picture.person, sha256)
    except BadNameError:
        return False


def enroll_results(gallery: Gallery, results: Iterator[Result], failures: list[str]) -> Counter[str]:
    """Enroll the face of each picture, and return how many were added of each person.

    If the gallery fails it would fail for the next picture too: the work ends, and what was added stays.
    """
    counts: Counter[str] = Counter()
    try:
        for result in results:
            counts[result.picture.person] += enroll_result(gallery, result, failures)
    except GalleryError:
        done = count(counts.total(), "face")
        click.echo(f"{done} added before this: the same command goes on from there", err=True)
        raise
    return counts


def enroll_result(gallery: Gallery, result: Result, failures: list[str]) -> int:
    """Enroll the face of a picture and return how many were added.

    If the name or the face is why not, that goes to `failures`.
    """
    if result.found is None:
        return 0
    found = result.found
    [face] = found.faces
    crop = found.crops[0] if len(found.crops) else None
    template = Template(result.sha256, face.box, face.score, found.rows[0], crop)
    try:
        return gallery.enroll(result.picture.person, [template])
    except (BadNameError, FaceTakenError) as error:
        failures.append(str(error))
        return 0


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "-k", default=1, show_default=True, type=click.IntRange(min=1), help="How many neighbours vote."
)
@click.option("--closed-set", is_flag=True, help="Everyone is enrolled for certain: name the nearest.")
@gallery_option
@far_option
@json_option
@recognizer_options
def identify(
    *,
    recognizer: Recognizer,
    pictures: tuple[str, ...],
    gallery_path: str,
    as_json: bool,
    **search: Any,
) -> None:
    """Name every face in PICTURES (files, folders, or - for stdin), or reject it as a stranger.

    --far is the part of the strangers that may be given a name, whatever the size of the gallery; 0.01 by
    default. The exit code is 1 if nobody at all was named.
    """
    failures: list[str] = []
    named = 0
    with Gallery.open(gallery_path, recognizer, create=False) as gallery:

        def work(picture: str) -> list[tuple[Face, Identification]]:
            faces, rows = recognizer.embed(open_source(picture))
            return list(zip(faces, gallery.identify(rows, **search), strict=True))

        if gallery.thresholds != recognizer.thresholds:
            click.echo(f"thresholds of the gallery: {gallery.thresholds.calibrated_on}", err=True)
        table: list[tuple[object, ...]] = []
        for picture, answers in each(list_pictures(pictures), work, failures):
            named += sum(answer.name is not None for _, answer in answers)
            if as_json:
                records = [answer_record(number, *pair) for number, pair in enumerate(answers)]
                print_json({"picture": picture, "faces": records})
            table += [(picture, number, *describe(answer)) for number, (_, answer) in enumerate(answers)]
            table += [] if answers else [(picture, "none", "", "", "")]
    if table and not as_json:
        print_table(["picture", "face", "who", "distance", "note"], table)
    finish(failures, 0 if named else 1)


def describe(answer: Identification) -> tuple[str, str, str]:
    """Return name, distance and a note for the table."""
    if not answer.matches:
        return "unknown", "", "the gallery is empty"
    nearest = answer.matches[0]
    distance = f"{nearest.distance:.4f}"
    if answer.name is None:
        return "unknown", distance, f"nearest {nearest.name}, over {answer.threshold:.4f}"
    shown = next(match for match in answer.matches if match.name == answer.name)
    others = [match.name for match in answer.matches if match.distance <= answer.threshold]
    note = f"ambiguous: also {', '.join(name for name in others if name != answer.name)}"
    return answer.name, f"{shown.distance:.4f}", note if answer.ambiguous else ""


def answer_record(number: int, face: Face, answer: Identification) -> dict[str, Any]:
    """Return a face and who it is, as it is printed in JSON."""
    matches = [
        {"name": match.name, "distance": match.distance, "votes": match.votes} for match in answer.matches
    ]
    return face_record(number, face) | {
        "name": answer.name,
        "ambiguous": answer.ambiguous,
        "threshold": answer.threshold,
        "far": answer.far,
        "matches": matches,
    }


@click.command()
@gallery_option
@json_option
def people(*, gallery_path: str, as_json: bool) -> None:
    """List who is enrolled, and with how many faces."""
    with Gallery.open(gallery_path) as gallery:
        everyone = gallery.people()
    if as_json:
        for person in everyone:
            print_json({"name": person.name, "faces": person.faces})
    else:
        print_table(["name", "faces"], [(person.name, person.faces) for person in everyone])


@click.command()
@click.argument("old")
@click.argument("new")
@gallery_option
def rename(*, old: str, new: str, gallery_path: str) -> None:
    """Give the person OLD the name NEW."""
    with Gallery.open(gallery_path) as gallery:
        gallery.rename(old, new)
    click.echo(f"{old} is now {new}")


@click.command()
@click.argument("source")
@click.argument("into")
@gallery_option
def merge(*, source: str, into: str, gallery_path: str) -> None:
    """Move the faces of the person SOURCE to the person INTO; SOURCE is no more."""
    with Gallery.open(gallery_path) as gallery:
        moved = gallery.merge(source, into)
    click.echo(f"{source} is now {into}: {count(moved, 'face')} moved")


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@gallery_option
def forget(*, name: str, yes: bool, gallery_path: str) -> None:
    """Delete the person NAME with every face, for good: rows, free pages and log are overwritten."""
    with Gallery.open(gallery_path) as gallery:
        if not yes:
            click.confirm(f"delete {name} with every face for good?", abort=True, err=True)
        gone = gallery.forget(name)
    hashes = count(gone.pictures, "picture hash", "picture hashes")
    click.echo(f"{gone.name} is forgotten: {count(gone.faces, 'face')}, {hashes} deleted")
