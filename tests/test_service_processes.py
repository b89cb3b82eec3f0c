"""The service as a process of its own: told to end, killed, and with the shipped weights."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import toy
from service_world import NO_AUTHORITIES, base64_of, png

from sameface.gallery import Gallery
from sameface.gallery.errors import GalleryBusyError
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access

COLOURS = [toy.RED, toy.GREEN, toy.BLUE, toy.YELLOW, toy.WHITE]

# The command line in the toy world; a picture takes as many milliseconds as the first word says.
SERVER = """
import sys, time
import toy, sameface.cli, sameface.cli.options

class SlowSquares(toy.FindSquares):
    def run(self, pixels):
        time.sleep(int(sys.argv[1]) / 1000)
        return super().run(pixels)

class Models(toy.ToyModel):
    @staticmethod
    def load(weights, *, threads=None):
        return SlowSquares() if weights == "centerface" else toy.ToyModel.load(weights, threads=threads)

sameface.cli.options.Model = Models
sameface.cli.main(["serve", *sys.argv[2:]])
"""


@contextmanager
def service(
    *words: str | Path, delay: int | None = None, token: bool = False
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `sameface serve` on a free port, and give it with its address; a delay runs it in the toy world."""
    start = ["-c", SERVER, str(delay)]
    if delay is None:
        start = ["-c", "import sameface.cli; sameface.cli.main()", "serve"]
    command = [sys.executable, *start, "--port", "0", *map(str, words)]
    if not token:
        command.append("--no-token")
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": places}
    ) as process:
        log = threading.Thread(target=drain, args=(process,))
        log.start()
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told.startswith("sameface serves at "), "\n".join(process.log)  # type: ignore[attr-defined]
            yield process, told.split()[-1]
        finally:
            process.kill()
            log.join()


def drain(process: subprocess.Popen[str]) -> None:
    """Keep the lines of the log as `process.log`."""
    process.log = []  # type: ignore[attr-defined]
    assert process.stderr is not None
    for line in process.stderr:
        process.log.append(line)  # type: ignore[attr-defined]


async def enroll_many(
    address: str, life: int, acknowledged: list[str], process: subprocess.Popen[str], kill_at: int
) -> None:
    """Enroll all at once, two pictures each, and kill the service when so many were acknowledged."""
    names = [f"Life {life} {number}" for number in range(200)]
    first_note = 400 * life  # no two pictures are the same

    async def enroll(number: int, name: str) -> None:
        notes = (first_note + 2 * number, first_note + 2 * number + 1)
        pictures = [base64_of(png(COLOURS[number % 5], note=note)) for note in notes]
        # A client each: what one client does for a request takes as long as it has requests and connections.
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=NO_AUTHORITIES) as client:
            try:
                answer = await client.post(f"{address}/v1/people", json={"name": name, "pictures": pictures})
            except httpx.TransportError:
                return  # it was killed
            assert answer.status_code == 201, answer.text
            acknowledged.append(name)
            if len(acknowledged) == kill_at:
                process.kill()

    await asyncio.gather(*[enroll(number, name) for number, name in enumerate(names)])


@pytest.mark.slow
def test_a_killed_service_loses_nothing_that_it_acknowledged(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    path = tmp_path / "people.db"
    every: set[str] = set()
    for life in range(10):
        acknowledged: list[str] = []
        with service("--gallery", path, "--queue", "400", delay=0) as (process, address):
            asyncio.run(enroll_many(address, life, acknowledged, process, kill_at=5 + 20 * life))
            assert process.wait(10) == -signal.SIGKILL
        assert 5 + 20 * life <= len(acknowledged) <= 200
        every.update(acknowledged)
        with Gallery.open(path, toy_recognizer) as gallery:
            assert gallery._db.read("PRAGMA integrity_check") == [("ok",)]
            assert gallery._db.read("PRAGMA foreign_key_check") == []
            people = gallery.people()
            numbers = {person.name: (gallery.origin, person.number) for person in people}
        assert {person.faces for person in people} == {2}  # nobody is half there
        assert every <= {person.name for person in people}
    access = Access.open(f"{path}.access")
    told = {entry.person for entry in access.log.entries(10_000) if entry.action == "enroll"}
    verdict = access.log.verify()
    access.close()
    assert {numbers[name] for name in every} <= told
    assert len(set(numbers.values()) - told) <= len(verdict.unfinished)  # the rest was under way
    assert verdict.fault is None


def enroll_and_forget(address: str, first: int) -> set[str]:
    """Enroll twelve people through a service, forget every third, and return who must be left."""
    left = set()
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        for number in range(first, first + 12):
            body = {"name": f"Person {number}", "pictures": [base64_of(png(COLOURS[number % 5], note=number))]}
            made = client.post("/v1/people", json=body)
            assert made.status_code == 201, made.text
            if number % 3:
                left.add(body["name"])
                continue
            path = f"/v1/people/{made.json()['person']['id']}"
            while (status := client.delete(path).status_code) == 503:  # another program looks at them
                time.sleep(0.1)
            assert status in (200, 404)  # 404 at a second try: only traces were left
    return left


def enroll_and_forget_in(gallery: Gallery, recognizer: Recognizer, first: int) -> set[str]:
    """Do the same with an open gallery."""
    left = set()
    for number in range(first, first + 12):
        name, picture = f"Person {number}", png(COLOURS[number % 5], note=number)
        gallery.enroll(name, [recognizer.template(picture)], new=True)
        assert gallery.identify(recognizer.embed(picture)[1])[0].matches[0].distance < 1e-6
        if number % 3:
            left.add(name)
            continue
        with suppress(GalleryBusyError):  # they are gone, traces go with whoever is forgotten next
            gallery.forget(name)
    return left


@pytest.mark.slow
def test_two_services_and_the_threads_of_a_program_share_one_gallery(
    tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    path = tmp_path / "people.db"
    with (
        service("--gallery", path, delay=0) as (_, one),
        service("--gallery", path, delay=0) as (_, two),
        Gallery.open(path, toy_recognizer) as gallery,
        ThreadPoolExecutor(6) as threads,
    ):
        here = [threads.submit(enroll_and_forget_in, gallery, toy_recognizer, 100 * n) for n in (0, 1)]
        there = [threads.submit(enroll_and_forget, [one, two][n % 2], 100 * n) for n in range(2, 6)]
        left = set().union(*[future.result() for future in here + there])
        assert len(left) == 48
        assert {person.name for person in gallery.people()} == left
        probe = png(toy.RED, note=9999)
        wanted = [match.name for match in gallery.identify(toy_recognizer.embed(probe)[1], most=9)[0].matches]
        for address in (one, two):
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                people = client.get("/v1/people?limit=500").json()["people"]
                assert {person["name"] for person in people} == left
                answer = client.post("/v1/identify", files={"picture": probe}, data={"most": "9"}).json()
                assert [match["name"] for match in answer["faces"][0]["matches"]] == wanted
        gallery.forget_traces()
        assert gallery._db.read("PRAGMA integrity_check") == [("ok",)]


def test_told_to_end_the_service_finishes_what_it_accepted(tmp_path: Path) -> None:
    path = tmp_path / "people.db"

    def post(address: str, number: int) -> int:
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            body = {"name": f"Person {number}", "pictures": [base64_of(png(COLOURS[number % 5], note=number))]}
            return client.post("/v1/people", json=body).status_code

    with (
        service("--gallery", path, "--workers", "1", delay=100) as (process, address),
        ThreadPoolExecutor(12) as threads,
    ):
        sent = [threads.submit(post, address, number) for number in range(12)]
        with httpx.Client(base_url=address, trust_env=False) as client:
            while "sameface_pictures_accepted 12.0" not in client.get("/metrics").text:
                assert not any(future.done() for future in sent[1:])
        process.send_signal(signal.SIGTERM)
        assert [future.result() for future in sent] == [201] * 12
        assert process.wait(20) == 0
    with Gallery.open(path) as gallery:
        assert gallery.count() == (12, 12)
    assert not Path(f"{path}-wal").exists()  # it was closed, not dropped


def test_a_port_that_is_taken_is_an_error_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = SERVER.replace('"serve"', f'"serve", "--port", "{port}"')
        done = subprocess.run(
            [sys.executable, "-c", code, "0", "--gallery", str(tmp_path / "people.db")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: Address already in use")
    assert done.stderr.count("\n") == 1


def test_the_shipped_weights_answer_like_the_library(
    tmp_path: Path, samples: dict[str, Path], recognizer: Recognizer
) -> None:
    pictures = {name: path.read_bytes() for name, path in samples.items()}
    with (
        service("--gallery", tmp_path / "people.db") as (process, address),
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        one, two, other = (pictures[name] for name in ("barack-obama-1", "barack-obama-2", "joe-biden"))
        same = client.post("/v1/verify", files={"a": one, "b": two}).json()
        expected = recognizer.verify(samples["barack-obama-1"], samples["barack-obama-2"])
        assert same["same"] is True
        assert same["distance"] == pytest.approx(expected.distance, abs=1e-5)
        assert same["threshold"] == expected.threshold
        assert client.post("/v1/verify", files={"a": one, "b": other}).json()["same"] is False
        assert client.post("/v1/people", data={"name": "Barack"}, files={"pictures": one}).status_code == 201
        with ThreadPoolExecutor(8) as threads:
            asked = [two, other] * 8
            answers = list(threads.map(lambda data: client.post("/v1/identify", files={"picture": data}), asked))
        names = [[face["name"] for face in answer.json()["faces"]] for answer in answers]
        assert names == [["Barack"], [None]] * 8
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = [json.loads(line) for line in process.log]  # type: ignore[attr-defined]
    assert sum(line.get("path") == "/v1/identify" for line in lines) == 16


def test_a_connection_is_kept_longer_than_clients_keep_theirs(tmp_path: Path) -> None:
    with service("--gallery", tmp_path / "people.db", delay=0) as (_, address):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        statuses = []
        for pause in (0, 6):  # httpx lets go of it after 5 s: a request that is sent then must not be lost
            time.sleep(pause)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            assert connection.sock is not None  # the same one
        connection.close()
    assert statuses == [200, 200]


def make_certificate(folder: Path) -> Path:
    """Return a file with a certificate of one's own for 127.0.0.1, and its key."""
    place = folder / "both.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    place.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return place


def test_https_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not there")
    both = make_certificate(tmp_path)
    with service("--gallery", tmp_path / "people.db", "--tls-cert", both, delay=0) as (_, address):
        assert address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with httpx.Client(base_url=address, verify=trusted, trust_env=False) as client:
            own = {"Origin": address}
            assert client.get("/v1/model", headers=own).status_code == 200


def test_keys_are_wanted_where_others_can_reach_the_service(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    access = Access.open(f"{path}.access")
    token = access.make_key("boss", "admin")
    access.close()
    with service("--gallery", path, "--host", "0.0.0.0", delay=0) as (_, address):
        local = address.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=local, trust_env=False) as client:
            assert client.get("/v1/model").status_code == 401
            assert client.get("/v1/model", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_on_this_machine_the_printed_token_is_wanted(tmp_path: Path) -> None:
    with service("--gallery", tmp_path / "people.db", delay=0, token=True) as (process, printed):
        address, _, token = printed.partition("/?token=")
        with httpx.Client(base_url=address, trust_env=False) as client:
            assert client.get("/v1/model").status_code == 401
            assert client.get("/v1/model", headers={"Authorization": f"Bearer {token}"}).status_code == 200
            assert client.get(f"/?token={token}").status_code == 303
        assert len(token) > 40
    assert token not in "".join(process.log)  # type: ignore[attr-defined]


def test_the_words_of_a_missing_key_say_why_one_is_wanted(tmp_path: Path) -> None:
    code = "import sys, sameface.cli; sameface.cli.main(sys.argv[1:])"
    said = []
    for words in (["--require-keys"], ["--host", "0.0.0.0"]):
        command = [sys.executable, "-c", code, "serve", "--port", "0", "--gallery", str(tmp_path / "a.db"), *words]
        said.append(subprocess.run(command, capture_output=True, text=True, check=False).stderr)
    assert "--require-keys wants a key of every request" in said[0]
    assert "others than this machine" not in said[0]
    assert "others than this machine can reach 0.0.0.0" in said[1]


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import sameface.cli; sameface.cli.main(['serve'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "this needs fastapi: pip install 'sameface[serve]'" in done.stderr


def test_keys_need_no_extra(tmp_path: Path) -> None:
    words = ["keys", "add", "boss", "--gallery", str(tmp_path / "people.db")]
    code = f"import sys; sys.modules['fastapi'] = None; import sameface.cli; sameface.cli.main({words})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sf_")


def test_the_service_starts_within_seconds(tmp_path: Path) -> None:
    start = time.perf_counter()
    with service("--gallery", tmp_path / "people.db", delay=0):
        assert time.perf_counter() - start < 20
