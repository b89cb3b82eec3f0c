"""Limits on the bodies of requests: forms and JSON are read, checked, and described for OpenAPI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar, get_origin

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from sameface.service.errors import BodyTooLargeError, RequestError
from sameface.service.schemas import Upload
from sameface.service.state import State

OTHERS = 5000  # values of JSON beside the pictures; each comma counts, also one in a text
SHOWN, SHOWN_LETTERS = 20, 100  # problems of a body in an answer, and letters of the name of a field
SLOWEST = 1000  # bytes a second of a body, after the seconds that each piece may take

FORM, JSON = "multipart/form-data", "application/json"

Body = TypeVar("Body", bound=BaseModel)


class FormParser(MultiPartParser):
    """Keeps every file in memory: no picture is written to a disk."""

    spool_max_size = 1 << 62

    def close(self) -> None:
        """Close the files, also an incomplete one."""
        for file in self._files_to_close_on_error:
            file.close()

    def is_full(self) -> bool:
        """Return whether there are too many files."""
        return self._current_files > self.max_files


def body_of(model: type[Body], *, album: bool = False) -> Callable[[Request], AsyncIterator[Body]]:
    """Return a dependency that reads the body of a request; its bytes count as long as the request lasts.

    An `album` may be larger than other bodies.
    """

    async def read(request: Request) -> AsyncIterator[Body]:
        state: State = request.app.state.sameface
        config = state.config
        limit = config.album_bytes if album else config.request_bytes
        pictures = config.album_pictures if album else config.request_pictures
        with state.buffer.held() as held:
            request.state.held = held
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == FORM:
                take = lambda size: held.take(2 * size)  # noqa: E731, the files of the form, and the pictures
                stream = read_within(request, limit, config.wait_seconds, take)
                yield await read_form(request, stream, model, pictures)
            elif kind == JSON:
                stream = read_within(request, limit, config.wait_seconds, held.take)
                data = b"".join([chunk async for chunk in stream])
                held.take(size_of_strings(data))
                yield await asyncio.to_thread(parse_json, data, model, pictures)
            else:
                raise HTTPException(415, f"the body must be {FORM} or {JSON}, it is {kind or 'neither'!r}")

    return read


async def read_within(
    request: Request, limit: int, seconds: float, take: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes; `take` counts every piece before it is kept.

    A client has `seconds` for each piece, and for all of them together no longer than `SLOWEST` allows.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLargeError("bytes", limit)
    total, start = 0, time.monotonic()
    chunks = request.stream()
    while True:
        left = seconds + total / SLOWEST - (time.monotonic() - start)
        try:
            chunk = await asyncio.wait_for(anext(chunks), min(seconds, left))
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            reason = f"only {total:,} bytes came in {time.monotonic() - start:.0f} s"
            raise HTTPException(408, reason) from error
        total += len(chunk)
        if total > limit:
            raise BodyTooLargeError("bytes", limit)
        take(len(chunk))
        yield chunk


async def read_form(request: Request, stream: AsyncGenerator[bytes, None], model: type[Body], pictures: int) -> Body:
    """Return the body in a form with at most so many pictures."""
    parser = FormParser(request.headers, stream, max_files=pictures, max_fields=pictures + 50)
    try:
        form = await parser.parse()
        return await asyncio.to_thread(parse_form, form, model, pictures)
    except MultiPartException as error:
        if parser.is_full():
            raise BodyTooLargeError("pictures", pictures) from error
        raise RequestError(f"not a form: {error.message}") from error
    finally:
        parser.close()


def parse_form(form: FormData, model: type[Body], pictures: int) -> Body:
    """Return the fields of a form; only fields that are lists may come several times."""
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name, value in form.multi_items():
        item = value if isinstance(value, str) else Upload(value.file.read(), value.filename or name)
        if name in lists and not (isinstance(item, str) and item.lstrip().startswith("[")):
            values.setdefault(name, []).append(item)
        elif name in values:
            raise RequestError("the body does not hold what it must", [(name, "given twice")])
        else:
            values[name] = parse_text_list(name, item, pictures) if name in lists and isinstance(item, str) else item
    return validate_body(model, values, pictures, strict=False)


def parse_text_list(name: str, text: str, pictures: int) -> Any:
    """Return the list that a field of a form holds as JSON."""
    refuse_many_values(text.encode(), pictures)
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError("the body does not hold what it must", [(name, f"not JSON: {error}")]) from error


def size_of_strings(data: bytes) -> int:
    """Return the most bytes that the strings of a JSON text, and the pictures in them, take.

    A string with one letter beyond Latin-1 takes 4 bytes for every letter.
    """
    return (2 if data.isascii() and b"\\u" not in data else 5) * len(data)


def refuse_many_values(data: bytes, pictures: int) -> None:
    """Raise `BodyTooLargeError` for a JSON text that may hold too many values, before it is parsed.

    Every value but the first stands behind a comma or a bracket; a parsed one takes up to 30 times its text.
    """
    limit = pictures + OTHERS
    if sum(map(data.count, (b",", b"[", b"{"))) > limit:
        raise BodyTooLargeError("values", limit)


def parse_json(data: bytes, model: type[Body], pictures: int) -> Body:
    """Return the body in JSON with at most so many pictures."""
    refuse_many_values(data, pictures)
    try:
        values = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    body = validate_body(model, values, pictures, strict=True)
    for name, value in body:
        if isinstance(value, list):
            name_uploads(name, value)
    return body


def name_uploads(field: str, items: list[Any]) -> None:
    """Give pictures that came without a file name distinct names."""
    for number, item in enumerate(items):
        if isinstance(item, Upload):
            item.name = f"{field}[{number}]"


def validate_body(model: type[Body], values: Any, pictures: int, *, strict: bool) -> Body:
    """Return the values as a model; raise `RequestError` with the first problems."""
    if isinstance(values, dict):
        refuse_long_lists(model, values, pictures)
    try:
        return model.model_validate(values, strict=strict)
    except ValidationError as error:
        problems = list_problems(error.errors(include_url=False, include_input=False))
        raise RequestError("the body does not hold what it must", problems) from error


def refuse_long_lists(model: type[Body], values: dict[str, Any], pictures: int) -> None:
    """Refuse many unknown fields, and lists of more items than pictures may be, before validation."""
    unknown = [name for name in values if name not in model.model_fields]
    if len(unknown) > SHOWN:
        problems = [{"loc": (name,), "msg": "Extra inputs are not permitted"} for name in unknown[:SHOWN]]
        raise RequestError("the body does not hold what it must", list_problems(problems))
    for name, value in values.items():
        if isinstance(value, list) and len(value) > pictures:
            raise BodyTooLargeError(name, pictures)


def list_problems(errors: Any) -> list[tuple[str, str]]:
    """Return the place and the message of each problem."""
    return [
        (".".join(str(part)[:SHOWN_LETTERS] for part in error["loc"] if part != "body") or "body", error["msg"])
        for error in errors[:SHOWN]
    ]


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the body of an operation for OpenAPI: as a form, and as JSON."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    example = schema.pop("example", None)
    json_content: dict[str, Any] = {"schema": schema}
    if example is not None:
        json_content["example"] = example
    content = {FORM: {"schema": as_form(schema)}, JSON: json_content}
    return {"requestBody": {"required": True, "content": content}}


def as_form(schema: Any) -> Any:
    """Return a schema with files in the place of base64."""
    if isinstance(schema, dict):
        if schema.get("contentEncoding") == "base64":
            return {"type": "string", "format": "binary", "title": "A picture"}
        return {name: as_form(value) for name, value in schema.items()}
    return [as_form(value) for value in schema] if isinstance(schema, list) else schema
