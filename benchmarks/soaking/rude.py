"""Clients as they should not be: wrong bodies, broken pictures, connections that are dropped."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sameface.service.config import ServiceConfig
from soaking.acts import World, wrong_error
from soaking.changes import new_name, sift
from soaking.pictures import Picture
from soaking.truth import Enrolled, check_person, expect

NOBODY = 2**40  # no person's number
PATIENCE = 60.0  # seconds in which a request is done whose client has hung up
BREAK = "the-end-of-a-part"

Request = tuple[str, str, dict[str, Any], int, str]  # method, path, what is sent, status and code to expect


def wrong_requests(picture: Picture) -> list[Request]:
    """Return requests that must be refused; the picture has one face."""
    detect, identify, people, nobody = "/v1/detect", "/v1/identify", "/v1/people", f"/v1/people/{NOBODY}"
    file, both = {"picture": picture.form}, {"a": picture.form, "b": picture.form}
    pictures = {"pictures": picture.form}
    text = base64.b64encode(picture.data).decode()
    json, text_plain = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    return [
        ("GET", "/v1/nothing", {}, 404, "not_found"),
        ("PUT", people, {}, 405, "method_not_allowed"),
        ("POST", detect, {}, 415, "unsupported_media_type"),
        ("POST", detect, {"content": b"x", "headers": text_plain}, 415, "unsupported_media_type"),
        ("POST", detect, {"content": b'{"picture": "', "headers": json}, 422, "bad_request"),
        ("POST", detect, {"content": b"[" * 4_000, "headers": json}, 422, "bad_request"),
        ("POST", detect, {"content": b"[" * 50_000, "headers": json}, 413, "too_large"),
        ("POST", detect, {"json": {"picture": "?"}}, 422, "bad_request"),
        ("POST", detect, {"json": {"picture": 7}}, 422, "bad_request"),
        ("POST", detect, {"json": {"picture": text, "more": 1}}, 422, "bad_request"),
        ("POST", detect, {"files": {"image": picture.form}}, 422, "bad_request"),
        ("POST", identify, {"files": file, "data": {"k": "0"}}, 422, "bad_request"),
        ("POST", identify, {"files": file, "data": {"far": "nan"}}, 422, "bad_request"),
        ("POST", identify, {"files": file, "data": {"closed_set": "perhaps"}}, 422, "bad_request"),
        ("POST", "/v1/verify", {"files": file}, 422, "bad_request"),
        ("POST", "/v1/verify", {"files": both, "data": {"far": "1e-12"}}, 422, "no_threshold"),
        ("POST", "/v1/verify", {"files": both, "data": {"face_b": "3"}}, 422, "no_such_face"),
        ("POST", people, {"files": pictures}, 422, "bad_request"),
        ("POST", people, {"files": pictures, "data": {"name": " "}}, 422, "bad_name"),
        ("POST", people, {"json": {"name": "Nobody", "pictures": []}}, 422, "bad_request"),
        ("GET", nobody, {}, 404, "unknown_person"),
        ("GET", "/v1/people/zero", {}, 422, "bad_request"),
        ("GET", "/v1/people?limit=0", {}, 422, "bad_request"),
        ("PATCH", nobody, {"json": {"name": "Nobody"}}, 404, "unknown_person"),
        ("DELETE", nobody, {}, 404, "unknown_person"),
        ("DELETE", f"{nobody}/faces/1", {}, 404, "unknown_person"),
        ("POST", f"{nobody}/merge", {"json": {"into": 1}}, 404, "unknown_person"),
        ("POST", f"{nobody}/faces", {"files": pictures}, 404, "unknown_person"),
        ("GET", "/v1/jobs/none-of-mine", {}, 404, "not_found"),
        ("GET", "/v1/model", {"headers": {"Host": "evil.example"}}, 403, "forbidden"),
        ("GET", "/v1/model", {"headers": {"Origin": "https://evil.example"}}, 403, "forbidden"),
        ("GET", "/v1/model", {"headers": {"Authorization": "Bearer sf_wrong"}}, 401, "unauthorized"),
    ]  # fmt: skip


async def ask_wrongly(world: World) -> list[str]:
    """Send a request that must be refused."""
    wrong = wrong_requests(world.rng.choice(world.truth.album.single))
    method, path, sent, status, code = world.rng.choice(wrong)
    answer = await world.client.request(method, path, **sent)
    return wrong_error(answer, status, code)


async def send_broken(world: World) -> list[str]:
    """Send a picture that cannot be read, or one without the one face that is wanted."""
    album, rng = world.truth.album, world.rng
    kind = rng.choice((album.broken, album.broken, album.several, album.empty))
    picture = rng.choice(kind)
    if picture.error is not None:
        answer = await world.ask("POST", "/v1/detect", files={"picture": picture.form})
        return wrong_error(answer, 413 if picture.error == "image_too_large" else 422, picture.error)
    good = rng.choice(album.single)
    answer = await world.ask("POST", "/v1/verify", files={"a": good.form, "b": picture.form})
    return wrong_error(answer, 422, "several_faces" if picture.faces else "no_face")


@contextlib.asynccontextmanager
async def connection(
    world: World, *, rude: float = 0.5
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the service without a client that knows how to behave.

    Args:
        world: Whose service.
        rude: How often the connection is torn down, with what was not sent yet.
    """
    url = world.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
        await writer.drain()
    finally:
        if world.rng.random() < rude:
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def as_form(path: str, picture: Picture, field: str, mark: str = "rude", **data: str) -> bytes:
    """Return a whole request with a form."""
    parts = [
        f'--{BREAK}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in data.items()
    ]
    file = f'--{BREAK}\r\nContent-Disposition: form-data; name="{field}"; filename="{picture.name}"\r\n\r\n'
    body = "".join([*parts, file]).encode() + picture.data + f"\r\n--{BREAK}--\r\n".encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: {mark}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BREAK}\r\n\r\n"
    )
    return head.encode() + body


async def hang_up(world: World) -> list[str]:
    """Hang up before, in the middle of or after a request that changes nothing."""
    picture, rng = world.pick(), world.rng
    path = rng.choice(("/v1/identify", "/v1/detect", "/v1/embed"))
    request = as_form(path, picture, "picture")
    sent = request[: rng.choice((0, 10, 200, len(request) // 2, len(request) - 1, len(request)))]
    async with connection(world) as (_, writer):
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(rng.choice((0, 0, 0.05, 0.5)))
    return []


async def hang_up_enrolling(world: World) -> list[str]:
    """Hang up in the middle of an enrolment: nobody of this name may ever be enrolled."""
    name = new_name(world)
    request = as_form("/v1/people", world.rng.choice(world.truth.album.single), "pictures", name=name)
    async with connection(world) as (_, writer):
        writer.write(request[: world.rng.randrange(len(request) // 2, len(request))])
    world.truth.gone.add(name)
    return []


async def enroll_deaf(world: World) -> list[str]:
    """Enroll somebody and hang up before the answer: they are enrolled whole, or not at all."""
    async with world.changing:
        truth = world.truth
        free = [picture for picture in truth.album.single if (picture.name, 0) not in truth.owners()]
        if not free:
            return []
        name, picture = new_name(world), world.rng.choice(free)
        keys, _ = sift(world, [picture], name)
        person = Enrolled(0, truth.number_faces(keys))
        truth.begin({**truth.now, name: person})
        mark = f"deaf-{name.rpartition(' ')[2]}"
        written = world.log.stat().st_size
        async with connection(world, rude=0) as (_, writer):
            writer.write(as_form("/v1/people", picture, "pictures", mark, name=name))
            await writer.drain()
            await asyncio.sleep(world.rng.choice((0, 0.02, 0.1, 0.5)))
        faults = await wait_until_logged(world, mark, written)
        answer = await world.ask("GET", "/v1/people", params={"name": name})
        found = answer.json()["people"]
        if not found:
            truth.settle(done=False)
            truth.gone.add(name)
            return faults
        person = Enrolled(int(found[0]["id"]), person.faces)
        truth.begin({**truth.now, name: person})
        truth.settle(done=True)
        return faults + check_person(found[0], person.answer(name))


async def wait_until_logged(world: World, mark: str, written: int) -> list[str]:
    """Wait until the service is done with a request; `written` is where its log ended before."""
    for _ in range(round(PATIENCE / 0.2)):
        await asyncio.sleep(0.2)
        with world.log.open("rb") as file:
            file.seek(written)
            if mark.encode() in file.read():
                return []
    return [f"the request {mark} is not done after {PATIENCE:.0f} s"]


async def stall(world: World) -> list[str]:
    """Send half a request and wait: after a time the service gives up."""
    request = as_form("/v1/detect", world.pick(), "picture")
    async with connection(world) as (reader, writer):
        writer.write(request[: len(request) // 2])
        await writer.drain()
        wait = ServiceConfig().wait_seconds + PATIENCE
        told = await asyncio.wait_for(reader.readline(), wait)
    return expect("answer", told.split()[1:2], [b"408"])
