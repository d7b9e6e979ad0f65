"""Every key stands in the documentation and in the file that `config init` writes, with its true default."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import NODEFAULT, Struct

from chargehand.config.quantities import format_duration
from chargehand.config.settings import Duration, Limits, Parameter, Settings
from chargehand.config.template import TEMPLATE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
PARAMETER = "action.params.NAME"
LIMITS = "limits"  # the same in several sections, so explained once
REQUIRED = object()


def fields(kind: type[Struct], section: str = "", prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """(section, key, default) of every key, as a person writes them: `lease.ttl` in `orchestrator`."""
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        inner = hints[field.name]
        item = typing.get_args(inner)[0] if typing.get_origin(inner) is list else inner
        if item is Limits:
            yield section, field.name, {}
        elif isinstance(item, type) and issubclass(item, Struct):
            if section:
                yield from fields(item, section, f"{field.name}.")
            else:
                yield from fields(item, field.name)
        elif field.default_factory is not NODEFAULT:
            yield section, prefix + field.name, field.default_factory()
        else:
            yield section, prefix + field.name, REQUIRED if field.required else field.default


ALL = [*fields(Settings), *fields(Parameter, PARAMETER), *fields(Limits, LIMITS)]


def toml(default: Any) -> str:
    if default is None or default is REQUIRED:
        return "none" if default is None else "required"
    if isinstance(default, Duration):
        return f'`"{format_duration(default)}"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "`" + str(default).replace("'", '"') + "`" if not isinstance(default, str) else f'`"{default}"`'


def documented() -> dict[tuple[str, str], str]:
    rows: dict[tuple[str, str], str] = {}
    section = ""
    for line in DOCUMENT.splitlines():
        if heading := re.fullmatch(r"#+ (?:`\[*([^\]]+)\]*`|.*)", line):
            section = heading[1] or ""
        elif section and (row := re.match(r"\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \|", line)):
            rows[section, row[1]] = row[2]
    return rows


def test_the_documentation_has_every_key_with_its_default_and_no_other() -> None:
    expected = {(section, key): toml(default) for section, key, default in ALL}
    expected["node", "name"] = "the host name"
    assert documented() == expected


def template_sections() -> dict[str, str]:
    parts = re.split(r"^(?:# )?\[+([a-z]+)\]+$", TEMPLATE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in ALL])
def test_the_template_has_every_key(section: str, key: str) -> None:
    table = {PARAMETER: "action", LIMITS: "worker"}.get(section, section)
    assert re.search(rf"\b{key.rpartition('.')[2]}\b", template_sections()[table]), f"{section}: {key}"


def test_the_template_shows_true_defaults() -> None:
    """Uncommented, it is TOML; what it gives for a key with a default is that default, but for an action's example."""
    text = re.sub(r"^# (?=[a-z_.]+ = |\[\[)", "", TEMPLATE, flags=re.MULTILINE)
    document = tomllib.loads(text)
    for section, key, default in fields(Settings):
        if section == "action" or default is None or (section, key) == ("node", "name"):
            continue
        value = document[section][0] if isinstance(document[section], list) else document[section]
        for part in key.split("."):
            value = value[part]
        expected = format_duration(default) if isinstance(default, Duration) else default
        assert default is REQUIRED or value == expected, (section, key)
