"""How Python types stand in the JSON of the service: annotations for fields, and a reader for dataclasses.

`JsonAs` marks a type that JSON lacks. `Doc` describes a field in OpenAPI. The `alias` of a field is its name in JSON.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Record = TypeVar("Record")
Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class JsonAs:
    """A type that stands in JSON as another one.

    Attributes:
        type: The type in JSON.
        read: From a value of `type`.
        write: To a value of `type`.
        length: The number of items of a list; None for any.
    """

    type: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    length: int | None = None

    def __get_pydantic_core_schema__(self, _source: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler.generate_schema(self.type)
        if self.length is not None:
            schema |= {"min_length": self.length, "max_length": self.length}
        writer = {"type": "function-plain", "function": self.write, "return_schema": schema}
        return schema | {"serialization": writer}


class Doc:
    """The description of a field in OpenAPI, and examples."""

    def __init__(self, description: str | None = None, examples: list[Any] | None = None) -> None:
        self._facts = {"description": description, "examples": examples}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = handler(schema)
        return found | {name: value for name, value in self._facts.items() if value is not None}


def copy_fields(kind: type[Record], record: Any) -> Record:
    """Return a dataclass with the values that the fields of the same names have in another record."""
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: getattr(record, name) for name in names})


def same_fields(kind: type, answer: type) -> JsonAs:
    """Return how a record of the library stands in JSON as a record of this module with the same fields."""
    return JsonAs(answer, lambda given: copy_fields(kind, given), lambda record: copy_fields(answer, record))


def read_json(kind: Any, data: Any) -> Any:
    """Return the value of type `kind` that parsed JSON holds; keys that are no fields are ignored.

    Raises:
        KeyError, TypeError, ValueError: The data are of another shape.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        form = next((each for each in args[1:] if isinstance(each, JsonAs)), None)
        return read_json(args[0], data) if form is None else form.read(read_json(form.type, data))
    if origin in (Union, UnionType):
        return None if data is None else read_json(args[0], data)
    if origin is tuple:
        return tuple(read_json(args[0], each) for each in data)
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return kind(**{name: read_json(hint, data[key]) for name, key, hint in list_fields(kind)})
    return data


@cache
def list_fields(kind: type) -> list[tuple[str, str, Any]]:
    """Return the name, the name in JSON and the type of each field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return [(each.name, each.metadata.get("alias", each.name), hints[each.name]) for each in fields(kind)]


def round_numbers(value: Any, places: int = 2) -> Any:
    """Return an array as lists of rounded numbers, or a rounded number."""
    return [round_numbers(each) for each in value] if isinstance(value, np.ndarray) else round(float(value), places)


def read_array(*shape: int) -> Callable[[Any], Array]:
    """Return a function that turns lists of numbers into a `float32` array of this shape."""
    return lambda numbers: np.array(numbers, np.float32).reshape(shape)


def read_data_address(address: str) -> bytes:
    """Return the file in a data address."""
    return b64decode(address.partition(",")[2], validate=True)


Box = Annotated[Array, JsonAs(list[float], read_array(4), round_numbers, length=4)]
BoxOfAnyLength = Annotated[Array, JsonAs(list[float], read_array(4), round_numbers)]  # as version 0.1 describes it
Landmarks = Annotated[Array, JsonAs(list[list[float]], read_array(5, 2), round_numbers, length=5)]
Embedding = Annotated[Array, JsonAs(list[float], read_array(-1), np.ndarray.tolist)]
Score = Annotated[float, JsonAs(float, float, lambda score: round(score, 4))]
Moment = Annotated[
    datetime, JsonAs(str, datetime.fromisoformat, lambda moment: moment.isoformat(timespec="milliseconds"))
]
Jpeg = Annotated[
    bytes, JsonAs(str, read_data_address, lambda data: f"data:image/jpeg;base64,{b64encode(data).decode()}")
]
