"""Commands that delete people, now or later: forget, expire."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from sameface.cli.options import cache_option, gallery_option, json_option
from sameface.cli.output import count, print_json
from sameface.evaluation.cache import EmbeddingCache
from sameface.gallery import Gallery, Receipt
from sameface.gallery.expiry import NEVER, parse_expiry, show_expiry
from sameface.gallery.receipts import NOT_COVERED, receipt_to_dict


@click.command()
@click.argument("name", required=False)
@click.option("--face", type=int, help="Delete only the face of this number, as `gallery check` tells it.")
@click.option("--expired", is_flag=True, help="Delete everybody whose time is over.")
@click.option(
    "--yes", is_flag=True, help="Do not ask. With --expired: also delete where a wrong clock may be the cause."
)
@gallery_option
@cache_option
@json_option
def forget(*, name: str | None, expired: bool, gallery_path: str, as_json: bool, **choices: Any) -> None:
    """Delete the person NAME with every face, for good: rows, free pages and log are overwritten.

    What is printed is the receipt, which stays in the gallery without the name. The embeddings of the same
    pictures in --cache are deleted too. --expired refuses until --yes if the clock is over 30 days after the
    last entry in the gallery, or if over 20 people and over a tenth of all would be deleted at once.
    """
    face, cache, yes = choices["face"], choices["cache"], choices["yes"]
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
            receipts, rows = forget_face(gallery, name, face, cache)
    if rows:
        click.echo(f"{count(rows, 'row')} of their pictures deleted from {cache}", err=True)
    tell(receipts, name, as_json=as_json)


def tell(receipts: Iterable[Receipt], name: str | None, *, as_json: bool) -> None:
    """Print receipts, and what they do not cover."""
    for receipt in receipts:
        if as_json:
            print_json(receipt_to_dict(receipt))
        else:
            print_receipt(receipt, name)
    if not as_json:
        click.echo(f"not covered: {'; '.join(NOT_COVERED)}", err=True)


def forget_expired(gallery: Gallery, cache: str, *, confirmed: bool) -> tuple[list[Receipt], int]:
    """Delete everybody whose time is over, and the rows of their pictures in the cache."""
    if not confirmed:
        gallery.check_expiry()
    people = gallery.expired()
    rows = forget_cached(cache, [picture for who in people for picture in gallery.pictures(who)])
    return gallery.forget_expired(confirmed=confirmed), rows


def forget_face(gallery: Gallery, name: str, face: int, cache: str) -> tuple[list[Receipt], int]:
    """Delete one face, and the rows of its picture in the cache; return the receipt and how many rows."""
    before = gallery.pictures(name)
    receipt = gallery.forget_face(name, face)
    left = gallery.pictures(name)
    return [receipt], forget_cached(cache, [picture for picture in before if picture not in left])


def forget_cached(path: str, pictures: list[str]) -> int:
    """Delete the rows of pictures from a cache, if there is one, and return how many there were."""
    if not Path(path).exists():
        return 0
    with EmbeddingCache.open(path) as cache:
        return cache.forget(pictures)


def print_receipt(receipt: Receipt, name: str | None) -> None:
    """Tell a person what was deleted."""
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
@click.option("--everyone", is_flag=True, help="Everybody who has no such day yet.")
@gallery_option
def expire(*, when: str, names: tuple[str, ...], everyone: bool, gallery_path: str) -> None:
    """Say WHEN the people NAMES are to be deleted: `365d`, `2030-01-31` (in UTC), or `never`.

    From then on they are not named any more. `sameface forget --expired` deletes them, and so does a service
    while it runs.
    """
    if bool(names) == everyone:
        raise click.UsageError("give NAMES, or --everyone")
    expires = parse_expiry(when, time.time())
    with Gallery.open(gallery_path) as gallery:
        people = [person.name for person in gallery.people() if person.expires is None] if everyone else names
        for name in people:
            gallery.expire(name, expires)
    click.echo(f"{count(len(people), 'person expires', 'people expire')}: {show_expiry(expires) or NEVER}")
