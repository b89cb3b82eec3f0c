"""The commands on an album: scanned, named, corrected, written into photographs, exported."""

from __future__ import annotations

import base64
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.progress import BarColumn, TimeRemainingColumn

from sameface.album_folders import PictureFace, write_album
from sameface.albums import corrections, tags
from sameface.albums.scan import MIN_QUALITY, ScanReport, name_known, prune, scan_folder, update_groups
from sameface.albums.store import Store, StoredFace, StoredGroup
from sameface.batch import Result, count_pictures
from sameface.cli.batch import batch_options
from sameface.cli.gallery_options import gallery_option, key_options, warn_of_others
from sameface.cli.options import (
    Command,
    existing_folder,
    far_option,
    join_options,
    json_option,
    new_file,
    positive,
    recognizer_options,
)
from sameface.cli.output import count, finish, print_records, progress_bar
from sameface.errors import AlbumError
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.errors import FaceTakenError
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer

LEAST = 3  # faces of a group without a name that is shown
SUGGESTED = 3  # groups after each name

place_options = join_options(
    click.argument("folder", type=existing_folder),
    click.option("--state", type=new_file, help="The file of the album's state; FOLDER.sameface by default."),
)
least_option = click.option("--least", default=LEAST, type=positive, help="Leave out smaller groups without a name.")


def state_path(folder: Path, state: Path | None) -> Path:
    """Return the file of an album's state."""
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}.sameface") if state is None else state


def store_options(command: Command) -> Command:
    """Add FOLDER and --state; the command gets the open `store`."""

    @functools.wraps(command)
    def with_store(*, folder: Path, state: Path | None, **options: Any) -> Any:
        with Store.open(state_path(folder, state)) as store:
            return command(store=store, **options)

    return place_options(with_store)


@click.group()
def album() -> None:
    """Name the people of a folder of photographs, and keep the names.

    `scan` finds the faces and groups them, `people` lists the groups, `name` gives them names. Run `scan` again when
    photographs were added, edited, moved or deleted: names and corrections stay. No command but `write-tags
    --in-place` changes a photograph.

    The state of an album is one file beside the folder. It holds biometric data, readable by you only.
    """


@album.command()
@place_options
@click.option(
    "--gallery",
    "gallery_path",
    envvar="SAMEFACE_GALLERY",
    callback=warn_of_others,
    help="Name the people of this gallery.",
)
@key_options
@far_option
@click.option(
    "--min-quality",
    default=MIN_QUALITY,
    type=click.FloatRange(0, 1),
    help="A face of lower quality joins a group, but begins none.",
)
@click.option("--regroup", is_flag=True, help="Group all faces again, under the names and corrections there are.")
@click.option("--upgrade", is_flag=True, help="Move the album to these weights: search every picture again.")
@click.option("--prune", "delete_gone", is_flag=True, help="Delete what is known of pictures whose file is gone.")
@batch_options
def scan(
    *,
    recognizer: Recognizer,
    folder: Path,
    state: Path | None,
    gallery_path: str | None,
    keys: Keys,
    far: float | None,
    min_quality: float,
    regroup: bool,
    upgrade: bool,
    delete_gone: bool,
    workers: int,
) -> None:
    """Find the faces of FOLDER that are new, and put them into groups.

    Pictures are recognised by their content: what was moved or copied is not searched again, and an edited picture
    keeps the names of its faces. A scan that was interrupted resumes.
    """
    known = nullcontext() if gallery_path is None else Gallery.open(gallery_path, recognizer, create=False, keys=keys)
    with known as gallery, Store.open(state_path(folder, state), folder) as store:
        columns = ("{task.description}", BarColumn(), "{task.completed} of {task.total}", TimeRemainingColumn())
        with progress_bar(*columns) as bar:
            task = bar.add_task("pictures", total=None if bar.disable else count_pictures([folder]))

            def advance(_: Result) -> None:
                bar.update(task, advance=1)

            report = scan_folder(store, recognizer, workers=workers, upgrade=upgrade, progress=advance)
        if delete_gone:
            prune(store)
        update_groups(store, recognizer, far=far, min_quality=min_quality, anew=regroup or upgrade)
        if gallery is not None:
            name_known(store, gallery)
        print_scan(store, report)
    finish(report.failures or [])


def print_scan(store: Store, report: ScanReport) -> None:
    """Print what a scan found."""
    groups = store.groups()
    named, shown = [each for each in groups if each.person], [each for each in groups if shows(each, LEAST)]
    left_out = len(store.faces("group_id IS NULL"))
    small = sum(group.faces for group in groups if group not in named and group not in shown)
    click.echo(f"{count(report.pictures, 'picture')}: {report.searched} searched, {report.unchanged} unchanged")
    click.echo(
        f"{count(len({each.person for each in named}), 'person', 'people')} with a name, "
        f"{count(len(shown) - len(named), 'group')} without; {count(small, 'face')} in smaller groups, "
        f"{count(left_out, 'face')} left out: too small, blurred or turned away"
    )
    if report.gone:
        click.echo(f"{count(report.gone, 'picture')} without a file: --prune deletes what is known of them", err=True)


def shows(group: StoredGroup, least: int) -> bool:
    """Return whether a group is listed."""
    return group.person is not None or group.faces >= least


@album.command()
@store_options
@least_option
@click.option("--all", "everything", is_flag=True, help="List hidden groups too.")
@json_option
def people(*, store: Store, least: int, everything: bool, as_json: bool) -> None:
    """List the people and groups of FOLDER: those with a name first, then the largest.

    `best` is the face of the highest quality, to look at, with its picture.
    """
    groups = [group for group in store.groups(hidden=everything) if shows(group, least)]
    print_groups(store, groups, as_json=as_json)
    rest = len(store.groups(hidden=everything)) - len(groups)
    if rest and not as_json:
        click.echo(f"{count(rest, 'smaller group')} left out: --least 1 lists all", err=True)


def print_groups(store: Store, groups: Iterable[StoredGroup], *, as_json: bool) -> None:
    records = [
        {
            "group": group.number,
            "person": group.person,
            "faces": group.faces,
            "best": group.best,
            "picture": first_file(store.face(group.best)),
            "hidden": group.hidden,
        }
        for group in groups
    ]
    print_records(records, ("group", "person", "faces", "best", "picture"), as_json=as_json)


def first_file(face: StoredFace) -> str | None:
    return face.files[0] if face.files else None


@album.command()
@store_options
@click.argument("group", type=int)
@json_option
def faces(*, store: Store, group: int, as_json: bool) -> None:
    """List the faces of a GROUP of FOLDER."""
    store.group(group)
    columns = ("face", "group", "person", "quality", "box", "picture")
    rows = [
        (
            face.number,
            face.group,
            face.person,
            round(face.quality, 3),
            [round(float(side)) for side in face.face.box],
            first_file(face),
        )
        for face in store.faces("group_id = ?", group)
    ]
    print_records([dict(zip(columns, row, strict=True)) for row in rows], columns, as_json=as_json)


@album.command()
@store_options
@click.argument("names", nargs=-1, required=True, metavar="GROUP NAME [GROUP NAME ...]")
def name(*, store: Store, names: Sequence[str]) -> None:
    """Give groups of FOLDER their names, and say which other groups are probably the same people.

    Two groups of one name are one person. A name that a group had before is replaced.
    """
    if len(names) % 2 or not all(number.isdecimal() for number in names[::2]):
        raise click.UsageError("give the number of a group and its name, any number of times")
    for number, text in zip(names[::2], names[1::2], strict=True):
        corrections.name_group(store, int(number), text)
    for text in dict.fromkeys(names[1::2]):
        print_suggestions(store, text)


def print_suggestions(store: Store, text: str, most: int = SUGGESTED) -> None:
    """Print the groups that are probably a person."""
    for suggestion in corrections.suggest_groups(store, text, most=most):
        group = suggestion.group
        picture = "".join(store.face(group.best).files[:1])
        facts = f"{count(group.faces, 'face')}, distance {suggestion.distance:.2f}, {picture}"
        click.echo(f"{text}: perhaps group {group.number}, {facts}")


@album.command()
@store_options
@click.argument("person")
@click.option("--most", default=10, type=positive, help="How many groups to list.")
def suggest(*, store: Store, person: str, most: int) -> None:
    """List the groups of FOLDER that are probably PERSON, the nearest first."""
    print_suggestions(store, person, most)


@album.command()
@store_options
@click.argument("source", type=int)
@click.argument("into", type=int)
def merge(*, store: Store, source: int, into: int) -> None:
    """Say that the groups SOURCE and INTO of FOLDER are one person."""
    corrections.merge_groups(store, source, into)


@album.command()
@store_options
@click.argument("chosen", type=int, nargs=-1, required=True, metavar="FACE...")
def split(*, store: Store, chosen: tuple[int, ...]) -> None:
    """Say that faces of one group of FOLDER are another person than the rest of it."""
    click.echo(f"group {corrections.split_group(store, chosen)}")


@album.command("not")
@store_options
@click.argument("face", type=int)
@click.argument("person")
def reject(*, store: Store, face: int, person: str) -> None:
    """Say that a FACE of FOLDER is not PERSON, whatever a later scan finds."""
    click.echo(f"group {corrections.reject_name(store, face, person)}")


@album.command("is")
@store_options
@click.argument("face", type=int)
@click.argument("person")
def confirm(*, store: Store, face: int, person: str) -> None:
    """Say that a FACE of FOLDER is PERSON, whatever a later scan finds."""
    corrections.confirm_name(store, face, person)


@album.command()
@store_options
@click.argument("groups", type=int, nargs=-1, required=True, metavar="GROUP...")
@click.option("--show", is_flag=True, help="Show them again.")
def hide(*, store: Store, groups: tuple[int, ...], show: bool) -> None:
    """Leave groups of FOLDER out of lists, tags and exports: strangers, faces on posters."""
    for group in groups:
        corrections.hide_group(store, group, hidden=not show)


@album.command()
@store_options
def undo(*, store: Store) -> None:
    """Take the last name or correction of FOLDER back; again for the one before, to the last --regroup."""
    verb = corrections.undo(store)
    click.echo(f"undone: {verb}" if verb else "nothing to undo")


@album.command()
@store_options
@click.option("--most", default=20, type=positive, help="How many faces to list.")
@json_option
def review(*, store: Store, most: int, as_json: bool) -> None:
    """List the faces of FOLDER whose group is the most uncertain, with the nearest other group.

    Answer with `is` or `not`: a face that was confirmed is not listed again.
    """
    columns = ("face", "person", "group", "distance", "other_group", "other_person", "other_distance", "picture")
    records = []
    for doubt in corrections.find_doubts(store, most=most):
        face, other = doubt.face, doubt.other
        nearest = (None, None, None) if other is None else (other.number, other.person, round(doubt.other_distance, 3))
        row = (face.number, face.person, face.group, round(doubt.distance, 3), *nearest, "".join(face.files[:1]))
        records.append(dict(zip(columns, row, strict=True)))
    print_records(records, columns, as_json=as_json)


@album.command()
@store_options
@gallery_option
@key_options
@recognizer_options
def enroll(*, store: Store, recognizer: Recognizer, gallery_path: str, keys: Keys) -> None:
    """Enroll the people of FOLDER that you have named in the gallery.

    Faces of groups that you named, and those you confirmed, are enrolled; faces that joined a group later only once
    you name the group again. Groups without a name are never enrolled.
    """
    added: Counter[str] = Counter()
    refused: list[str] = []
    with Gallery.open(gallery_path, recognizer, keys=keys) as gallery:
        if store.signature != recognizer.signature:
            raise AlbumError(str(store.path), "scanned with other weights: give their name, or `album scan --upgrade`")
        for face in store.faces("faces.id IN (SELECT face_id FROM answers WHERE same) AND NOT hidden"):
            [row] = store.rows("id = ?", face.number)[1]
            try:
                template = Template(face.picture, face.face.box, face.face.score, row)
                added[str(face.person)] += gallery.enroll(str(face.person), [template])
            except FaceTakenError as error:
                refused.append(str(error))
    click.echo(f"{count(len(added), 'person', 'people')}: {count(added.total(), 'face')} added to {gallery_path}")
    finish(refused)


@album.command("write-tags")
@store_options
@click.option("--in-place", is_flag=True, help="Write into the photographs instead of sidecars beside them.")
def write_tags(*, store: Store, in_place: bool) -> None:
    """Write the names into XMP sidecars of the photographs, for photo managers to read.

    Face regions of the Metadata Working Group and of Microsoft, and the names as keywords. A sidecar is called
    PHOTO.jpg.xmp, or PHOTO.xmp where that is there. All else that it or the photograph holds stays.
    """
    report_tags(tags.write_tags(store, in_place=in_place), "written")


@album.command("read-tags")
@store_options
def read_tags(*, store: Store) -> None:
    """Name groups by the face regions that other programs wrote into photographs and sidecars."""
    report_tags(tags.read_tags(store), "with names of faces")


def report_tags(results: Iterable[tags.TagResult], done: str) -> None:
    """Print how many photographs were written or read, and which could not be."""
    found = list(results)
    click.echo(f"{count(sum(result.changed for result in found), 'photograph')} {done}")
    finish([result.failure for result in found if result.failure])


@album.command()
@store_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--copy", is_flag=True, help="Copy the pictures instead of linking to them.")
@least_option
def export(*, store: Store, output: Path, copy: bool, least: int) -> None:
    """Make a folder with a folder of pictures for each person of FOLDER, a list and a contact sheet."""
    groups = [group for group in store.groups() if shows(group, least)]
    texts = [group.person or f"group {group.number}" for group in groups]
    numbers = {group.number: place for place, group in enumerate(groups)}
    members = [face for face in store.faces("NOT hidden") if face.group in numbers and face.files]
    shown = [
        PictureFace(store.folder / face.files[0], face.face, data_address(store.thumbnail(face.number)))
        for face in members
    ]
    labels = np.array([numbers[face.group] for face in members if face.group is not None], np.int64)
    write_album(output.resolve(), shown, labels, texts, copy=copy)
    click.echo(f"{count(len(shown), 'face')} of {count(len(set(texts)), 'person', 'people')}: {output}", err=True)


def data_address(jpeg: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
