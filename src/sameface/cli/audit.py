"""Commands on the service's keys and on what was done and deleted: keys, audit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from sameface.cli.gallery_options import access_file, access_option, gallery_option, open_access
from sameface.cli.options import json_option, positive
from sameface.cli.output import count, finish, print_json, print_records
from sameface.gallery import Gallery
from sameface.gallery.address import parse_address
from sameface.gallery.hash_chain import ChainCheck
from sameface.gallery.receipts import receipt_to_dict
from sameface.service.access_file import ROLES, Role
from sameface.service.audit import MOST_ENTRIES, read_heads
from sameface.service.errors import AccessFileError


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of the service."""


@keys.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="read", help="Its permissions.")
@gallery_option
@access_option
@json_option
def add_key(*, name: str, role: Role, gallery_path: str, access_path: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it, this once.

    `read` may look, compare and identify; `enroll` may also enroll, rename and merge; `admin` may also delete
    and read the audit log. Only a hash of the key is kept.
    """
    with open_access(gallery_path, access_path) as access:
        token = access.make_key(name, role)
    if as_json:
        print_json({"name": name, "role": role, "key": token})
    else:
        click.echo(token)


@keys.command("list")
@gallery_option
@access_option
@json_option
def list_keys(*, gallery_path: str, access_path: str | None, as_json: bool) -> None:
    """List the names and roles of the valid keys."""
    with open_access(gallery_path, access_path) as access:
        found = access.keys()
    moments = [datetime.fromtimestamp(key.made, UTC).isoformat(" ", "seconds") for key in found]
    records = [{"name": k.name, "role": k.role, "made": made} for k, made in zip(found, moments, strict=True)]
    print_records(records, ["name", "role", "made"], as_json=as_json)


@keys.command("revoke")
@click.argument("name")
@gallery_option
@access_option
def revoke_key(*, name: str, gallery_path: str, access_path: str | None) -> None:
    """Revoke the key called NAME, at once and for running services too."""
    with open_access(gallery_path, access_path) as access:
        access.revoke_key(name)
    click.echo(f"{name} is revoked")


@click.group()
def audit() -> None:
    """List audit entries and deletion receipts, and verify that they are unchanged."""


@audit.command("list")
@gallery_option
@access_option
@click.option(
    "--last", default=MOST_ENTRIES, show_default=False, type=positive, help="Entries to list; all by default."
)
@json_option
def list_entries(*, gallery_path: str, access_path: str | None, last: int, as_json: bool) -> None:
    """List the actions in the service's audit log, the latest first; people are listed by number.

    An entry `intent` belongs to an action under way or interrupted: whether it was done is unknown.
    """
    require_log(gallery_path, access_path)
    with open_access(gallery_path, access_path) as access:
        entries = access.log.entries(last)
    names = ("number", "time", "key", "action", "gallery", "person", "detail", "hash")
    records = []
    for one in entries:
        detail = one.detail if as_json else json.dumps(one.detail)
        values = (one.number, one.moment, one.key, one.action, *(one.person or (None, None)), detail, one.hash)
        records.append(dict(zip(names, values, strict=True)))
    print_records(records, ["number", "time", "key", "action", "person", "detail"], as_json=as_json)


@audit.command("receipts")
@gallery_option
@json_option
def list_receipts(*, gallery_path: str, as_json: bool) -> None:
    """List the deletions from the gallery, the oldest first; people are listed by number."""
    with Gallery.open(gallery_path) as gallery:
        receipts = [receipt_to_dict(receipt) for receipt in gallery.receipts()]
    columns = ["number", "time", "reason", "person", "faces", "crops", "pictures", "complete"]
    print_records(receipts, columns, as_json=as_json)


@audit.command("verify")
@click.argument("file", required=False)
@gallery_option
@access_option
@click.option(
    "--expect", "expected", multiple=True, metavar="HASH", help="A hash that must be in a chain; repeatable."
)
@click.option("--witness", metavar="FILE|URL", help="The hashes of `serve --witness`: each must be in the audit log.")
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
    """Verify that the audit log and the receipts of the gallery FILE are unchanged.

    Each entry carries a hash over the one before and itself. Changed, removed, inserted and reordered entries
    are found, and the command ends with 1. Actions under way or interrupted are listed. A person who may write
    the files can forge whole chains: keep the last hashes elsewhere, by `serve --witness`, or give them as
    --expect later. Hashes of entries deleted by age are only counted.
    """
    place = gallery_path if file is None else file
    if witness is not None:
        expected += read_witness(place, access_path, witness, as_json=as_json)
    verdicts = verify_chains(place, access_path, expected)
    unseen = frozenset(expected).intersection(*(verdict.unseen for verdict in verdicts.values()))
    for name, verdict in verdicts.items():
        if as_json:
            facts = {"entries": verdict.entries, "holds": verdict.fault is None, "fault": verdict.fault}
            print_json({"chain": name} | facts | {"head": verdict.head, "unfinished": list(verdict.unfinished)})
        else:
            click.echo(f"{name}: {format_verdict(verdict)}")
    for hashed in sorted(unseen):
        text = f"expected, and in none of the chains: {hashed}; it was made anew, or the entry went by age"
        click.echo(text, err=True)
    finish([], 1 if unseen or any(verdict.fault for verdict in verdicts.values()) else 0)


def read_witness(place: str, access_path: str | None, witness: str, *, as_json: bool) -> tuple[str, ...]:
    """Return the hashes of a witness that must be in the audit log, and print how many are too old."""
    require_log(place, access_path)
    with open_access(place, access_path) as access:
        first = access.log.ends().first
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


def verify_chains(place: str, access_path: str | None, expected: tuple[str, ...]) -> dict[str, ChainCheck]:
    """Return the verdict on the audit log and on the receipts, where these exist.

    Raises:
        GalleryFileError: There is neither.
    """
    verdicts: dict[str, ChainCheck] = {}
    log = access_file(place, access_path)
    if access_path is not None:
        require_log(place, access_path)
    if Path(log).exists():
        with open_access(place, access_path) as access:
            verdicts[f"audit log {log}"] = access.log.verify(expected)
    if not verdicts or parse_address(place) is not None or Path(place).exists():
        with Gallery.open(place) as gallery:
            verdicts[f"receipts in {gallery.path}"] = gallery.verify_receipts(expected)
    return verdicts


def require_log(place: str, access_path: str | None) -> None:
    """Raise if there is no audit log: opening a missing one would make it."""
    log = access_file(place, access_path)
    if not Path(log).exists():
        raise AccessFileError(log, "there is no such file: a service makes it when it starts")


def format_verdict(verdict: ChainCheck) -> str:
    entries = count(verdict.entries, "entry", "entries")
    if verdict.fault is not None:
        return f"{verdict.fault}; the {entries} before it hold up to {verdict.head}"
    numbers = ", ".join(map(str, verdict.unfinished))
    open_intents = f"; under way or interrupted: {numbers}" if numbers else ""
    return f"{entries}, chain holds; last hash {verdict.head}{open_intents}"
