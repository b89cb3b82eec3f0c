"""The command that serves: REST and the page."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from sameface.cli.keys import access_option, opened
from sameface.cli.options import gallery_option, quality_option, recognizer_options
from sameface.cli.unlock import key_options
from sameface.errors import AccessFileError
from sameface.gallery import Gallery
from sameface.gallery.expiry import MOST_DAYS
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer

try:
    from sameface.service.app import create_app
    from sameface.service.config import LOCAL_HOSTS, ServiceConfig
    from sameface.service.logs import start_log
    from sameface.service.server import Place, address_of, is_local, listen, run
    from sameface.service.start_token import make_token
except ModuleNotFoundError as error:
    raise click.UsageError(f"this needs {error.name}: pip install 'sameface[serve]'") from error

RATE = 600  # requests of a key in a minute, where others than this machine can reach the service
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
@click.option(
    "--require-keys", is_flag=True, help="Want a key of every request, also on 127.0.0.1: behind a proxy."
)
@click.option("--no-token", is_flag=True, help="Let every user of this machine in, without a start-up token.")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    help=f"Requests that a key may make in a minute; {RATE} by default where keys are wanted.",
)
@click.option(
    "--cors-origin", "cors_origins", multiple=True, help="Let pages of this origin call the service."
)
@click.option("--keep-crops", is_flag=True, help="Store the face that was cut out with each enrolled face.")
@quality_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Pictures to decode at once; one per core, at most 4."
)
@click.option("--queue", type=click.IntRange(min=100), help="Pictures that may wait; 128 by default.")
@click.option("--picture-bytes", type=click.IntRange(min=1), help="The largest file; 20,000,000 by default.")
@click.option(
    "--picture-pixels", type=click.IntRange(min=1), help="The largest picture; 50,000,000 by default."
)
@click.option("--no-batching", is_flag=True, help="Embed every picture by itself, to see what batches gain.")
@click.option(
    "--audit-days", type=click.IntRange(min=1), help="How long the log of who did what is kept; 90."
)
@click.option(
    "--witness",
    metavar="FILE|URL",
    help="Send the hash of each entry of the log there: a line of a file, or a POST.",
)
@click.option(
    "--expire-days",
    type=click.IntRange(1, MOST_DAYS),
    help="Delete who is enrolled after so many days, unless the request says when.",
)
@recognizer_options
def serve(
    *,
    recognizer: Recognizer,
    gallery_path: str,
    keys: Keys,
    access_path: str | None,
    host: str,
    port: int,
    **choices: Any,
) -> None:
    """Serve REST under /v1 and the page at /, until interrupted.

    On an address that only this machine can reach no key is needed, but the start-up token in the printed
    address: whoever has it may do everything. Programs send it as they would a key; SAMEFACE_TOKEN sets it.
    On any other address a key is needed, and so it is with --require-keys: make one with `sameface keys add
    NAME --role admin`.
    The log goes to stderr, one JSON object per line.
    """
    place = Place(host, port, choices.pop("tls_cert"), choices.pop("tls_key"))
    config = read_config(choices, local=is_local(host))
    with ExitStack() as stack:
        gallery = stack.enter_context(Gallery.open(gallery_path, recognizer, keys=keys))
        access = stack.enter_context(opened(gallery_path, access_path))
        if config.keys_required and not access.keys():
            raise AccessFileError(
                access.path,
                f"{why_keys(host)}, and there is no key yet: make one with "
                f"`sameface keys add NAME --role admin --gallery {gallery.path}`, or serve on 127.0.0.1 "
                "without --require-keys",
            )
        app = create_app(recognizer, gallery, config, access=access)
        listening = stack.enter_context(listen(place))
        start_log(sys.stderr)
        token = "" if config.token is None else f"/?token={config.token}"
        click.echo(f"sameface serves at {address_of(place, listening)}{token}")
        sys.stdout.flush()
        run(app, place, listening)


def why_keys(host: str) -> str:
    """Return why a service wants keys."""
    if is_local(host):
        return "--require-keys wants a key of every request"
    return f"others than this machine can reach {host}"


def read_token(*, wanted: bool) -> str | None:
    """Return the start-up token, or None where none is wanted."""
    try:
        return make_token() if wanted else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def read_config(choices: dict[str, Any], *, local: bool) -> ServiceConfig:
    """Return the service's choices from those of the command line; what is not given stays as it is."""
    keys_required = choices.pop("require_keys") or not local
    rate, no_token = choices.pop("rate"), choices.pop("no_token")
    given = {name: value for name, value in choices.items() if value is not None}
    given["batching"] = not given.pop("no_batching")
    return ServiceConfig(
        keys_required=keys_required,
        token=read_token(wanted=not (keys_required or no_token)),
        hosts=LOCAL_HOSTS,
        rate_per_minute=RATE if rate is None and keys_required else rate,
        **given,
    )
