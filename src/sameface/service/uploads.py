"""A picture that came with a request."""

from __future__ import annotations

import binascii
import io
from base64 import b64decode
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


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
