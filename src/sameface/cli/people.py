"""Commands on enrolled people: people, consent, rename, merge, export-person, expire, forget."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sameface.atomic import replace_file
from sameface.cli.gallery_options import access_file, access_option, gallery_option, key_options, open_access
from sameface.cli.options import cache_option, json_option, output_option
from sameface.cli.output import count, print_json, print_records
from sameface.evaluation.cache import EmbeddingCache
from sameface.gallery import Gallery, Receipt
from sameface.gallery.expiry import NEVER, parse_expiry, show_expiry
from sameface.gallery.export import export_person as pack_person
from sameface.gallery.keys import Keys
from sameface.gallery.receipts import NOT_COVERED, receipt_to_dict
from sameface.service.audit import entry_for_person


@click.command()
@gallery_option
@json_option
def people(*, gallery_path: str, as_json: bool) -> None:
    """List the enrolled people with their number of faces, the note on consent, and the expiry."""
    with Gallery.open(gallery_path) as gallery:
        everyone = gallery.people()
    columns = ["name", "faces", "consent", "expires"]
    rows = [(person.name, person.faces, person.consent, show_expiry(person.expires)) for person in everyone]
    print_records([dict(zip(columns, row, strict=True)) for row in rows], columns, as_json=as_json)


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
    """Move the faces of the person SOURCE to the person INTO, and delete SOURCE."""
    with Gallery.open(gallery_path) as gallery:
        receipt = gallery.merge(source, into)
    click.echo(f"{source} is now {into}: {count(receipt.faces, 'face')} moved")


@click.command()
@click.argument("name")
@output_option("The ZIP file to write.")
@gallery_option
@access_option
@key_options
def export_person(*, name: str, output: Path, gallery_path: str, access_path: str | None, keys: Keys) -> None:
    """Write all data of the person NAME to a ZIP file.

    It holds JSON in plain terms, the stored faces as PNG, the embeddings as numbers, and the person's entries
    of the audit log if there is one; no data of other people. Only you may read the file.
    """
    with Gallery.open(gallery_path, keys=keys) as gallery:
        person = gallery.person(name)
        log = None
        if Path(access_file(gallery_path, access_path)).exists():
            with open_access(gallery_path, access_path) as access:
                log = [entry_for_person(entry) for entry in access.log.entries_of((gallery.origin, person.number))]
        data = pack_person(gallery, person.number, log)
    with replace_file(output, private=True) as part:
        part.write_bytes(data)
    click.echo(f"{person.name}: {count(person.faces, 'face')} in {output}, which only you may read")


@click.command()
@click.argument("name", required=False)
@click.option("--face", type=int, help="Delete only the face of this number, from `gallery check`.")
@click.option("--expired", is_flag=True, help="Delete every expired person.")
@click.option("--yes", is_flag=True, help="Do not ask. With --expired: delete even if the clock may be wrong.")
@gallery_option
@cache_option
@json_option
def forget(
    *, name: str | None, face: int | None, expired: bool, yes: bool, gallery_path: str, cache: str, as_json: bool
) -> None:
    """Delete the person NAME with every face, for good: rows, free pages and log are overwritten.

    The printed receipt stays in the gallery, without the name. The embeddings of the same pictures in --cache
    are deleted too. --expired needs --yes if the clock is over 30 days after the last entry in
    the gallery, or if over 20 people and over a tenth of all would be deleted at once.
    """
    if (name is None) != expired or (expired and face is not None):
        raise click.UsageError("give a NAME, or --expired; --face goes with a NAME")
    if name is not None and not yes:
        what = f"{name} with every face" if face is None else f"face {face} of {name}"
        click.confirm(f"delete {what} for good?", abort=True, err=True)
    with Gallery.open(gallery_path) as gallery:
        if name is None:
            receipts, rows = forget_expired(gallery, cache, confirmed=yes)
        elif face is None:
            rows = forget_cached(cache, gallery.pictures(name))
            receipts = [gallery.forget(name)]
        else:
            before = gallery.pictures(name)
            receipts = [gallery.forget_face(name, face)]
            left = gallery.pictures(name)
            rows = forget_cached(cache, [picture for picture in before if picture not in left])
    if rows:
        click.echo(f"{count(rows, 'row')} of their pictures deleted from {cache}", err=True)
    for receipt in receipts:
        if as_json:
            print_json(receipt_to_dict(receipt))
        else:
            print_receipt(receipt, name)
    if not as_json:
        click.echo(f"not covered: {'; '.join(NOT_COVERED)}", err=True)


def forget_expired(gallery: Gallery, cache: str, *, confirmed: bool) -> tuple[list[Receipt], int]:
    """Delete everybody whose time is over, and the rows of their pictures in the cache; count the rows."""
    if not confirmed:
        gallery.check_expiry()
    rows = forget_cached(cache, [picture for name in gallery.expired() for picture in gallery.pictures(name)])
    return gallery.forget_expired(confirmed=confirmed), rows


def forget_cached(path: str, pictures: list[str]) -> int:
    """Delete the rows of pictures from a cache, if there is one, and return how many there were."""
    if not Path(path).exists():
        return 0
    with EmbeddingCache.open(path) as cache:
        return cache.forget(pictures)


def print_receipt(receipt: Receipt, name: str | None) -> None:
    who = f"person {receipt.person}" if name is None else name
    hashes = count(receipt.pictures, "picture hash", "picture hashes")
    crops = count(receipt.crops, "crop")
    what = f"{who} is forgotten" if receipt.face is None else f"face {receipt.face} of {who} is forgotten"
    click.echo(f"{what}: {count(receipt.faces, 'face')}, {crops}, {hashes} deleted")
    places = {} if receipt.erasure is None else receipt.erasure.places
    gone = ", ".join(place for place, clean in places.items() if clean)
    left = ", ".join(place for place, clean in places.items() if not clean)
    words = f"receipt {receipt.number}: nothing left in {gone or 'no place'}"
    click.echo(f"{words}{f'; bytes may stay in {left}' if left else ''}; {receipt.hash}")


@click.command()
@click.argument("when")
@click.argument("names", nargs=-1)
@click.option("--everyone", is_flag=True, help="Every person without an expiry.")
@gallery_option
def expire(*, when: str, names: tuple[str, ...], everyone: bool, gallery_path: str) -> None:
    """Set WHEN the people NAMES are deleted: `365d`, `2030-01-31` (in UTC), or `never`.

    Expired people are no longer named. `sameface forget --expired` deletes them, and so does a running
    service.
    """
    if bool(names) == everyone:
        raise click.UsageError("give NAMES, or --everyone")
    expires = parse_expiry(when, time.time())
    with Gallery.open(gallery_path) as gallery:
        people = [person.name for person in gallery.people() if person.expires is None] if everyone else names
        for name in people:
            gallery.expire(name, expires)
    click.echo(f"{count(len(people), 'person expires', 'people expire')}: {show_expiry(expires) or NEVER}")
