"""`chargehand config check|show|init`"""

from __future__ import annotations

import os
import subprocess
import sys
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
    import tomli_w

    rows: list[tuple[str, str]] = []
    for line, key in _with_keys(tomli_w.dumps(plain)):
        rows.append((line, _origin(key, found) if key else ""))
    width = min(max((len(line) for line, origin in rows if origin), default=0), 60)
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


def _with_keys(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Lines of TOML as tomli-w writes it, each with the key that it sets (none: a header, a value's inner line)."""
    rows: list[tuple[str, tuple[str, ...]]] = []
    table: tuple[str, ...] = ()
    name = ""
    for line in text.splitlines():
        if line.startswith("["):
            table = tuple(line.strip("[]").split("."))
            name = ""
            rows.append((line, ()))
            continue
        key, equals, value = line.partition(" = ")
        if not equals or line.startswith((" ", "]")):
            rows.append((line, ()))
            continue
        if key == "name" and table[:1] in {("worker",), ("action",)} and len(table) == 1:
            name = value.strip('"')
        place = (*table[:1], name, *table[1:]) if name and table[:1] in {("worker",), ("action",)} else table
        rows.append((line, (*place, key.strip('"'))))
    return rows


def _origin(key: tuple[str, ...], found: Loaded) -> str:
    for end in range(len(key), 0, -1):
        origin = found.origins.get(".".join(key[:end]))
        if origin is not None and (end == len(key) or end > 2):
            return origin
    return "default"
