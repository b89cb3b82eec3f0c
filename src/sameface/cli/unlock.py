"""The options that say where the keys of a gallery are."""

from __future__ import annotations

import functools
import os
from typing import Any

import click

from sameface.cli.options import Command, add_options
from sameface.gallery.keys import KeyCommand, KeyFile, Keys, KeySource, KeyText

ENCRYPTION = "SAMEFACE_GALLERY_KEY"

key_path = click.Path(dir_okay=False)
encryption_option = click.option(
    "--key-file",
    type=key_path,
    envvar=f"{ENCRYPTION}_FILE",
    help=f"The key of an encrypted gallery, in a file that only you may read. Without it {ENCRYPTION} holds "
    f"the key, or {ENCRYPTION}_COMMAND says what prints it.",
)


def key_options(command: Command) -> Command:
    """Add the option that says where the key is; the command gets it as `keys`."""

    @functools.wraps(command)
    def with_keys(*, key_file: str | None, **choices: Any) -> Any:
        return command(keys=Keys(find_key(key_file, ENCRYPTION)), **choices)

    return add_options(with_keys, (encryption_option,))


def find_key(path: str | None, variable: str) -> KeySource | None:
    """Return where a key is: in a file, in a variable, or printed by the command in another variable."""
    if path is not None:
        return KeyFile(path)
    text, command = os.environ.get(variable), os.environ.get(f"{variable}_COMMAND")
    if text is not None and command is not None:
        raise click.UsageError(f"set {variable} or {variable}_COMMAND, not both")
    if text is not None:
        return KeyText(text, variable)
    return None if command is None else KeyCommand(command)
