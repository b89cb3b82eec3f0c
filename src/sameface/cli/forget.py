"""Commands that delete people, now or later: forget, expire."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sameface.cli.options import cache_option, gallery_option, json_option
from sameface.cli.output import count, print_json
from sameface.evaluation.cache import Cache
from sameface.gallery import Gallery, Receipt
from sameface.gallery.expiry import NEVER, parse_expiry, show_expiry
from sameface.gallery.receipts import NOT_COVERED, describe


@click.command()
@click.argument("name", required=False)
@click.option("--expired", is_flag=True, help="Delete everybody whose time is over.")
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask. With --expired: also delete where a wrong clock may be the cause.",
)
@gallery_option
@cache_option
@json_option
def forget(
    *, name: str | None, expired: bool, yes: bool, gallery_path: str, cache: str, as_json: bool
) -> None:
    """Delete the person NAME with every face, for good: rows, free pages and log are overwritten.

    What is printed is the receipt, which stays in the gallery without the name. The embeddings of the same
    pictures in --cache are deleted too. --expired refuses until --yes if the clock is over 30 days after the
    last entry in the gallery, or if over 20 people and over a tenth of all would be deleted at once.
    """
    if (name is None) != expired:
        raise click.UsageError("give a NAME, or --expired")
    with Gallery.open(gallery_path) as gallery:
        if name is None and not yes:
            gallery.check_expiry()
        elif not yes:
            click.confirm(f"delete {name} with every face for good?", abort=True, err=True)
        people = gallery.expired() if name is None else [name]
        rows = forget_cached(cache, [picture for who in people for picture in gallery.pictures(who)])
        receipts = gallery.forget_expired(confirmed=yes) if name is None else [gallery.forget(name)]
    if rows:
        click.echo(f"{count(rows, 'row')} of their pictures deleted from {cache}", err=True)
    for receipt in receipts:
        if as_json:
            print_json(describe(receipt))
        else:
            print_receipt(receipt, name)
    if not as_json:
        click.echo(f"not covered: {'; '.join(NOT_COVERED)}", err=True)


def forget_cached(path: str, pictures: list[str]) -> int:
    """Delete the rows of pictures from a cache, if there is one, and return how many there were."""
    if not Path(path).exists():
        return 0
    with Cache.open(path) as cache:
        return cache.forget(pictures)


def print_receipt(receipt: Receipt, name: str | None) -> None:
    """Tell a person what was deleted."""
    who = f"person {receipt.person}" if name is None else name
    hashes = count(receipt.pictures, "picture hash", "picture hashes")
    crops = count(receipt.crops, "crop")
    click.echo(f"{who} is forgotten: {count(receipt.faces, 'face')}, {crops}, {hashes} deleted")
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
