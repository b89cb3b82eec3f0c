"""Connections: their number is limited, and a client that neither sends nor reads is not waited for."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import toy
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from service_world import png
from starlette.requests import Request
from starlette.responses import Response

from sameface.recognizer import Recognizer
from sameface.service import server
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig
from sameface.service.middleware import PIECE
from sameface.service.routes import admin, challenges, jobs, pages, people, vision
from sameface.service.server import ListenAddress, configure, listen

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEADLINE = 1.0  # seconds
ROUTERS = (admin, vision, challenges, people, jobs, pages)


@contextlib.contextmanager
def running(app: FastAPI, place: ListenAddress) -> Iterator[int]:
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
    with running(create_app(toy_recognizer, None, ServiceConfig()), ListenAddress("127.0.0.1", 0)) as port:
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
    place = ListenAddress("127.0.0.1", 0)
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


def ask(connection: socket.socket) -> bytes:
    """Ask for the health on a connection that stays open, and return the answer; nothing if it is closed."""
    connection.sendall(HEAD)
    answer = b""
    while not answer.endswith(b"}") and (piece := connection.recv(65536)):
        answer += piece
    return answer


def is_open(connection: socket.socket) -> bool:
    """Return whether the service has not closed a connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def read_metrics(port: int) -> str:
    """Return the counters of the service."""
    with connected(port) as connection:
        connection.sendall(
            HEAD.replace(b"/health", b"/metrics").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        return read_all(connection).decode()


@pytest.fixture
def small(toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A service that lets an address have ten connections."""
    monkeypatch.setattr(server, "CONNECTIONS", 20)
    with running(create_app(toy_recognizer, None, ServiceConfig()), ListenAddress("127.0.0.1", 0)) as port:
        yield port


def test_idle_connections_make_room_for_working_ones(small: int, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack, caplog.at_level("INFO"):
        worker = stack.enter_context(connected(small))
        assert ask(worker).startswith(b"HTTP/1.1 200 ")
        caplog.clear()
        idle = [stack.enter_context(connected(small)) for _ in range(50)]
        assert ask(worker).startswith(b"HTTP/1.1 200 ")  # it has sent a request before: it is closed last
        with connected(small) as new:
            assert ask(new).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.2)
        assert sum(map(is_open, idle)) <= 10
        lines = [each for each in caplog.records if each.name != "uvicorn.access"]
        assert {each.getMessage() for each in lines} == {"request"}  # and none for a closed connection
        assert 'sameface_connections_dropped_total{reason="full"} 4' in read_metrics(small)


def test_without_an_idle_connection_the_new_one_is_closed(small: int) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(small)) for _ in range(10)]
        for connection in busy:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.3)
        with connected(small) as new, contextlib.suppress(ConnectionResetError):
            assert ask(new) == b""
        assert all(map(is_open, busy))


async def block(_: Request) -> Response:
    """Keep the event loop from accepting and reading, as a busy machine does."""
    time.sleep(0.5)
    return Response()


def test_who_has_sent_a_request_keeps_the_connection_before_it_is_read(
    toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 20)
    app = create_app(toy_recognizer, None, ServiceConfig())
    app.add_route("/block", block)
    with running(app, ListenAddress("127.0.0.1", 0)) as port, contextlib.ExitStack() as stack:
        blocker = stack.enter_context(connected(port))
        blocker.sendall(HEAD.replace(b"/health", b"/block"))
        time.sleep(0.1)
        asking = [stack.enter_context(connected(port)) for _ in range(9)]
        for connection in asking:
            connection.sendall(HEAD)
        silent = [stack.enter_context(connected(port)) for _ in range(20)]
        answers = [connection.recv(65536) for connection in asking]
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert sum(map(is_open, silent)) <= 1


def test_stuck_readers_make_room_before_clients_that_pause(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STUCK_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        assert httpx.get(f"http://127.0.0.1:{small}/openapi.json").status_code == 200  # encode it beforehand
        worker = stack.enter_context(connected(small))
        assert ask(worker).startswith(b"HTTP/1.1 200 ")
        readers = [stack.enter_context(slow_reader(small)) for _ in range(9)]
        time.sleep(1)
        for _ in range(3):
            new = stack.enter_context(connected(small))
            assert ask(new).startswith(b"HTTP/1.1 200 ")
        assert ask(worker).startswith(b"HTTP/1.1 200 ")
        assert len(readers) == 9
        assert 'sameface_connections_dropped_total{reason="full"} 4' in read_metrics(small)


def test_answers_that_nobody_reads_are_not_made_in_advance(small: int) -> None:
    url = f"http://127.0.0.1:{small}/openapi.json"
    size, read = len(httpx.get(url).content), 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
        connection.connect(("127.0.0.1", small))
        connection.sendall(HEAD.replace(b"/health", b"/openapi.json") * 300)
        while read < 8_000_000:  # fast at first, so that Linux gives the connection a large buffer
            read += len(connection.recv(65536))
        time.sleep(1)
        made = re.search(r'requests_total\{method="other",route="other",status="200"\} (\S+)', read_metrics(small))
    assert made is not None
    assert 0 < float(made[1]) - read / size < 25


def test_the_description_is_encoded_once(toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    app, calls = create_app(toy_recognizer, None, ServiceConfig()), []
    build = app.openapi
    monkeypatch.setattr(app, "openapi", lambda: calls.append(1) or build())
    with running(app, ListenAddress("127.0.0.1", 0)) as port:
        answers = [httpx.get(f"http://127.0.0.1:{port}/openapi.json").json() for _ in range(2)]
    assert answers == [build(), build()]
    assert len(calls) == 1


def test_no_request_waits_for_a_thread_before_it_begins() -> None:
    routes = [route for module in ROUTERS for route in module.router.routes]
    waiting = [route.dependant for route in routes if isinstance(route, APIRoute)]
    assert waiting
    while waiting:
        dependant = waiting.pop()
        assert is_async(dependant.call), dependant.call
        waiting += dependant.dependencies


def is_async(call: object) -> bool:
    """Return whether FastAPI calls something in the event loop."""
    call = call if inspect.isfunction(call) else getattr(call, "__call__", call)  # noqa: B004
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


@pytest.mark.parametrize(("name", "pause"), [("READ_SECONDS", 100.0), ("ANSWER_SECONDS", 0.05)])
def test_a_slow_reader_is_closed(
    toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, name: str, pause: float
) -> None:
    monkeypatch.setattr(server, name, DEADLINE)
    with running(create_app(toy_recognizer, None, ServiceConfig()), ListenAddress("127.0.0.1", 0)) as port:
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(slow_reader(port)) for _ in range(5)]
            end, closed = time.monotonic() + 20, 0
            while closed < 5 and time.monotonic() < end:
                time.sleep(min(pause, 0.1))
                if pause < 1:
                    drip(readers)
                told = read_metrics(port).partition('dropped_total{reason="slow"} ')[2]
                closed = int(float(told.split()[0])) if told else 0
        assert closed == 5
        assert "sameface_answer_bytes 0.0" in read_metrics(port)


@contextlib.contextmanager
def slow_reader(port: int) -> Iterator[socket.socket]:
    """Ask for far more than a connection holds, and read nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(HEAD.replace(b"/health", b"/openapi.json") * 300)
        yield connection


def drip(readers: list[socket.socket]) -> None:
    """Read a little on each connection."""
    for reader in readers:
        with contextlib.suppress(OSError):
            reader.settimeout(0.05)
            reader.recv(100)


def test_a_large_answer_comes_whole_and_is_refused_where_the_memory_is_full(toy_recognizer: Recognizer) -> None:
    close = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = []
    for room in (1_000_000, 1000):
        app = create_app(toy_recognizer, None, ServiceConfig(answer_bytes=room))
        with running(app, ListenAddress("127.0.0.1", 0)) as port, connected(port) as connection:
            connection.sendall(close)
            answers.append(read_all(connection))
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["openapi"]
    assert len(answers[0]) > PIECE
    assert answers[1].startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answers[1].lower()
