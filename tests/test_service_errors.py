"""Errors become answers: the table, and bodies that mean harm or are merely wrong."""

from __future__ import annotations

import inspect
import io
import json
import logging
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest
import toy
from pictures import png_chunk, png_that_claims
from service_world import base64_of, enroll, error_of, files, png, serve
from starlette.requests import Request

from sameface import errors
from sameface.errors import SamefaceError
from sameface.gallery import Gallery
from sameface.gallery.errors import GalleryBusyError
from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig
from sameface.service.error_responses import STATUS, answer_error, status_of
from sameface.service.errors import BusyError, RateLimitedError, UnauthorizedError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, SamefaceError)]
RAISED = [each for each in CLASSES if "__init__" in vars(each)]


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_a_status(kind: type[SamefaceError]) -> None:
    assert 400 <= status_of(kind.__new__(kind)) <= 599


def test_the_table_names_no_class_without_need() -> None:
    assert SamefaceError not in STATUS
    for kind, status in STATUS.items():
        assert STATUS.get(kind.__base__) != status, kind


@pytest.mark.parametrize(
    ("error", "status", "header", "value"),
    [
        (BusyError("full", 7), 503, "Retry-After", "7"),
        (GalleryBusyError("people.db", "waited"), 503, "Retry-After", "5"),
        (RateLimitedError(60, 9), 429, "Retry-After", "9"),
        (UnauthorizedError("no key"), 401, "WWW-Authenticate", "Bearer"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_answer_says_what_to_do_next(error: SamefaceError, status: int, header: str, value: str) -> None:
    answer = answer_error(Request({"type": "http"}), error)
    assert (answer.status_code, answer.headers[header]) == (status, value)


@pytest.mark.parametrize(
    "kind",
    [
        errors.SignatureError,
        errors.UpgradeError,
        errors.KeyFileError,
        errors.MissingKeyError,
        errors.WrongKeyError,
        errors.EncryptionError,
    ],
)
def test_a_wrong_setting_asks_nobody_to_come_again(kind: type[SamefaceError]) -> None:
    error = kind(*["a wrong setting"] * len(inspect.signature(kind).parameters))
    answer = answer_error(Request({"type": "http"}), error)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (500, None)


def test_the_log_tells_a_fault_that_the_answer_hides(
    toy_recognizer: Recognizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery._db.read("DROP TABLE faces")
        with caplog.at_level(logging.ERROR), serve(create_app(toy_recognizer, gallery, ServiceConfig())) as client:
            answer = client.get("/v1/people", headers={"X-Request-ID": "nine"})
    assert "people.db" not in answer.text
    [record] = [record for record in caplog.records if getattr(record, "request_id", "") == "nine"]
    assert "people.db" in record.getMessage()


def test_a_bug_is_one_line_in_the_log_and_one_answer(
    toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(toy_recognizer, None, ServiceConfig())
    monkeypatch.setattr(app.state.sameface, "thresholds", lambda: 1 / 0)
    with caplog.at_level(logging.ERROR), serve(app) as client:
        answer = client.get("/v1/model", headers={"X-Request-ID": "seven"})
    assert error_of(answer) == (500, "internal")
    assert "ZeroDivisionError" not in answer.text
    [record] = [record for record in caplog.records if record.name == "sameface.service.middleware"]
    assert record.request_id == "seven"  # type: ignore[attr-defined]
    assert record.exc_info


LIMITS = ServiceConfig(picture_bytes=100_000, picture_pixels=1_000_000, request_bytes=300_000, request_pictures=5)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, toy_recognizer: Recognizer
) -> Iterator[tuple[httpx.Client, Gallery]]:
    path = tmp_path_factory.mktemp("service") / "people.db"
    with Gallery.open(path, toy_recognizer) as gallery, serve(create_app(toy_recognizer, gallery, LIMITS)) as client:
        enroll(client, "Rosa", toy.RED)
        yield client, gallery


def bomb() -> bytes:
    """Return a PNG file of some kilobytes that promises and holds 30,000 times 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(3_751 * 30_000), 9)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb_in_a_text() -> bytes:
    """Return a small PNG file whose compressed remark would fill 100 megabytes."""
    remark = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    data = png(toy.RED)
    return data[:33] + png_chunk(b"zTXt", remark) + data[33:]


def polyglot() -> bytes:
    """Return a file that is a GIF by its first bytes and a script by the rest."""
    return b"GIF89a/*\x00\x00\x00\x00\x00\x00*/=1;alert(1)//" + b"<script>alert(1)</script>"


def wide() -> bytes:
    """Return a PNG picture 50,000 pixels wide."""
    file = io.BytesIO()
    PIL.Image.new("L", (50_000, 30)).save(file, "PNG")
    return file.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
HOSTILE = {
    "empty": (b"", 422, "bad_image"),
    "huge": (b"\xff" * 150_000, 413, "image_too_large"),
    "truncated": (png(toy.RED)[:-30], 422, "bad_image"),
    "text": (b"hello", 422, "bad_image"),
    "pdf": (b"%PDF-1.7\n1 0 obj", 422, "bad_image"),
    "svg": (SVG, 422, "bad_image"),
    "polyglot": (polyglot(), 422, "bad_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", 422, "bad_image"),
    "bomb": (bomb(), 413, "image_too_large"),
    "bomb in a text": (bomb_in_a_text(), 422, "bad_image"),
    "50,000 wide": (wide(), 413, "image_too_large"),
    "50,000 square": (png_that_claims(50_000, 50_000), 413, "image_too_large"),
}


def state_of(gallery: Gallery) -> list[tuple]:
    """Return everything that the gallery holds."""
    return [row for table in ("people", "pictures", "faces") for row in gallery._db.read(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused_in_words_and_changes_nothing(
    place: tuple[httpx.Client, Gallery], name: str
) -> None:
    client, gallery = place
    data, status, code = HOSTILE[name]
    before = state_of(gallery)
    for request in ("detect", "embed", "identify"):
        assert error_of(client.post(f"/v1/{request}", files={"picture": data})) == (status, code)
        assert error_of(client.post(f"/v1/{request}", json={"picture": base64_of(data)})) == (status, code)
    assert error_of(client.post("/v1/verify", files={"a": png(toy.RED), "b": data})) == (status, code)
    enrolled = client.post("/v1/people", data={"name": "Mallory"}, files=files([data]))
    assert error_of(enrolled) == (422, "nothing_enrolled")
    assert enrolled.json()["error"]["detail"]["reasons"][0][1]["code"] == code
    assert state_of(gallery) == before


BODIES = {
    "no picture": ({"files": {"other": b"x"}}, 422),
    "two pictures": ({"files": [("picture", b"x"), ("picture", b"y")]}, 422),
    "a number": ({"json": {"picture": 7}}, 422),
    "no base64": ({"json": {"picture": "%%%"}}, 422),
    "a list": ({"json": [1]}, 422),
    "nothing": ({}, 415),
    "text": ({"content": "picture", "headers": {"Content-Type": "text/plain"}}, 415),
    "broken JSON": ({"content": "{", "headers": {"Content-Type": "application/json"}}, 422),
    "deep JSON": ({"content": "[" * 4000, "headers": {"Content-Type": "application/json"}}, 422),
    "deepest JSON": ({"content": "[" * 100_000, "headers": {"Content-Type": "application/json"}}, 413),
    "no UTF-8": ({"content": b'{"picture":"\xff"}', "headers": {"Content-Type": "application/json"}}, 422),
    "half a letter": ({"content": '{"picture":"\\ud800"}', "headers": {"Content-Type": "application/json"}}, 422),
    "no boundary": ({"content": "x", "headers": {"Content-Type": "multipart/form-data"}}, 422),
    "no form": ({"content": "x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}, 422),
    "half a form": (
        {
            "content": '--a\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\nabc',
            "headers": {"Content-Type": "multipart/form-data; boundary=a"},
        },
        422,
    ),
    "too much": ({"files": {"picture": bytes(400_000)}}, 413),
    "an unknown field": ({"files": {"picture": png(toy.RED)}, "data": {"treshold": "1"}}, 422),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_wrong_is_refused_in_words(place: tuple[httpx.Client, Gallery], name: str) -> None:
    client, gallery = place
    before = state_of(gallery)
    request, status = BODIES[name]
    answer = client.post("/v1/identify", **request)
    assert error_of(answer)[0] == status
    assert state_of(gallery) == before


@pytest.mark.parametrize("field", ["far", "k", "most", "closed_set"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "0", "1e999", "", "null", '"x"', "[]", "9" * 400])
def test_numbers_out_of_range_are_refused(place: tuple[httpx.Client, Gallery], field: str, value: str) -> None:
    client, _ = place
    body = f'{{"picture": "{base64_of(png(toy.RED))}", "{field}": {value}}}'
    answer = client.post("/v1/identify", content=body, headers={"Content-Type": "application/json"})
    legal = value == "null" and field == "far"
    assert legal or error_of(answer) == (422, "bad_request")
    form = client.post("/v1/identify", files={"picture": png(toy.RED)}, data={field: value})
    assert (field, value) == ("closed_set", "0") or error_of(form) == (422, "bad_request")


def test_a_wrong_field_is_named(place: tuple[httpx.Client, Gallery]) -> None:
    client, _ = place
    answer = client.post("/v1/identify", json={"picture": base64_of(png(toy.RED)), "k": 0, "kk": 1})
    problems = dict(answer.json()["error"]["detail"]["problems"])
    assert set(problems) == {"k", "kk"}


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "x" * 201, "a\u202egnp.exe", "\u2067Rosa"])
def test_a_name_that_is_none_is_refused(place: tuple[httpx.Client, Gallery], name: str) -> None:
    client, gallery = place
    before = state_of(gallery)
    body = {"name": name, "pictures": [base64_of(png(toy.GREEN))]}
    assert error_of(client.post("/v1/people", json=body)) == (422, "bad_name")
    assert state_of(gallery) == before


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "C:\\con",
        "שרה לוי",
        "محمد",
        "김민지",
        "👩‍👩‍👧 Ann",
        "'; DROP TABLE people;--",
        "<b>Bo</b>",
        "%2e%2e",
    ],
)
def test_any_other_name_comes_back_as_it_was(place: tuple[httpx.Client, Gallery], name: str, tmp_path: Path) -> None:
    client, gallery = place
    picture = ("pictures", (name, png(toy.GREEN)))
    made = client.post("/v1/people", data={"name": name}, files=[picture])
    assert made.json()["person"]["name"] == name
    person = made.json()["person"]["id"]
    assert client.get(f"/v1/people/{person}").json()["name"] == name
    assert client.get("/v1/people", params={"after": name}).status_code == 200
    assert client.delete(f"/v1/people/{person}").status_code == 200
    assert sorted(file.name.partition("-")[0] for file in Path(gallery.path).parent.iterdir()) == ["people.db"] * 3


def test_a_file_name_is_only_repeated(place: tuple[httpx.Client, Gallery]) -> None:
    client, _ = place
    upload = ("picture", ("../../../etc/passwd", b"no picture"))
    answer = client.post("/v1/detect", files=[upload])
    assert answer.json()["error"]["message"].startswith("cannot read '../../../etc/passwd': not a picture")


@pytest.mark.parametrize("person", ["0", "-1", "abc", "1e3", "9" * 30, "1;2", "%00"])
def test_an_id_that_is_none_is_refused(place: tuple[httpx.Client, Gallery], person: str) -> None:
    client, _ = place
    assert error_of(client.get(f"/v1/people/{person}")) == (422, "bad_request")
    assert error_of(client.delete(f"/v1/people/{person}")) == (422, "bad_request")


def test_too_many_pictures_are_refused(place: tuple[httpx.Client, Gallery]) -> None:
    client, _ = place
    answer = client.post("/v1/people", data={"name": "Ann"}, files=files([png(toy.RED, note=n) for n in range(6)]))
    assert error_of(answer) == (413, "too_large")


def test_a_body_of_unknown_length_is_refused_when_it_grows_too_large(place: tuple[httpx.Client, Gallery]) -> None:
    client, _ = place

    def endless() -> Iterator[bytes]:
        yield b'{"picture": "'
        for _ in range(5):
            yield b"A" * 100_000

    answer = client.post("/v1/detect", content=endless(), headers={"Content-Type": "application/json"})
    assert error_of(answer) == (413, "too_large")
    assert "sameface_buffered_bytes 0.0" in client.get("/metrics").text


def test_a_client_that_hangs_up_leaves_nothing_behind(place: tuple[httpx.Client, Gallery]) -> None:
    client, gallery = place
    before = state_of(gallery)

    def stop() -> Iterator[bytes]:
        yield json.dumps({"name": "Mallory"}).encode()[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.post("/v1/people", content=stop(), headers={"Content-Type": "application/json"})
    end = time.monotonic() + 10  # until the service has seen that the connection is closed
    while "sameface_buffered_bytes 0.0" not in client.get("/metrics").text:
        assert time.monotonic() < end
    assert state_of(gallery) == before


def test_a_face_of_too_little_quality_is_refused_with_its_parts(toy_recognizer: Recognizer, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        app = create_app(toy_recognizer, gallery, ServiceConfig(min_quality=0.1))
        with serve(app) as client:
            answer = client.post("/v1/people", data={"name": "Rosa"}, files=files([png(toy.RED)]))
            assert error_of(answer) == (422, "nothing_enrolled")
            [(_, error)] = answer.json()["error"]["detail"]["reasons"]
        assert gallery.people() == []
    assert (error["code"], error["detail"]["quality"]["sharpness"]) == ("poor_face", 0)  # a plain square
