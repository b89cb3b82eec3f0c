"""Commands on what was done and what was deleted: audit list, receipts, verify."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sameface.cli.keys import access_file, access_option, opened
from sameface.cli.options import gallery_option, json_option
from sameface.cli.output import count, finish, print_json, print_table
from sameface.gallery import Gallery
from sameface.gallery.address import parse_address
from sameface.gallery.hash_chain import ChainCheck
from sameface.gallery.receipts import receipt_to_dict
from sameface.service.errors import AccessFileError
from sameface.service.witness import read_heads

MOST = 1_000_000


@click.group()
def audit() -> None:
    """Read who did what and what was deleted, and verify that nobody changed it."""


@audit.command("list")
@gallery_option
@access_option
@click.option("--last", default=MOST, type=click.IntRange(min=1), help="Only so many; all by default.")
@json_option
def list_entries(*, gallery_path: str, access_path: str | None, last: int, as_json: bool) -> None:
    """List what was done with the service, the latest first; people stand there by number.

    An entry `intent` is of an act that is under way or was interrupted: nobody knows whether it was done.
    """
    need_file(gallery_path, access_path)
    with opened(gallery_path, access_path) as access:
        entries = access.entries(last)
    for entry in entries if as_json else ():
        gallery, person = entry.person or (None, None)
        facts = {"number": entry.number, "time": entry.moment, "key": entry.key, "action": entry.action}
        print_json(facts | {"gallery": gallery, "person": person, "detail": entry.detail, "hash": entry.hash})
    if not as_json:
        rows = [
            (
                entry.number,
                entry.moment,
                entry.key or "",
                entry.action,
                "" if entry.person is None else entry.person[1],
                json.dumps(entry.detail),
            )
            for entry in entries
        ]
        print_table(["number", "time", "key", "action", "person", "detail"], rows)


@audit.command("receipts")
@gallery_option
@json_option
def list_receipts(*, gallery_path: str, as_json: bool) -> None:
    """List what was deleted from the gallery, the oldest first; people stand there by number."""
    with Gallery.open(gallery_path) as gallery:
        receipts = gallery.receipts()
    for receipt in receipts if as_json else ():
        print_json(receipt_to_dict(receipt))
    if not as_json:
        columns = ["number", "time", "reason", "person", "faces", "crops", "pictures", "complete"]
        rows = [[receipt_to_dict(receipt)[column] for column in columns] for receipt in receipts]
        print_table(columns, rows)


@audit.command("verify")
@click.argument("file", required=False)
@gallery_option
@access_option
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="HASH",
    help="A hash that was kept elsewhere, and must be in one of the chains; may be repeated.",
)
@click.option(
    "--witness",
    metavar="FILE|URL",
    help="Where `serve --witness` sent the hashes of the audit log: each must be in it.",
)
@json_option
def verify(
    *,
    file: str | None,
    gallery_path: str,
    access_path: str | None,
    expected: tuple[str, ...],
    witness: str | None,
    as_json: bool,
) -> None:
    """Say whether the audit log and the receipts of the gallery FILE are as they were written.

    Each entry carries a hash over the one before and itself. Changed, removed, inserted and reordered entries
    are found, and the command ends with 1. Acts that are under way or were interrupted are named. Whoever may
    write the files can make whole chains anew: keep the last hashes where they cannot, by `serve --witness`,
    or give them as --expect later. Hashes of entries that went by age are only counted.
    """
    place = gallery_path if file is None else file
    if witness is not None:
        expected += compare_witness(place, access_path, witness, as_json=as_json)
    verdicts = verify_both(place, access_path, expected)
    unseen = frozenset(expected).intersection(*(verdict.unseen for verdict in verdicts.values()))
    for name, verdict in verdicts.items():
        if as_json:
            facts = {"entries": verdict.entries, "holds": verdict.fault is None, "fault": verdict.fault}
            print_json({"chain": name} | facts | {"head": verdict.head, "unfinished": list(verdict.unfinished)})
        else:
            click.echo(f"{name}: {in_words(verdict)}")
    for hashed in sorted(unseen):
        click.echo(
            f"expected, and in none of the chains: {hashed}; it was made anew, or the entry went by age", err=True
        )
    finish([], 1 if unseen or any(verdict.fault for verdict in verdicts.values()) else 0)


def compare_witness(place: str, access_path: str | None, witness: str, *, as_json: bool) -> tuple[str, ...]:
    """Return the hashes of a witness that must be in the audit log, and tell how many are too old."""
    need_file(place, access_path)
    with opened(place, access_path) as access:
        first = access.ends().first
    heads = [head for head in read_heads(witness) if head.number > 0]
    compared = [head for head in heads if head.number >= first]
    aged = [head for head in heads if head.number < first]
    newest = max((head.time for head in aged), default=None)
    if as_json:
        print_json({"witness": witness, "compared": len(compared), "aged": len(aged), "newest_aged": newest})
    else:
        gone = f", {len(aged)} of entries that went by age, the newest of {newest}" if aged else ""
        click.echo(f"witness {witness}: {count(len(compared), 'hash', 'hashes')} to compare{gone}")
    return tuple(head.hash for head in compared)


def verify_both(place: str, access_path: str | None, expected: tuple[str, ...]) -> dict[str, ChainCheck]:
    """Return what came of the log and of the receipts, where these are.

    Raises:
        GalleryFileError: There is neither.
    """
    verdicts: dict[str, ChainCheck] = {}
    log = access_file(place, access_path)
    if access_path is not None:
        need_file(place, access_path)
    if Path(log).exists():
        with opened(place, access_path) as access:
            verdicts[f"audit log {log}"] = access.verify(expected)
    if not verdicts or parse_address(place) is not None or Path(place).exists():
        with Gallery.open(place) as gallery:
            verdicts[f"receipts in {gallery.path}"] = gallery.verify_receipts(expected)
    return verdicts


def need_file(place: str, access_path: str | None) -> None:
    """Raise if there is no audit log: to look for one must not make it."""
    log = access_file(place, access_path)
    if not Path(log).exists():
        raise AccessFileError(log, "there is no such file: a service makes it when it starts")


def in_words(verdict: ChainCheck) -> str:
    """Return what came of a chain, for people."""
    entries = count(verdict.entries, "entry", "entries")
    if verdict.fault is None:
        numbers = ", ".join(map(str, verdict.unfinished))
        open_intents = f"; under way or interrupted: {numbers}" if numbers else ""
        return f"{entries}, chain holds; last hash {verdict.head}{open_intents}"
    return f"{verdict.fault}; the {entries} before it hold up to {verdict.head}"
