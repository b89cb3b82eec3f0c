"""What docs/privacy.md says of a running service."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from pathlib import Path

import httpx
import pytest
import toy
from service_world import base64_of, png
from test_service_processes import service

from sameface.service.audit import MOST_ENTRIES
from sameface.service.config import ServiceConfig

PRIVACY = (Path(__file__).parent.parent / "docs" / "privacy.md").read_text("utf-8")
NAME, NOTE, FILE = "Rosa Secret", "told Mr. Blue", "private-holiday.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a service has run, with its log; everything that a client can do was done."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        with service("--gallery", folder / "people.db", delay=0) as (process, address):
            with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
                use_everything(client)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        (folder / "log").write_text("".join(process.log))  # type: ignore[attr-defined]
    return folder


def use_everything(client: httpx.Client) -> None:
    """Enroll, look, list, rename, sort, fail and delete."""
    picture = (FILE, png(toy.RED))
    large = (FILE, png(toy.RED, note=1) + bytes(3_000_000))  # more than other servers keep in memory
    for path in ("detect", "embed", "identify"):
        assert client.post(f"/v1/{path}", files={"picture": large}).status_code == 200
    assert client.post("/v1/verify", files={"a": picture, "b": picture}).status_code == 200
    told = {"name": NAME, "consent": NOTE}
    made = client.post("/v1/people", data=told, files={"pictures": picture}).json()
    assert made["person"]["consent"] == NOTE
    number = made["person"]["id"]
    assert client.get("/v1/people", params={"name": NAME}).json()["total"] == 1
    body = {"pictures": [base64_of(png(toy.REDDISH))]}
    assert client.post(f"/v1/people/{number}/faces", json=body).status_code == 201
    assert client.post("/v1/identify", files={"picture": picture}).json()["faces"][0]["name"] == NAME
    assert client.post("/v1/identify", files={"picture": (FILE, b"none")}).status_code == 422
    assert client.post("/v1/people", data={"name": NAME}, files={"pictures": picture}).status_code == 409
    job = client.post("/v1/cluster", files={"pictures": picture}).json()["id"]
    while client.get(f"/v1/jobs/{job}").json()["state"] != "done":
        pass
    assert client.delete(f"/v1/people/{number}").json()["faces"] == 2
    assert NAME not in client.get("/metrics").text


def test_the_log_holds_no_name_no_file_and_no_query(folder: Path) -> None:
    log = (folder / "log").read_text()
    assert NAME.split()[1] not in log
    assert FILE not in log
    lines = [json.loads(line) for line in log.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert len(requests) > 10
    told = {
        "time",
        "level",
        "logger",
        "message",
        "request_id",
        "method",
        "path",
        "status",
        "milliseconds",
        "key",
        "address",
    }
    assert {name for line in requests for name in line} == told
    assert not any("?" in line["path"] for line in requests)


def test_only_the_gallery_and_the_audit_log_are_left_on_the_disk(folder: Path) -> None:
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert sorted(map(str, found)) == ["log", "people.db", "people.db.access"]


def test_the_files_can_be_read_by_their_owner_only(folder: Path) -> None:
    for name in ("people.db", "people.db.access"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_of_a_deleted_person_no_name_and_no_note_is_left(folder: Path) -> None:
    for name in ("people.db", "people.db.access"):
        kept = (folder / name).read_bytes()
        assert NAME.encode() not in kept
        assert NOTE.encode() not in kept


def test_no_file_name_is_stored(folder: Path) -> None:
    for name in ("people.db", "people.db.access"):
        assert FILE.encode() not in (folder / name).read_bytes()


def test_the_actions_in_the_docs_are_those_that_are_written_down(folder: Path) -> None:
    told = re.findall(r"`(\w+)`", PRIVACY.partition("Its actions:")[2].partition("Reading it")[0])
    with sqlite3.connect(folder / "people.db.access") as database:
        done = {action for (action,) in database.execute("SELECT DISTINCT action FROM audit")}
    database.close()
    assert done == {"intent", "enroll", "identify", "verify", "cluster", "delete_person"}
    assert done <= set(told)
    source = Path(__file__).parent.parent / "src" / "sameface" / "service"
    text = "".join(path.read_text("utf-8") for path in source.rglob("*.py"))
    written = re.findall(r'(?:record|audited|append)\(\s*(?:db, )?\w+, "(\w+)"', text)
    assert sorted({"intent", *written}) == sorted(set(told) - {"detect", "embed"})


def test_the_times_in_the_docs_are_those_of_the_service() -> None:
    config = ServiceConfig()
    assert f"{config.audit_days} days" in PRIVACY
    assert (config.job_seconds, config.jobs_kept, MOST_ENTRIES) == (3600, 8, 1_000_000)
