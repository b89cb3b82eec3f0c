"""The schemas of request bodies."""

from __future__ import annotations

import binascii
import io
from base64 import b64decode
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sameface.gallery.records import Rule

LARGEST_ID = 2**53  # the largest whole number that every reader of JSON keeps
BASE64 = "/9j/4AAQSkZJRgABAQ...2Q=="


class Upload(io.BytesIO):
    """The bytes of a picture. Its name is for messages only, and never a path.

    In a body it is a file of a form, or base64 in JSON.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "byte", "contentEncoding": "base64", "title": "A picture in base64"}

    @classmethod
    def _validate(cls, value: object, info: core_schema.ValidationInfo) -> Upload:
        """Return an upload as it is, or the one that a string of base64 holds."""
        if isinstance(value, Upload):
            return value
        if not isinstance(value, str):
            raise ValueError(  # noqa: TRY004, what pydantic takes for a wrong value
                "wanted a file of a form, or a picture in base64"
            )
        try:
            return cls(b64decode(value, validate=True), info.field_name or "picture")
        except (binascii.Error, ValueError) as error:
            raise ValueError("not base64") from error


def read_choice(value: Any) -> Any:
    """Return the number that a field of a form holds."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


Choice = Annotated[
    Literal["only", "largest", "first"] | Annotated[int, Field(ge=0, le=100_000)],
    BeforeValidator(read_choice),
    Field(description="Which face: the only one, the largest, the first, or a number in the order of detect."),
]
Far = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=1000, description="1 to 200 characters.")]
Passed = Annotated[
    str | None, Field(max_length=64, description="A challenge that was passed: is it the same person who did?")
]
Note = Annotated[
    str | None, Field(max_length=1000, description="A note on how and when the person agreed, 1 to 500 characters.")
]
Expiry = Annotated[
    str | None,
    Field(
        max_length=100,
        description="When the person is to be deleted: `365d`, `2027-01-31` (UTC); `never` where it changes.",
    ),
]
Pictures = Annotated[list[Upload], FailFast()]


class RequestBody(BaseModel):
    """The settings of every body; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class PictureBody(RequestBody):
    """One picture."""

    model_config = ConfigDict(json_schema_extra={"example": {"picture": BASE64}})

    picture: Upload


class VerifyBody(RequestBody):
    """Two pictures."""

    model_config = ConfigDict(json_schema_extra={"example": {"a": BASE64, "b": BASE64, "far": 0.001}})

    a: Upload
    b: Upload
    face_a: Choice = "only"
    face_b: Choice = "only"
    far: Far = Field(1e-3, description="The part of the pairs of different people that may be accepted.")
    challenge: Passed = None


class IdentifyBody(RequestBody):
    """One picture, and how to search."""

    model_config = ConfigDict(json_schema_extra={"example": {"picture": BASE64, "far": 0.01, "most": 3}})

    picture: Upload
    k: int = Field(1, ge=1, le=100, description="How many nearest faces vote; over 1 by the rule `rows` only.")
    rule: Rule | None = Field(
        None,
        description="Compare with one `template` per person, the mean of their faces, or with all `rows`; "
        "null takes `rows` if `k` is over 1, else `template`.",
    )
    far: Far | None = Field(None, description="The part of the strangers that may be given a name.")
    closed_set: bool = Field(default=False, description="Everyone is enrolled for certain: name the nearest.")
    most: int = Field(5, ge=1, le=100, description="How many people to list for each face.")
    challenge: Passed = None

    @model_validator(mode="after")
    def refuse_votes_of_templates(self) -> Self:
        """Refuse several neighbours where each person has one template."""
        if self.rule == "template" and self.k > 1:
            raise ValueError("k over 1 needs the rule rows: each person has one template")
        return self


class FacesBody(RequestBody):
    """Pictures of one person."""

    model_config = ConfigDict(json_schema_extra={"example": {"pictures": [BASE64, BASE64], "faces": ["only", 0]}})

    pictures: Pictures = Field(min_length=1, description="Up to `request_pictures` of /v1/model.")
    faces: Annotated[list[Choice], FailFast()] = Field(
        [], description="Which face of each picture; empty means the only one."
    )
    consent: Note = None
    expire_after: Expiry = None


class EnrollBody(FacesBody):
    """A new person."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Rosa", "pictures": [BASE64], "consent": "signed form, 2026-01-31"}}
    )

    name: Name


class PersonBody(RequestBody):
    """What is new about a person; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Rosa Luz"}})

    name: Annotated[str | None, Field(max_length=1000, description="1 to 200 characters.")] = None
    consent: Note = None
    expire_after: Expiry = None


class MergeBody(RequestBody):
    """The person to merge into."""

    model_config = ConfigDict(json_schema_extra={"example": {"into": 17}})

    into: int = Field(ge=1, le=LARGEST_ID)


class ClusterBody(RequestBody):
    """An album."""

    model_config = ConfigDict(json_schema_extra={"example": {"pictures": [BASE64, BASE64], "far": 0.0003}})

    pictures: Pictures = Field(min_length=1, description="Up to `album_pictures` of /v1/model.")
    far: Far = Field(3e-4, description="How near the faces of one person must be.")
