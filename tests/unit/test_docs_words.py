"""Keys and messages that documents name in their text are the program's own."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from chargehand.config.settings import Settings
from support.documents import DOCS, ROOT, code_spans, read

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SOURCES = "\n".join(read(path) for path in sorted((ROOT / "agent/chargehand").rglob("*.py")))


def keys(kind: type[Struct], prefix: str = "") -> set[str]:
    """As text names them: `orchestrator.lease.ttl`, `worker.threads`."""
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        hint = typing.get_type_hints(kind)[field.name]
        item = typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint
        found.add(prefix + field.name)
        if isinstance(item, type) and issubclass(item, Struct):
            found |= keys(item, f"{prefix}{field.name}.")
    return found


KEYS = keys(Settings)
#: `executors.waits` is Python; the table of that name has its keys told without it.
_KEY = re.compile(rf"(?:{'|'.join({*Settings.__struct_fields__} - {'executors'})})(?:\.[a-z_]+)+")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_key_that_is_named_exists(page: Path) -> None:
    named = {span for span in code_spans(page) if _KEY.fullmatch(span)}
    files = {name for name in named if name.endswith((".py", ".sock", ".service", ".md", ".secret", ".load"))}
    assert named - files <= KEYS


def test_keys_are_found() -> None:
    assert {"agent.stop_timeout", "redis.min_replicas", "orchestrator.lease.ttl"} <= KEYS
    assert _KEY.fullmatch("agent.stop_timout")


def parts(message: str) -> list[str]:
    """What of a quoted message stands in the code as it is: all but names, numbers and values."""
    found = re.split(r"…|: |\b[A-Z]{2,}\b|\b\w+-\d+\b|[\d()%'`]+", message)
    return [part.strip(" ,.;:") for part in found if len(part.strip(" ,.;:")) > 5]


def quoted(heading: str) -> list[str]:
    """Messages in the first column of the tables in this section of docs/troubleshooting.md."""
    section = read(DOCS / "troubleshooting.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("heading", ["My plan is paused", "The status says degraded"])
def test_messages_by_which_people_look_are_those_of_the_program(heading: str) -> None:
    messages = [message for message in quoted(heading) if not message.startswith("chargehand ")]
    assert len(messages) >= 4
    assert not [part for message in messages for part in parts(message) if part not in SOURCES]
