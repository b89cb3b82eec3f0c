"""The recorded truth of a soak: who must be enrolled, in plain records, and what the service must answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.face import Face
from sameface.thresholds import Thresholds
from soaking.pictures import Album, Picture

DISTANCE = 2e-5  # what batches and threads may change a distance by
PIXELS = 0.05  # and a corner of a box
SCORE = 1e-3

Key: TypeAlias = tuple[str, int]  # a picture, and which of its faces
Json: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A person who must be enrolled.

    Attributes:
        number: As the service told it.
        faces: In the order of enrolment, which is all they can be told apart by; with the place in it.
        consent: The note.
    """

    number: int
    faces: tuple[tuple[int, Key], ...]
    consent: str | None = None

    def answer(self, name: str) -> Json:
        """Return the person as the service must answer it, in the fields that are checked."""
        return {"id": self.number, "name": name, "faces": len(self.faces), "consent": self.consent}


People: TypeAlias = Mapping[str, Enrolled]


class Truth:
    """Who was enrolled at every moment; an answer that was on its way during a change may be of either."""

    def __init__(self, album: Album, thresholds: Thresholds) -> None:
        self.album = album
        self.thresholds = thresholds
        self.gone: set[str] = set()  # names that were forgotten, merged away or given up
        self._moments: list[People] = [{}]
        self._certain = 0  # the last of them that the service has acknowledged
        self._faces = 0

    @property
    def now(self) -> People:
        """Who is enrolled, as far as is acknowledged."""
        return self._moments[self._certain]

    @property
    def certain(self) -> int:
        """The moment that a question that is asked now cannot be older than."""
        return self._certain

    def begin(self, people: People) -> None:
        """Tell what is about to be: from now on answers may show it."""
        self._moments.append(people)

    def settle(self, *, done: bool) -> None:
        """Tell that what was begun is acknowledged, or was not done after all."""
        if done:
            self.gone |= self.now.keys() - self._moments[-1].keys()
        else:
            self._moments.append(self.now)
        self._certain = len(self._moments) - 1

    def number_faces(self, keys: list[Key]) -> tuple[tuple[int, Key], ...]:
        """Return new faces with their places in the order of enrolment."""
        start = self._faces
        self._faces += len(keys)
        return tuple((start + place, key) for place, key in enumerate(keys))

    def faults_since(self, moment: int, find: Callable[[People], list[str]]) -> list[str]:
        """Return what is wrong with an answer by the last moment, if it is wrong by every moment since."""
        found = [find(people) for people in reversed(self._moments[moment:])]
        return [] if [] in found else found[0]

    def owners(self) -> dict[Key, str]:
        """Return whose every enrolled face is."""
        return {key: name for name, person in self.now.items() for _, key in person.faces}

    def row(self, key: Key) -> Embeddings:
        """Return the recorded row of a face."""
        row: Embeddings = self.album.find(key[0]).rows[key[1]]
        return row

    def compared(self, people: People, *, by_face: bool) -> tuple[list[str], list[Embeddings], NDArray[np.float64]]:
        """Return what a probe is compared with: owners, rows, and the scale of each distance."""
        rows = {name: [self.row(key) for _, key in person.faces] for name, person in people.items()}
        if by_face:
            names = [name for name, own in rows.items() for _ in own]
            return names, [row for own in rows.values() for row in own], np.ones(len(names))
        means = [np.asarray(np.mean(own, axis=0, dtype=np.float64)) for own in rows.values()]
        counts = np.array([len(own) for own in rows.values()], np.int64)
        units: list[Embeddings] = [(mean / np.linalg.norm(mean)).astype(np.float32) for mean in means]
        return list(rows), units, 1 / self.thresholds.template_factors(counts)

    def check_identified(self, picture: Picture, wish: Mapping[str, Any], body: Json, people: People) -> list[str]:
        """Return what is wrong with an answer of identify."""
        names, known, scale = self.compared(people, by_face=wish["k"] > 1)
        limit = self.thresholds.at_gallery(len(names), wish["far"])
        threshold, far = limit.distance, limit.fpir
        faults = check_faces(picture.faces, body["faces"])
        if faults or not names:
            return faults or expect("matches", [face["matches"] for face in body["faces"]], [[]] * len(picture.faces))
        table = np.minimum(squared_distances(picture.rows, np.stack(known)) * scale, 4)
        for face, distances in zip(body["faces"], table, strict=True):
            near = sorted(zip(map(float, distances), names, strict=True))
            faults += expect("threshold", (face["threshold"], face["far"]), (threshold, far))
            faults += check_matches(near, threshold, wish, face)
            if (person := people.get(face["name"])) is not None and person.number:
                faults += expect("person", face["person"], person.number)
        return faults


def check_matches(near: list[tuple[float, str]], threshold: float, wish: Mapping[str, Any], face: Json) -> list[str]:
    """Return what is wrong with who a face is said to be.

    Args:
        near: Distance and name of every enrolled face, the nearest first.
        threshold: At and under which a face may be a person's.
        wish: `k`, `most` and `closed_set`.
        face: What was answered.
    """
    first: dict[str, float] = {}
    for distance, name in near:
        first.setdefault(name, distance)
    listed = list(first.items())[: wish["most"]]
    limit = 4.0 if wish["closed_set"] else threshold
    voters = [name for distance, name in near[: wish["k"]] if distance <= limit]
    votes = Counter(voters)
    winner = max(votes, key=lambda name: (votes[name], -first[name]), default=None)
    found = [match["distance"] for match in face["matches"]]
    right = [first.get(match["name"], 9) for match in face["matches"]]
    faults = []
    if not close(found, [distance for _, distance in listed], DISTANCE) or not close(found, right, DISTANCE):
        faults.append(f"matches {face['matches']}, wanted {listed}")
    if is_settled([distance for distance, _ in near[: wish["k"] + 1]], limit):
        faults += expect("name", face["name"], winner)
        told = {match["name"]: match["votes"] for match in face["matches"] if match["votes"]}
        faults += expect("votes", told, dict(votes))
    if all(abs(distance - threshold) > DISTANCE for distance in first.values()):
        faults += expect("ambiguous", face["ambiguous"], sum(at <= threshold for at in first.values()) > 1)
    return faults


def is_settled(distances: list[float], limit: float) -> bool:
    """Return whether nothing is so near to something else that a rounding could decide."""
    edges = sorted([*distances, limit])
    return all(after - before > DISTANCE for before, after in pairwise(edges))


def check_faces(faces: list[Face], answers: Json) -> list[str]:
    """Return what is wrong with the faces of a picture as the service tells them."""
    if len(faces) != len(answers):
        return [f"{len(answers)} faces, wanted {len(faces)}"]
    return [fault for face, answer in zip(faces, answers, strict=True) for fault in check_face(face, answer)]


def check_face(face: Face, answer: Json) -> list[str]:
    """Return what is wrong with one face."""
    right = (
        close(answer["box"], face.box, PIXELS)
        and close(answer["landmarks"], face.landmarks, PIXELS)
        and close(answer["score"], face.score, SCORE)
    )
    return [] if right else [f"a face at {answer}, wanted {face}"]


def close(found: Any, wanted: Any, reach: float) -> bool:
    """Return whether numbers are what they must be."""
    return np.shape(found) == np.shape(wanted) and bool(np.allclose(found, wanted, rtol=0, atol=reach))


def expect(what: str, found: object, wanted: object) -> list[str]:
    """Return a fault unless two things are equal."""
    return [] if found == wanted else [f"{what} {found!r}, wanted {wanted!r}"]


def check_person(found: Json, wanted: Json) -> list[str]:
    """Return a fault unless a person is answered as they must be."""
    return expect("person", {name: found.get(name) for name in wanted}, wanted)


def without(people: People, name: str) -> dict[str, Enrolled]:
    """Return the others."""
    return {other: person for other, person in people.items() if other != name}


def merged(people: People, source: str, into: str) -> dict[str, Enrolled]:
    """Return who is enrolled once one person's faces have moved to another."""
    gone, kept = people[source], people[into]
    note = gone.consent if kept.consent is None else kept.consent
    return without(people, source) | {into: replace(kept, faces=tuple(sorted(kept.faces + gone.faces)), consent=note)}
