"""The OpenAPI 3.1 document of REST, made from the table of its endpoints and their types. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from chargehand import __version__
from chargehand.console.endpoints import Endpoint, Nothing
from chargehand.console.errors import PROBLEM, Problem

__all__ = ["document"]

_REF = "#/components/schemas/{name}"
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")

_ABOUT = """\
Submit, read, act and follow. Reading and acting are separate rights: acting is whatever is not a GET. Over loopback
anybody reads without a token.

Times are ms of Redis' TIME where a name ends in `_ms`, ages are seconds. A field that has its default may be missing.
An error is an RFC 9457 problem: `detail` says what was found and expected, `advice` what to do.
"""


class Refusal(NamedTuple):
    """One way in which something can fail."""

    status: int
    text: str
    acts: bool = False  # acts alone
    body: bool = False  # those with a body alone
    path: bool = False  # those that name something alone


_REFUSALS = (
    Refusal(400, "The query or the body does not fit: what was found and expected."),
    Refusal(401, "Who asks is not known."),
    Refusal(403, "Who asks may only read, or a page of another site asks.", acts=True),
    Refusal(404, "There is no such thing.", path=True),
    Refusal(409, "It does not fit the state as it is now.", acts=True),
    Refusal(413, "The body is too large.", body=True),
    Refusal(415, "The body is not JSON.", body=True),
    Refusal(422, "There is no such action, or it does not take such an input.", body=True),
    Refusal(429, "Too many tokens that are none came from there."),
    Refusal(503, "Redis cannot be reached."),
)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """`endpoints`: all there are; the same always make the same document."""
    kinds = _kinds(endpoints)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(map(str, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        operation = _operation(one, schema_of, components)
        paths.setdefault(_PART.sub(r"{\1}", one.path), {})[one.method.lower()] = operation
    used = _used({"paths": paths}, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chargehand", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": {name: components[name] for name in sorted(used)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "chargehand console token NAME"}
            },
        },
    }


def _kinds(endpoints: Iterable[Endpoint]) -> list[Any]:
    found: dict[str, Any] = {str(Problem): Problem}
    for one in endpoints:
        for kind in (one.gives, one.query, one.body):
            found.setdefault(str(kind), kind)
    return list(found.values())


def _operation(one: Endpoint, schema_of: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    acts = one.method != "GET"
    operation: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    if one.about:
        operation["description"] = one.about
    operation["security"] = [{"token": []}] if acts else [{"token": []}, {}]
    parameters = [*_path_parameters(one.path), *_query_parameters(one.query, components)]
    if parameters:
        operation["parameters"] = parameters
    if one.body is not Nothing:
        required = any(field.required for field in msgspec.structs.fields(one.body))
        content = {"application/json": {"schema": schema_of[str(one.body)]}}
        operation["requestBody"] = {"required": required, "content": content}
    content = {"application/json": {"schema": schema_of[str(one.gives)]}}
    if one.streams:
        content = {"text/event-stream": {"schema": _event(schema_of[str(one.gives)])}}
    answer = {"description": one.summary, "content": content}
    operation["responses"] = {str(one.status): answer, **_refusals(one, schema_of[str(Problem)])}
    return operation


def _event(data: Any) -> dict[str, Any]:
    """Of one event of a stream."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": text}, "required": ["event", "data"]}


def _refusals(one: Endpoint, schema: Any) -> dict[str, Any]:
    acts, body, path = one.method != "GET", one.body is not Nothing, "{" in one.path or "executor" in _names(one.query)
    found = {
        str(refusal.status): {"description": refusal.text, "content": {PROBLEM: {"schema": schema}}}
        for refusal in _REFUSALS
        if (acts or not refusal.acts) and (body or not refusal.body) and (path or not refusal.path)
    }
    return {**found, "default": {"description": "Another error.", "content": {PROBLEM: {"schema": schema}}}}


def _names(kind: type[Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0} if kind == "int" else {"type": "string", "minLength": 1},
        }
        for name, kind in _PART.findall(path)
    ]


def _query_parameters(kind: type[Struct], components: dict[str, Any]) -> list[dict[str, Any]]:
    if kind is Nothing:
        return []
    schema = components[kind.__name__]
    required = set(schema.get("required", []))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _plain(one)}
        for name, one in schema["properties"].items()
    ]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a query's field: what may be left out is not sent as null."""
    some = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(some) != 1:
        return schema
    return {**some[0], **{key: value for key, value in schema.items() if key != "anyOf" and value is not None}}


def _used(node: Any, components: dict[str, Any], found: set[str] | None = None) -> set[str]:
    """Names of the schemas that are pointed at, and of those that they point at."""
    found = set() if found is None else found
    if isinstance(node, dict):
        for key, value in node.items():
            name = value.rpartition("/")[2] if key == "$ref" else ""
            if name and name not in found:
                found.add(name)
                _used(components[name], components, found)
            _used(value, components, found)
    elif isinstance(node, list):
        for value in node:
            _used(value, components, found)
    return found
