"""Run the service on a port until it is told to end."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 2048
GRACE_SECONDS = 60  # for what was accepted before the service ends
# In which nothing comes on a connection until it is closed: longer than clients (5) and proxies (60) keep
# theirs, or a request that they send on it at that moment is lost.
IDLE_SECONDS = 75


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen.

    Attributes:
        host: An address of this machine, or its name.
        port: 0 takes any that is free.
        certificate: A PEM file, for TLS; None serves plain HTTP.
        private_key: The PEM file of its key; None if it is in the same file.
    """

    host: str
    port: int
    certificate: str | None = None
    private_key: str | None = None


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(place: Place) -> socket.socket:
    """Take the port.

    Raises:
        OSError: It is taken, or may not be had.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    return socket.create_server((place.host, place.port), family=family, backlog=BACKLOG)


def address_of(place: Place, listening: socket.socket) -> str:
    """Return where the service is, for people."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    scheme = "http" if place.certificate is None else "https"
    return f"{scheme}://{host}:{listening.getsockname()[1]}"


def run(app: ASGIApp, place: Place, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, and finish what was accepted.

    Raises:
        SystemExit: The service was told to end by SIGTERM.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what uvicorn goes back to when it is done
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.private_key,
    )
    uvicorn.Server(config).run(sockets=[listening])
