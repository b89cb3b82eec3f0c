"""The options of commands on a gallery: where it is, where its key is, and where the service's keys are."""

from __future__ import annotations

import functools
import os
import shlex
from contextlib import closing
from typing import Any

import click

from sameface.atomic import may_others
from sameface.cli.options import Command
from sameface.gallery.address import parse_address
from sameface.gallery.keys import KeyCommand, KeyFile, Keys, KeySource, KeyText
from sameface.service.access_file import Access

KEY_VARIABLE = "SAMEFACE_GALLERY_KEY"


def warn_of_others(_ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Return the place of a gallery, with a warning if other users may read or write the file."""
    if path is not None and may_others(path):
        text = f"warning: others than you may read or write {path!r}: chmod 600 {shlex.quote(path)}"
        click.echo(text, err=True)
    return path


gallery_option = click.option(
    "--gallery",
    "gallery_path",
    default="people.db",
    envvar="SAMEFACE_GALLERY",
    callback=warn_of_others,
    help="The gallery: a file, postgresql://user@host/database, or milvus://host/collection?people=PLACE.",
)
gallery_argument = click.argument("path", metavar="GALLERY", callback=warn_of_others)
gallery_file_argument = click.argument(
    "path", type=click.Path(dir_okay=False), metavar="GALLERY", callback=warn_of_others
)
quality_option = click.option(
    "--min-quality",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Refuse a face of lower quality, see `sameface detect --quality`.",
)
key_file_option = click.option(
    "--key-file",
    type=click.Path(dir_okay=False),
    envvar=f"{KEY_VARIABLE}_FILE",
    help=f"The key of an encrypted gallery, in a file that only you may read. Without it {KEY_VARIABLE} holds "
    f"the key, or {KEY_VARIABLE}_COMMAND is the command that prints it.",
)
access_option = click.option(
    "--access",
    "access_path",
    envvar="SAMEFACE_ACCESS",
    help="The file of keys and audit log; by default the gallery's name with .access behind it, or "
    "DATABASE-SCHEMA.access.",
)


def key_options(command: Command) -> Command:
    """Add the option that says where the gallery's key is; the command gets `keys`."""

    @functools.wraps(command)
    def with_keys(*, key_file: str | None, **options: Any) -> Any:
        return command(keys=Keys(find_key(key_file)), **options)

    return key_file_option(with_keys)


def find_key(path: str | None) -> KeySource | None:
    """Return where the gallery's key is: a file, a variable, or a command that prints it."""
    if path is not None:
        return KeyFile(path)
    text, command = os.environ.get(KEY_VARIABLE), os.environ.get(f"{KEY_VARIABLE}_COMMAND")
    if text is not None and command is not None:
        raise click.UsageError(f"set {KEY_VARIABLE} or {KEY_VARIABLE}_COMMAND, not both")
    if text is not None:
        return KeyText(text, KEY_VARIABLE)
    return None if command is None else KeyCommand(command)


def access_file(gallery_path: str, access_path: str | None) -> str:
    """Return the path of the service's keys and audit log."""
    if access_path is not None:
        return access_path
    address = parse_address(gallery_path)
    return f"{gallery_path if address is None else address.file_name}.access"


def open_access(gallery_path: str, access_path: str | None) -> closing[Access]:
    return closing(Access.open(access_file(gallery_path, access_path)))
