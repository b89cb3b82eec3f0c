"""Commands on a whole gallery: check, backup, restore, its encryption, compact, and moving it to other weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from sameface.cli.gallery_options import (
    KEY_VARIABLE,
    access_file,
    access_option,
    find_key,
    gallery_argument,
    gallery_file_argument,
    key_file_option,
    key_options,
    open_access,
)
from sameface.cli.options import far_option, json_option, output_option, recognizer_options
from sameface.cli.output import count, finish, print_json, print_records
from sameface.cli.upgrade import fit_command, upgrade
from sameface.gallery import Gallery
from sameface.gallery.backup import Change, History, backup_gallery, restore_gallery
from sameface.gallery.check import GalleryFault, check_gallery
from sameface.gallery.file_encryption import KeyChange, decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, KeyFile, Keys, KeySource, write_key
from sameface.gallery.lookalikes import find_lookalikes
from sameface.recognizer import Recognizer
from sameface.service.audit import INTENT, MOST_ENTRIES, AuditEntry
from sameface.service.errors import AccessFileError

# The actions of the audit log that delete, and the reason that a receipt gives for each.
REASONS = {"delete_person": "forget", "delete_face": "forget_face", "expire": "expire", "merge": "merge"}


@click.group()
def gallery() -> None:
    """Back up, restore, check, upgrade or encrypt a gallery."""


gallery.add_command(fit_command)
gallery.add_command(upgrade)


@gallery.command()
@gallery_argument
@json_option
@key_options
def check(*, path: str, as_json: bool, keys: Keys) -> None:
    """Check GALLERY, a file or an address: the file, tables, rows, receipts and who may read it.

    Every fault is a line, and the command ends with 1. Unusable embeddings are listed with the number of the
    face and the person: `sameface forget NAME --face NUMBER` deletes one.
    """
    report = check_gallery(path, keys)
    print_faults(report.faults, as_json=as_json)
    for words in report.unchecked:
        click.echo(f"not checked: {words}", err=True)
    if not report.faults and not as_json:
        click.echo(f"{path}: {count_held(report.people, report.faces)}, no faults")
    finish([], 1 if report.faults else 0)


@gallery.command()
@gallery_argument
@output_option("The file to make.")
@json_option
@key_options
def backup(*, path: str, output: Path, as_json: bool, keys: Keys) -> None:
    """Copy the file GALLERY, which may be in use, to one new file, as of one moment, and verify the copy.

    Only you may read the copy. An encrypted gallery stays encrypted with its present key. The copy still
    holds people who are deleted later: `restore` deletes them again.
    """
    made = backup_gallery(path, output, keys)
    if as_json:
        print_json(asdict(made))
    else:
        held = f"{count_held(made.people, made.faces)}, {'' if made.encrypted else 'not '}encrypted"
        click.echo(f"{made.path}: {held}; last receipt {made.head}")
        print_faults(made.faults, as_json=False)
    finish([], 1 if made.faults else 0)


@gallery.command()
@click.argument("backup_path", metavar="BACKUP", type=click.Path(dir_okay=False))
@gallery_argument
@click.option("--yes", is_flag=True, help="Do not ask before a gallery is replaced.")
@access_option
@json_option
def restore(*, backup_path: str, path: str, yes: bool, access_path: str | None, as_json: bool) -> None:
    """Replace the file GALLERY, which no program may have open, by BACKUP.

    People deleted since the backup are deleted again, by the receipts of the replaced gallery and the audit
    log (--access); numbers given since are not given again. The changes are printed.
    """
    if not yes and Path(path).exists():
        click.confirm(f"replace {path} by {backup_path}?", abort=True, err=True)
    done = restore_gallery(backup_path, path, read_log=lambda origin: read_history(path, access_path, origin))
    if as_json:
        print_json(asdict(done))
    else:
        applied = done.applied
        merged = [f"{person} into {into}" for person, into in applied.merged]
        click.echo(f"{done.path}: {count_held(done.people, done.faces)}")
        click.echo(f"deleted again: people {join(applied.people)}; faces {join(applied.faces)}")
        click.echo(f"merged again: {join(merged)}; receipts taken over: {applied.receipts}")
        click.echo(f"the next number is {done.last + 1}")
        print_faults(done.faults, as_json=False)
    for words in done.notes:
        click.echo(f"note: {words}", err=True)
    finish([], 1 if done.faults else 0)


def count_held(people: int, faces: int) -> str:
    return f"{count(people, 'person', 'people')}, {count(faces, 'face')}"


def join(items: Iterable[object]) -> str:
    return ", ".join(map(str, items)) or "none"


@gallery.command()
@gallery_argument
@far_option
@json_option
@key_options
@recognizer_options
def lookalikes(*, recognizer: Recognizer, path: str, far: float | None, as_json: bool, keys: Keys) -> None:
    """List the people of GALLERY who may be one person, and faces that may be another person's.

    `sameface merge` makes two people one, `sameface forget NAME --face NUMBER` deletes a face. --far is as in
    `sameface identify`: less lists less.
    """
    columns = ("person", "face", "other", "distance", "threshold")
    with Gallery.open(path, recognizer, create=False, keys=keys) as opened:
        found = list(find_lookalikes(opened, far=far))
    rounded = [{"distance": round(one.distance, 4), "threshold": round(one.threshold, 4)} for one in found]
    print_records([asdict(one) | more for one, more in zip(found, rounded, strict=True)], columns, as_json=as_json)


def print_faults(faults: Iterable[GalleryFault], *, as_json: bool) -> None:
    for fault in faults:
        if as_json:
            print_json(asdict(fault))
        else:
            click.echo(f"{fault.check}: {fault.text}")


def read_history(path: str, access_path: str | None, origin: str) -> History | None:
    """Return the deletions and merges in the audit log of a gallery; None without a log.

    Raises:
        AccessFileError: The log of --access is missing, or cannot be read.
    """
    log = access_file(path, access_path)
    if not Path(log).exists():
        if access_path is not None:
            raise AccessFileError(log, "there is no such file")
        return None
    with open_access(path, access_path) as access:
        entries = [entry for entry in access.log.entries(MOST_ENTRIES) if entry.person and entry.person[0] == origin]
    changes = tuple(change for change in map(change_of, entries) if change is not None)
    return History(changes, max((number for entry in entries for number in numbers_of(entry)), default=0))


def change_of(entry: AuditEntry) -> Change | None:
    """Return the deletion or merge of an entry. A deletion without an outcome counts: the person was to go."""
    detail = entry.detail
    begun = entry.action == INTENT
    action = detail.get("action") if begun else entry.action
    failed = "failed" in detail and not detail.keys() & {"traces", "receipt"}  # else only bytes were left
    if entry.person is None or action not in REASONS or failed or (begun and action == "merge"):
        return None
    return Change(REASONS[action], entry.person[1], detail.get("face"), detail.get("into"))


def numbers_of(entry: AuditEntry) -> list[int]:
    named = [entry.detail.get(name) for name in ("face", "into")]
    people = [] if entry.person is None else [entry.person[1]]
    return people + [number for number in named if isinstance(number, int)]


@gallery.command("new-key")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to make.")
def new_key(*, output: Path) -> None:
    """Make a key of 32 random bytes, in a new file that only you may read.

    Keep a copy of it where the gallery is not: without the key an encrypted gallery is lost.
    """
    key = Key.generate()
    write_key(output, key)
    click.echo(f"{output}: key {key.fingerprint}; keep a copy where the gallery is not")


@gallery.command()
@gallery_file_argument
@key_file_option
def encrypt(*, path: str, key_file: str | None) -> None:
    """Encrypt the embeddings and crops in the file GALLERY, with AES-256-GCM.

    No plain one stays in the file or its log. Names, boxes, hashes of pictures and notes stay
    readable. An encrypted gallery is only written anew, as after a command that another program disturbed.
    """
    done = encrypt_gallery(path, need_key(key_file))
    print_change(f"{path} is encrypted: {count(done.faces, 'face')} changed", done)


@gallery.command()
@gallery_file_argument
@key_file_option
def decrypt(*, path: str, key_file: str | None) -> None:
    """Decrypt the file GALLERY."""
    done = decrypt_gallery(path, need_key(key_file))
    print_change(f"{path} is not encrypted any more: {count(done.faces, 'face')} changed", done)


@gallery.command("rotate-key")
@gallery_file_argument
@key_file_option
@click.option("--new-key-file", type=click.Path(dir_okay=False), help="The key that opens the gallery from now on.")
@click.option("--data-key", is_flag=True, help="Also re-encrypt every embedding with a new data key.")
def rotate(*, path: str, key_file: str | None, new_key_file: str | None, data_key: bool) -> None:
    """Change the key of the encrypted file GALLERY while it is in use.

    Programs that have it open continue; put the new key where they look for it before they restart. With
    --data-key the old data key is destroyed at the end; the same command resumes an interrupted rotation.
    """
    if new_key_file is None and not data_key:
        raise click.UsageError("give --new-key-file, --data-key or both")
    old = need_key(key_file)
    if data_key:
        done = rotate_data_key(path, old)
        print_change(f"{count(done.faces, 'face')} encrypted anew, the old data key is destroyed", done)
    if new_key_file is not None:
        done = rotate_key(path, old, KeyFile(new_key_file))
        print_change(f"{path} is opened by the key in {new_key_file} now", done)


@gallery.command()
@gallery_argument
def compact(*, path: str) -> None:
    """Rewrite GALLERY, a file or an address, so that no byte of deleted data stays in it.

    After a deletion this is done at once in a small file. In one of over 16 MB the rows are deleted and
    overwritten, but copies that SQLite has made of them may stay in unused parts of its pages until this.
    """
    with Gallery.open(path, create=False) as opened:
        opened.compact()
    click.echo(f"{path} is compact: nothing of what was deleted is left in it")


def print_change(text: str, done: KeyChange) -> None:
    """Print what was done, and on stderr what could not be cleaned up after it."""
    click.echo(text)
    if done.warning is not None:
        click.echo(f"warning: {done.warning}", err=True)


def need_key(path: str | None) -> KeySource:
    """Return where the gallery's key is, or fail as wrong usage."""
    key = find_key(path)
    if key is None:
        raise click.UsageError(f"give --key-file, {KEY_VARIABLE} or {KEY_VARIABLE}_COMMAND")
    return key
