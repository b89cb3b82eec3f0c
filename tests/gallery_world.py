"""People at chosen distances, for the tests of galleries."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import toy

from sameface.embed import unit_rows
from sameface.errors import SamefaceError
from sameface.gallery import Gallery, Identification, Receipt
from sameface.template import Template


def face(colour: tuple[float, ...], picture: str = "p", left: float = 0, **more: object) -> Template:
    """Return a template of a colour that stands in a picture, 10 pixels wide."""
    box = np.array([left, 0, left + 10, 10], np.float32)
    return Template(picture, box, 0.9, toy.row_of(colour), **more)  # type: ignore[arg-type]


def turned(degrees: float) -> np.ndarray:
    """Return a unit row so many degrees from red; two that are `t` apart have distance 2 - 2 cos t."""
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle), 0], np.float32)


def enroll_turned(gallery: Gallery, people: dict[str, list[float]]) -> None:
    """Enroll people whose faces lie so many degrees from red."""
    for name, angles in people.items():
        gallery.enroll(name, [face(tuple(turned(angle)), f"{name}{angle}") for angle in angles])


def identify_one(gallery: Gallery, row: np.ndarray, **search: object) -> Identification:
    """Return who one probe is."""
    [answer] = gallery.identify(row[None], **search)  # type: ignore[arg-type]
    return answer


class OneThreshold:
    """A pipeline whose threshold is the same for every gallery."""

    signature = "s"

    def __init__(self, distance: float) -> None:
        self.thresholds = self
        self.distance = distance

    def at_gallery(self, size: int, far: float | None) -> tuple[float, float]:
        return self.distance, 0.01


def act_at_random(rng: random.Random, number: int) -> Callable[[Gallery], object]:
    """Return something that can be done to a gallery; the same to each that it is called with."""
    names = ["Ann", "bob", "Émile", "Zoë", "名前", "Ann ", "x" * 201]
    one, other, picture = rng.choice(names), rng.choice(names), f"p{rng.randrange(12)}"
    row = unit_rows(np.array([[rng.randrange(1, 4), rng.randrange(3), rng.randrange(3)]], np.float32))[0]
    box = np.array([10.0 * rng.randrange(3), 0, 10.0 * rng.randrange(3) + 15, 10], np.float32)
    template = Template(picture, box, rng.random(), row)
    acts: list[Callable[[Gallery], object]] = [
        lambda gallery: gallery.enroll(one, [template]),
        lambda gallery: gallery.enroll(one, [template, face(toy.RED, f"own {number}")]),
        lambda gallery: gallery.enroll(one, [face(toy.RED, f"new {number}")], new=True),
        lambda gallery: gallery.rename(one, other),
        lambda gallery: gallery.merge(one, other),
        lambda gallery: counts_of(gallery.forget(one)),
        lambda gallery: counts_of(gallery.forget_face(one, gallery.faces(one)[-1].number)),
        lambda gallery: gallery.owner_of(template),
        lambda gallery: gallery.people(limit=2, after=one),
    ]
    return rng.choice(acts[:3] * 4 + acts)


def counts_of(receipt: Receipt) -> tuple[object, ...]:
    """Return what a receipt says of what was deleted, the same in every gallery."""
    gone = (receipt.person, receipt.face, receipt.faces, receipt.crops, receipt.pictures)
    return (receipt.number, receipt.reason, *gone)


def outcome(act: Callable[[Gallery], object], gallery: Gallery) -> object:
    """Return what comes of it: the answer, or the error in the words of its message."""
    try:
        return act(gallery)
    except SamefaceError as error:
        return type(error), str(error)
