"""What `sameface serve` does, once the web framework is there."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from sameface.cli.keys import opened
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer
from sameface.service.errors import AccessFileError

try:
    from sameface.service.app import create_app
    from sameface.service.auth import make_token
    from sameface.service.config import LOCAL_HOSTS, ServiceConfig
    from sameface.service.logs import start_log
    from sameface.service.server import ListenAddress, address_of, is_local, listen, run
except ModuleNotFoundError as error:
    raise click.UsageError(f"this needs {error.name}: pip install 'sameface[serve]'") from error

RATE = 600  # requests of a key in a minute, where others than this machine can reach the service


def serve_until_interrupted(
    *, recognizer: Recognizer, gallery_path: str, keys: Keys, access_path: str | None, **choices: Any
) -> None:
    """Serve; `choices` are the other options of the command."""
    host = choices.pop("host")
    place = ListenAddress(host, choices.pop("port"), choices.pop("tls_cert"), choices.pop("tls_key"))
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
