"""People of a gallery who may be one person, and faces that may be another person's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sameface.gallery.gallery import Gallery
from sameface.gallery.records import Identification, Match

PAGE = 500  # people read at a time


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Somebody who looks like another enrolled person.

    Attributes:
        person: The name.
        face: The number of the face that looks like the other person; None for the mean of all faces.
        other: The name of the other person.
        distance: The squared distance to the other person's template, 0 to 4.
        threshold: The distance at and under which the other person would be named.
    """

    person: str
    face: int | None
    other: str
    distance: float
    threshold: float


def find_lookalikes(gallery: Gallery, *, far: float | None = None) -> Iterator[Lookalike]:
    """Yield the people whose mean embedding, and the faces that, another person's template is near to.

    A face is listed if it is nearer to the other person than to its own. Two people who look like each other are
    listed once. The work grows with the square of the people.

    Args:
        gallery: Opened with its pipeline.
        far: As in `Gallery.identify`; less lists less.
    """
    after, listed = "", set[frozenset[str]]()
    while page := gallery.people(limit=PAGE, after=after):
        for person in page:
            rows = np.stack([template.embedding for template in gallery.templates(person.number)])
            mean = rows.sum(axis=0, dtype=np.float64)
            probes = np.vstack([mean / np.linalg.norm(mean), rows]).astype(np.float32)
            whole, *each = gallery.identify(probes, far=far, most=2)
            other = nearest_other(whole, person.number)
            if other is not None and frozenset({person.name, other.name}) not in listed:
                listed.add(frozenset({person.name, other.name}))
                yield Lookalike(person.name, None, other.name, other.distance, whole.threshold)
            for face, answer in zip(gallery.faces(person.number), each, strict=True):
                other = nearest_other(answer, person.number)
                if other is not None and answer.matches[0] is other:
                    yield Lookalike(person.name, face.number, other.name, other.distance, answer.threshold)
        after = page[-1].name


def nearest_other(answer: Identification, person: int) -> Match | None:
    """Return the nearest other person within the threshold, or None."""
    others = (match for match in answer.matches if match.number != person)
    return next((match for match in others if match.distance <= answer.threshold), None)
