"""What the service answers, as models that OpenAPI describes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sameface.challenge import Pose, Reason
from sameface.gallery.records import Rule
from sameface.service import examples


def shown(example: examples.Example) -> ConfigDict:
    """Return the settings of an answer with its example."""
    return ConfigDict(extra="forbid", json_schema_extra={"example": example})


Population = Annotated[
    str,
    Field(
        description="Of whom the rates hold: of people `alike` in age, sex and origin, of people of all "
        "kinds (`mixed`), or of those of the gallery's owner (`own`)."
    ),
]
EXTRAPOLATED = "The rate lies below those that were counted; it rests on a fitted tail."


class Answer(BaseModel):
    """Everything that is answered."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Answer):
    """What went wrong."""

    code: str = Field(description="A stable word for programs.", examples=["no_face"])
    message: str = Field(description="A sentence for people.", examples=["no face found in 'team.jpg'"])
    detail: dict[str, Any] = Field(description="The facts behind the message.", examples=[{"name": "team.jpg"}])


class ErrorAnswer(Answer):
    """Every error has this shape."""

    model_config = shown({"error": examples.ERROR})

    error: ErrorBody


class FaceAnswer(Answer):
    """Where a face is, in pixels of the upright picture."""

    model_config = shown(examples.PLACE)

    box: list[float] = Field(description="Left, top, right, bottom.", min_length=4, max_length=4)
    landmarks: list[list[float]] = Field(
        description="x and y of left eye, right eye, nose, left and right corner of the mouth, as seen.",
        min_length=5,
        max_length=5,
    )
    score: float = Field(description="How sure the detector is, 0 to 1.")


class DetectAnswer(Answer):
    """The faces of a picture, the highest score first."""

    model_config = shown(examples.DETECT)

    width: int
    height: int
    faces: list[FaceAnswer]


class EmbeddedFace(FaceAnswer):
    """A face and where it lies on the unit sphere."""

    model_config = shown(examples.EMBED["faces"][0])

    embedding: list[float] = Field(description="A row of length 1.")


class EmbedAnswer(Answer):
    """The embedding of every face."""

    model_config = shown(examples.EMBED)

    signature: str = Field(description="The pipeline; only rows of one signature can be compared.")
    dimension: int
    faces: list[EmbeddedFace]


class VerifyAnswer(Answer):
    """Whether two pictures show the same person."""

    model_config = shown(examples.VERIFY)

    same: bool = Field(description="The distance is at or under the threshold.")
    distance: float = Field(description="Squared Euclidean distance, 0 to 4; lower is nearer.", examples=[0.09])
    threshold: float = Field(examples=[0.21])
    far: float = Field(description="The part of pairs of different people that the threshold accepts.")
    rule: Literal["pair"] = Field(description="One face was compared with one other.")
    population: Population
    extrapolated: bool = Field(description=EXTRAPOLATED)
    probability: float | None = Field(
        description="The chance of one person, one half at the threshold; null if not calibrated."
    )
    in_range: bool = Field(description="The calibration of the probability saw pairs about this distance.")
    a: FaceAnswer
    b: FaceAnswer
    live: bool | None = Field(
        None, description="The first picture shows who passed the challenge; null if none was named."
    )


class ChallengeAnswer(Answer):
    """What somebody before a camera is to do."""

    model_config = shown(examples.CHALLENGE)

    id: str
    wanted: Pose | None = Field(description="The pose to take now, seen by the person; null when it is over.")
    met: int = Field(description="Poses that were taken.")
    total: int
    seconds: float = Field(description="How long there is from the beginning for all of them.")


class FrameAnswer(Answer):
    """How far somebody before a camera is, after one more picture."""

    model_config = shown(examples.FRAME)

    state: Literal["running", "passed", "failed"]
    reason: Reason | None = Field(
        description="Why it failed: the time is over, no face was seen for too long, the face leapt, it was "
        "another person's, or it turned to the other side."
    )
    wanted: Pose | None = Field(description="The pose to take now, seen by the person; null when it is over.")
    met: int = Field(description="Poses that were taken.")
    total: int
    too_fast: bool = Field(description="The pose counts only if the way to it was seen: again, more slowly.")
    width: int | None = Field(description="Of the picture; null if no face was found in it.")
    height: int | None
    face: FaceAnswer | None = Field(description="The face that was looked at, the largest.")


class MatchAnswer(Answer):
    """Somebody that a face may be."""

    person: int = Field(description="The `id` of the person.")
    name: str
    distance: float
    votes: int


class IdentifiedFace(FaceAnswer):
    """A face and who it is."""

    model_config = shown(examples.IDENTIFIED)

    person: int | None = Field(description="The `id` of the person; null for a stranger.")
    name: str | None = Field(description="null for a stranger.")
    ambiguous: bool = Field(description="Several people are within the threshold.")
    threshold: float
    far: float = Field(description="The part of the strangers that this threshold gives a name.")
    asked: float = Field(description="The part that was asked for; less than `far` where that cannot be held.")
    rule: Rule = Field(description="Compared with one `template` per person, or with all `rows`.")
    size: int = Field(description="How many templates or faces that is.")
    population: Population
    extrapolated: bool = Field(description=EXTRAPOLATED)
    warning: str | None = Field(description="Why `far` is over `asked`, or extrapolated; null for neither.")
    closed_set: bool
    matches: list[MatchAnswer] = Field(description="The nearest people, the nearest first.")
    live: bool | None = Field(None, description="It is who passed the challenge; null if none was named.")


class IdentifyAnswer(Answer):
    """Who the faces of a picture are."""

    model_config = shown(examples.IDENTIFY)

    width: int
    height: int
    faces: list[IdentifiedFace]


class PersonAnswer(Answer):
    """Somebody who is enrolled."""

    model_config = shown(examples.PERSON)

    id: int = Field(description="Stays when the name changes; nobody else gets it later.")
    name: str
    faces: int = Field(description="How many faces are enrolled.")
    consent: str | None = Field(description="The note on how and when the person agreed; null without one.")
    expires: str | None = Field(
        description="From when on they are not named, and are deleted (ISO 8601, UTC); null for never.",
        examples=["2027-01-31T00:00:00+00:00"],
    )


class PeopleAnswer(Answer):
    """A page of people by name."""

    model_config = shown(examples.PEOPLE)

    people: list[PersonAnswer]
    next: str | None = Field(description="Give it as `after` for the next page; null at the end.")
    total: int = Field(description="How many people there are in all.")


class SkippedPicture(Answer):
    """A picture that was not used."""

    picture: str = Field(description="The file's name.")
    number: int = Field(description="Its place in the request, from 0.")
    error: ErrorBody


class EnrollAnswer(Answer):
    """What came of the pictures."""

    model_config = shown(examples.ENROLL)

    person: PersonAnswer
    enrolled: int = Field(description="Faces that were added; a face that was there already is not counted.")
    skipped: list[SkippedPicture]


class ErasureAnswer(Answer):
    """That the bytes of what was deleted were overwritten."""

    number: int = Field(description="Of the entry in the chain of receipts.")
    time: str
    places: dict[str, bool] = Field(description="Where, and whether nothing is left there.")
    hash: str


class ReceiptAnswer(Answer):
    """That a person or a face was deleted, or a person merged. It is kept without names."""

    model_config = shown(examples.RECEIPT)

    number: int = Field(description="Of the entry in the chain of receipts.")
    time: str = Field(description="ISO 8601, UTC.")
    gallery: str = Field(description="Whose numbers are meant.")
    reason: Literal["forget", "forget_face", "expire", "merge"]
    person: int
    face: int | None = Field(description="The face that was deleted alone; null if all were.")
    into: int | None = Field(description="The person that the faces moved to; null for a deletion.")
    faces: int
    crops: int = Field(description="Faces of which a picture had been kept.")
    pictures: int = Field(description="Hashes of pictures that showed nobody else.")
    hash: str = Field(description="SHA-256 over the entry before and this one.")
    erasure: ErasureAnswer | None = Field(description="null as long as bytes may be left.")
    complete: bool = Field(description="Nothing is left in any of the places.")
    not_covered: list[str] = Field(description="What no receipt speaks of.")


class ReceiptsAnswer(Answer):
    """A page of receipts, the oldest first."""

    model_config = shown(examples.RECEIPTS)

    receipts: list[ReceiptAnswer]
    next: int | None = Field(description="Give it as `after` for the next page; null at the end.")


class EnrolledFaceAnswer(Answer):
    """An enrolled face of a person."""

    id: int
    box: list[float]
    score: float
    crop: bool = Field(description="The face that was cut out is kept and can be fetched.")


class FacesAnswer(Answer):
    """A page of faces in the order of enrolment."""

    model_config = shown(examples.FACES)

    faces: list[EnrolledFaceAnswer]
    next: int | None = Field(description="Give it as `after` for the next page; null at the end.")


class AlbumFaceAnswer(FaceAnswer):
    """A face of an album."""

    model_config = shown(examples.ALBUM["faces"][0])

    picture: int = Field(description="The place of its picture in the request, from 0.")
    filename: str
    thumbnail: str = Field(description="A small JPEG as a data address.")


class AlbumAnswer(Answer):
    """The groups of an album."""

    threshold: float
    far: float
    faces: list[AlbumFaceAnswer]
    groups: list[list[int]] = Field(description="Numbers of faces, the largest group first.")
    skipped: list[SkippedPicture]


class JobAnswer(Answer):
    """How far an album is."""

    model_config = shown(examples.JOB)

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int = Field(description="Pictures that were looked at.")
    total: int
    error: ErrorBody | None
    result: AlbumAnswer | None


class ThresholdAnswer(Answer):
    """A false-accept rate and the distance that holds it."""

    far: float
    distance: float
    extrapolated: bool = Field(description=EXTRAPOLATED)


class CalibrationAnswer(Answer):
    """The thresholds that hold for a population."""

    population: Population
    calibrated_on: str = Field(description="The pictures, in words.")
    thresholds: list[ThresholdAnswer]


class CountsAnswer(Answer):
    """The size of the gallery."""

    people: int
    faces: int


class ModelAnswer(Answer):
    """What the service runs on."""

    model_config = shown(examples.MODEL)

    signature: str
    detector: dict[str, Any] = Field(description="The manifest.")
    embedder: dict[str, Any] = Field(description="The manifest.")
    dimension: int
    thresholds: list[ThresholdAnswer] = Field(description="Those in use: the gallery's own, if it keeps any.")
    population: Population
    populations: list[CalibrationAnswer] = Field(description="All of the embedder, the default first.")
    gallery: CountsAnswer | None
    limits: dict[str, int]
    version: str


class EntryAnswer(Answer):
    """Something that was done."""

    id: int
    time: str = Field(description="ISO 8601, UTC.", examples=["2026-01-31T09:15:02.117+00:00"])
    key: str | None = Field(description="The name of the key; null without keys.")
    action: str = Field(examples=["enroll"])
    gallery: str | None = Field(description="Whose numbers are meant; null for nobody in particular.")
    person: int | None = Field(description="Whom it was done to, by number; null for nobody in particular.")
    name: str | None = Field(
        description="What they are called now; null for who is not enrolled any more, or in another gallery."
    )
    detail: dict[str, Any]
    hash: str = Field(description="SHA-256 over the entry before and everything in this one but the name.")


class AuditAnswer(Answer):
    """A page of the audit log, the latest first."""

    model_config = shown(examples.AUDIT)

    entries: list[EntryAnswer]
    next: int | None = Field(description="Give it as `after` for the next page; null at the end.")


class HealthAnswer(Answer):
    """Whether the service runs."""

    model_config = shown(examples.HEALTH)

    status: Literal["ok"]
