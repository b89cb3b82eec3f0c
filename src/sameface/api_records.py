"""The records that the service sends and the client reads: one dataclass for each JSON object.

The docstring of a class and the `Doc` of a field are their descriptions in OpenAPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np

from sameface.api_json import (
    Box,
    BoxOfAnyLength,
    Doc,
    Embedding,
    Jpeg,
    JsonAs,
    Landmarks,
    Moment,
    Score,
    copy_fields,
    same_fields,
)
from sameface.arrays import Embeddings
from sameface.challenge import Pose
from sameface.challenge import Reason as FailureReason
from sameface.face import Face
from sameface.gallery.records import Erasure, Identification, Match, Person, Reason, Rule

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Population = Annotated[
    str,
    Doc(
        "Of whom the rates hold: of people `alike` in age, sex and origin, of people of all kinds (`mixed`), or of "
        "those of the gallery's owner (`own`)."
    ),
]
Extrapolated = Annotated[bool, Doc("The rate lies below those that were counted; it rests on a fitted tail.")]


class Answer:
    """The settings of all records for OpenAPI."""

    __slots__ = ()
    __pydantic_config__: Mapping[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class ErrorBody(Answer):
    """What went wrong."""

    code: Annotated[str, Doc("A stable word for programs.", examples=["no_face"])]
    message: Annotated[str, Doc("A sentence for people.", examples=["no face found in 'team.jpg'"])]
    detail: Annotated[dict[str, Any], Doc("The facts behind the message.", examples=[{"name": "team.jpg"}])]


@dataclass(frozen=True, slots=True)
class ErrorAnswer(Answer):
    """Every error has this shape."""

    error: ErrorBody


@dataclass(frozen=True, slots=True, eq=False)
class FaceAnswer(Face, Answer):
    """Where a face is, in pixels of the upright picture."""

    box: Annotated[Box, Doc("Left, top, right, bottom.")]
    landmarks: Annotated[
        Landmarks, Doc("x and y of left eye, right eye, nose, left and right corner of the mouth, as seen.")
    ]
    score: Annotated[Score, Doc("How sure the detector is, 0 to 1.")]


@dataclass(frozen=True, slots=True, eq=False)
class DetectAnswer(Answer):
    """The faces of a picture, the highest score first."""

    width: int
    height: int
    faces: tuple[FaceAnswer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace(FaceAnswer):
    """A face and where it lies on the unit sphere."""

    embedding: Annotated[Embedding, Doc("A row of length 1.")]


@dataclass(frozen=True, slots=True, eq=False)
class EmbedAnswer(Answer):
    """The embedding of every face."""

    signature: Annotated[str, Doc("The pipeline; only rows of one signature can be compared.")]
    dimension: int
    faces: tuple[EmbeddedFace, ...]

    @property
    def rows(self) -> Embeddings:
        """The embeddings of the `n` faces, `(n, d) float32` unit rows."""
        return np.array([face.embedding for face in self.faces], np.float32).reshape(-1, self.dimension)


@dataclass(frozen=True, slots=True, eq=False)
class VerifyAnswer(Answer):
    """Whether two pictures show the same person."""

    same: Annotated[bool, Doc("The distance is at or under the threshold.")]
    distance: Annotated[float, Doc("Squared Euclidean distance, 0 to 4; lower is nearer.", examples=[0.09])]
    threshold: Annotated[float, Doc(examples=[0.21])]
    far: Annotated[float, Doc("The part of pairs of different people that the threshold accepts.")]
    rule: Annotated[Literal["pair"], Doc("One face was compared with one other.")]
    population: Population
    extrapolated: Extrapolated
    probability: Annotated[
        float | None, Doc("The chance of one person, one half at the threshold; null if not calibrated.")
    ]
    in_range: Annotated[bool, Doc("The calibration of the probability saw pairs about this distance.")]
    a: FaceAnswer
    b: FaceAnswer
    live: Annotated[bool | None, Doc("The first picture shows who passed the challenge; null if none was named.")] = (
        None
    )

    def __bool__(self) -> bool:
        return self.same


@dataclass(frozen=True, slots=True)
class ChallengeAnswer(Answer):
    """What somebody before a camera is to do."""

    id: str
    wanted: Annotated[Pose | None, Doc("The pose to take now, seen by the person; null when it is over.")]
    met: Annotated[int, Doc("Poses that were taken.")]
    total: int
    seconds: Annotated[float, Doc("How long there is from the beginning for all of them.")]


@dataclass(frozen=True, slots=True, eq=False)
class FrameAnswer(Answer):
    """How far somebody before a camera is, after one more picture."""

    state: Literal["running", "passed", "failed"]
    reason: Annotated[
        FailureReason | None,
        Doc(
            "Why it failed: the time is over, no face was seen for too long, the face leapt, it was another person's, "
            "or it turned to the other side."
        ),
    ]
    wanted: Annotated[Pose | None, Doc("The pose to take now, seen by the person; null when it is over.")]
    met: Annotated[int, Doc("Poses that were taken.")]
    total: int
    too_fast: Annotated[bool, Doc("The pose counts only if the way to it was seen: again, more slowly.")]
    width: Annotated[int | None, Doc("Of the picture; null if no face was found in it.")]
    height: int | None
    face: Annotated[FaceAnswer | None, Doc("The face that was looked at, the largest.")]

    def __bool__(self) -> bool:
        return self.state == "passed"


@dataclass(frozen=True, slots=True)
class MatchAnswer(Answer):
    """Somebody that a face may be."""

    number: Annotated[int, Doc("The `id` of the person.")] = field(metadata={"alias": "person"})
    name: str
    distance: float
    votes: int


@dataclass(frozen=True, slots=True, eq=False)
class IdentifiedFace(FaceAnswer):
    """A face and who it is."""

    person: Annotated[int | None, Doc("The `id` of the person; null for a stranger.")]
    name: Annotated[str | None, Doc("null for a stranger.")]
    ambiguous: Annotated[bool, Doc("Several people are within the threshold.")]
    threshold: float
    far: Annotated[float, Doc("The part of the strangers that this threshold gives a name.")]
    asked: Annotated[float, Doc("The part that was asked for; less than `far` where that cannot be held.")]
    rule: Annotated[Rule, Doc("Compared with one `template` per person, or with all `rows`.")]
    size: Annotated[int, Doc("How many templates or faces that is.")]
    population: Population
    extrapolated: Extrapolated
    warning: Annotated[str | None, Doc("Why `far` is over `asked`, or extrapolated; null for neither.")]
    closed_set: bool
    matches: Annotated[
        tuple[Annotated[Match, same_fields(Match, MatchAnswer)], ...], Doc("The nearest people, the nearest first.")
    ]
    live: Annotated[bool | None, Doc("It is who passed the challenge; null if none was named.")] = None


@dataclass(frozen=True, slots=True, eq=False)
class IdentifyAnswer(Answer):
    """Who the faces of a picture are."""

    width: int
    height: int
    faces: tuple[IdentifiedFace, ...]

    def __bool__(self) -> bool:
        return any(self.answers)

    @property
    def answers(self) -> tuple[Identification, ...]:
        """Who each face is."""
        return tuple(copy_fields(Identification, face) for face in self.faces)

    @property
    def live(self) -> tuple[bool | None, ...]:
        """Whether each face is who passed the challenge; None if none was named."""
        return tuple(face.live for face in self.faces)

    @property
    def names(self) -> list[str | None]:
        """The name of each face; None for a stranger."""
        return [face.name for face in self.faces]


@dataclass(frozen=True, slots=True)
class PersonAnswer(Answer):
    """Somebody who is enrolled."""

    number: Annotated[int, Doc("Stays when the name changes; nobody else gets it later.")] = field(
        metadata={"alias": "id"}
    )
    name: str
    faces: Annotated[int, Doc("How many faces are enrolled.")]
    consent: Annotated[str | None, Doc("The note on how and when the person agreed; null without one.")]
    expires: Annotated[
        Annotated[datetime, JsonAs(str, datetime.fromisoformat, datetime.isoformat)] | None,
        Doc(
            "From when on they are not named, and are deleted (ISO 8601, UTC); null for never.",
            examples=["2027-01-31T00:00:00+00:00"],
        ),
    ]


@dataclass(frozen=True, slots=True)
class PeopleAnswer(Answer):
    """A page of people by name."""

    people: tuple[PersonAnswer, ...]
    next: Annotated[str | None, Doc("Give it as `after` for the next page; null at the end.")]
    total: Annotated[int, Doc("How many people there are in all.")]


@dataclass(frozen=True, slots=True)
class SkippedPicture(Answer):
    """A picture that was not used."""

    picture: Annotated[str, Doc("The file's name.")]
    number: Annotated[int, Doc("Its place in the request, from 0.")]
    fault: ErrorBody = field(metadata={"alias": "error"})


@dataclass(frozen=True, slots=True)
class EnrollAnswer(Answer):
    """What came of the pictures."""

    person: Annotated[Person, same_fields(Person, PersonAnswer)]
    added: Annotated[int, Doc("Faces that were added; a face that was there already is not counted.")] = field(
        metadata={"alias": "enrolled"}
    )
    skipped: tuple[SkippedPicture, ...]


@dataclass(frozen=True, slots=True)
class ErasureAnswer(Answer):
    """That the bytes of what was deleted were overwritten."""

    number: Annotated[int, Doc("Of the entry in the chain of receipts.")]
    time: Moment
    places: Annotated[dict[str, bool], Doc("Where, and whether nothing is left there.")]
    hash: str


@dataclass(frozen=True, slots=True)
class ReceiptAnswer(Answer):
    """That a person or a face was deleted, or a person merged. It is kept without names."""

    number: Annotated[int, Doc("Of the entry in the chain of receipts.")]
    time: Annotated[Moment, Doc("ISO 8601, UTC.")]
    gallery: Annotated[str, Doc("Whose numbers are meant.")]
    reason: Reason
    person: int
    face: Annotated[int | None, Doc("The face that was deleted alone; null if all were.")]
    into: Annotated[int | None, Doc("The person that the faces moved to; null for a deletion.")]
    faces: int
    crops: Annotated[int, Doc("Faces of which a picture had been kept.")]
    pictures: Annotated[int, Doc("Hashes of pictures that showed nobody else.")]
    hash: Annotated[str, Doc("SHA-256 over the entry before and this one.")]
    erasure: Annotated[
        Annotated[Erasure, same_fields(Erasure, ErasureAnswer)] | None, Doc("null as long as bytes may be left.")
    ]
    complete: Annotated[bool, Doc("Nothing is left in any of the places.")]
    not_covered: Annotated[tuple[str, ...], Doc("What no receipt speaks of.")]


@dataclass(frozen=True, slots=True)
class ReceiptsAnswer(Answer):
    """A page of receipts, the oldest first."""

    receipts: tuple[ReceiptAnswer, ...]
    next: Annotated[int | None, Doc("Give it as `after` for the next page; null at the end.")]


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledFaceAnswer(Answer):
    """An enrolled face of a person."""

    number: int = field(metadata={"alias": "id"})
    box: BoxOfAnyLength
    score: Score
    has_crop: Annotated[bool, Doc("The face that was cut out is kept and can be fetched.")] = field(
        metadata={"alias": "crop"}
    )


@dataclass(frozen=True, slots=True, eq=False)
class FacesAnswer(Answer):
    """A page of faces in the order of enrolment."""

    faces: tuple[EnrolledFaceAnswer, ...]
    next: Annotated[int | None, Doc("Give it as `after` for the next page; null at the end.")]


@dataclass(frozen=True, slots=True, eq=False)
class AlbumFaceAnswer(FaceAnswer):
    """A face of an album."""

    picture: Annotated[int, Doc("The place of its picture in the request, from 0.")]
    filename: str
    thumbnail: Annotated[Jpeg, Doc("A small JPEG as a data address.")]

    @property
    def face(self) -> Face:
        """Where it is in its picture."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class AlbumAnswer(Answer):
    """The groups of an album."""

    threshold: float
    far: float
    faces: tuple[AlbumFaceAnswer, ...]
    groups: Annotated[tuple[tuple[int, ...], ...], Doc("Numbers of faces, the largest group first.")]
    skipped: tuple[SkippedPicture, ...]


@dataclass(frozen=True, slots=True, eq=False)
class JobAnswer(Answer):
    """How far an album is."""

    id: str
    state: JobState
    done: Annotated[int, Doc("Pictures that were looked at.")]
    total: int
    fault: ErrorBody | None = field(metadata={"alias": "error"})
    album: AlbumAnswer | None = field(metadata={"alias": "result"})

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class ThresholdAnswer(Answer):
    """A false-accept rate and the distance that holds it."""

    far: float
    distance: float
    extrapolated: Extrapolated


@dataclass(frozen=True, slots=True)
class CalibrationAnswer(Answer):
    """The thresholds that hold for a population."""

    population: Population
    calibrated_on: Annotated[str, Doc("The pictures, in words.")]
    rates: tuple[ThresholdAnswer, ...] = field(metadata={"alias": "thresholds"})

    @property
    def thresholds(self) -> dict[float, float]:
        """The distance that holds each false-accept rate."""
        return {rate.far: rate.distance for rate in self.rates}

    @property
    def extrapolated(self) -> tuple[float, ...]:
        """The rates that were not counted, but rest on a fitted tail."""
        return tuple(rate.far for rate in self.rates if rate.extrapolated)


@dataclass(frozen=True, slots=True)
class CountsAnswer(Answer):
    """The size of the gallery."""

    people: int
    faces: int


@dataclass(frozen=True, slots=True)
class ModelAnswer(Answer):
    """What the service runs on."""

    signature: str
    detector: Annotated[dict[str, Any], Doc("The manifest.")]
    embedder: Annotated[dict[str, Any], Doc("The manifest.")]
    dimension: int
    rates: Annotated[tuple[ThresholdAnswer, ...], Doc("Those in use: the gallery's own, if it keeps any.")] = field(
        metadata={"alias": "thresholds"}
    )
    population: Population
    populations: Annotated[tuple[CalibrationAnswer, ...], Doc("All of the embedder, the default first.")]
    gallery: CountsAnswer | None
    limits: dict[str, int]
    version: str

    @property
    def thresholds(self) -> dict[float, float]:
        """The distance that holds each false-accept rate, as the service uses them."""
        return {rate.far: rate.distance for rate in self.rates}

    @property
    def people(self) -> int | None:
        """How many people are enrolled; None without a gallery."""
        return None if self.gallery is None else self.gallery.people

    @property
    def faces(self) -> int | None:
        """How many faces are enrolled; None without a gallery."""
        return None if self.gallery is None else self.gallery.faces


@dataclass(frozen=True, slots=True)
class EntryAnswer(Answer):
    """Something that was done."""

    number: int = field(metadata={"alias": "id"})
    time: Annotated[Moment, Doc("ISO 8601, UTC.", examples=["2026-01-31T09:15:02.117+00:00"])]
    key: Annotated[str | None, Doc("The name of the key; null without keys.")]
    action: Annotated[str, Doc(examples=["enroll"])]
    gallery: Annotated[str | None, Doc("Whose numbers are meant; null for nobody in particular.")]
    person: Annotated[int | None, Doc("Whom it was done to, by number; null for nobody in particular.")]
    name: Annotated[
        str | None, Doc("What they are called now; null for who is not enrolled any more, or in another gallery.")
    ]
    detail: dict[str, Any]
    hash: Annotated[str, Doc("SHA-256 over the entry before and everything in this one but the name.")]


@dataclass(frozen=True, slots=True)
class AuditAnswer(Answer):
    """A page of the audit log, the latest first."""

    entries: tuple[EntryAnswer, ...]
    next: Annotated[int | None, Doc("Give it as `after` for the next page; null at the end.")]


@dataclass(frozen=True, slots=True)
class HealthAnswer(Answer):
    """Whether the service runs."""

    status: Literal["ok"]
