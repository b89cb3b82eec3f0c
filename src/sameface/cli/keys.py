"""The commands for the keys of the service: keys add, list, revoke."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime

import click

from sameface.cli.options import gallery_option, json_option
from sameface.cli.output import print_json, print_table
from sameface.gallery.address import parse_address
from sameface.service.access import ROLES, Access, Role

access_option = click.option(
    "--access",
    "access_path",
    envvar="SAMEFACE_ACCESS",
    help="The file of keys and audit log; by default the gallery's name with .access behind it, or "
    "DATABASE-SCHEMA.access.",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of the service."""


@keys.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="read", show_default=True, help="What it may do.")
@gallery_option
@access_option
@json_option
def add_key(*, name: str, role: Role, gallery_path: str, access_path: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it, this once.

    `read` may look, compare and identify; `enroll` may also enroll, rename and merge; `admin` may also delete
    and read the audit log. Only a hash of the key is kept.
    """
    with opened(gallery_path, access_path) as access:
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
    """List the keys that hold, without the keys themselves."""
    with opened(gallery_path, access_path) as access:
        found = access.keys()
    rows = [(key.name, key.role, datetime.fromtimestamp(key.made, UTC).isoformat(" ", "seconds")) for key in found]
    if as_json:
        for name, role, made in rows:
            print_json({"name": name, "role": role, "made": made})
    else:
        print_table(["name", "role", "made"], rows)


@keys.command("revoke")
@click.argument("name")
@gallery_option
@access_option
def revoke_key(*, name: str, gallery_path: str, access_path: str | None) -> None:
    """Make the key called NAME invalid, at once and for running services too."""
    with opened(gallery_path, access_path) as access:
        access.revoke_key(name)
    click.echo(f"{name} is revoked")


def opened(gallery_path: str, access_path: str | None) -> closing[Access]:
    """Open the file of keys that belongs to a gallery, for a `with` statement."""
    return closing(Access.open(access_file(gallery_path, access_path)))


def access_file(gallery_path: str, access_path: str | None) -> str:
    """Return where the keys of a gallery's service are."""
    if access_path is not None:
        return access_path
    address = parse_address(os.fspath(gallery_path))
    return f"{gallery_path if address is None else address.file_name}.access"
