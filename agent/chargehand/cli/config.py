"""`chargehand config check|show|init`"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, file_path, json_option, loaded, print_json

if TYPE_CHECKING:
    from chargehand.config.load import Loaded
    from chargehand.config.settings import RedisSettings

__all__ = ["config"]

_SECRET_FILES = ("password_file", "sentinel_password_file", "key_file")
_FILES = (*_SECRET_FILES, "ca_file", "cert_file")
_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)  # names in an action's environment


@click.group()
@config_option
def config() -> None:
    """Check, show or write the configuration."""


@config.command()
@click.option("--file", "file", metavar="FILE", type=file_path, help="Check this file instead of the configured one.")
@click.option(
    "--as",
    "place",
    metavar="PATH",
    type=file_path,
    help="With --file: check the whole configuration as it will be once FILE stands at PATH.",
)
@json_option
@config_option
def check(file: str | None, place: str | None, *, as_json: bool) -> int:
    """Say everything that is wrong with the configuration.

    Exit code: 0 when it is sound, 78 when it is refused, 1 when a module of actions cannot be imported or a file with
    a secret is open to others (a node starts with that, degraded).
    """
    from chargehand.config.files import StandIn
    from chargehand.config.load import ConfigError, load

    if place is not None and file is None:
        raise click.UsageError("--as says where the file of --file will stand: give both")
    try:
        if file is not None and place is not None:
            found = load(stand_in=StandIn(Path(file).absolute(), Path(place).absolute()))
        else:
            found = load(file)
        notes = _check_identity(found)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": [_described(problem) for problem in error.problems]})
            return 78
        raise
    imports = _import_problems(found)
    exposed, unreadable = _file_faults(found.settings.redis)
    notes += unreadable
    degrading = [*imports, *exposed]
    if as_json:
        files = [str(path) for path in found.files]
        told = {"problems": [], "files": files, "imports": imports, "exposed": exposed, "notes": notes}
        print_json({"ok": not degrading, **told})
        return 1 if degrading else 0
    for note in notes:
        print(f"chargehand: note: {note}", file=sys.stderr)
    for problem in degrading:
        print(f"chargehand: {problem}", file=sys.stderr)
    if degrading:
        print("chargehand: the configuration is sound; workers start with it, degraded by this", file=sys.stderr)
        return 1
    print(f"ok: {_summary(found)}")
    return 0


@config.command()
@json_option
@config_option
def show(*, as_json: bool) -> None:
    """The configuration as it is in force: every value, and where it comes from."""
    from chargehand.config.plain import to_builtins

    found = loaded()
    plain = _for_eyes(to_builtins(found.settings))
    if as_json:
        files = [str(path) for path in found.files]
        origins = {".".join(key): _place(*place) for key, place in found.origins.items()}
        print_json({"files": files, "settings": plain, "origins": origins})
        return
    rows = list(_rows(plain, found))
    width = min(max(len(line) for line, origin in rows if origin), 70)
    print("\n".join(f"{line:<{width}}  # {origin}" if origin else line for line, origin in rows).lstrip())


@config.command()
@click.argument("path", required=False, type=file_path)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@config_option
def init(path: str | None, *, force: bool) -> None:
    """Write a commented configuration file with every key and its default."""
    from chargehand.config.files import config_path
    from chargehand.config.template import TEMPLATE

    target, _ = config_path(path)
    try:
        if force and target.exists():
            # Whole or not at all: a node that reads it meanwhile sees the old file or the new one.
            beside = target.with_name(f".{target.name}.new")
            beside.unlink(missing_ok=True)
            _create(beside, TEMPLATE)
            beside.replace(target)
        else:
            _create(target, TEMPLATE)
    except FileExistsError:
        raise CliError(f"{target} exists already: --force replaces it") from None
    except OSError as error:
        raise CliError(f"cannot write {target}: {os.strerror(error.errno or 0)}") from error
    print(f"wrote {target}; next: edit it, then `chargehand config check`")


def _create(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o640)  # whatever the umask: the service's group reads it, others do not
        file.write(text)


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


def _import_problems(found: Loaded) -> list[str]:
    """What a worker would say of its modules, a line each."""
    from chargehand.cli.modules import probe

    actions = found.settings.actions
    probed = probe(actions.path, actions.modules)
    declared = {action.name for action in found.settings.action}
    problems = [f'cannot import module "{module}": {error}' for module, error in probed.errors.items()]
    problems += [
        f'action "{name}" is declared in TOML and in a module; the module\'s is used'
        for name in probed.actions
        if name in declared
    ]
    return problems or _hook_problems(found, declared.union(probed.actions))


def _hook_problems(found: Loaded, known: set[str]) -> list[str]:
    """Hooks of commands that name no action. (Not asked while a module is missing: they may be in that one.)"""
    from chargehand.config.asking import called
    from chargehand.config.problems import problem

    expected = "an action of a module in actions.modules, or of an [[action]]"
    return [
        str(found.placed(problem("action", action.name, "hooks", state, found=f'"{name}"', expected=expected)))
        for action in found.settings.action
        for state, hook in action.hooks.items()
        if (name := called(hook)[0]) not in known
    ]


def _check_identity(found: Loaded) -> list[str]:
    """Users and groups that the agent may not become are refused (`ConfigError`). Answers what is to be noted."""
    from chargehand.config.identity import asks_for_identity, identity_faults
    from chargehand.config.problems import ConfigError

    settings = found.settings
    if not asks_for_identity(settings):
        return []
    notes: list[str] = []
    rights = _agents_rights(settings.agent.runtime_dir)
    if rights is None:
        from chargehand.linux.capabilities import may_change_user

        rights = os.geteuid(), {os.getegid()}, may_change_user()
        notes.append("no agent to ask runs here: user and group are checked by what this command itself may do")
    uid, gids, may_change = rights
    problems = [found.placed(one) for one in identity_faults(settings, uid=uid, gids=gids, may_change=may_change)]
    if problems:
        raise ConfigError(problems)
    return notes


def _agents_rights(runtime_dir: str) -> tuple[int, set[int], bool] | None:
    """Who a running agent is, and whether it may run children as others; None when there is none to ask."""
    from chargehand.supervisor.asking import ControlError, query
    from chargehand.supervisor.control import socket_path

    try:
        answer = query(socket_path(runtime_dir), "io.chargehand.Agent.Status", timeout=2.0)
    except ControlError:
        return None
    uid, gids, may_change = answer.get("uid"), answer.get("gids"), answer.get("may_change_user")
    if not isinstance(uid, int) or not isinstance(gids, list) or not isinstance(may_change, bool):
        return None  # one of an earlier version
    return uid, {gid for gid in gids if isinstance(gid, int)}, may_change


def _file_faults(redis: RedisSettings) -> tuple[list[str], list[str]]:
    """Secrets that are open to others; and files that this user cannot use, which decides nothing: the service may."""
    from chargehand.config.secrets import Exposed, SecretError, usable

    exposed, unusable = list[str](), list[str]()
    for key in _FILES:
        path = getattr(redis, key)
        if path is None:
            continue
        try:
            usable(path, secret=key in _SECRET_FILES)
        except Exposed as error:
            exposed.append(f"redis.{key}: {error}")
        except SecretError as error:
            unusable.append(f"redis.{key}: {error}")
    return exposed, unusable


def _summary(found: Loaded) -> str:
    settings = found.settings
    groups = ", ".join(f"{one.name} ({one.processes} x {one.threads} threads)" for one in settings.worker) or "none"
    where = "embedded Redis, this node only" if settings.redis.embedded else settings.redis.url
    files = ", ".join(str(path) for path in found.files) or "no file: all defaults"
    names = ", ".join(program.name for program in settings.child)
    programs = f"; programs: {len(settings.child)} ({names})" if names else ""
    node = f"node {settings.node.name}, executor {settings.executor.name}"
    return f"{files}; {node}, {where}; workers: {groups}{programs}"


def _for_eyes(value: Any) -> Any:
    """Without what is not set (TOML has no word for nothing) and without what may be a secret."""
    if isinstance(value, list):
        return [_for_eyes(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    shown = {key: _for_eyes(inner) for key, inner in value.items() if inner is not None}
    if isinstance(shown.get("env"), dict):
        shown["env"] = {name: "***" if _SECRET.search(name) else text for name, text in shown["env"].items()}
    return shown


def _rows(settings: dict[str, Any], found: Loaded) -> Iterator[tuple[str, str]]:
    """Lines of TOML, each with where its value comes from (headers: nothing)."""
    for section, content in settings.items():
        for item in content if isinstance(content, list) else [content]:
            listed = isinstance(content, list)
            yield f"\n[[{section}]]" if listed else f"\n[{section}]", ""
            where = (section, item["name"]) if listed else (section,)
            for key, value in item.items():
                yield from _lines((key,), value, (*where, key), found)


def _lines(key: tuple[str, ...], value: Any, path: tuple[str, ...], found: Loaded) -> Iterator[tuple[str, str]]:
    """A line a value; one in a table by its dotted key, for it may come from a file of its own."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _lines((*key, name), inner, (*path, name), found)
    else:
        yield f"{'.'.join(map(_key, key))} = {_literal(value)}", _origin(path, found)


def _key(name: str) -> str:
    import tomli_w

    return tomli_w.dumps({name: 0}).rpartition(" = ")[0]


def _literal(value: Any) -> str:
    """As TOML has it on one line."""
    import tomli_w

    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(name)} = {_literal(one)}' for name, one in value.items())} }}" if value else "{}"
    return tomli_w.dumps({"value": value}).partition(" = ")[2].strip()


def _origin(path: tuple[str, ...], found: Loaded) -> str:
    from chargehand.config.files import is_one_value

    if is_one_value(path[:3]):  # weights, say: from one file
        path = path[:3]
    default = "default"
    if path == ("node", "name"):
        default = "host name"
    elif path == ("redis", "embedded") and found.settings.redis.embedded:
        default = "default without a url"
    return _place(*found.origins[path]) if path in found.origins else default


def _place(file: Path, line: int | None) -> str:
    return f"{file}:{line}" if line else str(file)
