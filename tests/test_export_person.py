"""A person's data: all of it, and of nobody else."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import toy
from click.testing import Result
from gallery_world import face
from service_world import enroll, error_of, serve

from sameface.client import Client
from sameface.gallery import Gallery
from sameface.gallery.errors import UnknownPersonError
from sameface.gallery.export import export_person
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig

Run = Callable[..., Result]
CROP = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
KEY = "alice's laptop"


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts of an export, and its files by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None
        files = {name: file.read(name) for name in file.namelist()}
    facts: dict[str, Any] = json.loads(files["person.json"])
    return facts, files


def content_of(data: bytes) -> bytes:
    """Return everything in an export, not packed."""
    return b"".join(unpack(data)[1].values())


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_an_export_holds_everything_of_a_person(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        gone = face(toy.GREEN, "c")
        faces = [face(toy.RED, "a", crop=CROP), face(toy.REDDISH, "b"), gone]
        expires = datetime(2100, 1, 1, tzinfo=UTC)
        gallery.enroll("Zoë 名", faces, consent="on paper", expires=expires)
        receipt = gallery.forget_face("Zoë 名", gallery.faces("Zoë 名")[-1].number)
        facts, files = unpack(export_person(gallery, "Zoë 名", None))
        first, second = gallery.faces("Zoë 名")
        assert {name: facts[name] for name in ("name", "consent", "expires", "enrolled", "log")} == {
            "name": "Zoë 名",
            "consent": "on paper",
            "expires": "2100-01-01T00:00:00+00:00",
            "enrolled": None,
            "log": None,
        }
        assert facts["gallery"] == gallery.origin
        assert facts["pipeline"] == toy_recognizer.signature
        assert [each["hash"] for each in facts["deleted"]] == [receipt.hash]
        assert facts["faces"] == [
            {
                "number": first.number,
                "picture": "a",
                "box": [0, 0, 10, 10],
                "score": 0.9,
                "crop": f"crops/{first.number}.png",
                "embedding": toy.row_of(toy.RED).tolist(),
            },
            {
                "number": second.number,
                "picture": "b",
                "box": [0, 0, 10, 10],
                "score": 0.9,
                "crop": None,
                "embedding": toy.row_of(toy.REDDISH).tolist(),
            },
        ]
        with PIL.Image.open(io.BytesIO(files[f"crops/{first.number}.png"])) as crop:
            assert np.array_equal(np.asarray(crop), CROP)
        assert set(files) == {"README.txt", "person.json", f"crops/{first.number}.png"}
        told = files["README.txt"].decode()
        assert [name for name in (*facts, *facts["faces"][0]) if name not in told] == []


def test_an_export_holds_nothing_of_anybody_else(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    access = Access.open()
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Quentin", [face(toy.BLUE, "shared", left=50, crop=CROP)], consent="by Quentin")
        gallery.enroll("Ann", [face(toy.RED, "shared"), face(toy.RED, "own")])
        gallery.enroll("Xaver", [face(toy.GREEN, "x")])
        quentin, ann, gone = (gallery.person(name).number for name in ("Quentin", "Ann", "Xaver"))
        gallery.forget("Xaver")
        for person in (quentin, ann, gone):
            access.log.record(KEY, "identify", [(gallery.origin, person)], {"faces": 2, "named": 1})
        access.log.record(KEY, "enroll", [("another gallery", ann)], {"faces": 77})
        entries = access.log.entries_of((gallery.origin, ann))
        assert [entry.person for entry in entries] == [(gallery.origin, ann)]
        data = export_person(gallery, ann, [])
    access.close()
    facts, files = unpack(data)
    assert sorted(files) == ["README.txt", "person.json"]
    assert facts["deleted"] == []
    held = content_of(data)
    blue = toy.row_of(toy.BLUE)
    for secret in (b"Quentin", b"Xaver", b"laptop", blue.tobytes(), str(blue.tolist()).encode()):
        assert secret not in held


def test_nobody_is_exported_by_a_name_that_nobody_has(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery, pytest.raises(UnknownPersonError):
        export_person(gallery, "Nobody", None)


def test_the_service_exports_with_the_log_and_without_whose_keys_it_was(
    tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    access = Access.open()
    tokens = {role: access.make_key(f"{role} of Alice", role) for role in ("enroll", "admin")}
    config = ServiceConfig(keys_required=True, keep_crops=True)
    with (
        Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery,
        serve(create_app(toy_recognizer, gallery, config, access=access)) as plain,
    ):
        plain.headers["Authorization"] = f"Bearer {tokens['enroll']}"
        enroll(plain, "Bo", toy.BLUE)
        rosa = enroll(plain, "Rosa", toy.RED)
        assert error_of(plain.get(f"/v1/people/{rosa}/export")) == (403, "forbidden")
        with Client.connect(str(plain.base_url), tokens["admin"]) as client:
            data = client.export_person(rosa)
        headers = {"Authorization": f"Bearer {tokens['admin']}"}
        answer = plain.get(f"/v1/people/{rosa}/export", headers=headers)
        assert error_of(plain.get("/v1/people/999/export", headers=headers)) == (404, "unknown_person")
    access.close()
    facts, files = unpack(data)
    assert [entry["action"] for entry in facts["log"]] == ["enroll"]
    assert facts["enrolled"] == facts["log"][0]["time"]
    assert len([name for name in files if name.endswith(".png")]) == 1
    assert [name for name in (b"Bo", b"Alice") if name in content_of(data)] == []
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Cache-Control"] == "no-store"
    assert [entry["action"] for entry in unpack(answer.content)[0]["log"]] == ["enroll", "export_person"]


@pytest.fixture
def team(run: Run, tmp_path: Path) -> Path:
    toy.save(tmp_path / "red.png", toy.RED)
    run("enroll", "Rosa", "red.png", "--keep-crops")
    return tmp_path / "people.db"


def test_the_command_writes_a_file_for_its_owner_only(run: Run, team: Path, tmp_path: Path) -> None:
    (tmp_path / "rosa.zip").write_bytes(b"old")
    result = run("export-person", "Rosa", "-o", "rosa.zip")
    assert (result.exit_code, result.stdout) == (0, "Rosa: 1 face in rosa.zip, which only you may read\n")
    assert stat.S_IMODE((tmp_path / "rosa.zip").stat().st_mode) == 0o600
    facts, files = unpack((tmp_path / "rosa.zip").read_bytes())
    assert (facts["name"], facts["log"], len(files)) == ("Rosa", None, 3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["Nobody", "-o", "a.zip"], "nobody named 'Nobody' is enrolled"),
        (["Rosa", "-o", "none/a.zip"], "No such file or directory"),
        (["Rosa", "-o", "a.zip", "--gallery", "none.db"], "there is no such file"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_half_written(
    run: Run, team: Path, tmp_path: Path, words: list[str], reason: str
) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("export-person", *words)
    assert (result.exit_code, reason in result.stderr) == (3, True)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_takes_the_log_of_the_service(run: Run, team: Path, tmp_path: Path) -> None:
    with Gallery.open(team) as gallery:
        person = (gallery.origin, gallery.person("Rosa").number)
    access = Access.open(str(tmp_path / "log"))
    access.log.record(KEY, "enroll", [person], {"faces": 1})
    access.close()
    assert run("export-person", "Rosa", "-o", "rosa.zip", "--access", "log").exit_code == 0
    facts, _ = unpack((tmp_path / "rosa.zip").read_bytes())
    assert facts["log"] == [{"number": 1, "time": facts["enrolled"], "action": "enroll", "detail": {"faces": 1}}]
