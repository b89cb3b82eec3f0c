"""A real server on a free port of this machine, with the toy world behind it."""

from __future__ import annotations

import base64
import io
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import PIL.Image
import toy
import uvicorn
from fastapi import FastAPI

from sameface.service.server import ListenAddress, listen

Colour = tuple[int, int, int]
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to read them takes 17 ms a client, for plain HTTP


def png(*colours: Colour, note: int = 0) -> bytes:
    """Return a PNG file with one face of each colour; `note` makes its content unique."""
    file = io.BytesIO()
    PIL.Image.fromarray(toy.paint(*colours, note=note)).save(file, "PNG")
    return file.getvalue()


def base64_of(data: bytes) -> str:
    """Return bytes as JSON carries them."""
    return base64.b64encode(data).decode()


def files(pictures: Sequence[bytes], field: str = "pictures") -> list[tuple[str, tuple[str, bytes]]]:
    """Return pictures as a form carries them, called `0.png` and so on."""
    return [(field, (f"{number}.png", data)) for number, data in enumerate(pictures)]


@contextmanager
def serve(app: FastAPI, **choices: Any) -> Iterator[httpx.Client]:
    """Run the application, and give a client for it."""
    with listen(ListenAddress("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            choices = {"timeout": 30, "trust_env": False, "verify": NO_AUTHORITIES} | choices
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with httpx.Client(base_url=address, **choices) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def enroll(client: httpx.Client, name: str, *colours: Colour, note: int = 0) -> int:
    """Enroll a person with one picture of each colour, and return the id."""
    pictures = [png(colour, note=note + number) for number, colour in enumerate(colours)]
    answer = client.post("/v1/people", data={"name": name}, files=files(pictures))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["person"]["id"])


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an error, whose shape is checked."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "detail"}
    assert body["error"]["message"]
    assert answer.headers["X-Request-ID"]
    return answer.status_code, body["error"]["code"]
