"""The program that is killed: it changes a gallery as fast as it can, and tells of each step."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from crashing.model import GROUPED, Copy, People, Pipeline, Step, apply, choose, follow, pictures_of, row_of, was_done
from sameface.cluster import cluster_embeddings
from sameface.errors import SamefaceError
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.backup import backup_gallery, restore_gallery
from sameface.gallery.errors import LastFaceError
from sameface.service.access_file import Access

BOX = np.array([0, 0, 9, 9], np.float32)
CENTURY = 3.2e9  # seconds
REST = 0.01  # seconds after a step that failed


def live(path: Path, people: People, copy: Copy | None, seed: int, pipe: Connection) -> None:
    """Take steps until the end, and tell of each before and after; the clock jumps.

    Args:
        path: The gallery.
        people: Who is enrolled.
        copy: The backup that was made last, if any was.
        seed: Decides the steps.
        pipe: Takes `(word, step)`: `begin`, then `done` once it is acknowledged and in the audit log, or
            `failed`. After a failure comes `(seen, people)` as the gallery then has them.
    """
    rng = random.Random(seed)
    gallery, access = reopen(path), Access.open(f"{path}.access")
    tidy(path, copy)  # after a killed program
    for number in range(10**6):
        step = choose(people, rng, f"person-{seed}-{number}-{rng.randrange(10**9):09d}", copy)
        before = people
        pipe.send(("begin", step))
        try:
            with jumped(rng.uniform(-1, 1) * CENTURY):
                gallery = perform(gallery, path, step)
                note(access, rng, step)
        except SamefaceError as error:
            pipe.send(("failed", (*step, str(error))))
            gallery.close()  # a restore that failed has closed it
            gallery = reopen(path)
            people = wait_for_sight(gallery)
            pipe.send(("seen", people))
            copy = follow(copy, step, before, done=was_done(step, before, people))
        else:
            people = apply(people, step)
            pipe.send(("done", step))
            copy = follow(copy, step, before, done=True)
            tidy(path, copy)


def copies_of(path: Path) -> Path:
    """Return the folder of the backups of a gallery."""
    folder = path.parent / "copies"
    folder.mkdir(exist_ok=True)
    return folder


def tidy(path: Path, copy: Copy | None) -> None:
    """Delete the backups before the last."""
    for file in copies_of(path).iterdir():
        if copy is None or file.name != copy.file:
            file.unlink()


def perform(gallery: Gallery, path: Path, step: Step) -> Gallery:
    """Do a step, and return the gallery, which a restore has opened anew."""
    if step[0] == "restore":
        return put_back(gallery, copies_of(path) / step[1], path)
    if step[0] == "backup":
        assert not backup_gallery(path, copies_of(path) / step[1]).faults
    else:
        take(gallery, step)
    return gallery


def put_back(gallery: Gallery, copy: Path, path: Path) -> Gallery:
    """Restore a backup, for which the gallery is closed, and open the gallery again."""
    gallery.close()
    restore_gallery(copy, path)
    return reopen(path)


def reopen(path: Path) -> Gallery:
    """Open the gallery as soon as that can be done."""
    while True:
        try:
            return Gallery.open(path, Pipeline())
        except SamefaceError:
            time.sleep(REST)


def take(gallery: Gallery, step: Step) -> None:
    """Do a step, and look for somebody now and then."""
    match step:
        case ("enroll", name):
            gallery.enroll(name, make_templates(pictures_of(name)))
            gallery.identify(row_of(pictures_of(name)[0])[None], rule="rows")
        case ("forget", name):
            gallery.forget(name)
        case ("forget_face", name, picture):
            forget_face(gallery, name, picture)
        case ("rename", old, new):
            gallery.rename(old, new)
        case ("merge", source, into):
            gallery.merge(source, into)
        case ("cluster", source, into):
            rows = np.stack([each.embedding for name in (source, into) for each in gallery.templates(name)])
            if len(set(cluster_embeddings(rows, threshold=GROUPED).tolist())) == 1:
                gallery.merge(source, into)


def forget_face(gallery: Gallery, name: str, picture: str) -> None:
    """Forget the face from a picture, unless the person has no other."""
    pictures = [template.picture for template in gallery.templates(name)]
    number = gallery.faces(name)[pictures.index(picture)].number
    try:
        gallery.forget_face(name, number)
    except LastFaceError:
        return


def make_templates(pictures: list[str]) -> list[Template]:
    """Return a face of each picture."""
    return [Template(picture, BOX, 1.0, row_of(picture)) for picture in pictures]


def wait_for_sight(gallery: Gallery) -> People:
    """Return who is enrolled, as soon as that can be read."""
    while True:
        time.sleep(REST)
        try:
            return see(gallery)
        except SamefaceError:
            continue


def see(gallery: Gallery) -> People:
    """Return who is enrolled."""
    return {person.name: frozenset(gallery.pictures(person.name)) for person in gallery.people()}


def note(access: Access, rng: random.Random, step: Step) -> None:
    """Write a step into the audit log, and let go of old entries now and then."""
    access.log.record(None, step[0], [], {})
    if rng.random() < 0.1:
        access.log.forget_entries(90)


@contextmanager
def jumped(seconds: float) -> Iterator[None]:
    """Let the clock of this program be wrong by so much."""
    right = time.time
    time.time = lambda: max(right() + seconds, 0.0)
    try:
        yield
    finally:
        time.time = right
