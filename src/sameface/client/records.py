"""What a service answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sameface.arrays import Embeddings
from sameface.face import Face
from sameface.gallery.records import Identification, Person

PoseName = Literal["straight", "left", "right"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The faces of a picture.

    Attributes:
        width: Of the upright picture, in pixels.
        height: Likewise.
        faces: The highest score first.
    """

    width: int
    height: int
    faces: tuple[Face, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The embeddings of a picture's faces.

    Attributes:
        signature: The pipeline that made them; only rows of one signature can be compared.
        faces: `n` of them.
        rows: `(n, d) float32` unit rows.
    """

    signature: str
    faces: tuple[Face, ...]
    rows: Embeddings


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """Whether two pictures show the same person; true if they do.

    Attributes:
        distance: The squared Euclidean distance of the two embeddings, 0 to 4.
        threshold: The distance at and under which they count as the same.
        far: The part of the pairs of different people that this threshold accepts.
        probability: The chance of one person, one half at the threshold; None if not calibrated.
        in_range: The calibration of the probability saw pairs about this distance.
        a: The face in the first picture.
        b: The face in the second.
        live: Whether the first picture shows who passed the challenge; None if none was named.
        population: Of whom `far` holds: `mixed`, `alike` or `own`.
        extrapolated: `far` lies below the rates that were counted, and rests on a fitted tail.
    """

    distance: float
    threshold: float
    far: float
    probability: float | None
    in_range: bool
    a: Face
    b: Face
    live: bool | None = None
    population: str = "mixed"
    extrapolated: bool = False

    def __bool__(self) -> bool:
        """Whether the two are the same person, as `same`."""
        return self.same

    @property
    def same(self) -> bool:
        """Whether the distance is at or under the threshold."""
        return self.distance <= self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class Identified:
    """Who the faces of a picture are; true if somebody is named.

    Attributes:
        width: Of the upright picture, in pixels.
        height: Likewise.
        faces: `n` of them.
        answers: Who each is.
        live: Whether each is who passed the challenge; None if none was named.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    answers: tuple[Identification, ...]
    live: tuple[bool | None, ...] = ()

    def __bool__(self) -> bool:
        """Whether any face is named."""
        return any(self.answers)

    @property
    def names(self) -> list[str | None]:
        """The name of each face; None for a stranger."""
        return [answer.name for answer in self.answers]


@dataclass(frozen=True, slots=True)
class Challenge:
    """What somebody before a camera is to do.

    Attributes:
        id: What pictures are sent to, and what is named afterwards.
        wanted: The pose to take now; left and right are the person's own.
        total: How many poses there are.
        seconds: How long there is for all of them, from the beginning.
    """

    id: str
    wanted: PoseName | None
    total: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeStep:
    """How far somebody before a camera is; true once the challenge is passed.

    Attributes:
        state: Whether it is over.
        reason: Why it failed.
        wanted: The pose to take now; None when it is over.
        met: How many poses were taken.
        total: Of how many.
        too_fast: The pose counts only if the way to it was seen.
        face: What was looked at in the picture; None if there was no face.
    """

    state: Literal["running", "passed", "failed"]
    reason: str | None
    wanted: PoseName | None
    met: int
    total: int
    too_fast: bool
    face: Face | None

    def __bool__(self) -> bool:
        """Whether the challenge is passed."""
        return self.state == "passed"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something was not done, as the service tells it.

    Attributes:
        code: A stable word for programs.
        message: A sentence for people.
        detail: The facts behind it.
    """

    code: str
    message: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was not used.

    Attributes:
        picture: The file's name.
        number: Its place in the request, from 0.
        fault: Why.
    """

    picture: str
    number: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What came of the pictures of a person.

    Attributes:
        person: As enrolled now.
        added: Faces that were added; a face that was there already is not counted.
        skipped: Pictures that were not used.
    """

    person: Person
    added: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AlbumFace:
    """A face of an album.

    Attributes:
        face: Where it is in its picture.
        picture: The place of the picture in the request, from 0.
        filename: What the picture is called.
        thumbnail: A small JPEG file.
    """

    face: Face
    picture: int
    filename: str
    thumbnail: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Album:
    """Pictures sorted by person.

    Attributes:
        threshold: How near the faces of one person are.
        far: What it was chosen by.
        faces: Every face.
        groups: Numbers of faces, one person each, the largest group first.
        skipped: Pictures that could not be read.
    """

    threshold: float
    far: float
    faces: tuple[AlbumFace, ...]
    groups: tuple[tuple[int, ...], ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """How far an album is.

    Attributes:
        id: What to ask for it by.
        state: How far it is.
        done: Pictures that were looked at.
        total: Pictures in all.
        fault: Why it failed.
        album: What came out, once it is done.
    """

    id: str
    state: JobState
    done: int
    total: int
    fault: Fault | None
    album: Album | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds that hold for a population.

    Attributes:
        population: `mixed`, `alike` or `own`.
        calibrated_on: The pictures, in words.
        thresholds: The distance that holds each false-accept rate.
        extrapolated: The rates that were not counted, but rest on a fitted tail.
    """

    population: str
    calibrated_on: str
    thresholds: dict[float, float]
    extrapolated: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a service runs on.

    Attributes:
        signature: Of the pipeline.
        detector: Its manifest.
        embedder: Its manifest.
        dimension: The numbers of a row.
        thresholds: The distance that holds each false-accept rate, as the service uses them.
        population: Of whom these hold.
        populations: The thresholds of the embedder for each population, the default first.
        people: How many are enrolled; None without a gallery.
        faces: How many faces they have; None without a gallery.
        limits: What a request may hold.
        version: Of the service.
    """

    signature: str
    detector: dict[str, Any]
    embedder: dict[str, Any]
    dimension: int
    thresholds: dict[float, float]
    population: str
    populations: tuple[Calibration, ...]
    people: int | None
    faces: int | None
    limits: dict[str, int]
    version: str


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done.

    Attributes:
        number: Rising.
        time: When.
        key: The name of the key; None without keys.
        action: Such as `enroll`.
        gallery: Whose numbers are meant; None for nobody in particular.
        person: Whom it was done to, by number; None for nobody in particular.
        name: What they are called now; None for who is not enrolled any more, or in another gallery.
        detail: Numbers, and the names of keys.
        hash: Over the entry before and everything in this one but the name.
    """

    number: int
    time: datetime
    key: str | None
    action: str
    gallery: str | None
    person: int | None
    name: str | None
    detail: dict[str, Any]
    hash: str
