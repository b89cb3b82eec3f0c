"""The Python client against the real service on a free port."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
import toy
from service_world import png, serve

from sameface import api_json, api_records
from sameface.client import Client, calls
from sameface.client.errors import RefusedError, StrangeAnswerError, UnreachableError
from sameface.client.wire import Wire
from sameface.errors import ImageError
from sameface.gallery import Gallery
from sameface.gallery.records import Person
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access
from sameface.service.app import EXAMPLES, create_app
from sameface.service.config import ServiceConfig
from sameface.service.responses import write_json


@contextmanager
def connected(
    recognizer: Recognizer, gallery: Gallery | None, access: Access | None = None, **choices: Any
) -> Iterator[Client]:
    """Run the service, and give a client for it."""
    app = create_app(recognizer, gallery, ServiceConfig(**choices), access=access)
    with serve(app) as plain, Client(plain) as client:
        yield client


@pytest.fixture
def gallery(tmp_path: Path, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        yield gallery


@pytest.fixture
def client(toy_recognizer: Recognizer, gallery: Gallery) -> Iterator[Client]:
    with connected(toy_recognizer, gallery, keep_crops=True) as client:
        yield client


def refused(call: Callable[[], object]) -> RefusedError:
    """Return the error of a call that the service refuses."""
    with pytest.raises(RefusedError) as raised:
        call()
    return raised.value


def test_detect_returns_what_the_library_finds(client: Client, toy_recognizer: Recognizer) -> None:
    seen = client.detect(png(toy.RED, toy.GREEN))
    found = toy_recognizer.detector.find(toy.paint(toy.RED, toy.GREEN))
    assert (seen.width, seen.height) == (128, 64)
    for face, expected in zip(seen.faces, found, strict=True):
        assert np.allclose(face.box, expected.box, atol=0.01)
        assert np.allclose(face.landmarks, expected.landmarks, atol=0.01)
        assert face.score == pytest.approx(expected.score, abs=1e-4)
        assert (face.box.dtype, face.landmarks.shape) == (np.float32, (5, 2))


@pytest.mark.parametrize("colours", [(), (toy.RED,), (toy.RED, toy.YELLOW)])
def test_embed_returns_a_row_for_every_face(
    client: Client, toy_recognizer: Recognizer, colours: tuple[Any, ...]
) -> None:
    found = client.embed(png(*colours))
    faces, rows = toy_recognizer.embed(toy.paint(*colours))
    assert found.signature == toy_recognizer.signature
    assert len(found.faces) == len(faces) == len(colours)
    assert found.rows.dtype == np.float32
    assert np.array_equal(found.rows, rows)  # float32 goes through JSON unharmed


def test_verify_decides_like_the_library(client: Client) -> None:
    found = client.verify(png(toy.RED), png(toy.REDDISH), far=0.01)
    assert found.distance == pytest.approx(toy.distance_of(toy.RED, toy.REDDISH), abs=1e-5)
    assert (found.same, found.threshold, found.far) == (True, 0.2, 0.01)
    assert (found.probability, found.in_range) == (None, False)
    assert not client.verify(png(toy.RED), png(toy.REDDISH)).same  # 1e-3 by default
    assert found.a.width == pytest.approx(found.b.width, abs=0.1)


def test_verify_takes_one_choice_of_face_for_both_pictures_or_one_for_each(client: Client) -> None:
    two = png(toy.RED, toy.GREEN)
    assert client.verify(two, two, face=1).same
    assert not client.verify(two, two, face=(0, 1)).same
    assert client.verify(two, png(toy.RED), face=("first", "only")).same
    error = refused(lambda: client.verify(two, png(toy.RED)))
    assert (error.status, error.code, error.detail["name"]) == (422, "several_faces", "'a'")
    assert len(error.detail["faces"]) == 2


def test_identify_names_faces_and_rejects_strangers(client: Client) -> None:
    client.enroll("Rosa", [png(toy.RED)])
    found = client.identify(png(toy.RED, toy.BLUE))
    assert found.names == ["Rosa", None]
    assert [match.name for match in found.answers[1].matches] == ["Rosa"]
    assert not found.answers[0].closed_set
    assert (found.width, len(found.faces)) == (128, 2)


def test_every_choice_of_identify_changes_the_answer(client: Client) -> None:
    client.enroll("Rosa", [png(toy.RED)])
    client.enroll("Ora", [png(toy.REDDISH, note=1), png(toy.ORANGE, note=2)])
    probe = png((250, 40, 0))
    assert client.identify(probe, far=0.1).names == ["Rosa"]
    assert client.identify(probe, far=0.1, k=3).names == ["Ora"]
    assert client.identify(png(toy.BLUE)).names == [None]
    assert client.identify(png(toy.BLUE), closed_set=True).names != [None]
    assert [len(client.identify(probe, most=most).answers[0].matches) for most in (1, 2)] == [1, 2]


def test_identify_reads_rule_rate_and_population(client: Client) -> None:
    client.enroll("Rosa", [*(png(toy.RED, note=note) for note in range(4)), png(toy.BLUE)])
    [by_template] = client.identify(png(toy.BLUE)).answers
    [by_rows] = client.identify(png(toy.BLUE), rule="rows").answers
    assert [(each.rule, each.size, each.name) for each in (by_template, by_rows)] == [
        ("template", 1, None),
        ("rows", 5, "Rosa"),
    ]
    assert (by_rows.asked, by_rows.far, by_rows.population, by_rows.warning) == (0.01, 0.01, "mixed", None)


@pytest.mark.parametrize(("weights", "kept"), [("coarse", False), ("tailed", True)])
def test_a_rate_that_is_not_held_or_extrapolated_is_read(tmp_path: Path, weights: str, kept: bool) -> None:
    recognizer = toy.make_recognizer(weights)
    with Gallery.open(tmp_path / "two.db", recognizer) as gallery, connected(recognizer, gallery) as client:
        client.enroll("Rosa", [png(toy.RED)])
        client.enroll("Bo", [png(toy.GREEN)])
        [answer] = client.identify(png(toy.RED)).answers
        [of_library] = gallery.identify(toy.row_of(toy.RED)[None])
        assert (answer.promise_kept, answer.extrapolated) == (kept, kept)
        assert answer == of_library
        assert answer.warning is not None
        assert refused(lambda: client.identify(png(toy.RED), far=1e-6)).code == "no_threshold"


def test_the_model_lists_the_calibrations(tmp_path: Path) -> None:
    with connected(toy.make_recognizer("tailed"), None) as client:
        facts = client.model()
        alike, mixed = facts.populations
        assert (facts.population, alike.population, mixed.population) == ("alike", "alike", "mixed")
        assert facts.thresholds == alike.thresholds
        assert (alike.extrapolated, mixed.extrapolated) == ((0.001, 1e-6), ())
        found = client.verify(png(toy.RED), png(toy.RED), far=1e-5)
        assert (found.population, found.extrapolated) == ("alike", True)


def test_enroll_lists_the_pictures_that_cannot_be_used(client: Client, tmp_path: Path) -> None:
    path = toy.save(tmp_path / "somewhere" / "rosa.png", toy.RED)
    made = client.enroll("Rosa", [path, png(), png(toy.REDDISH, toy.GREEN)], faces=["only", "only", 0])
    assert (made.person, made.person.number, made.added) == (Person("Rosa", 2), 1, 2)
    [skipped] = made.skipped
    assert (skipped.picture, skipped.number, skipped.fault.code) == ("pictures", 1, "no_face")
    assert client.add_faces(1, [path]).added == 0
    assert client.add_faces(1, [png(toy.RED, toy.BLUE, note=3)], faces=[0]).person.faces == 3


def test_of_a_path_only_the_last_part_is_sent(client: Client, tmp_path: Path) -> None:
    empty = toy.save(tmp_path / "private-folder" / "nobody.png")
    error = refused(lambda: client.enroll("Rosa", [str(empty)]))
    assert error.code == "nothing_enrolled"
    assert "nobody.png" in error.message
    assert "private-folder" not in repr((error.message, error.detail))


@pytest.mark.parametrize("kind", ["str", "Path", "bytes", "file"])
def test_a_picture_is_a_path_bytes_or_an_open_file(client: Client, tmp_path: Path, kind: str) -> None:
    path = toy.save(tmp_path / "사람\udcff.png", toy.RED)  # a name that is no UTF-8
    with path.open("rb") as file:
        made: dict[str, Any] = {"str": str(path), "Path": path, "bytes": path.read_bytes(), "file": file}
        assert len(client.detect(made[kind]).faces) == 1
        assert file.tell() == 0


def test_a_file_that_cannot_be_read_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with Client.connect("http://127.0.0.1:9") as client, pytest.raises(ImageError, match="no such file"):
        client.detect(tmp_path / "gone.png")


def test_one_picture_is_no_sequence_of_pictures(client: Client) -> None:
    with pytest.raises(TypeError, match="pictures must be a sequence of pictures, got one"):
        client.enroll("Rosa", "rosa.png")


def test_people_are_renamed_merged_and_forgotten(client: Client) -> None:
    rosa = client.enroll("Rosa", [png(toy.RED)]).person
    other = client.enroll("R.", [png(toy.REDDISH)]).person
    assert client.rename(other.number, "Röschen 🌹").name == "Röschen 🌹"
    assert client.person(other.number).name == "Röschen 🌹"
    assert client.note_consent(other.number, "on paper").consent == "on paper"
    assert client.merge(other.number, rosa.number) == Person("Rosa", 2, consent="on paper")
    assert refused(lambda: client.person(other.number)).code == "unknown_person"
    gone = client.forget(rosa.number)
    assert (gone.person, gone.faces, gone.crops, gone.pictures) == (rosa.number, 2, 2, 2)
    assert gone.erasure is not None
    assert gone.erasure.complete
    merged, last = client.receipts()
    assert (merged.reason, merged.person, merged.into, merged.faces) == ("merge", other.number, rosa.number, 1)
    assert last == gone
    assert list(client.people()) == []


def test_faces_are_listed_fetched_and_deleted(client: Client) -> None:
    rosa = client.enroll("Rosa", [png(toy.RED), png(toy.REDDISH)]).person
    first, second = client.faces(rosa.number)
    assert first.has_crop
    assert first.box.shape == (4,)
    with PIL.Image.open(io.BytesIO(client.crop(rosa.number, first.number))) as crop:
        assert (crop.format, crop.size) == ("JPEG", (8, 8))
    gone = client.forget_face(rosa.number, first.number)
    assert (gone.person, gone.face, gone.faces) == (rosa.number, first.number, 1)
    assert [face.number for face in client.faces(rosa.number)] == [second.number]
    error = refused(lambda: client.forget_face(rosa.number, second.number))
    assert (error.status, error.code) == (409, "last_face")


def test_lists_are_read_page_after_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = [toy.RED, toy.GREEN, toy.BLUE, toy.YELLOW, toy.WHITE]
    for number, colour in enumerate(colours):
        client.enroll(f"Person {number} &+?", [png(colour)])
    monkeypatch.setattr(calls, "PAGE", 2)
    assert [person.name for person in client.people()] == [f"Person {number} &+?" for number in range(5)]
    assert [entry.name for entry in client.audit()] == [f"Person {number} &+?" for number in (4, 3, 2, 1, 0)]


def test_a_person_is_found_by_the_whole_name(client: Client) -> None:
    rosa = client.enroll("Rosa & Co.", [png(toy.RED)]).person
    assert client.find("Rosa & Co.") == rosa
    assert client.find("Rosa") is None


def test_an_album_is_sorted(client: Client) -> None:
    begun = client.cluster([png(toy.RED, toy.GREEN), b"no picture", png(toy.RED, note=1)])
    assert (begun.total, begun.ended, begun.album) == (3, False, None)
    job = client.wait(begun.id, pause=0.01)
    assert (job.state, job.done, job.fault) == ("done", 3, None)
    assert job.album is not None
    assert [[job.album.faces[n].picture for n in group] for group in job.album.groups] == [[0, 2], [0]]
    with PIL.Image.open(io.BytesIO(job.album.faces[0].thumbnail)) as thumbnail:
        assert thumbnail.format == "JPEG"
    assert [(each.number, each.fault.code) for each in job.album.skipped] == [(1, "bad_image")]
    client.forget_job(job.id)
    assert refused(lambda: client.job(job.id)).code == "not_found"


def test_the_rate_of_an_album_moves_its_threshold(client: Client) -> None:
    found = [client.wait(client.cluster([png(toy.RED)], far=far).id, pause=0.01) for far in (0.1, 0.01)]
    assert [job.album.threshold for job in found if job.album is not None] == [0.4, 0.2]


def test_a_job_that_failed_says_why(toy_recognizer: Recognizer, gallery: Gallery) -> None:
    with connected(toy_recognizer, gallery, album_faces=1) as client:
        job = client.wait(client.cluster([png(toy.RED, toy.GREEN)]).id, pause=0.01)
    assert (job.state, job.album) == ("failed", None)
    assert job.fault is not None
    assert job.fault.code == "too_large"


def test_no_part_of_an_address_leads_elsewhere(client: Client) -> None:
    assert refused(lambda: client.job("../people")).code == "not_found"
    assert refused(lambda: client.job("a/b?c#d")).status == 404


def test_the_model_is_described(client: Client, toy_recognizer: Recognizer) -> None:
    client.enroll("Rosa", [png(toy.RED), png(toy.REDDISH)])
    facts = client.model()
    assert (facts.signature, facts.dimension) == (toy_recognizer.signature, 3)
    assert facts.thresholds[0.01] == 0.2
    assert (facts.people, facts.faces) == (1, 2)
    assert facts.embedder["name"] == "colours"
    assert facts.limits["picture_bytes"] == 20_000_000


def test_a_service_without_a_gallery_says_so(toy_recognizer: Recognizer) -> None:
    with connected(toy_recognizer, None) as client:
        facts = client.model()
        assert (facts.people, facts.faces) == (None, None)
        assert refused(lambda: client.identify(png(toy.RED))).status == 404
        assert len(client.detect(png(toy.RED)).faces) == 1


def test_health_counters_and_log_are_read(client: Client) -> None:
    client.check_ready()
    client.identify(png(toy.BLUE))
    assert "sameface_faces_total 1.0" in client.metrics()
    [entry] = client.audit()
    assert (entry.action, entry.key, entry.person) == ("identify", None, None)
    assert entry.detail == {"faces": 1, "named": 0}
    assert entry.time.tzinfo is not None


def test_a_key_reaches_as_far_as_its_role(toy_recognizer: Recognizer, gallery: Gallery) -> None:
    access = Access.open()
    key = access.make_key("reception", "read")
    app = create_app(toy_recognizer, gallery, ServiceConfig(keys_required=True), access=access)
    with serve(app) as plain:
        address = str(plain.base_url)
        with Client.connect(address, key) as client:
            assert client.identify(png(toy.RED)).names == [None]
            error = refused(lambda: client.enroll("Rosa", [png(toy.RED)]))
            assert (error.status, error.code) == (403, "forbidden")
        with Client.connect(address) as client:
            assert refused(client.model).code == "unauthorized"
    access.close()


def test_an_error_says_what_the_log_calls_the_request(client: Client) -> None:
    error = refused(lambda: client.person(99))
    assert error.request_id
    assert str(error) == f"nobody number 99 is enrolled (status 404, request {error.request_id})"
    assert error.retry_after == 0


def test_where_nobody_answers_the_client_says_so() -> None:
    with Client.connect("http://127.0.0.1:9") as client, pytest.raises(UnreachableError) as raised:
        client.model()
    assert raised.value.address == "http://127.0.0.1:9"


def test_a_service_that_is_too_slow_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and never answered
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client.connect(address, timeout=0.2) as client, pytest.raises(UnreachableError, match="no answer"):
            client.model()


def strange(body: bytes, status: int) -> AbstractContextManager[httpx.Client]:
    """Run a server that is none of ours."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})

    return serve(app)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<h1>Bad gateway</h1>", 502),
        (b"<h1>Welcome</h1>", 200),
        (b'{"hello": 1}', 200),
        (b'{"error": "no"}', 400),
        (b"[]", 500),
        (b"", 301),
    ],
)
def test_another_server_is_not_taken_for_the_service(body: bytes, status: int) -> None:
    words = f"status {status}.*check the address"
    with (
        strange(body, status) as plain,
        Client(plain) as client,
        pytest.raises(StrangeAnswerError, match=words) as raised,
    ):
        client.model()
    assert raised.value.status == status


class Waits:
    """A clock that stands still but for the sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_with_patience_a_call_is_made_again_when_the_service_says(toy_recognizer: Recognizer) -> None:
    waits = Waits()
    app = create_app(toy_recognizer, None, ServiceConfig(rate_per_minute=1))
    with serve(app) as plain:
        wire = Wire(plain, patience=100, sleep=waits.sleep, clock=lambda: waits.now)
        wire.send("GET", "/v1/model")
        error = refused(lambda: wire.send("GET", "/v1/model"))  # the service's own clock does not move
    assert (error.status, error.code) == (429, "rate_limited")
    assert error.retry_after in (59, 60)
    assert waits.slept == [error.retry_after]  # a second wait would have ended after the patience


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_without_retry_after_is_not_asked_for_again(status: int) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json={"error": {"code": "x", "message": "x", "detail": {}}})

    waits = Waits()
    with httpx.Client(base_url="http://localhost", transport=httpx.MockTransport(answer)) as plain:
        wire = Wire(plain, patience=100, sleep=waits.sleep, clock=lambda: waits.now)
        refused(lambda: wire.send("GET", "/v1/model"))
    assert (len(asked), waits.slept) == (1, [])


def test_patience_ends_with_the_first_answer(toy_recognizer: Recognizer) -> None:
    app = create_app(toy_recognizer, None, ServiceConfig(rate_per_minute=60))
    with serve(app) as plain, Client(plain, patience=30) as client:
        begun = time.monotonic()
        for _ in range(62):  # more than there are in the bucket, which gets one a second
            client.model()
        assert time.monotonic() - begun > 0.9


def test_without_patience_nothing_is_made_again(toy_recognizer: Recognizer) -> None:
    app = create_app(toy_recognizer, None, ServiceConfig(rate_per_minute=1))
    with serve(app) as plain, Client(plain) as client:
        client.model()
        error = refused(client.model)
    assert error.detail["limit"] == 1


def test_only_what_was_not_done_is_made_again(client: Client) -> None:
    waits = Waits()
    wire = Wire(client._wire._http, patience=100, sleep=waits.sleep, clock=lambda: waits.now)
    assert refused(lambda: wire.send("GET", "/v1/people/99")).status == 404
    assert waits.slept == []


def test_threads_may_share_a_client(client: Client) -> None:
    found: list[list[str | None]] = []
    client.enroll("Rosa", [png(toy.RED)])
    threads = [threading.Thread(target=lambda: found.append(client.identify(png(toy.RED)).names)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["Rosa"]] * 8


def test_every_operation_of_the_service_has_a_method(client: Client) -> None:
    described = client._wire.send("GET", "/openapi.json").json()["paths"]
    operations = {operation["operationId"] for path in described.values() for operation in path.values()}
    other_names = {
        "list_people": "people", "get_person": "person", "enroll_person": "enroll", "change_person": "rename",
        "merge_people": "merge", "delete_person": "forget", "list_faces": "faces", "get_crop": "crop",
        "delete_face": "forget_face", "get_job": "job", "delete_job": "forget_job", "ready": "check_ready",
        "health": "check_ready",
    }  # fmt: skip
    methods = {other_names.get(operation, operation) for operation in operations}
    assert sorted(method for method in methods if not callable(getattr(Client, method, None))) == []


def test_with_the_shipped_weights_the_client_answers_like_the_library(
    recognizer: Recognizer, samples: dict[str, Path], tmp_path: Path
) -> None:
    one, two, other = (samples[name] for name in ("barack-obama-1", "barack-obama-2", "joe-biden"))
    with Gallery.open(tmp_path / "people.db", recognizer) as gallery, connected(recognizer, gallery) as client:
        expected = recognizer.verify(one, two)
        found = client.verify(one, two)
        assert found.distance == pytest.approx(expected.distance, abs=1e-6)
        assert (found.same, found.threshold) == (True, expected.threshold)
        assert found.probability == pytest.approx(expected.probability, abs=1e-6)
        client.enroll("Barack", [one])
        assert [client.identify(path).names for path in (two, other)] == [["Barack"], [None]]
        job = client.wait(client.cluster([one, other, two]).id)
        assert job.album is not None
        assert job.album.groups == ((0, 2), (1,))


def test_without_httpx_the_client_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise ModuleNotFoundError('No module named httpx', name='httpx')")
    done = subprocess.run(
        [sys.executable, "-c", "import sameface.client"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "the client needs httpx: pip install 'sameface[client]'" in done.stderr


def test_importing_the_client_loads_neither_onnx_runtime_nor_pillow_nor_pydantic() -> None:
    heavy = {"PIL", "fastapi", "onnxruntime", "pydantic", "sqlite3", "starlette"}
    script = f"import sys, sameface.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_record_is_read_from_json_and_written_back(name: str) -> None:
    kind = getattr(api_records, name)
    record = api_json.read_json(kind, EXAMPLES[name])
    written = json.loads(write_json(record))
    assert written.keys() == EXAMPLES[name].keys()
    assert_same_json(written, EXAMPLES[name])


def assert_same_json(a: Any, b: Any) -> None:
    """Compare two values of JSON; numbers may differ by the rounding of float32."""
    if isinstance(b, dict):
        assert a.keys() == b.keys()
        for key in b:
            assert_same_json(a[key], b[key])
    elif isinstance(b, list):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same_json(left, right)
    else:
        assert a == (pytest.approx(b, abs=1e-6) if isinstance(b, float) else b)


@pytest.mark.parametrize(
    "data", [[], {}, {"width": 1, "height": 1}, {"width": 1, "height": 1, "faces": [{"box": [1, 2], "score": 1}]}]
)
def test_json_of_another_shape_is_refused(data: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        api_json.read_json(api_records.DetectAnswer, data)
