"""Folders of people, embedded for the commands that measure them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from sameface.cli.measure import Run
from sameface.cli.options import Command
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.people import PeopleSet, gather_people
from sameface.evaluation.protocols import read_people, read_slices

folder_argument = click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="PEOPLE_FOLDER"
)


class Embedded(NamedTuple):
    """A folder of people, ready to be measured."""

    people: PeopleSet
    failures: list[str]
    facts: dict[str, str]


def slice_options(command: Command) -> Command:
    """Add the options that choose slices."""
    slices = click.option(
        "--slices",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A CSV file with the columns person and --slice-by.",
    )
    column: Callable[[Any], Command] = click.option("--slice-by", help="The column of --slices.")
    return column(slices(command))


def embed_folder(run: Run, folder: Path) -> Embedded:
    """Return the rows of a folder that holds one folder per person."""
    photos = read_people(folder)
    found = run.embed([photo.path for photo in photos])
    people = gather_people(photos, found)
    counted = f"{len(people.rows):,} pictures of {len(people.names):,} people in {folder.name}"
    return Embedded(people, found.failures, run.facts(found, pictures=counted))


def take_slices(choices: dict[str, Any]) -> dict[str, str]:
    """Return the slice of every person that the options name; nothing without slices."""
    path, column = choices["slices"], choices["slice_by"]
    if path is None and column is None:
        return {}
    if path is None or column is None:
        raise click.UsageError("--slices and --slice-by go together")
    return read_slices(path, column)


def split_people(people: PeopleSet, slices: dict[str, str], choices: dict[str, Any]) -> dict[str, PeopleSet]:
    """Return the people of each slice; nothing without slices.

    Raises:
        ProtocolError: The slices are of other people.
    """
    if slices and not slices.keys() & set(people.names):
        raise ProtocolError(str(choices["slices"]), f"it names nobody of the folder, such as {people.names[0]!r}")
    return people.split(slices) if slices else {}
