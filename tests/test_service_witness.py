"""The witness of the audit log: what it takes, and what a comparison with it finds."""

from __future__ import annotations

import contextlib
import http.server
import json
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import toy
from click.testing import Result
from service_world import enroll, serve
from test_service_processes import service

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service import app
from sameface.service.access_file import Access
from sameface.service.app import create_app
from sameface.service.audit import read_head, read_heads, write_head
from sameface.service.config import ServiceConfig
from sameface.service.errors import AccessFileError

Run = Callable[..., Result]


class Keeping(http.server.BaseHTTPRequestHandler):
    """A witness that takes lines and gives them back; it refuses while `refusing` is set."""

    lines: list[bytes]
    refusing = False

    def do_POST(self) -> None:
        """Keep a line."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.refusing:
            self.lines.append(body)
        self.send_response(503 if self.refusing else 204)
        self.end_headers()

    def do_GET(self) -> None:
        """Give all lines."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"\n".join(self.lines))

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def keeper() -> Iterator[type[Keeping]]:
    """A real HTTP server that is a witness; its address is `keeper.url`."""

    class Keeper(Keeping):
        lines: list[bytes] = []  # noqa: RUF012, of this class alone
        url = ""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as server:
        Keeper.url = f"http://127.0.0.1:{server.server_port}/heads"
        threading.Thread(target=server.serve_forever).start()
        yield Keeper
        server.shutdown()


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    with contextlib.closing(Access.open(str(tmp_path / "people.db.access"))) as access:
        yield access


@contextlib.contextmanager
def serving(recognizer: Recognizer, access: Access, place: str) -> Iterator[httpx.Client]:
    """Run the service with a witness."""
    with (
        Gallery.open(Path(access.path).with_name("people.db"), recognizer) as gallery,
        serve(create_app(recognizer, gallery, ServiceConfig(witness=place), access=access)) as client,
    ):
        yield client


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def record(access: Access, entries: int = 1) -> None:
    """Write entries into a log."""
    for _ in range(entries):
        access.log.record(None, "verify", [], {})


@pytest.mark.parametrize("kind", ["file", "url"])
def test_each_entry_of_a_service_reaches_the_witness(
    toy_recognizer: Recognizer, access: Access, tmp_path: Path, keeper: type[Keeping], run: Run, kind: str
) -> None:
    place = str(tmp_path / "witness") if kind == "file" else keeper.url  # type: ignore[attr-defined]
    with serving(toy_recognizer, access, place) as client:
        wait_for(lambda: kind == "url" or Path(place).exists())
        for number, colour in enumerate((toy.RED, toy.BLUE)):
            enroll(client, f"Person {number}", colour, note=number)
            wait_for(lambda: read_heads(place)[-1].hash == access.log.ends().head)
        assert "sameface_witness_failing 0.0" in client.get("/metrics").text
        client.delete("/v1/people/1")
    assert read_heads(place)[-1].hash == access.log.ends().head  # also what came last before the end
    verified = run("audit", "verify", "--witness", place)
    assert verified.exit_code == 0, verified.output
    assert verified.stdout.startswith(f"witness {place}: ")
    if kind == "file":
        assert stat.S_IMODE(Path(place).stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["changed", "made anew", "cut"])
def test_a_whole_chain_that_is_made_anew_shows_against_the_witness(
    access: Access, tmp_path: Path, run: Run, how: str
) -> None:
    place = str(tmp_path / "witness")
    for _ in range(3):
        record(access)
        write_head(place, read_head(access.log))
    assert run("audit", "verify", "--witness", place).exit_code == 0
    if how == "cut":  # the last entry goes, and what says where the log ends is mended
        with contextlib.closing(sqlite3.connect(access.path)) as db:
            db.executescript(
                "DELETE FROM audit WHERE id = 3;"
                "UPDATE chain SET last = 2, head = (SELECT hash FROM audit WHERE id = 2)"
            )
    else:
        access.run("DELETE FROM audit")
        access.run(f"UPDATE chain SET last = 0, head = '{'0' * 64}'")
        access.run("UPDATE sqlite_sequence SET seq = 0")
        record(access, 3)
    assert run("audit", "verify").exit_code == 0  # without a witness nothing shows
    found = run("audit", "verify", "--witness", place, "--json")
    assert found.exit_code == 1
    assert "expected, and in none of the chains" in found.stderr


def test_hashes_of_entries_that_went_by_age_are_counted(access: Access, tmp_path: Path, run: Run) -> None:
    place = str(tmp_path / "witness")
    write_head(place, read_head(access.log))  # of the empty log
    for _ in range(4):
        record(access)
        write_head(place, read_head(access.log))
    access.run("UPDATE audit SET time = 0 WHERE id <= 2")
    access.log.forget_entries(1)
    found = run("audit", "verify", "--witness", place)
    assert found.exit_code == 0, found.output
    assert "3 hashes to compare, 1 of entries that went by age, the newest of 20" in found.stdout
    told = json.loads(run("audit", "verify", "--witness", place, "--json").stdout.splitlines()[0])
    assert (told["compared"], told["aged"]) == (3, 1)


def test_a_witness_that_refuses_is_told_and_gets_the_newest_hash_later(
    toy_recognizer: Recognizer,
    access: Access,
    keeper: type[Keeping],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(app, "WITNESS_SECONDS", 0.05)
    keeper.refusing = True
    with serving(toy_recognizer, access, keeper.url) as client:  # type: ignore[attr-defined]
        enroll(client, "Rosa", toy.RED)  # nobody waits for the witness
        wait_for(lambda: "sameface_witness_failing 1.0" in client.get("/metrics").text)
        assert keeper.lines == []
        keeper.refusing = False
        wait_for(lambda: "sameface_witness_failing 0.0" in client.get("/metrics").text)
        assert json.loads(keeper.lines[-1])["hash"] == access.log.ends().head
    assert any("did not take the last hash" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("content", [None, b"hello\n", b'{"number": 1}\n', b"[]\n", b"\xff\n"])
def test_what_is_no_witness_is_an_error(tmp_path: Path, content: bytes | None, keeper: type[Keeping]) -> None:
    place = tmp_path / "witness"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(AccessFileError):
        read_heads(str(place))
    with pytest.raises(AccessFileError, match="the witness cannot be read"):
        read_heads("http://127.0.0.1:9/heads")


def test_a_witness_on_a_full_disk_is_an_error(access: Access) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_head("/dev/full", read_head(access.log))


def test_the_command_line_serves_with_a_witness(tmp_path: Path) -> None:
    place = tmp_path / "witness"
    with (
        service("--gallery", tmp_path / "people.db", "--witness", place, delay=0) as (_, address),
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        enroll(client, "Rosa", toy.RED)
        log = client.get("/v1/audit").json()["entries"]
        wait_for(lambda: place.exists() and read_heads(str(place))[-1].hash == log[0]["hash"])
