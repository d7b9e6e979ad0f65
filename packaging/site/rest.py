"""The page of every operation of REST, from the OpenAPI document that the console serves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from writing import cell

from chargehand.console.api import ENDPOINTS
from chargehand.console.openapi import document

__all__ = ["openapi", "rest_page"]

_Schema = Mapping[str, Any]


def openapi() -> str:
    """The document itself."""
    return json.dumps(document(ENDPOINTS), indent=1) + "\n"


def rest_page() -> str:
    """Each operation with what it takes and gives, then what these consist of."""
    made = document(ENDPOINTS)
    lines = [
        "# Every operation of REST",
        "",
        "Made of the program itself, as is [the OpenAPI document](openapi.json), which the console serves as",
        "`/api/v1/openapi.json`. [REST](../rest.md) explains the same with examples.",
        "",
        made["info"]["description"],
        "| operation | |",
        "| --- | --- |",
    ]
    operations = [(m.upper(), path, one) for path, methods in made["paths"].items() for m, one in methods.items()]
    for method, path, one in operations:
        lines.append(f"| [`{method} {path}`](#{method.lower()}-{one['operationId']}) | {cell(one['summary'])} |")
    for method, path, one in operations:
        lines += [
            "",
            f"## {method} {one['operationId']}",
            "",
            *_operation(f"{method} {made['servers'][0]['url']}{path}", one),
        ]
    lines += ["", "## What they consist of", ""]
    for name, schema in made["components"]["schemas"].items():
        lines += [f"### {name}", "", schema.get("description", ""), "", *_fields(schema), ""]
    return "\n".join(lines) + "\n"


def _operation(call: str, one: _Schema) -> Iterator[str]:
    yield f"`{call}`: {one['summary']}. {one.get('description', '')}"
    parameters = one.get("parameters", [])
    if parameters:
        yield from ("", "| parameter | in | type | default |", "| --- | --- | --- | --- |")
        for it in parameters:
            default = "required" if it["required"] else _default(it["schema"])
            yield f"| `{it['name']}` | {it['in']} | {_type(it['schema'])} | {default} |"
    yield ""
    if "requestBody" in one:
        yield f"Takes {_content(one['requestBody']['content'])}. "
    for status, answer in one["responses"].items():
        if status.startswith("2"):
            yield f"Gives {status}: {_content(answer['content'])}. "
    refusals = [status for status in one["responses"] if status[0] in "45"]
    yield f"Or a [Problem](#problem): {', '.join(refusals)}."


def _content(content: _Schema) -> str:
    return " or ".join(f"{_type(one['schema'])} (`{kind}`)" for kind, one in content.items())


def _fields(schema: _Schema) -> Iterator[str]:
    if not schema.get("properties"):
        return
    yield from ("| field | type | default |", "| --- | --- | --- |")
    for name, one in schema["properties"].items():
        default = "required" if name in schema.get("required", []) else _default(one)
        yield f"| `{name}` | {_type(one)} | {default} |"


def _default(schema: _Schema) -> str:
    return f"`{cell(json.dumps(schema['default']))}`" if "default" in schema else ""


def _type(schema: _Schema) -> str:
    """In words, with a link where it is explained below."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    kind = schema.get("type", "anything")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    limits = [f"{low} {schema[key]}" for key, low in _LIMITS.items() if key in schema]
    return f"{schema.get('format', words)}{', ' if limits else ''}{', '.join(limits)}"


#: Key of a schema -> how it is said.
_LIMITS = {"minimum": "at least", "maximum": "at most", "minLength": "length at least", "maxLength": "length at most"}
