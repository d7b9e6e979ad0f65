"""All actions of a configuration: the modules that it names, and the commands that it declares."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

from chargehand.actions import Action, ActionError, registered
from chargehand.commands import CommandAction
from chargehand.config.settings import Settings

__all__ = ["Registry", "load_actions"]


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
    return Registry(actions, problems)
