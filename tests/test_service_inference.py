"""Many requests at once: turns, batches, limits, jobs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from service_world import base64_of, error_of, files, png, serve

from sameface.api_records import AlbumAnswer
from sameface.recognizer import Recognizer
from sameface.service.access_file import ApiKey
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig
from sameface.service.errors import BusyError, NotFoundError
from sameface.service.inference import Batcher, Inference
from sameface.service.jobs import AlbumJob, JobQueue
from sameface.service.logs import JsonLines
from sameface.service.memory import ByteBudget
from sameface.service.metrics import Metrics
from sameface.service.schemas import Upload


class Gate:
    """An embedder that waits until it is let through, and remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.sizes: list[int] = []

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.begun.set()
        assert self.open.wait(10)
        self.sizes.append(len(crops))
        return crops.reshape(len(crops), -1)[:, :1].astype(np.float32)


def crops(*values: int) -> np.ndarray:
    """Return crops of one grey each."""
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Batcher]:
    batcher = Batcher(gate.embed, size=4, observe=lambda _: None)
    yield batcher
    gate.open.set()
    batcher.close()


def test_what_waits_is_embedded_together(batcher: Batcher, gate: Gate) -> None:
    first = batcher.submit(crops(1))
    assert gate.begun.wait(10)
    rest = [batcher.submit(crops(number)) for number in range(2, 8)]
    gate.open.set()
    rows = [future.result(10).tolist() for future in [first, *rest]]
    assert rows == [[[number]] for number in range(1, 8)]
    assert gate.sizes == [1, 4, 2]


def test_a_crowd_lets_others_in_between(batcher: Batcher, gate: Gate) -> None:
    first = batcher.submit(crops(0))
    assert gate.begun.wait(10)
    done: list[str] = []
    crowd = batcher.submit(crops(*range(1, 11)))
    single = batcher.submit(crops(99))
    crowd.add_done_callback(lambda _: done.append("crowd"))
    single.add_done_callback(lambda _: done.append("single"))
    gate.open.set()
    assert crowd.result(10).ravel().tolist() == list(range(1, 11))
    assert first.result(10).shape == (1, 1)
    assert done == ["single", "crowd"]
    assert gate.sizes == [1, 4, 4, 3]


def test_who_gave_up_takes_no_part(batcher: Batcher, gate: Gate) -> None:
    first = batcher.submit(crops(1))
    assert gate.begun.wait(10)
    gone, stays = batcher.submit(crops(2)), batcher.submit(crops(3))
    assert gone.cancel()
    gate.open.set()
    assert stays.result(10).tolist() == [[3]]
    assert first.done()
    assert gate.sizes == [1, 1]


def test_an_error_reaches_everyone_in_the_batch_and_nobody_else() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def embed(given: np.ndarray) -> np.ndarray:
        begun.set()
        assert go_on.wait(10)
        if (given == 13).any():
            raise RuntimeError("thirteen")
        return given.reshape(len(given), -1)[:, :1].astype(np.float32)

    batcher = Batcher(embed, size=2, observe=lambda _: None)
    first = batcher.submit(crops(1))
    assert begun.wait(10)
    bad = [batcher.submit(crops(13, 13, 13)), batcher.submit(crops(2)), batcher.submit(crops(3))]
    go_on.set()
    batcher.close()
    assert [type(future.exception()) for future in [first, *bad]] == [
        type(None), RuntimeError, type(None), type(None),
    ]  # fmt: skip


def test_closing_embeds_what_waits(gate: Gate) -> None:
    batcher = Batcher(gate.embed, size=4, observe=lambda _: None)
    futures: list[Future[Any]] = [batcher.submit(crops(number)) for number in range(9)]
    gate.open.set()
    batcher.close()
    assert [future.result(0).item() for future in futures] == list(range(9))


def look_once(config: ServiceConfig, recognizer: Recognizer) -> tuple[float, ...]:
    """Return the embedding of a red face."""

    async def work() -> tuple[float, ...]:
        inference = Inference(recognizer, config, Metrics())
        seen = await inference.detect(Upload(png(toy.RED), "a"))
        rows = await inference.embed(seen)
        await asyncio.to_thread(inference.close)
        return tuple(rows[0].tolist())

    return asyncio.run(work())


@pytest.mark.parametrize("batching", [True, False])
def test_batches_change_no_row(toy_recognizer: Recognizer, batching: bool) -> None:
    assert look_once(ServiceConfig(batching=batching), toy_recognizer) == (1, 0, 0)


def test_while_a_crowd_waits_no_further_picture_is_decoded(gate: Gate, squares: SlowSquares, slow: Recognizer) -> None:
    squares.open.set()
    embed = slow.embedder.embed
    slow.embedder.embed = lambda crops: (gate.embed(crops), embed(crops))[1]  # type: ignore[method-assign]

    async def main() -> None:
        inference = Inference(slow, ServiceConfig(faces=2), Metrics())
        crowd = await inference.detect(Upload(png(toy.RED, toy.GREEN, toy.BLUE), "crowd"))
        rows = asyncio.create_task(inference.embed(crowd))
        await asyncio.to_thread(gate.begun.wait, 10)
        other = asyncio.create_task(inference.detect(Upload(png(toy.RED), "other")))
        await asyncio.sleep(0.1)
        assert not other.done()
        gate.open.set()
        assert len((await other).faces) == 1
        assert (await rows).tolist() == np.eye(3).tolist()
        await asyncio.to_thread(inference.close)

    asyncio.run(main())


class SlowSquares(toy.FindSquares):
    """A detector that waits until it is let through, and counts who is inside."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def run(self, pixels: np.ndarray) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.open.wait(20)
        with self.lock:
            self.inside -= 1
        return super().run(pixels)


@pytest.fixture
def squares() -> SlowSquares:
    return SlowSquares()


@pytest.fixture
def slow(squares: SlowSquares) -> Recognizer:
    recognizer = toy.make_recognizer()
    recognizer.detector.model = squares  # type: ignore[assignment]
    return recognizer


def post(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/embed", files={"picture": png(toy.RED)})


def test_over_the_queue_the_answer_is_503_and_what_was_accepted_is_done(
    slow: Recognizer, squares: SlowSquares
) -> None:
    config = ServiceConfig(workers=2, queue=3, request_pictures=1)
    with serve(create_app(slow, None, config)) as client, ThreadPoolExecutor(12) as threads:
        sent = [threads.submit(post, client) for _ in range(12)]
        while sum(future.done() for future in sent) < 7:
            assert client.get("/health").status_code == 200  # the loop is never held up
        squares.open.set()
        answers = [future.result() for future in sent]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 7
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert error_of(refused) == (503, "busy")
    assert int(refused.headers["Retry-After"]) >= 1
    assert squares.most == 2  # pictures decoded at once


def test_a_picture_whose_turn_does_not_come_is_given_up(slow: Recognizer, squares: SlowSquares) -> None:
    config = ServiceConfig(workers=1, wait_seconds=0.2)
    with serve(create_app(slow, None, config)) as client, ThreadPoolExecutor(2) as threads:
        first = threads.submit(post, client)
        while squares.inside == 0:
            pass
        assert error_of(post(client)) == (503, "busy")
        squares.open.set()
        assert first.result().status_code == 200
        assert "sameface_pictures_accepted 0.0" in client.get("/metrics").text


def test_the_memory_of_bodies_is_bounded(toy_recognizer: Recognizer) -> None:
    config = ServiceConfig(buffer_bytes=100)
    with serve(create_app(toy_recognizer, None, config)) as client:
        assert error_of(post(client)) == (503, "busy")
        assert "sameface_buffered_bytes 0.0" in client.get("/metrics").text


@pytest.mark.parametrize(("note", "parsed"), [("", 2), ("\\u00e9", 5), ("\N{GRINNING FACE}", 5)])
@pytest.mark.parametrize(("spare", "status"), [(0, 200), (-1, 503)])
def test_a_json_body_counts_as_it_came_and_as_it_is_parsed(
    toy_recognizer: Recognizer, note: str, parsed: int, spare: int, status: int
) -> None:
    picture = f'{{"picture":"{base64_of(png(toy.RED))}"}}'
    body = (f'{{"file_name":"{note}",' + picture[1:]).encode() if note else picture.encode()
    config = ServiceConfig(buffer_bytes=(1 + parsed) * len(body) + spare)
    with serve(create_app(toy_recognizer, None, config)) as client:
        answer = client.post("/v1/embed", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == (422 if note and status == 200 else status)
        assert "sameface_buffered_bytes 0.0" in client.get("/metrics").text


def test_a_buffer_counts_what_is_held() -> None:
    buffer = ByteBudget(10, Metrics().buffered)
    with buffer.held() as one, buffer.held() as two:
        one.take(6)
        with pytest.raises(BusyError):
            two.take(5)
        two.take(4)
    with buffer.held() as three:
        three.take(10)


def test_a_body_that_stops_coming_is_given_up(toy_recognizer: Recognizer) -> None:
    wake = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"{"
        wake.wait(10)

    with serve(create_app(toy_recognizer, None, ServiceConfig(wait_seconds=0.2))) as client:
        headers = {"Content-Type": "application/json", "Content-Length": "1000"}
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(send_half, client, body(), headers)
            assert "sameface_buffered_bytes" in client.get("/metrics").text
            try:
                assert error_of(answer.result(10)) == (408, "timeout")
            finally:
                wake.set()


def send_half(client: httpx.Client, body: Iterator[bytes], headers: dict[str, str]) -> httpx.Response:
    """Send the beginning of a body over a plain socket, and read the answer."""
    host, port = client.base_url.host, client.base_url.port
    lines = ["POST /v1/detect HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    with socket.create_connection((host, port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + next(body))
        data = b""
        while b'"detail"' not in data:
            data += connection.recv(65_536)
    head, _, content = data.partition(b"\r\n\r\n")
    given = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    return httpx.Response(int(head.split()[1]), headers=given, content=content)


def test_an_album_takes_turns_with_other_requests(slow: Recognizer, squares: SlowSquares) -> None:
    squares.open.set()
    with serve(create_app(slow, None, ServiceConfig(workers=1))) as client:
        begun = client.post("/v1/cluster", files=files([png(toy.RED, note=n) for n in range(200)]))
        assert post(client).status_code == 200
        assert client.get(begun.headers["Location"]).json()["state"] == "running"


def test_an_album_too_many_is_refused_before_it_is_read(slow: Recognizer, squares: SlowSquares) -> None:
    with serve(create_app(slow, None, ServiceConfig(jobs=1))) as client:
        begun = client.post("/v1/cluster", files=files([png(toy.RED)]))
        refused = client.post("/v1/cluster", content=b"nothing that is read")
        assert error_of(refused) == (503, "busy")
        assert "sameface_buffered_bytes 0.0" not in client.get("/metrics").text
        squares.open.set()
        client.delete(begun.headers["Location"])
        assert client.post("/v1/cluster", files=files([png(toy.RED)])).status_code == 202


READER = ApiKey("reader", "read")
ALBUM = AlbumAnswer(threshold=0.1, far=0.01, faces=(), groups=(), skipped=())


def run_jobs(config: ServiceConfig, work: Any) -> None:
    """Run `work(jobs, clock)` with a clock that is a list of one number."""

    async def main() -> None:
        clock = [0.0]
        jobs = JobQueue(config, Metrics(), clock=lambda: clock[0])
        await work(jobs, clock)
        await jobs.close()

    asyncio.run(main())


async def finish(_job: AlbumJob) -> AlbumAnswer:
    return ALBUM


async def never(_job: AlbumJob) -> AlbumAnswer:
    await asyncio.sleep(1000)
    return ALBUM


def fail(_job: AlbumJob) -> Coroutine[Any, Any, AlbumAnswer]:
    raise ValueError("a bug")


def test_only_so_many_jobs_are_under_way() -> None:
    async def work(jobs: JobQueue, _clock: list[float]) -> None:
        begun = [jobs.start(READER, 1, never) for _ in range(2)]
        await asyncio.sleep(0)
        assert [job.state for job in begun] == ["running", "queued"]
        with pytest.raises(BusyError):
            jobs.start(READER, 1, never)
        jobs.remove(begun[0])
        third = jobs.start(READER, 1, finish)
        await asyncio.sleep(0.01)
        assert [begun[0].state, begun[1].state, third.state] == ["cancelled", "running", "queued"]

    run_jobs(ServiceConfig(jobs=2), work)


def test_jobs_are_forgotten_after_a_time_and_beyond_a_number() -> None:
    async def work(jobs: JobQueue, clock: list[float]) -> None:
        done = []
        for _ in range(4):
            clock[0] += 1
            done.append(jobs.start(READER, 1, finish))
            await asyncio.sleep(0.01)
        with pytest.raises(NotFoundError):
            jobs.find(READER, done[0].id)
        assert jobs.find(READER, done[1].id).result == ALBUM
        clock[0] += 9.5
        with pytest.raises(NotFoundError):
            jobs.find(READER, done[2].id)
        assert jobs.find(READER, done[3].id)

    run_jobs(ServiceConfig(jobs_kept=3, job_seconds=10), work)


def test_a_job_of_another_key_is_not_found() -> None:
    async def work(jobs: JobQueue, _clock: list[float]) -> None:
        job = jobs.start(READER, 1, finish)
        with pytest.raises(NotFoundError):
            jobs.find(ApiKey("other", "admin"), job.id)

    run_jobs(ServiceConfig(), work)


def test_a_bug_in_a_job_fails_the_job_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def work(jobs: JobQueue, _clock: list[float]) -> None:
        bad, good = jobs.start(READER, 1, fail), jobs.start(READER, 1, finish)
        await asyncio.sleep(0.01)
        assert [bad.state, good.state] == ["failed", "done"]
        assert isinstance(bad.error, ValueError)

    with caplog.at_level(logging.ERROR):
        run_jobs(ServiceConfig(), work)
    assert "a fault in a job" in caplog.text


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"workers": 0}, "workers must be 1 or more, got 0"),
        ({"rate_per_minute": 0}, "rate_per_minute must be 1 or more, got 0"),
        ({"queue": 5}, r"queue must hold the pictures of one request \(100\), got 5"),
    ],
    ids=str,
)
def test_choices_that_cannot_be_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServiceConfig(**choice)


def test_a_line_of_the_log_is_one_json_object() -> None:
    record = logging.makeLogRecord({"name": "a", "msg": "two\nlines %s", "args": ("é",), "levelname": "INFO"})
    record.request_id = "seven"
    line = JsonLines().format(record)
    assert "\n" not in line
    facts = json.loads(line)
    assert (facts["message"], facts["request_id"], facts["level"]) == ("two\nlines é", "seven", "info")
    try:
        raise ValueError("oh")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: oh" in json.loads(JsonLines().format(record))["trace"]


def test_a_request_is_logged_without_its_query(toy_recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serve(create_app(toy_recognizer, None, ServiceConfig())) as client:
        client.get("/v1/people", params={"after": "Rosa"}, headers={"X-Request-ID": "eight"})
    [record] = [record for record in caplog.records if getattr(record, "request_id", "") == "eight"]
    facts = json.loads(JsonLines().format(record))
    assert (facts["method"], facts["path"], facts["status"]) == ("GET", "/v1/people", 404)
    assert "Rosa" not in JsonLines().format(record)
