"""The command that serves: REST and the page."""

from __future__ import annotations

import importlib
from typing import Any

import click

from sameface.cli.keys import access_option
from sameface.cli.options import gallery_option, quality_option, recognizer_options
from sameface.cli.unlock import key_options
from sameface.gallery.expiry import MOST_DAYS

file_path = click.Path(exists=True, dir_okay=False)


@click.command()
@gallery_option
@key_options
@access_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port; 0 takes any that is free.",
)
@click.option("--tls-cert", type=file_path, help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=file_path, help="The certificate's private key, if it is in another file.")
@click.option("--require-keys", is_flag=True, help="Want a key of every request, also on 127.0.0.1: behind a proxy.")
@click.option("--no-token", is_flag=True, help="Let every user of this machine in, without a start-up token.")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    help="Requests that a key may make in a minute; 600 by default where keys are wanted.",
)
@click.option("--cors-origin", "cors_origins", multiple=True, help="Let pages of this origin call the service.")
@click.option("--keep-crops", is_flag=True, help="Store the face that was cut out with each enrolled face.")
@quality_option
@click.option("--workers", type=click.IntRange(min=1), help="Pictures to decode at once; one per core, at most 4.")
@click.option("--queue", type=click.IntRange(min=100), help="Pictures that may wait; 128 by default.")
@click.option("--picture-bytes", type=click.IntRange(min=1), help="The largest file; 20,000,000 by default.")
@click.option("--picture-pixels", type=click.IntRange(min=1), help="The largest picture; 50,000,000 by default.")
@click.option("--no-batching", is_flag=True, help="Embed every picture by itself, to see what batches gain.")
@click.option("--audit-days", type=click.IntRange(min=1), help="How long the log of who did what is kept; 90.")
@click.option(
    "--witness", metavar="FILE|URL", help="Send the hash of each entry of the log there: a line of a file, or a POST."
)
@click.option(
    "--expire-days",
    type=click.IntRange(1, MOST_DAYS),
    help="Delete who is enrolled after so many days, unless the request says when.",
)
@recognizer_options
def serve(**choices: Any) -> None:
    """Serve REST under /v1 and the page at /, until interrupted.

    On an address that only this machine can reach no key is needed, but the start-up token in the printed
    address: whoever has it may do everything. Programs send it as they would a key; SAMEFACE_TOKEN sets it.
    On any other address a key is needed, and so it is with --require-keys: make one with `sameface keys add
    NAME --role admin`.
    The log goes to stderr, one JSON object per line.
    """
    # The command's help must not need the web framework, which is an extra.
    importlib.import_module("sameface.cli.serving").serve_until_interrupted(**choices)
