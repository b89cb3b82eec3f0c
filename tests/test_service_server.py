"""Connections: who does not finish the head of a request is not waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import toy
import uvicorn
from fastapi import FastAPI
from service_world import png

from sameface.recognizer import Recognizer
from sameface.service import server
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig
from sameface.service.server import Place, configure, listen

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEADLINE = 1.0  # seconds


@contextlib.contextmanager
def running(app: FastAPI, place: Place) -> Iterator[int]:
    """Run the service, and yield its port."""
    with listen(place) as listening:
        server = uvicorn.Server(configure(app, place))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def port(toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The service as `sameface serve` runs it, but less patient."""
    monkeypatch.setattr(server, "HEAD_SECONDS", DEADLINE)
    with running(create_app(toy_recognizer, None, ServiceConfig()), Place("127.0.0.1", 0)) as port:
        yield port


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Connect, and wait for an answer as long as it takes a busy machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the service hangs up."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_who_says_nothing_is_hung_up_on(port: int) -> None:
    with connected(port) as connection:
        start = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - start > DEADLINE * 0.9


def test_half_a_head_is_answered_and_hung_up_on(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(HEAD[:30])
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"the head of the request did not come within 1 s")


def test_a_head_that_drips_in_has_no_longer(port: int) -> None:
    with connected(port) as connection:
        start = time.monotonic()
        connection.settimeout(0.1)
        with contextlib.suppress(OSError):
            for byte in (HEAD[:-2] + b"X: y\r\n" * 500)[:500]:
                connection.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    if connection.recv(100):
                        break
        assert DEADLINE * 0.9 < time.monotonic() - start < 15


def test_the_next_head_on_a_connection_has_a_deadline_too(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(HEAD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(HEAD[:10])
        assert b"did not come within 1 s" in read_all(connection)


def test_a_body_has_more_time_than_its_head(port: int) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
    body += png(toy.RED) + b"\r\n--x--\r\n"
    head = "POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(port) as connection:
        connection.sendall(head.encode() + body[:20])
        time.sleep(DEADLINE * 1.5)
        connection.sendall(body[20:])
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_drips_in_is_given_up(toy_recognizer: Recognizer) -> None:
    place = Place("127.0.0.1", 0)
    app = create_app(toy_recognizer, None, ServiceConfig(wait_seconds=0.5))
    head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(app, place) as port, connected(port) as connection:
        connection.sendall(head + b"Content-Length: 100000\r\nConnection: close\r\n\r\n")
        connection.settimeout(0.1)  # far less than the half second that one piece may take
        answer, start = b"", time.monotonic()
        while b"timeout" not in answer and time.monotonic() - start < 15:
            with contextlib.suppress(OSError):
                connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_service_lives_on(port: int) -> None:
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(connected(port)) for _ in range(100)]
        for connection in half:
            connection.sendall(HEAD[:20])
        with connected(port) as connection:
            connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        assert all(read_all(connection).startswith(b"HTTP/1.1 400 ") for connection in half)
