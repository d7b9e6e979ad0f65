"""`chargehand config check|show|init`"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, loaded, print_json

if TYPE_CHECKING:
    from chargehand.config.load import Loaded

__all__ = ["config"]

_IMPORT_TIME = 20.0  # seconds that all modules together get to be imported


@click.group()
@config_option
def config() -> None:
    """Check, show or write the configuration."""


@config.command()
@click.option("--file", "file", metavar="FILE", help="Check this file instead of the configured one.")
@json_option
@config_option
def check(file: str | None, *, as_json: bool) -> int:
    """Say everything that is wrong with the configuration.

    Exit code: 0 when it is sound, 78 when it is refused, 1 when a module of actions cannot be imported (a node
    starts with that, degraded).
    """
    from chargehand.config.load import ConfigError, load

    try:
        found = load(file)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": [_described(problem) for problem in error.problems]})
            return 78
        raise
    imports = _import_problems(found, file)
    if as_json:
        print_json({"ok": not imports, "files": [str(path) for path in found.files], "imports": imports})
    elif imports:
        for problem in imports:
            print(f"chargehand: {problem}", file=sys.stderr)
    else:
        print(f"ok: {_summary(found)}")
    return 1 if imports else 0


@config.command()
@json_option
@config_option
def show(*, as_json: bool) -> None:
    """The configuration as it is in force: every value, and where it comes from."""
    from chargehand.config.load import to_builtins

    found = loaded()
    plain = _without_none(to_builtins(found.settings))
    if as_json:
        print_json({"settings": plain, "origins": found.origins})
        return
    rows = list(_rows(plain, found))
    width = min(max(len(line) for line, origin in rows if origin), 70)
    for line, origin in rows:
        print(f"{line:<{width}}  # {origin}" if origin else line)


@config.command()
@click.argument("path", required=False)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@config_option
def init(path: str | None, *, force: bool) -> None:
    """Write a commented configuration file with every key and its default."""
    from chargehand.config.files import config_path
    from chargehand.config.template import TEMPLATE

    target, _ = config_path(path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        descriptor = os.open(target, flags, 0o640)
    except FileExistsError:
        raise CliError(f"{target} exists already: --force replaces it") from None
    except OSError as error:
        raise CliError(f"cannot write {target}: {os.strerror(error.errno or 0)}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(TEMPLATE)
    print(f"wrote {target}; next: edit it, then `chargehand config check`")


def _described(problem: Any) -> dict[str, Any]:
    return {
        "file": str(problem.file) if problem.file else None,
        "line": problem.line,
        "key": ".".join(problem.key),
        "found": problem.found,
        "expected": problem.expected,
        "advice": problem.advice,
        "text": str(problem),
    }


def _import_problems(found: Loaded, file: str | None) -> list[str]:
    if not found.settings.actions.modules:
        return []
    command = [sys.executable, "-m", "chargehand.config.probe", *([file] if file else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_TIME, check=False)
    except subprocess.TimeoutExpired:
        names = ", ".join(found.settings.actions.modules)
        return [f"the modules ({names}) were not imported within {_IMPORT_TIME:g} s"]
    problems = done.stdout.splitlines()
    if done.returncode and not problems:
        last = done.stderr.strip().rpartition("\n")[2]
        problems = [f"importing the modules ended a process: exit {done.returncode}" + (f' "{last}"' if last else "")]
    return problems


def _summary(found: Loaded) -> str:
    settings = found.settings
    groups = ", ".join(f"{one.name} ({one.processes} x {one.threads} threads)" for one in settings.worker) or "none"
    where = "embedded Redis, this node only" if settings.redis.embedded else settings.redis.url
    files = ", ".join(str(path) for path in found.files) or "no file: all defaults"
    return f"{files}; node {settings.node.name}, executor {settings.executor.name}, {where}; workers: {groups}"


def _without_none(value: Any) -> Any:
    """TOML has no word for nothing: what is not set is not shown."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value]
    return value


def _rows(settings: dict[str, Any], found: Loaded) -> Iterator[tuple[str, str]]:
    """Lines of TOML, each with where its value comes from (headers: nothing)."""
    for section, content in settings.items():
        if isinstance(content, list):
            for item in content:
                yield f"\n[[{section}]]", ""
                for key, value in item.items():
                    yield _line(key, value), _origin((section, item["name"], key), found)
        else:
            yield f"\n[{section}]", ""
            for key, value in content.items():
                yield _line(key, value), _origin((section, key), found)


def _line(key: str, value: Any) -> str:
    """One key on one line."""
    import tomli_w

    if isinstance(value, dict):
        inner = ", ".join(_line(name, one) for name, one in value.items())
        return f"{key} = {{ {inner} }}" if inner else f"{key} = {{}}"
    text = " ".join(tomli_w.dumps({key: value}).split("\n")).strip()
    return text.replace("[     ", "[").replace(",     ", ", ").replace(", ]", "]")


def _origin(key: tuple[str, ...], found: Loaded) -> str:
    inner = [origin for name, origin in found.origins.items() if name.startswith(".".join(key) + ".")]
    return found.origins.get(".".join(key)) or (inner[-1] if inner else "default")
