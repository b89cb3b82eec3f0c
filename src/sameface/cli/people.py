"""Commands on the gallery: enroll, people, consent, rename, merge."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from sameface.batch import Finder, Picture, Result, embed_pictures, open_pictures
from sameface.cli.batch import Tally, batch_options, check_sources, follow, open_named
from sameface.cli.options import face_option, gallery_option, json_option, quality_option
from sameface.cli.output import count, finish, print_json, print_table
from sameface.cli.unlock import key_options
from sameface.errors import GalleryError, ImageError
from sameface.gallery import Gallery
from sameface.gallery.errors import BadNameError, FaceTakenError
from sameface.gallery.expiry import parse_moment, show_expiry
from sameface.recognizer import Recognizer
from sameface.template import Template

Add: TypeAlias = Callable[[str, list[Template]], int]  # enrolls faces of a person


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
    words = choices["expire_after"]
    expires = None if words is None else parse_moment(words, time.time())
    everyone = partial(open_everyone, people_folder, name, pictures)
    finder = Finder(recognizer, choices["face"], choices["keep_crops"], choices["min_quality"])
    tally = Tally()
    with Gallery.open(gallery_path, recognizer, keys=choices["keys"]) as gallery:
        results = embed_pictures(
            everyone(), finder, workers=choices["workers"], leave_out=partial(is_enrolled, gallery)
        )
        with closing(follow(results, lambda: sum(1 for _ in everyone()), tally)) as followed:
            counts = enroll_results(partial(gallery.enroll, expires=expires), followed, tally.failures)
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


def enroll_results(add: Add, results: Iterator[Result], failures: list[str]) -> Counter[str]:
    """Enroll the face of each picture with `add`, and return how many were added of each person.

    If the gallery fails it would fail for the next picture too: the work ends, and what was added stays.
    """
    counts: Counter[str] = Counter()
    try:
        for result in results:
            counts[result.picture.person] += enroll_result(add, result, failures)
    except GalleryError:
        done = count(counts.total(), "face")
        click.echo(f"{done} added before this: the same command goes on from there", err=True)
        raise
    return counts


def enroll_result(add: Add, result: Result, failures: list[str]) -> int:
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
        return add(result.picture.person, [template])
    except (BadNameError, FaceTakenError) as error:
        failures.append(str(error))
        return 0


@click.command()
@gallery_option
@json_option
def people(*, gallery_path: str, as_json: bool) -> None:
    """List who is enrolled, with how many faces, the note on their consent, and when they expire."""
    with Gallery.open(gallery_path) as gallery:
        everyone = gallery.people()
    if as_json:
        for person in everyone:
            facts = {"name": person.name, "faces": person.faces, "consent": person.consent}
            print_json(facts | {"expires": show_expiry(person.expires)})
    else:
        rows = [
            (person.name, person.faces, person.consent or "", show_expiry(person.expires) or "") for person in everyone
        ]
        print_table(["name", "faces", "consent", "expires"], rows)


@click.command()
@click.argument("name")
@click.argument("note")
@gallery_option
def consent(*, name: str, note: str, gallery_path: str) -> None:
    """Keep a NOTE on how and when the person NAME agreed; it is listed, and deleted with the person."""
    with Gallery.open(gallery_path) as gallery:
        gallery.note_consent(name, note)
    click.echo(f"noted with {name}")


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
        receipt = gallery.merge(source, into)
    click.echo(f"{source} is now {into}: {count(receipt.faces, 'face')} moved")
