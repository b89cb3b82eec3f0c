"""Write tables as TOML, which Python itself only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

BARE = re.compile("[A-Za-z0-9_-]+")


def to_toml(table: Mapping[str, object]) -> str:
    """Return a table of texts, numbers, lists and tables of these; tables one deep become sections."""
    plain = [f"{key_text(key)} = {value_text(value)}\n" for key, value in table.items() if not isinstance(value, dict)]
    sections = [
        f"\n[{key}]\n" + "".join(f"{key_text(name)} = {value_text(inner)}\n" for name, inner in value.items())
        for key, value in table.items()
        if isinstance(value, dict)
    ]
    return "".join([*plain, *sections])


def key_text(key: str) -> str:
    """Return a key, in quotes where it is more than letters, digits, hyphens and underscores."""
    return key if BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def value_text(value: object) -> str:
    """Return one value; a table inside a list stands on its own line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_text(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        rows = [value_text(inner) for inner in value]
        if value and isinstance(value[0], dict):
            return "[\n" + "".join(f"    {row},\n" for row in rows) + "]"
        return "[" + ", ".join(rows) + "]"
    return json.dumps(value, ensure_ascii=False)
