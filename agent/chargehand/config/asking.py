"""What `[[action]]` asks of plans with a step of it: labels, locks and hooks that cannot be meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chargehand.config.parameters import value_fault
from chargehand.config.problems import Problem, problem, shown
from chargehand.config.settings import ActionSettings, HookSettings, LockSettings

__all__ = ["CALLED_WITH", "HOOK_STATES", "asking_faults", "called", "is_word"]

#: When a hook may be called: the states of a plan (plan/life.py, which stands above what is configured), or every end.
HOOK_STATES = (
    "scheduled",
    "waiting",
    "running",
    "paused",
    "failing",
    "cancelling",
    "reverting",
    "succeeded",
    "failed",
    "cancelled",
    "reverted",
    "halted",
    "rejected",
    "ended",
)

CALLED_WITH = ("plan", "state")  # what every hook gets besides the inputs that it is declared with

_LONGEST = 200  # characters: a label and a lock's name are part of a key in Redis


def is_word(text: object) -> bool:
    """True for what may be a label or the name of a lock."""
    return isinstance(text, str) and 0 < len(text) <= _LONGEST and text.isprintable()


def called(hook: str | HookSettings) -> tuple[str, dict[str, Any]]:
    """The name of the action that a hook runs, and what that is given besides."""
    return (hook, {}) if isinstance(hook, str) else (hook.action, hook.inputs)


def asking_faults(actions: Sequence[ActionSettings]) -> Iterator[Problem]:
    commands = {action.name: action for action in actions}
    for action in actions:
        locks = [lock.name if isinstance(lock, LockSettings) else lock for lock in action.locks]
        for key, words in (("labels", action.labels), ("locks", locks)):
            for word in words:
                if not is_word(word):
                    where = ("action", action.name, key)
                    yield problem(*where, found=f"found {shown(where, word)}", expected="1 to 200 printable characters")
        for state, hook in action.hooks.items():
            yield from _hook(("action", action.name, "hooks", state), hook, commands)


def _hook(
    where: tuple[str, ...], hook: str | HookSettings, commands: Mapping[str, ActionSettings]
) -> Iterator[Problem]:
    state = where[-1]
    if state not in HOOK_STATES:
        yield problem(*where, found=f'no state of a plan: "{state}"', expected=f"one of {', '.join(HOOK_STATES)}")
    name, inputs = called(hook)
    for given in sorted(inputs.keys() & set(CALLED_WITH)):
        yield problem(*where, "inputs", given, found="given", expected="other inputs", advice="every hook is told it")
    command = commands.get(name)
    if command is not None:  # one of a module is known to those who import it
        yield from _call(where, command, inputs)


def _call(where: tuple[str, ...], command: ActionSettings, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """Of a command as the hook: inputs that it does not take, or not like this, and what it would lack."""
    given = {*inputs, *CALLED_WITH}
    for name in sorted(given - set(command.params)):
        expected = f'params.{name} of action "{command.name}"' + (" (every hook is given it)" * (name in CALLED_WITH))
        yield problem(*where, found=f'action "{command.name}" has no parameter "{name}"', expected=expected)
    for name, parameter in command.params.items():
        if name in inputs:
            fault = value_fault(parameter, inputs[name])
            if fault is not None:
                key = (*where, "inputs", name)
                yield problem(*key, found=f"found {shown(key, inputs[name])}", expected=fault)
        elif name not in given and parameter.default is None:
            yield problem(
                *where, found=f'action "{command.name}" without its parameter "{name}"', expected=f"inputs.{name}"
            )
