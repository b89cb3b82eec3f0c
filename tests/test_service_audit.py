"""The audit log of a running service: nothing is done without an entry, and no entry is lost in between."""

from __future__ import annotations

import contextlib
import http.server
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy
from click.testing import Result
from gallery_world import face
from service_world import base64_of, enroll, error_of, files, png, serve

from sameface.client import Client
from sameface.gallery import Gallery
from sameface.gallery.receipts import receipt_to_dict
from sameface.recognizer import Recognizer
from sameface.service import app
from sameface.service import audit as audit_module
from sameface.service.access_file import ROLES, Access
from sameface.service.app import create_app
from sameface.service.audit import AuditAction, IdempotentRequest
from sameface.service.config import ServiceConfig
from sameface.service.errors import AccessFileError, RequestError

PICTURE = base64_of(png(toy.RED))


class Clock:
    """The clock of a gallery, which a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gallery(tmp_path: Path, toy_recognizer: Recognizer, clock: Clock) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "people.db", toy_recognizer, clock=clock) as gallery:
        yield gallery


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    """A log that waits for another program only 50 ms."""
    with contextlib.closing(Access.open(str(tmp_path / "people.db.access"))) as access:
        access.run("PRAGMA busy_timeout = 50")
        yield access


@pytest.fixture
def client(toy_recognizer: Recognizer, gallery: Gallery, access: Access) -> Iterator[httpx.Client]:
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)) as client:
        yield client


@contextlib.contextmanager
def locked(access: Access) -> Iterator[None]:
    """Hold a transaction of another program that writes, so that nobody else can."""
    with contextlib.closing(sqlite3.connect(access.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def full(access: Access) -> Iterator[None]:
    """Let the log be as large as SQLite may make it."""
    [(pages,)] = access.run("PRAGMA page_count")
    access.run(f"PRAGMA max_page_count = {pages}")
    with contextlib.suppress(AccessFileError):
        while True:
            access.log.record(None, "verify", [], {"filler": "x" * 50})
    yield
    access.run("PRAGMA max_page_count = 4294967294")


def state_of(gallery: Gallery) -> list[tuple[Any, ...]]:
    """Return everything that the gallery holds."""
    tables = ("people", "pictures", "faces", "receipts")
    return [row for table in tables for row in gallery._db.read(f"SELECT * FROM {table}")]


ACTS: dict[str, tuple[str, str, Any]] = {
    "enroll": ("POST", "/v1/people", {"name": "New", "pictures": [base64_of(png(toy.GREEN))]}),
    "add faces": ("POST", "/v1/people/{rosa}/faces", {"pictures": [base64_of(png(toy.GREEN))]}),
    "rename": ("PATCH", "/v1/people/{rosa}", {"name": "Rosie"}),
    "note consent": ("PATCH", "/v1/people/{rosa}", {"consent": "form 7"}),
    "set expiry": ("PATCH", "/v1/people/{rosa}", {"expire_after": "30d"}),
    "merge": ("POST", "/v1/people/{rosa}/merge", {"into": 4}),
    "delete": ("DELETE", "/v1/people/{rosa}", None),
    "delete face": ("DELETE", "/v1/people/{rosa}/faces/{face}", None),
}


@pytest.mark.parametrize("failing", [locked, full])
@pytest.mark.parametrize("act", ACTS)
def test_what_cannot_be_written_down_is_not_done(
    client: httpx.Client,
    gallery: Gallery,
    access: Access,
    act: str,
    failing: Callable[[Access], contextlib.AbstractContextManager[None]],
) -> None:
    rosa = enroll(client, "Rosa", toy.RED, toy.REDDISH)
    gil = enroll(client, "Gil", toy.BLUE, note=9)
    method, address, body = ACTS[act]
    number = client.get(f"/v1/people/{rosa}/faces").json()["faces"][0]["id"]
    address = address.format(rosa=rosa, face=number)
    body = {"into": gil} if act == "merge" else body
    before = state_of(gallery)
    with failing(access):
        assert error_of(client.request(method, address, json=body)) == (500, "bad_access")
        assert state_of(gallery) == before
    assert client.request(method, address, json=body).is_success
    assert state_of(gallery) != before
    assert access.log.verify().unfinished == ()


def test_no_album_is_sorted_and_nobody_is_named_without_an_entry(client: httpx.Client, access: Access) -> None:
    enroll(client, "Rosa", toy.RED)
    with locked(access):
        for address, field in (("cluster", "pictures"), ("identify", "picture")):
            answer = client.post(f"/v1/{address}", files=files([png(toy.RED)], field))
            assert error_of(answer) == (500, "bad_access")
    assert 'sameface_jobs{state="done"} 1.0' not in client.get("/metrics").text
    assert [entry.action for entry in access.log.entries(9)] == ["enroll"]


def test_the_cleaning_goes_on_when_the_audit_log_fails(
    toy_recognizer: Recognizer,
    gallery: Gallery,
    access: Access,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(app, "CLEAN_SECONDS", 0.02)
    monkeypatch.setattr(app, "CLEANINGS", 2)
    gallery.enroll("Rosa", [face(toy.RED)])
    gallery.expire("Rosa", datetime.now(UTC) + timedelta(seconds=1.2))
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)), locked(access):
        while len([r for r in caplog.records if "whose time is over" in r.getMessage()]) < 2:
            time.sleep(0.02)
        assert [person.name for person in gallery.people()] == ["Rosa"]  # not without an entry
        assert any("keeps old entries" in record.getMessage() for record in caplog.records)
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)):
        while not access.log.entries(1):
            time.sleep(0.02)
    assert gallery.people() == []


def test_one_loop_of_cleaning_outlives_a_log_that_is_locked_for_a_while(
    toy_recognizer: Recognizer, gallery: Gallery, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CLEAN_SECONDS", 0.02)
    gallery.enroll("Rosa", [face(toy.RED)])
    gallery.expire("Rosa", datetime.now(UTC) + timedelta(seconds=1.2))
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)):
        with locked(access):
            while not gallery.expired():
                time.sleep(0.02)
            time.sleep(0.3)
        end = time.monotonic() + 20
        while (done := [each.action for each in access.log.entries(9)]) != ["expire"]:
            assert time.monotonic() < end, done
            time.sleep(0.02)
    assert gallery.people() == []


def test_an_act_stands_when_only_its_outcome_cannot_be_written(
    client: httpx.Client, gallery: Gallery, access: Access, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    rosa = enroll(client, "Rosa", toy.RED)
    forget = gallery.forget
    with contextlib.ExitStack() as stack:

        def forget_and_lock(who: int) -> Any:
            receipt = forget(who)
            other = stack.enter_context(
                contextlib.closing(sqlite3.connect(access.path, isolation_level=None, check_same_thread=False))
            )
            other.execute("BEGIN IMMEDIATE")
            return receipt

        monkeypatch.setattr(gallery, "forget", forget_and_lock)
        gone = client.delete(f"/v1/people/{rosa}")
    assert (gone.status_code, gone.json()["person"]) == (200, rosa)
    [entry, *_] = client.get("/v1/audit").json()["entries"]
    assert (entry["action"], entry["person"], entry["detail"]) == ("intent", rosa, {"action": "delete_person"})
    assert access.log.verify().unfinished == (entry["id"],)


# A program that is killed between the deletion and the entry of its outcome.
KILLED = """
import os, signal, sys
from sameface.gallery import Gallery
from sameface.service.access_file import OWNER, Access
from sameface.service.audit import AuditAction, IdempotentRequest
path, person = sys.argv[1], int(sys.argv[2])
access = Access.open(path + ".access")
gallery = Gallery.open(path)
request = IdempotentRequest("once", f"DELETE /v1/people/{person}")
access.log.begin(AuditAction(None, "delete_person", (gallery.origin, person)), request)
gallery.forget(person)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_deletion_that_was_killed_before_its_outcome_is_told_and_answered_to_the_repetition(
    client: httpx.Client, gallery: Gallery, access: Access, run: Callable[..., Result]
) -> None:
    rosa = enroll(client, "Rosa", toy.RED)
    killed = subprocess.run([sys.executable, "-c", KILLED, gallery.path, str(rosa)], check=False)
    assert killed.returncode == -9
    [intent] = [entry for entry in access.log.entries(9) if entry.action == "intent"]
    assert intent.detail == {"action": "delete_person"}
    assert intent.person == (gallery.origin, rosa)
    assert "intent" in run("audit", "list").stdout
    verified = run("audit", "verify")
    assert verified.exit_code == 0
    assert f"; under way or interrupted: {intent.number}\n" in verified.stdout
    assert f'"unfinished": [{intent.number}]' in run("audit", "verify", "--json").stdout

    again = client.delete(f"/v1/people/{rosa}", headers={"Idempotency-Key": "once"})
    assert again.json() == receipt_to_dict(gallery.receipts()[0])
    assert error_of(client.delete(f"/v1/people/{rosa}")) == (404, "unknown_person")


def test_a_repetition_after_traces_gets_the_receipt_of_the_deletion(client: httpx.Client, gallery: Gallery) -> None:
    gallery._db.read("PRAGMA busy_timeout = 50")
    rosa = enroll(client, "Rosa", toy.RED, toy.REDDISH)
    number = client.get(f"/v1/people/{rosa}/faces").json()["faces"][0]["id"]
    with contextlib.closing(sqlite3.connect(gallery.path)) as reader:
        for key, address in (("a", f"/v1/people/{rosa}/faces/{number}"), ("b", f"/v1/people/{rosa}")):
            once = {"Idempotency-Key": key}
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM people").fetchall()
            assert error_of(client.delete(address, headers=once)) == (503, "gallery_busy")
            reader.execute("ROLLBACK")
            receipt = client.delete(address, headers=once).json()
            assert receipt["complete"]
            assert client.delete(address, headers=once).json() == receipt
            assert receipt == client.get("/v1/receipts").json()["receipts"][-1]
    assert len(gallery.receipts()) == 2


def test_a_key_for_one_request_is_refused_with_another(client: httpx.Client) -> None:
    rosa, gil = enroll(client, "Rosa", toy.RED), enroll(client, "Gil", toy.BLUE, note=9)
    once = {"Idempotency-Key": "once"}
    assert client.delete(f"/v1/people/{rosa}", headers=once).status_code == 200
    assert error_of(client.delete(f"/v1/people/{gil}", headers=once)) == (422, "bad_request")
    assert client.get(f"/v1/people/{gil}").status_code == 200
    assert error_of(client.delete(f"/v1/people/{gil}", headers={"Idempotency-Key": "a b"}))[0] == 422


def test_a_merge_that_is_repeated_is_answered_again(client: httpx.Client, gallery: Gallery) -> None:
    rosa, gil = enroll(client, "Rosa", toy.RED), enroll(client, "Gil", toy.BLUE, note=9)
    address, once = f"/v1/people/{rosa}/merge", {"Idempotency-Key": "once"}
    first = client.post(address, json={"into": gil}, headers=once)
    assert client.post(address, json={"into": gil}, headers=once).json() == first.json()
    assert error_of(client.post(address, json={"into": rosa}, headers=once)) == (422, "bad_request")
    assert error_of(client.post(address, json={"into": gil})) == (404, "unknown_person")
    assert len(gallery.receipts()) == 1


def test_only_so_many_keys_of_requests_are_kept_and_for_a_day(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MOST_REQUESTS", 3)
    act = AuditAction(None, "delete_person", ("a", 1))
    repeated = [access.log.begin(act, IdempotentRequest(key, "DELETE")).repeated for key in "aabcda"]
    assert repeated == [False, True, False, False, False, False]
    with pytest.raises(RequestError, match="was sent with another request"):
        access.log.begin(AuditAction("other", "delete_person", ("a", 1)), IdempotentRequest("a", "DELETE"))
    access.run("UPDATE requests SET time = time - 86401 WHERE id = 'd'")
    assert not access.log.begin(act, IdempotentRequest("d", "DELETE")).repeated
    access.run("UPDATE requests SET time = time - 86401")
    access.log.forget_entries(90)
    assert access.run("SELECT count(*) FROM requests") == [(0,)]


class Dropping(http.server.BaseHTTPRequestHandler):
    """A proxy that loses the first answer."""

    upstream: httpx.Client
    lost: list[int]

    def do_DELETE(self) -> None:
        """Pass the request on."""
        keys = {"Idempotency-Key": self.headers["Idempotency-Key"]}
        answer = self.upstream.delete(self.path, headers=keys)
        self.lost.append(answer.status_code)
        if len(self.lost) == 1:
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


def test_a_client_whose_answer_was_lost_gets_the_receipt(client: httpx.Client, gallery: Gallery) -> None:
    rosa = enroll(client, "Rosa", toy.RED)
    Dropping.upstream, Dropping.lost = client, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dropping) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        try:
            with Client.connect(f"http://127.0.0.1:{proxy.server_port}", patience=20) as through:
                receipt = through.forget(rosa)
        finally:
            proxy.shutdown()
    assert Dropping.lost == [200, 200]
    assert [receipt.hash] == [each.hash for each in gallery.receipts()]


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_a_merge_leaves_a_receipt(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        gallery.enroll("Rosa", [face(toy.RED, "a"), face(toy.REDDISH, "b")])
        gallery.enroll("Rosie", [face(toy.RED, "c")])
        one, two = (gallery.person(name).number for name in ("Rosa", "Rosie"))
        merged = gallery.merge("Rosa", "Rosie")
        assert (merged.reason, merged.person, merged.into, merged.faces) == ("merge", one, two, 2)
        assert (merged.face, merged.crops, merged.pictures, merged.erasure) == (None, 0, 0, None)
        assert gallery.receipts() == [merged]
        assert gallery.verify_receipts([merged.hash]).fault is None
        gallery.forget_expired()  # what a service does every minute: traces of the old name go
        [merged] = gallery.receipts()
        assert merged.erasure is not None
        gone = gallery.forget("Rosie")
        assert [receipt.reason for receipt in gallery.receipts()] == ["merge", "forget"]
        assert gallery.receipts()[-1] == gone
        assert gallery.verify_receipts().fault is None


# Roles


@pytest.fixture
def keyed(
    toy_recognizer: Recognizer, gallery: Gallery, access: Access, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]]]]:
    """A service that wants keys, and the headers of a key of each role."""
    monkeypatch.setattr(app, "CLEAN_SECONDS", 0.05)
    headers = {role: {"Authorization": f"Bearer {access.make_key(role, role)}"} for role in ROLES}
    config = ServiceConfig(keys_required=True)
    with serve(create_app(toy_recognizer, gallery, config, access=access)) as client:
        yield client, headers


def tomorrow() -> str:
    """Return the day that begins next in UTC."""
    return (datetime.now(UTC) + timedelta(days=1)).date().isoformat()


@pytest.mark.parametrize("words", ["1d", "tomorrow"])
def test_who_may_not_delete_lets_nobody_expire_within_a_day(
    keyed: tuple[httpx.Client, dict[str, dict[str, str]]], gallery: Gallery, words: str
) -> None:
    client, headers = keyed
    client.headers.update(headers["enroll"])
    words = tomorrow() if words == "tomorrow" else words
    rosa = enroll(client, "Rosa", toy.RED)
    soon = {"name": "Visitor", "pictures": [base64_of(png(toy.BLUE))], "expire_after": words}
    visitor = client.post("/v1/people", json=soon).json()["person"]["id"]  # nobody who was there before
    before = state_of(gallery)
    more = {"pictures": [base64_of(png(toy.GREEN))], "expire_after": words}
    attempts = [
        ("PATCH", f"/v1/people/{rosa}", {"name": "Rosie", "expire_after": words}),
        ("POST", f"/v1/people/{rosa}/faces", more),
        ("POST", f"/v1/people/{rosa}/merge", {"into": visitor}),
        ("POST", f"/v1/people/{visitor}/merge", {"into": rosa}),
    ]
    for method, address, body in attempts:
        assert error_of(client.request(method, address, json=body)) == (403, "forbidden")
    assert state_of(gallery) == before
    assert client.patch(f"/v1/people/{rosa}", json={"expire_after": "3d"}).status_code == 200
    for method, address, body in attempts[:2]:
        assert client.request(method, address, json=body, headers=headers["admin"]).is_success


def test_a_deletion_by_expiry_names_the_key_that_set_it(
    keyed: tuple[httpx.Client, dict[str, dict[str, str]]], gallery: Gallery, access: Access, clock: Clock
) -> None:
    client, headers = keyed
    client.headers.update(headers["enroll"])
    names = ["Ann", "Bo", "Cy", "Di"]
    colours = [toy.RED, toy.BLUE, toy.GREEN, toy.YELLOW]
    ann, bo, cy, di = (enroll(client, *each, note=n) for n, each in enumerate(zip(names, colours, strict=True)))
    client.patch(f"/v1/people/{ann}", json={"expire_after": "26d"})
    client.patch(f"/v1/people/{ann}", json={"expire_after": "25d"}, headers=headers["admin"])
    client.patch(f"/v1/people/{bo}", json={"expire_after": "25d"})
    client.post(f"/v1/people/{bo}/merge", json={"into": cy}, headers=headers["admin"])
    gallery.expire(di, datetime.now(UTC) + timedelta(days=25))  # as `sameface expire` does
    clock.ahead = 27 * 86_400
    while len(found := [each for each in access.log.entries(99) if each.action == "expire"]) < 3:
        time.sleep(0.02)
    told = {entry.person[1]: entry.detail["set_by"] for entry in found if entry.person is not None}
    assert told == {ann: "admin", cy: "enroll", di: None}
    assert {entry.key for entry in found} == {None}


def test_who_is_listed_is_in_the_log_and_read_gets_nobody_beyond_the_threshold(
    keyed: tuple[httpx.Client, dict[str, dict[str, str]]], access: Access, gallery: Gallery
) -> None:
    client, headers = keyed
    client.headers.update(headers["enroll"])
    ann = enroll(client, "Ann", toy.RED)
    twin = enroll(client, "Twin", toy.RED, note=7)
    enroll(client, "Bo", toy.BLUE, note=9)
    picture = {"picture": png(toy.RED, note=3)}
    seen = client.post("/v1/identify", files=picture, headers=headers["read"]).json()["faces"][0]
    listed = {match["person"] for match in seen["matches"]}
    assert listed == {ann, twin}
    logged = [entry.person for entry in access.log.entries(2)]
    assert {person[1] for person in logged if person is not None} == listed
    assert len(client.post("/v1/identify", files=picture).json()["faces"][0]["matches"]) == 3
    stranger = {"picture": png(toy.GREEN)}
    seen = client.post("/v1/identify", files=stranger, headers=headers["read"]).json()["faces"][0]
    assert (seen["name"], seen["matches"]) == (None, [])
    named = client.post("/v1/identify", files=stranger, data={"closed_set": "1"}, headers=headers["read"]).json()
    [match] = named["faces"][0]["matches"]
    last = access.log.entries(1)[0].person
    assert last is not None
    assert match["person"] == last[1]


# A long log


def test_the_entries_of_a_person_are_found_by_an_index(access: Access) -> None:
    statements: list[str] = []
    access._db.set_trace_callback(statements.append)
    access.log.entries_of(("a", 1))
    access._db.set_trace_callback(None)
    plan = access.run(f"EXPLAIN QUERY PLAN {statements[-1]}")
    words = " ".join(str(row[-1]) for row in plan)
    assert "USING INDEX audit_by_person (gallery=? AND person=? AND rowid>?)" in words
    assert "SCAN audit" not in words
    assert "TEMP B-TREE" not in words


def forget(access: Access) -> None:
    """Delete every entry, as the service does."""
    while access.log.forget_entries(0):
        time.sleep(app.PAUSE_SECONDS)


def fill(access: Access, entries: int) -> None:
    """Write many entries at once."""
    with access._write() as db:
        for number in range(entries):
            access.log.append(db, None, "identify", ("a", number % 50), {"faces": 1})


@pytest.mark.parametrize("reader", ["verify", "forget"])
def test_entries_are_written_while_the_log_is_gone_through(access: Access, reader: str) -> None:
    fill(access, 40_000)
    acts = {"verify": access.log.verify, "forget": lambda: forget(access)}
    reading = threading.Thread(target=acts[reader])
    reading.start()
    written = 0
    while reading.is_alive():
        access.log.record(None, "verify", [], {})
        written += reading.is_alive()
    assert written >= 3
    verdict = access.log.verify()
    assert verdict.fault is None
    assert verdict.entries >= (40_000 if reader == "verify" else 1)


def test_a_request_is_answered_while_old_entries_go(
    toy_recognizer: Recognizer, gallery: Gallery, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(access, 40_000)
    access.run("UPDATE audit SET time = 0")
    monkeypatch.setattr(app, "PAUSE_SECONDS", 1)
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)) as client:
        client.post("/v1/verify", files={"a": png(toy.RED), "b": png(toy.RED)})
        assert access.run("SELECT count(*) FROM audit")[0][0] > 1
    assert access.run("SELECT count(*) FROM audit")[0][0] > 1  # who ends the service does not wait
    assert access.log.entries(1)[0].action == "verify"


def test_a_log_that_loses_old_entries_while_it_is_verified_still_holds(access: Access) -> None:
    fill(access, 5_000)
    access.run("UPDATE audit SET time = 0 WHERE id <= 3000")  # breaks the chain there, and is forgotten
    while access.log.forget_entries(1):
        pass
    assert access.log.verify().fault is None
    read, turns = access.log._read_slice, []

    def read_and_forget(after: int) -> Any:
        found = read(after)
        turns.append(after)
        if len(turns) == 1:
            with access._write() as db:
                [(hashed,)] = db.execute("SELECT hash FROM audit WHERE id = 4500").fetchall()
                db.execute("DELETE FROM audit WHERE id <= 4500")
                db.execute("UPDATE chain SET first = 4500, anchor = ?", (hashed,))
        return found

    access.log._read_slice = read_and_forget  # type: ignore[method-assign]
    verdict = access.log.verify()
    assert (verdict.fault, verdict.entries) == (None, 500)


def test_old_entries_go_in_slices(access: Access) -> None:
    fill(access, 500)
    access.run("UPDATE audit SET time = time - 5 * 86400")
    access.log.begin(AuditAction(None, "enroll"))
    access.run("UPDATE audit SET time = time - 5 * 86400 WHERE id = 501")
    assert [access.log.forget_entries(4) for _ in range(3)] == [True, True, False]
    assert access.log.entries(9) == []
    assert access.run("SELECT count(*) FROM intents") == [(0,)]
    assert access.log.verify().fault is None
