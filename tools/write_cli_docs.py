"""Write the real help of every command into docs/cli.md; the words round it are written by hand.

    python tools/write_cli_docs.py

A block of help follows a line `<!-- help: sameface detect -->`; that of a group of commands holds the help
of each of them too.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
from click.testing import CliRunner

from sameface.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 78  # what click fills of a terminal of 80 columns
BLOCK = re.compile(r"(<!-- help: sameface(.*) -->\n```text\n)(?:.*\n)*?(```\n)")


def help_of(words: list[str]) -> str:
    """Return what `sameface WORDS --help` prints, and the same for the commands of a group."""
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="sameface", terminal_width=WIDTH)
    if result.exit_code:
        raise ValueError(f"no help for {words}: {result.output}")
    parts = [help_of([*words, name]) for name in names_in(words)] if words else []
    return "\n".join([result.output, *parts])


def names_in(words: list[str]) -> list[str]:
    """Return the commands of the group called by these words; none if it is a command."""
    context = click.Context(main, **main.context_settings)
    command: click.Command | None = main
    for word in words:
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
    return command.list_commands(context) if isinstance(command, click.Group) else []


def fill(page: str) -> str:
    """Return the page with every block of help as it is today."""
    return BLOCK.sub(lambda block: f"{block[1]}{help_of(block[2].split())}{block[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
