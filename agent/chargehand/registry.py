"""All actions of a configuration: the modules that it names, and the commands that it declares."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chargehand.actions import Action, ActionError, find_hook, registered
from chargehand.commands import CommandAction
from chargehand.config.settings import Settings

__all__ = ["Registry", "hidden", "load_actions"]


class Registry(NamedTuple):
    actions: dict[str, Action[..., Any]]
    problems: list[str]  # a line each: what could not be imported, and why


def load_actions(settings: Settings) -> Registry:
    """Import the configured modules. One that cannot be imported is a problem, not an error: the rest works."""
    problems: list[str] = []
    for path in settings.actions.path:
        if path not in sys.path:
            sys.path.append(path)  # after our own libraries: a site's file never replaces one of them
    for module in settings.actions.modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            problems.append(f'cannot import module "{module}": {type(error).__name__}: {error}')
        except SystemExit as error:
            problems.append(f'cannot import module "{module}": it exits with {error.code!r}')
        else:
            if (why := hidden(settings.actions.path, module)) is not None:
                problems.append(f'cannot import module "{module}": {why}')
    actions: dict[str, Action[..., Any]] = dict(registered)
    for declared in settings.action:
        if declared.name in actions:
            other = actions[declared.name].function.__module__
            problems.append(
                f'action "{declared.name}" is declared in TOML and in module "{other}"; the module\'s is used'
            )
            continue
        try:
            actions[declared.name] = CommandAction(declared)
        except ActionError as error:
            problems.append(str(error))
    if not problems:  # else a hook may be in what could not be imported
        problems += [problem for declared in settings.action for problem in _hook_problems(declared.name, actions)]
    return Registry(actions, problems)


def _hook_problems(name: str, actions: dict[str, Action[..., Any]]) -> Iterator[str]:
    """Of a command: its hooks are known by name only, and whether there is such an action is known only now."""
    for what in actions[name].options.hooks.values():
        try:
            find_hook(actions, what)
        except ActionError as error:
            yield f'action "{name}": hooks: {error}'


def hidden(path: Sequence[str], module: str) -> str | None:
    """Why an imported module is not the one that stands in `path`: ours and Python's own come first."""
    name = module.partition(".")[0]
    places = (Path(entry, *rest) for entry in path for rest in ((f"{name}.py",), (name, "__init__.py")))
    wanted = next((place for place in places if place.is_file()), None)
    found = getattr(sys.modules.get(name), "__file__", None)
    if wanted is None or (found is not None and wanted.resolve() == Path(found).resolve()):
        return None
    return f"{wanted} is hidden by {found or 'a module that is part of Python'}; give it another name"
