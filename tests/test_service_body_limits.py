"""Bodies that are nested, long or wide: refused before they are parsed or validated, in little memory."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_world import NO_AUTHORITIES, error_of, serve
from test_service_processes import service

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.body_limits import OTHERS, parse_json
from sameface.service.config import ServiceConfig
from sameface.service.errors import BodyTooLargeError, RequestError
from sameface.service.schemas import ClusterBody, EnrollBody

MEGABYTE = 1_000_000
JSON = {"Content-Type": "application/json"}


def fill(before: bytes, item: bytes, after: bytes, size: int) -> bytes:
    """Return a text of about `size` bytes with one item after the other."""
    return before + item * ((size - len(before) - len(after)) // len(item)) + after


SHAPES: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda size: fill(b'{"pictures":[', b"0,", b"0]}", size),
    "lists": lambda size: fill(b'{"pictures":[', b"[],", b"[]]}", size),
    "objects": lambda size: fill(b'{"pictures":[', b'{"":0},', b"{}]}", size),
    "empty strings": lambda size: fill(b'{"pictures":[', b'"",', b'""]}', size),
    "small strings": lambda size: fill(b'{"pictures":[', b'"AAAA",', b'"AAAA"]}', size),
    "choices": lambda size: fill(b'{"pictures":["AAAA"],"faces":[', b"0,", b"0]}", size),
    "unknown fields": lambda size: b"{" + b",".join(b'"%d":0' % number for number in range(size // 10)) + b"}",
    "deep lists": lambda size: fill(b'{"pictures":', b"[", b"", size),
    "deep objects": lambda size: fill(b'{"pictures":', b'{"a":', b"0", size),
    "no object": lambda size: fill(b"[", b"[],", b"0]", size),
    "a long field": lambda size: fill(b'{"', b"a", b'":0}', size),
    "a long name": lambda size: fill(b'{"pictures":["AAAA"],"name":"', b"a", b'"}', size),
    "a long name of wide letters": lambda size: fill(
        b'{"pictures":["AAAA"],"name":"', "\N{GRINNING FACE}a".encode(), b'"}', size
    ),
    "a long number": lambda size: fill(b'{"pictures":["AAAA"],"far":', b"1", b"}", size),
    "a long picture": lambda size: fill(b'{"pictures":["', b"A", b'!"]}', size),
}


def form(kind: bytes, size: int) -> bytes:
    """Return a form of about `size` bytes, of parts of one kind."""
    head = b'--x\r\nContent-Disposition: form-data; name="'
    part = {
        b"files": head + b'pictures"; filename="a"\r\n\r\nAAAA\r\n',
        b"fields": head + b'pictures"\r\n\r\nAAAA\r\n',
        b"names": head + b"a" * size + b'"\r\n\r\nA\r\n',
        b"headers": b"--x\r\n" + b"A: b\r\n" * (size // 6),
        b"choices": head + b'faces"\r\n\r\n[' + b"0," * (size // 2) + b"0]\r\n",
    }[kind]
    return part * max(size // len(part), 1) + b"--x--\r\n"


@pytest.fixture(scope="module")
def client(toy_recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("bodies") / "people.db"
    with Gallery.open(path, toy_recognizer) as gallery:
        config = ServiceConfig(request_pictures=5, album_pictures=10)
        with serve(create_app(toy_recognizer, gallery, config)) as client:
            yield client


@pytest.mark.parametrize("path", ["/v1/cluster", "/v1/people", "/v1/identify"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_hostile_body_is_refused_with_a_small_answer(client: httpx.Client, shape: str, path: str) -> None:
    answer = client.post(path, content=SHAPES[shape](MEGABYTE), headers=JSON)
    assert error_of(answer) in ((422, "bad_request"), (413, "too_large"))
    assert len(answer.content) < 5_000
    assert "sameface_buffered_bytes 0.0" in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/cluster", "/v1/people", "/v1/identify"])
@pytest.mark.parametrize("kind", [b"files", b"fields", b"names", b"headers", b"choices"])
def test_a_hostile_form_is_refused_with_a_small_answer(client: httpx.Client, kind: bytes, path: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post(path, content=form(kind, MEGABYTE // 2), headers=headers)
    assert error_of(answer) in ((422, "bad_request"), (413, "too_large"))
    assert len(answer.content) < 5_000


@pytest.mark.parametrize("model", [ClusterBody, EnrollBody])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_more_memory_than_is_counted(shape: str, model: type) -> None:
    data = SHAPES[shape](4 * MEGABYTE)
    tracemalloc.start()
    try:
        with pytest.raises((RequestError, BodyTooLargeError)):
            parse_json(data, model, 1000)
        assert tracemalloc.get_traced_memory()[1] < 5.1 * len(data)
    finally:
        tracemalloc.stop()


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("AAAA"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["pictures", "far", "a"]), inner),
    max_leaves=50,
)


@given(TREES, st.integers(0, 12))
def test_no_list_longer_than_is_allowed_is_validated(tree: object, length: int) -> None:
    for body in (tree, {"pictures": ["AAAA"] * length}, {"pictures": [tree] * length}):
        try:
            read = parse_json(json.dumps(body).encode(), ClusterBody, 10)
        except (RequestError, BodyTooLargeError):
            continue
        assert len(read.pictures) <= 10


def test_an_album_as_large_as_allowed_is_taken() -> None:
    note = "," * 500
    body = {"name": "Rosa", "pictures": ["AAAA"] * 1000, "faces": [0] * 1000, "consent": note}
    assert len(parse_json(json.dumps(body).encode(), EnrollBody, 1000).pictures) == 1000
    with pytest.raises(BodyTooLargeError, match="1,000 pictures"):
        parse_json(json.dumps(body | {"pictures": ["AAAA"] * 1001}).encode(), EnrollBody, 1000)
    with pytest.raises(BodyTooLargeError, match=f"{1000 + OTHERS:,} values"):
        parse_json(json.dumps(body | {"consent": "," * 9000}).encode(), EnrollBody, 1000)


def peak(process: int) -> float:
    """Return the most resident memory of a process since the last reset, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_real_service_takes_little_memory_for_a_megabyte(tmp_path: Path) -> None:
    size, taken = 16, {}
    form_type = {"Content-Type": "multipart/form-data; boundary=x"}
    bodies = {name: (shape(size * MEGABYTE), JSON) for name, shape in SHAPES.items()}
    bodies |= {str(kind): (form(kind, size * MEGABYTE), form_type) for kind in (b"files", b"fields")}
    bodies["a picture in base64"] = (fill(b'{"pictures":["', b"AAAA", b'"]}', size * MEGABYTE), JSON)
    file = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n'
    bodies["a picture in a form"] = (fill(file, b"A", b"\r\n--x--\r\n", size * MEGABYTE), form_type)
    with (
        service("--gallery", tmp_path / "people.db", delay=0) as (process, address),
        httpx.Client(base_url=address, timeout=60, trust_env=False, verify=NO_AUTHORITIES) as client,
    ):
        client.post("/v1/cluster", content=SHAPES["numbers"](MEGABYTE), headers=JSON)
        idle = peak(process.pid)
        for name, (body, headers) in bodies.items():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
            answer = client.post("/v1/cluster", content=body, headers=headers)
            assert answer.status_code in (202, 413, 422), name
            taken[name] = (peak(process.pid) - idle) / size
    assert max(taken.values()) < 8, taken
