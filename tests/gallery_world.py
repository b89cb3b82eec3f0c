"""People at chosen distances, for the tests of galleries."""

from __future__ import annotations

import numpy as np
import toy

from sameface.face import Template
from sameface.gallery import Gallery, Identification
from sameface.thresholds import GalleryThreshold


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
        self.population = "mixed"
        self.templates = ()
        self.distance = distance

    def template_factors(self, counts: np.ndarray) -> np.ndarray:
        return np.ones(len(counts))

    def at_gallery(self, size: int, far: float | None) -> GalleryThreshold:
        return GalleryThreshold(self.distance, 0.01, 0.01, extrapolated=False)
