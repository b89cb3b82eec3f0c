"""Write docs/api.md from the service's own description (OpenAPI).

    python tools/write_api_docs.py

Nothing on that page is written by hand: change the words in `src/sameface/service` instead.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
TAGS = {"look": "Pictures", "people": "People", "albums": "Albums", "service": "The service"}
HEAD = """# API

*Generated from the service's own description by `python tools/write_api_docs.py`; a running service
serves the same at `/openapi.json`. How to start one, and a `curl` line for every operation, is in
[service.md](service.md).*

"""
Schema = dict[str, Any]


def describe() -> Schema:
    """Return the service's description."""
    return create_app(Recognizer.load(), None, ServiceConfig()).openapi()


def write_page(description: Schema) -> str:
    """Return the page."""
    parts = [HEAD + description["info"]["description"]]
    groups = defaultdict(list)
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            groups[operation["tags"][0]].append((f"{method.upper()} {path}", operation))
    for tag, title in TAGS.items():
        parts.append(f"## {title}")
        parts += [write_operation(name, operation) for name, operation in groups.pop(tag)]
    if groups:
        raise ValueError(f"TAGS lacks {', '.join(groups)}")
    parts.append("## What is answered")
    parts += [write_record(name, schema) for name, schema in description["components"]["schemas"].items()]
    parts += ["## Errors", write_statuses(description)]
    return "\n\n".join(parts) + "\n"


def write_operation(name: str, operation: Schema) -> str:
    """Return the section of one operation."""
    parts = [f"### `{name}`", operation["description"], f"Key: {role_of(operation)}."]
    parameters = [(each["in"], each["name"], each) for each in operation.get("parameters", [])]
    fields = body_of(operation)
    rows = [row_of(name, each["schema"], each["required"], where) for where, name, each in parameters]
    required = fields.get("required", [])
    rows += [row_of(name, each, name in required, "body") for name, each in fields.get("properties", {}).items()]
    if rows:
        parts.append(table(("", "where", "type", "default", ""), rows))
    if fields:
        parts.append("As JSON:\n\n" + block(operation["requestBody"]["content"]["application/json"]["example"]))
    parts.append(write_answers(operation["responses"]))
    return "\n\n".join(parts)


def role_of(operation: Schema) -> str:
    """Return which role of a key an operation needs."""
    if "security" not in operation:
        return "none"
    [[(_, [role])]] = [each.items() for each in operation["security"]]
    return f"`{role}`"


def body_of(operation: Schema) -> Schema:
    """Return the fields of a body, or nothing."""
    if "requestBody" not in operation:
        return {}
    schema: Schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    return schema


def row_of(name: str, schema: Schema, required: bool, where: str) -> tuple[str, ...]:  # noqa: FBT001
    """Return what there is to know of something that a request holds."""
    default = "**required**" if required else code_of(schema.get("default"))
    return f"`{name}`", where, type_of(schema), default, schema.get("description", "")


def code_of(value: Any) -> str:
    """Return a default as JSON; none at all means nothing is given."""
    return "" if value is None else f"`{json.dumps(value)}`"


def write_answers(responses: Schema) -> str:
    """Return what is answered, and which errors there can be."""
    good = [f"`{status}` {what_of(answer)}" for status, answer in sorted(responses.items()) if int(status) < 400]
    bad = [f"`{status}`" for status in sorted(responses) if int(status) >= 400]
    lines = [f"Answer: {'; '.join(good)}"]
    if bad:
        lines.append(f"Errors: {', '.join(bad)}")
    return "  \n".join(lines)


def what_of(answer: Schema) -> str:
    """Return what an answer holds."""
    content = answer.get("content", {})
    for kind, schema in content.items():
        return type_of(schema["schema"]) if "schema" in schema else f"`{kind}`: {small(answer['description'])}"
    return "nothing" if answer["description"] == "Successful Response" else small(answer["description"])


def small(words: str) -> str:
    """Return words that do not begin a sentence; names stay as they are."""
    return words if words.startswith("Prometheus") else words[0].lower() + words[1:]


def write_record(name: str, schema: Schema) -> str:
    """Return the section of one record."""
    rows: list[tuple[str, ...]] = [
        (f"`{field}`", type_of(each), each.get("description", "")) for field, each in schema["properties"].items()
    ]
    parts = [f"### {name}", schema["description"], table(("", "type", ""), rows)]
    if "example" in schema:
        parts.append(block(schema["example"]))
    return "\n\n".join(parts)


def write_statuses(description: Schema) -> str:
    """Return what each status of an error means."""
    words = {
        status: answer["description"]
        for operations in description["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    }
    return table(("status", ""), [(f"`{status}`", words[status]) for status in sorted(words)])


def type_of(schema: Schema) -> str:
    """Return the type of a value in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind: str = schema["type"]
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    if schema.get("format") == "binary":
        return "picture"
    return {"string": "text", "integer": "whole number", "object": "object"}.get(kind, kind) + range_of(schema)


def range_of(schema: Schema) -> str:
    """Return between which values a number may lie."""
    if "exclusiveMinimum" in schema:
        return f", over {schema['exclusiveMinimum']:g} and under {schema['exclusiveMaximum']:g}"
    if "maximum" in schema:
        return f", {schema['minimum']:.0f} to {schema['maximum']:,.0f}"
    return f", {schema['minimum']:.0f} or more" if "minimum" in schema else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def block(value: Any) -> str:
    """Return JSON as a block: small lists and objects on one line."""
    return f"```json\n{arranged(value)}\n```"


def arranged(value: Any, indent: str = "") -> str:
    """Return JSON with what fits on a line on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= 100 or not isinstance(value, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(value, list):
        items, edges = [arranged(item, deeper) for item in value], "[]"
    else:
        items = [f"{json.dumps(name)}: {arranged(item, deeper)}" for name, item in value.items()]
        edges = "{}"
    return f"{edges[0]}\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}{edges[1]}"


if __name__ == "__main__":
    PAGE.write_text(write_page(describe()), "utf-8")
