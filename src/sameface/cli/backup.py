"""Commands on a whole gallery: gallery check, backup, restore."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sameface.cli.keys import access_file, access_option, opened
from sameface.cli.options import gallery_argument, json_option
from sameface.cli.output import count, finish, print_json
from sameface.cli.unlock import key_options
from sameface.gallery.backup import Change, History, backup_gallery, restore_gallery
from sameface.gallery.check import GalleryFault, check_gallery
from sameface.gallery.keys import Keys
from sameface.service.access import INTENT, MOST_ENTRIES, AuditEntry
from sameface.service.errors import AccessFileError

# What the audit log calls a deletion, and why a receipt says it was.
REASONS = {"delete_person": "forget", "delete_face": "forget_face", "expire": "expire", "merge": "merge"}


@click.command()
@gallery_argument
@json_option
@key_options
def check(*, path: str, as_json: bool, keys: Keys) -> None:
    """Check GALLERY, a file or an address: the file, tables, rows, receipts, index and who may read it.

    Every fault is a line, and the command ends with 1. Rows that no search can use are named with the number
    of the face and the person: `sameface forget NAME --face NUMBER` deletes one.
    """
    report = check_gallery(path, keys)
    print_faults(report.faults, as_json=as_json)
    for words in report.unchecked:
        click.echo(f"not checked: {words}", err=True)
    if not report.faults and not as_json:
        click.echo(f"{path}: {count(report.people, 'person', 'people')}, {count(report.faces, 'face')}, no faults")
    finish([], 1 if report.faults else 0)


@click.command()
@gallery_argument
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The file to make.")
@json_option
@key_options
def backup(*, path: str, output: str, as_json: bool, keys: Keys) -> None:
    """Copy the file GALLERY, which may be in use, to one new file, as of one moment, and verify the copy.

    Only you may read the copy. What is encrypted stays encrypted, and takes the key that opens the gallery
    now. The copy still holds whoever is deleted later: `restore` deletes them again.
    """
    made = backup_gallery(path, output, keys)
    if as_json:
        print_json(asdict(made))
    else:
        held = f"{count(made.people, 'person', 'people')}, {count(made.faces, 'face')}"
        click.echo(f"{made.path}: {held}, {'' if made.encrypted else 'not '}encrypted; last receipt {made.head}")
        print_faults(made.faults, as_json=False)
    finish([], 1 if made.faults else 0)


@click.command()
@click.argument("backup_path", metavar="BACKUP", type=click.Path(dir_okay=False))
@gallery_argument
@click.option("--yes", is_flag=True, help="Do not ask before a gallery is replaced.")
@access_option
@json_option
def restore(*, backup_path: str, path: str, yes: bool, access_path: str | None, as_json: bool) -> None:
    """Put BACKUP in the place of the file GALLERY, which no program may have open.

    Whoever was deleted since the backup is deleted again, as the receipts of the replaced gallery and the
    audit log (--access) tell; numbers that were given since are not given again. What was done is printed.
    """
    if not yes and Path(path).exists():
        click.confirm(f"replace {path} by {backup_path}?", abort=True, err=True)
    done = restore_gallery(backup_path, path, read_log=lambda origin: read_history(path, access_path, origin))
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{done.path}: {count(done.people, 'person', 'people')}, {count(done.faces, 'face')}")
        applied = done.applied
        click.echo(f"deleted again: people {listed(applied.people)}; faces {listed(applied.faces)}")
        pairs = [f"{person} into {into}" for person, into in applied.merged]
        click.echo(f"merged again: {listed(pairs)}; receipts taken over: {applied.receipts}")
        click.echo(f"the next number is {done.last + 1}")
        print_faults(done.faults, as_json=False)
    for words in done.notes:
        click.echo(f"note: {words}", err=True)
    finish([], 1 if done.faults else 0)


def listed(things: Iterable[object]) -> str:
    """Return numbers in words."""
    return ", ".join(map(str, things)) or "none"


def print_faults(faults: Iterable[GalleryFault], *, as_json: bool) -> None:
    """Print each fault on a line."""
    for fault in faults:
        if as_json:
            print_json(asdict(fault))
        else:
            click.echo(f"{fault.check}: {fault.text}")


def read_history(path: str, access_path: str | None, origin: str) -> History | None:
    """Return what the audit log knows of a gallery; None if there is no log.

    Raises:
        AccessFileError: The log that was named is not there, or cannot be read.
    """
    place = access_file(path, access_path)
    if not Path(place).exists():
        if access_path is not None:
            raise AccessFileError(place, "there is no such file")
        return None
    with opened(path, access_path) as access:
        entries = [entry for entry in access.entries(MOST_ENTRIES) if entry.person and entry.person[0] == origin]
    changes = tuple(change for change in map(change_of, entries) if change is not None)
    return History(changes, max((number for entry in entries for number in numbers_of(entry)), default=0))


def change_of(entry: AuditEntry) -> Change | None:
    """Return the deletion or merge that an entry is of.

    A deletion that was begun and has no outcome counts too: the person was to go.
    """
    detail: dict[str, Any] = entry.detail
    begun = entry.action == INTENT
    action = detail.get("action") if begun else entry.action
    failed = "failed" in detail and not detail.keys() & {"traces", "receipt"}  # else only bytes were left
    if entry.person is None or action not in REASONS or failed or (begun and action == "merge"):
        return None
    return Change(REASONS[action], entry.person[1], detail.get("face"), detail.get("into"))


def numbers_of(entry: AuditEntry) -> list[int]:
    """Return the numbers of people and faces that an entry names."""
    named = [entry.detail.get(name) for name in ("face", "into")]
    people = [] if entry.person is None else [entry.person[1]]
    return people + [number for number in named if isinstance(number, int)]
