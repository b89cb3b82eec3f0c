"""The command that serves REST and the page: serve."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from sameface.cli.gallery_options import access_option, gallery_option, key_options, open_access, quality_option
from sameface.cli.options import positive, recognizer_options
from sameface.gallery import Gallery
from sameface.gallery.expiry import MOST_DAYS
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer
from sameface.service.errors import AccessFileError

RATE = 600  # requests of a key in a minute, where others than this machine can reach the service

pem_file = click.Path(exists=True, dir_okay=False)


@click.command()
@gallery_option
@key_options
@access_option
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="The port; 0 takes any that is free.")
@click.option("--tls-cert", type=pem_file, help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=pem_file, help="The certificate's private key, if it is in another file.")
@click.option(
    "--require-keys", is_flag=True, help="Require a key for every request, also on 127.0.0.1: behind a proxy."
)
@click.option("--no-token", is_flag=True, help="Let every user of this machine in, without a start-up token.")
@click.option("--rate", type=positive, help="Requests of a key in a minute; 600 by default where keys are required.")
@click.option("--cors-origin", "cors_origins", multiple=True, help="Let pages of this origin call the service.")
@click.option("--keep-crops", is_flag=True, help="Store the face that was cut out with each enrolled face.")
@quality_option
@click.option("--workers", type=positive, help="Pictures to decode at once; one per core, at most 4.")
@click.option("--queue", type=click.IntRange(min=100), help="Pictures that may wait; 128 by default.")
@click.option("--picture-bytes", type=positive, help="The largest file; 20,000,000 by default.")
@click.option("--picture-pixels", type=positive, help="The largest picture; 50,000,000 by default.")
@click.option("--no-batching", is_flag=True, help="Embed every picture by itself, to see what batches gain.")
@click.option("--audit-days", type=positive, help="Days that the audit log is kept; 90 by default.")
@click.option("--witness", metavar="FILE|URL", help="Send the hash of each audit entry there: a line, or a POST.")
@click.option(
    "--expire-days",
    type=click.IntRange(1, MOST_DAYS),
    help="Delete people after so many days, unless the request sets another.",
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
    tls_cert: str | None,
    tls_key: str | None,
    require_keys: bool,
    no_token: bool,
    rate: int | None,
    no_batching: bool,
    **limits: Any,
) -> None:
    """Serve REST under /v1 and the page at /, until interrupted.

    On an address that only this machine can reach, requests need the start-up token in the printed address,
    which allows everything. Programs send it as they would a key; SAMEFACE_TOKEN sets it. On any other address,
    and with --require-keys, requests need a key: make one with `sameface keys add NAME --role admin`.
    The log goes to stderr, one JSON object per line.
    """
    try:  # only now: the web framework is an extra, which --help must not need
        from sameface.service import app, auth, config, logs, server
    except ModuleNotFoundError as error:
        raise click.UsageError(f"this needs {error.name}: pip install 'sameface[serve]'") from error
    keys_required = require_keys or not server.is_local(host)
    try:
        token = None if keys_required or no_token else auth.make_token()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = config.ServiceConfig(
        keys_required=keys_required,
        token=token,
        rate_per_minute=RATE if rate is None and keys_required else rate,
        batching=not no_batching,
        **{name: value for name, value in limits.items() if value is not None},
    )
    place = server.ListenAddress(host, port, tls_cert, tls_key)
    with ExitStack() as stack:
        gallery = stack.enter_context(Gallery.open(gallery_path, recognizer, keys=keys))
        access = stack.enter_context(open_access(gallery_path, access_path))
        if keys_required and not access.keys():
            why = f"others than this machine can reach {host}"
            why = "--require-keys wants a key of every request" if server.is_local(host) else why
            way = f"make one with `sameface keys add NAME --role admin --gallery {gallery.path}`"
            reason = f"{why}, and there is no key yet: {way}, or serve on 127.0.0.1 without --require-keys"
            raise AccessFileError(access.path, reason)
        application = app.create_app(recognizer, gallery, settings, access=access)
        listening = stack.enter_context(server.listen(place))
        logs.start_log(sys.stderr)
        query = "" if token is None else f"/?token={token}"
        click.echo(f"sameface serves at {server.address_of(place, listening)}{query}")
        sys.stdout.flush()
        server.run(application, place, listening)
