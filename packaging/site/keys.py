"""The page of every key of the configuration, from the settings and the file that `config init` writes."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import msgspec
from msgspec import NODEFAULT, Struct

from chargehand.config.quantities import format_duration
from chargehand.config.settings import Duration, Settings
from chargehand.config.template import TEMPLATE

__all__ = ["keys_page"]


def keys_page() -> str:
    """Each key with its type and default, then the file that `config init` writes."""
    lines = [
        "# Every key",
        "",
        "Made of the program itself. [Configuration](../configuration.md) says what each key means.",
        "",
        "| key | default |",
        "| --- | --- |",
        *(f"| `{key}` | {default} |" for key, default in keys(Settings)),
        "",
        "## The file that `config init` writes",
        "",
        "Every key stands in it, with its default, behind a `#`.",
        "",
        "```toml",
        TEMPLATE.rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def keys(kind: type[Struct], prefix: str = "") -> Iterator[tuple[str, str]]:
    """As they are written: `orchestrator.lease.ttl`, `[[worker]] threads`."""
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        inner = hints[field.name]
        several = typing.get_origin(inner) is list
        item = typing.get_args(inner)[0] if several else inner
        if isinstance(item, type) and issubclass(item, Struct):
            yield from keys(item, f"[[{field.name}]] " if several else f"{prefix}{field.name}.")
        elif field.default_factory is not NODEFAULT:
            yield prefix + field.name, written(typing.cast(Callable[[], object], field.default_factory)())
        else:
            yield prefix + field.name, "required" if field.required else written(field.default)


def written(default: object) -> str:
    """A default as TOML has it."""
    if default is None:
        return "none"
    if isinstance(default, Duration):
        return f'`"{format_duration(default)}"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else "`" + str(default).replace("'", '"') + "`"
