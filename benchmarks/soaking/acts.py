"""What the clients of a soak do; each act returns what was wrong with the answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np

from sameface.cluster import cluster_embeddings, same_picture_pairs
from sameface.compare import squared_distances
from sameface.recognizer import Recognizer
from soaking.pictures import Picture
from soaking.truth import DISTANCE, Json, People, Truth, check_face, check_faces, check_person, close, expect

TRIES = 5  # for an answer that says when to come again
DECLARED = (429, 503)
ROW = 1e-4  # what batches and threads may change a number of a row by


@dataclass
class World:
    """What all acts share.

    Attributes:
        client: Of the service.
        truth: What must be.
        recognizer: With the weights of the service.
        rng: Decides everything but the moment.
        log: Where the service writes one line for each request that it is done with.
        changing: Held by whoever changes the gallery.
        clustering: Held by whoever has an album sorted.
        declared: How often the service asked to come again.
        people: How many were enrolled.
    """

    client: httpx.AsyncClient
    truth: Truth
    recognizer: Recognizer
    rng: random.Random
    log: Path
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    clustering: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    declared: int = 0
    people: int = 0

    async def ask(self, method: str, path: str, **wish: Any) -> httpx.Response:
        """Return an answer; where the service asks for it, come again."""
        for _ in range(TRIES):
            answer = await self.client.request(method, path, **wish)
            if answer.status_code not in DECLARED:
                break
            self.declared += 1
            await asyncio.sleep(int(answer.headers["Retry-After"]))
        return answer

    def pick(self) -> Picture:
        """Return any picture that can be read."""
        album = self.truth.album
        kind = self.rng.choices((album.single, album.several, album.empty), (8, 2, 1))[0]
        return self.rng.choice(kind)


Act: TypeAlias = Callable[[World], Awaitable[list[str]]]


def wrong_status(answer: httpx.Response, wanted: int) -> list[str]:
    """Return a fault unless an answer has this status."""
    request = answer.request
    told = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:300]}"
    return [] if answer.status_code == wanted else [f"{told}, wanted {wanted}"]


def wrong_error(answer: httpx.Response, status: int, code: str) -> list[str]:
    """Return a fault unless an answer is this error."""
    return wrong_status(answer, status) or expect("code", answer.json()["error"]["code"], code)


async def detect(world: World) -> list[str]:
    """Find the faces of a picture."""
    picture = world.pick()
    answer = await world.ask("POST", "/v1/detect", files={"picture": picture.form})
    if faults := wrong_status(answer, 200):
        return faults
    body = answer.json()
    return expect("size", (body["width"], body["height"]), picture.size) + check_faces(picture.faces, body["faces"])


async def embed(world: World) -> list[str]:
    """Embed the faces of a picture."""
    picture = world.pick()
    answer = await world.ask("POST", "/v1/embed", files={"picture": picture.form})
    if faults := wrong_status(answer, 200):
        return faults
    body = answer.json()
    rows = [face["embedding"] for face in body["faces"]]
    faults = expect("signature", body["signature"], world.recognizer.signature)
    faults += check_faces(picture.faces, body["faces"])
    right = close(rows, picture.rows if rows else [], ROW)
    return faults if right else [*faults, f"the rows of {picture.name} are not those that were recorded"]


async def verify(world: World) -> list[str]:
    """Compare two pictures."""
    album = world.truth.album
    a, b = world.rng.choices(album.single, k=2)
    answer = await world.ask("POST", "/v1/verify", files={"a": a.form, "b": b.form})
    if faults := wrong_status(answer, 200):
        return faults
    body = answer.json()
    distance = float(squared_distances(a.rows, b.rows)[0, 0])
    threshold = world.truth.thresholds.at(1e-3)
    faults = expect("threshold", body["threshold"], threshold)
    faults += check_face(a.faces[0], body["a"]) + check_face(b.faces[0], body["b"])
    if not close(body["distance"], distance, DISTANCE):
        faults.append(f"{a.name} to {b.name}: {body['distance']}, wanted {distance}")
    return faults + expect("same", body["same"], body["distance"] <= threshold)


async def identify(world: World) -> list[str]:
    """Say who the faces of a picture are."""
    picture, rng, truth = world.pick(), world.rng, world.truth
    wish = {"k": rng.choice((1, 1, 3)), "most": rng.choice((1, 5, 5)), "closed_set": rng.random() < 0.1}
    wish["most"] = max(wish["most"], wish["k"])  # so that whoever has a vote is listed
    moment = truth.certain
    data = {name: str(value).lower() for name, value in wish.items()}
    answer = await world.ask("POST", "/v1/identify", files={"picture": picture.form}, data=data)
    if faults := wrong_status(answer, 200):
        return faults
    body, full = answer.json(), {"far": None} | wish
    return truth.faults_since(moment, lambda people: truth.check_identified(picture, full, body, people))


async def list_people(world: World) -> list[str]:
    """Read everybody's name, page by page, while nobody changes anything."""
    async with world.changing:
        found, after = [], ""
        while after is not None:
            wish = {"limit": 7, "after": after}
            answer = await world.ask("GET", "/v1/people", params=wish)
            if faults := wrong_status(answer, 200):
                return faults
            body = answer.json()
            found += body["people"]
            after = body["next"]
        wanted = [person.answer(name) for name, person in sorted(world.truth.now.items())]
        world.people = len(wanted)
        faults = expect("total", (body["total"], len(found)), (len(wanted), len(wanted)))
        return faults or [fault for pair in zip(found, wanted, strict=True) for fault in check_person(*pair)]


async def read_person(world: World) -> list[str]:
    """Read one person; in between they may have been changed."""
    truth = world.truth
    if not truth.now:
        return []
    moment, number = truth.certain, world.rng.choice([person.number for person in truth.now.values()])
    answer = await world.ask("GET", f"/v1/people/{number}")

    def find(people: People) -> list[str]:
        wanted = [person.answer(name) for name, person in people.items() if person.number == number]
        if not wanted:
            return wrong_error(answer, 404, "unknown_person")
        return wrong_status(answer, 200) or check_person(answer.json(), wanted[0])

    return truth.faults_since(moment, find)


async def read_service(world: World) -> list[str]:
    """Ask the service how it is."""
    path = world.rng.choice(("/health", "/ready", "/metrics", "/v1/model", "/v1/audit?limit=20", "/"))
    return wrong_status(await world.ask("GET", path), 200)


async def cluster(world: World) -> list[str]:
    """Have an album sorted, or give it up half way."""
    async with world.clustering:
        pictures = [world.pick() for _ in range(world.rng.randint(3, 8))]
        pictures += world.rng.sample(world.truth.album.broken, 1)
        forms = [("pictures", picture.form) for picture in pictures]
        answer = await world.ask("POST", "/v1/cluster", files=forms)
        if faults := wrong_status(answer, 202):
            return faults
        path = f"/v1/jobs/{answer.json()['id']}"
        if world.rng.random() < 0.25:
            return wrong_status(await world.ask("DELETE", path), 204) + wrong_error(
                await world.ask("GET", path), 404, "not_found"
            )
        body = answer.json()
        while body["state"] in ("queued", "running"):
            await asyncio.sleep(1)
            answer = await world.ask("GET", path)
            if faults := wrong_status(answer, 200):
                return faults
            body = answer.json()
        return expect("state", body["state"], "done") + check_album(world, pictures, body["result"])


def check_album(world: World, pictures: list[Picture], body: Json) -> list[str]:
    """Return what is wrong with a sorted album."""
    faces = [face for picture in pictures for face in picture.faces]
    owners = [number for number, picture in enumerate(pictures) for _ in picture.faces]
    broken = [(number, picture.error) for number, picture in enumerate(pictures) if picture.error]
    threshold = world.truth.thresholds.at(3e-4)
    faults = check_faces(faces, body["faces"])
    faults += expect("pictures", [face["picture"] for face in body["faces"]], owners)
    faults += expect("skipped", [(each["number"], each["error"]["code"]) for each in body["skipped"]], broken)
    faults += expect("threshold", body["threshold"], threshold)
    groups: dict[int, set[int]] = {}
    if faces:
        rows = np.concatenate([picture.rows for picture in pictures if picture.faces])
        pairs = same_picture_pairs([str(number) for number in owners])
        labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
        for number, label in enumerate(labels.tolist()):
            groups.setdefault(label, set()).add(number)
    return faults + expect("groups", sorted(map(sorted, body["groups"])), sorted(map(sorted, groups.values())))
