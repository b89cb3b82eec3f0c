"""Acts that change who is enrolled: one at a time, each checked, and taken over into the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from soaking.acts import World, wrong_error, wrong_status
from soaking.pictures import Picture
from soaking.truth import Enrolled, Json, Key, People, check_person, close, expect, merged, without

LEAST, MOST = 6, 24  # people; with fewer nobody is forgotten, with more nobody is enrolled
BOX = 0.02  # pixels; a box comes back from the gallery as it went in


def new_name(world: World) -> str:
    """Return a name that nobody ever had."""
    return f"Person {world.rng.randrange(10**12):012d}"


def choose(world: World) -> tuple[str, Enrolled]:
    """Return somebody who is enrolled."""
    return world.rng.choice(sorted(world.truth.now.items(), key=lambda pair: pair[0]))


def collect(world: World) -> list[Picture]:
    """Return pictures to enroll: nearly all can be used."""
    album, rng = world.truth.album, world.rng
    pictures = rng.sample(album.single, rng.randint(1, 3))
    for kind in (album.several, album.empty, album.broken):
        if rng.random() < 0.1:
            pictures.append(rng.choice(kind))
    return pictures


def sift(world: World, pictures: Sequence[Picture], name: str) -> tuple[list[Key], list[tuple[int, str]]]:
    """Return the faces that must be added, and why the other pictures must be skipped, by number."""
    owners, usable, skipped = world.truth.owners(), list[Key](), list[tuple[int, str]]()
    for number, picture in enumerate(pictures):
        owner = owners.get((picture.name, 0), name)
        reason = picture.error or {0: "no_face", 1: None}.get(len(picture.faces), "several_faces")
        if reason is None and owner != name:
            reason = "face_taken"
        if reason is None:
            usable.append((picture.name, 0))
        else:
            skipped.append((number, reason))
    return [key for key in usable if key not in owners], skipped


async def enroll(world: World) -> list[str]:
    """Enroll somebody new."""
    async with world.changing:
        if len(world.truth.now) >= MOST:
            return await forget_one(world)
        name, pictures = new_name(world), collect(world)
        return await send_pictures(world, "/v1/people", name, pictures)


async def add_faces(world: World) -> list[str]:
    """Add faces to somebody; some are there already."""
    async with world.changing:
        if not world.truth.now:
            return []
        name, person = choose(world)
        pictures = collect(world)
        album = world.truth.album
        pictures += [album.find(world.rng.choice(person.faces)[1][0])] if world.rng.random() < 0.3 else []
        return await send_pictures(world, f"/v1/people/{person.number}/faces", name, pictures)


async def send_pictures(world: World, path: str, name: str, pictures: list[Picture]) -> list[str]:
    """Enroll pictures of one person and check what is answered."""
    truth = world.truth
    keys, skipped = sift(world, pictures, name)
    before = truth.now.get(name)
    data = {"consent": f"form {world.rng.randrange(1000)}"} if world.rng.random() < 0.3 else {}
    forms = [("pictures", picture.form) for picture in pictures]
    if len(skipped) == len(pictures):
        answer = await world.ask("POST", path, files=forms, data=data | ({} if before else {"name": name}))
        return wrong_error(answer, 422, "nothing_enrolled")
    note = data.get("consent", before.consent if before else None)
    faces = (before.faces if before else ()) + truth.number_faces(keys)
    person = Enrolled(before.number if before else 0, faces, note)
    truth.begin({**truth.now, name: person})
    answer = await world.ask("POST", path, files=forms, data=data | ({} if before else {"name": name}))
    if faults := wrong_status(answer, 201):
        truth.settle(done=False)
        return faults
    body = answer.json()
    person = replace(person, number=before.number if before else body["person"]["id"])
    truth.begin({**truth.now, name: person})
    truth.settle(done=True)
    told = [(each["number"], each["error"]["code"]) for each in body["skipped"]]
    faults = check_person(body["person"], person.answer(name)) + expect("skipped", told, skipped)
    return faults + expect("enrolled", body["enrolled"], len(keys))


async def rename(world: World) -> list[str]:
    """Give somebody another name, now and then one that is taken."""
    async with world.changing:
        truth = world.truth
        if not truth.now:
            return []
        name, person = choose(world)
        other = choose(world)[0] if world.rng.random() < 0.2 else new_name(world)
        path, wish = f"/v1/people/{person.number}", {"name": other}
        if other in truth.now and other != name:
            return wrong_error(await world.ask("PATCH", path, json=wish), 409, "person_exists")
        after = {**without(truth.now, name), other: person}
        return await change(world, after, "PATCH", path, person.answer(other), json=wish)


async def note(world: World) -> list[str]:
    """Note somebody's consent."""
    async with world.changing:
        truth = world.truth
        if not truth.now:
            return []
        name, person = choose(world)
        changed = replace(person, consent=f"form {world.rng.randrange(10**6)}")
        wish = {"consent": changed.consent}
        after = {**truth.now, name: changed}
        return await change(world, after, "PATCH", f"/v1/people/{person.number}", changed.answer(name), json=wish)


async def merge(world: World) -> list[str]:
    """Move somebody's faces to another."""
    async with world.changing:
        truth = world.truth
        if len(truth.now) <= LEAST:
            return []
        source, into = world.rng.sample(sorted(truth.now), 2)
        after = merged(truth.now, source, into)
        path, wish = f"/v1/people/{truth.now[source].number}/merge", {"into": truth.now[into].number}
        return await change(world, after, "POST", path, after[into].answer(into), json=wish)


async def change(world: World, after: People, method: str, path: str, wanted: Json, **wish: Any) -> list[str]:
    """Ask for a change that must succeed, and check the person that is answered."""
    world.truth.begin(after)
    answer = await world.ask(method, path, **wish)
    world.truth.settle(done=answer.status_code == 200)
    return wrong_status(answer, 200) or check_person(answer.json(), wanted)


async def forget(world: World) -> list[str]:
    """Forget somebody."""
    async with world.changing:
        return await forget_one(world) if len(world.truth.now) > LEAST else []


async def forget_one(world: World) -> list[str]:
    """Forget somebody, while nobody else changes anything."""
    truth = world.truth
    name, person = choose(world)
    truth.begin(without(truth.now, name))
    path = f"/v1/people/{person.number}"
    answer = await world.ask("DELETE", path)
    truth.settle(done=answer.status_code == 200)
    return wrong_status(answer, 200) or wrong_error(await world.ask("GET", path), 404, "unknown_person")


async def forget_face(world: World) -> list[str]:
    """List somebody's faces, and delete one of them; the last one may not be."""
    async with world.changing:
        truth = world.truth
        if not truth.now:
            return []
        name, person = choose(world)
        path = f"/v1/people/{person.number}/faces"
        answer = await world.ask("GET", path)
        if faults := wrong_status(answer, 200) or check_enrolled(world, person, answer):
            return faults
        place = world.rng.randrange(len(person.faces))
        path += f"/{answer.json()['faces'][place]['id']}"
        if len(person.faces) == 1:
            return wrong_error(await world.ask("DELETE", path), 409, "last_face")
        left = person.faces[:place] + person.faces[place + 1 :]
        truth.begin({**truth.now, name: replace(person, faces=left)})
        answer = await world.ask("DELETE", path)
        truth.settle(done=answer.is_success)
        return [] if answer.is_success else wrong_status(answer, 200)


def check_enrolled(world: World, person: Enrolled, answer: httpx.Response) -> list[str]:
    """Return what is wrong with the list of a person's faces."""
    album = world.truth.album
    boxes = [album.find(name).faces[face].box for _, (name, face) in person.faces]
    found = [face["box"] for face in answer.json()["faces"]]
    return [] if close(found, boxes, BOX) else [f"faces {found}, wanted {boxes}"]
