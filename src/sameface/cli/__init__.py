"""The command line: one short command per verb, each loaded only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from sameface import __version__
from sameface.errors import SamefaceError

# The module and the description of each command.
COMMANDS = {
    "demo": ("demo", "Show everything on the sample photographs."),
    "detect": ("pictures", "Find the faces in pictures."),
    "embed": ("embed", "Write the embedding of every face to a file."),
    "verify": ("pictures", "Decide whether two pictures show the same person."),
    "enroll": ("enroll", "Enroll people in the gallery."),
    "identify": ("identify", "Name the faces in pictures and videos, or reject them as strangers."),
    "watch": ("identify", "Name the people before a camera."),
    "people": ("people", "List the enrolled people."),
    "consent": ("people", "Keep a note on the consent of a person."),
    "rename": ("people", "Give a person another name."),
    "merge": ("people", "Make two people one."),
    "export-person": ("people", "Write all data of a person to a file."),
    "expire": ("people", "Set the day on which people are deleted."),
    "forget": ("people", "Delete a person for good, and print a receipt."),
    "audit": ("audit", "List audit entries and deletion receipts, and verify that they are unchanged."),
    "gallery": ("gallery", "Back up, restore, check, upgrade or encrypt a gallery."),
    "album": ("album", "Name the people of a folder of photographs, and keep the names."),
    "cluster": ("cluster", "Sort an album into one folder per person."),
    "group": ("cluster", "Group the embeddings of a file into people; add new faces later."),
    "serve": ("serve", "Serve REST and the page."),
    "keys": ("audit", "Make, list and revoke the keys of the service."),
    "evaluate": ("evaluate", "Measure the embeddings: pairs, ytf, holdout, identification, clusters, sweep."),
    "prepare": ("train", "Cut the faces out of photographs, to train on them."),
    "train": ("train", "Train your own network."),
    "export": ("train", "Convert a trained network to weights for every command."),
    "calibrate": ("evaluate", "Find the threshold for your own people and cameras."),
    "weights": ("weights", "List the embedders, or add your own."),
    "doctor": ("doctor", "Check the installation, the weights and the speed."),
}


class BadInputError(click.ClickException):
    """Bad input, reported in one line."""

    exit_code = 3


class Commands(click.Group):
    """A group that imports the code of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sameface.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error of sameface or of the system becomes one line and exit code 3."""
        try:
            return super().invoke(ctx)
        except SamefaceError as error:
            raise BadInputError(str(error)) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has closed it
            ctx.exit(0)
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: "
            raise BadInputError(f"{place}{error.strerror or error}") from error
        except ModuleNotFoundError as error:
            if str(error).startswith("No module"):  # otherwise the message names a missing extra
                raise
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="sameface")
def main() -> None:
    """Find faces, and identify people.

    Exit codes: 0 yes or done, 1 different or unknown, 2 wrong usage, 3 bad input.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
