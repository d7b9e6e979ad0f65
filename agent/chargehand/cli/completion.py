"""What the shell offers after the Tab key: plans, steps, actions, labels and the like, as they are at this moment.

Asked of Redis itself, for at most half a second for all of it, or what CHARGEHAND_COMPLETION_TIMEOUT says. Nobody can
be told here why there is nothing, so whatever goes wrong is nothing to offer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from chargehand.config.settings import Settings
    from chargehand.plan.asking import Request
    from chargehand.store.connection import Line
    from chargehand.store.keys import Keys
    from chargehand.store.membership import Member

__all__ = [
    "actions",
    "executors",
    "labels",
    "nodes",
    "patience",
    "plans",
    "plans_for",
    "queues",
    "recurring",
    "steps_for",
]

_PATIENCE = 0.5  # seconds
_OFFERED = 50  # plans and steps: more cannot be read
_LOOKED_AT = 500  # plans that are looked through for those that begin like this

_WORD = re.compile(r"[\w.,:@%+=/-]+")  # what a shell takes as one word: others would have to be quoted

#: What one executor says: the words that are offered, each with what the shell may tell of it.
_Question = Callable[["Line", "Keys"], Iterable[tuple[str, str]]]

#: As click calls it.
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def plans(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The newest plans, with their state and action."""
    return _asked(lambda line, keys: _plans(line, keys, incomplete, None), incomplete)


def plans_for(request: Request) -> _Complete:
    """The newest plans that can be asked that."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        given = {word for value in ctx.params.values() if isinstance(value, tuple) for word in value}
        found = _asked(lambda line, keys: _plans(line, keys, incomplete, request), incomplete)
        return [one for one in found if one.value not in given]

    return complete


def steps_for(request: Request) -> _Complete:
    """First a plan that can be asked that, then its steps that can be."""
    plan = plans_for(request)

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given = [word for word in ctx.params.get(param.name or "") or () if isinstance(word, str)]
        if not given or ctx.params.get("failed"):
            return plan(ctx, param, incomplete)
        return _asked(lambda line, keys: _steps(line, keys, given[0], request), incomplete)

    return complete


def actions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Those that workers have registered. No module of the site is imported for it."""
    return _asked(_actions, incomplete, _declared)


def labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Those of the newest plans."""
    return _asked(_labels, incomplete)


def queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Those that workers serve."""
    return _asked(lambda line, keys: ((queue, "") for one in _members(line, keys) for queue in one.queues), incomplete)


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Those that have a worker which takes what is aimed at them."""

    def ask(line: Line, keys: Keys) -> Iterator[tuple[str, str]]:
        return ((one.node, "") for one in _members(line, keys) if f"@{one.node}" in one.queues)

    *before, last = incomplete.split(",")  # several may be named
    begin = "".join(f"{one}," for one in before)
    return [CompletionItem(begin + one.value) for one in _asked(ask, last) if one.value not in before]


def recurring(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return _asked(lambda line, keys: ((name.decode(), "") for name in line.call("HKEYS", keys.recurring)), incomplete)


def executors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return _asked(None, incomplete, lambda settings: [one.name for one in settings.executors])


# -- asking ---------------------------------------------------------------------------------------


def _asked(
    question: _Question | None, incomplete: str, known: Callable[[Settings], Iterable[str]] | None = None
) -> list[CompletionItem]:
    """What the configuration knows and what the executors say within the time, of what begins like this."""
    found: dict[str, str] = {}
    settings = _settings()
    if settings is not None:
        found.update(dict.fromkeys(known(settings) if known else (), ""))
        if question is not None:
            _ask_all(settings, question, found)
    return [
        CompletionItem(word, help=said or None)
        for word, said in found.items()
        if word.startswith(incomplete) and _WORD.fullmatch(word)
    ]


def _settings() -> Settings | None:
    from chargehand.config import plain
    from chargehand.config.load import ConfigError, load

    with suppress(ConfigError, OSError):
        return plain.reachable(load(None).settings)
    return None


def _ask_all(settings: Settings, question: _Question, found: dict[str, str]) -> None:
    """In threads that nobody waits for any longer: a name server, a proxy, a server may all take their time."""
    from chargehand.config.plain import executors_of
    from chargehand.store import searching  # noqa: F401 - here, so that the imports take none of the time
    from chargehand.store.connection import Dialer
    from chargehand.store.keys import Keys

    def ask(own: Settings) -> None:
        with suppress(Exception):  # there is nobody to tell
            name = own.executor.name
            answer = dict(question(Dialer(own.redis, name).line(), Keys(name)))
            found.update(answer)

    import time

    until = time.monotonic() + patience()
    threads = [Thread(target=ask, args=(own,), daemon=True) for own in executors_of(settings).values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def patience() -> float:
    """How long the Tab key waits for an answer, in seconds."""
    from chargehand.config.quantities import parse_duration

    with suppress(ValueError):
        return parse_duration(os.environ.get("CHARGEHAND_COMPLETION_TIMEOUT", ""))
    return _PATIENCE


def _plans(line: Line, keys: Keys, begin: str, request: Request | None) -> Iterator[tuple[str, str]]:
    from chargehand.plan.asking import plan_refuses
    from chargehand.plan.life import PlanState
    from chargehand.store.searching import Wanted, search

    states = None
    if request is not None:
        states = frozenset(state for state in PlanState if plan_refuses(request, state) is None)
    wanted = Wanted(states, children="." in begin)
    newest = islice(search(line, keys, wanted), _LOOKED_AT if begin else _OFFERED)
    some = (view for view in newest if view.plan.startswith(begin))
    return ((view.plan, f"{view.state} {view.label}") for view in islice(some, _OFFERED))


def _steps(line: Line, keys: Keys, plan: str, request: Request) -> Iterator[tuple[str, str]]:
    from chargehand.plan.asking import step_refuses, word
    from chargehand.plan.life import StepState

    states = (line.call("GET", keys.states(plan)) or b"")[1:]
    fitting = (
        (str(step), word(StepState(state)))
        for step, state in enumerate(states)
        if step_refuses(request, StepState(state)) is None
    )
    return islice(fitting, _OFFERED)


def _declared(settings: Settings) -> Iterable[str]:
    return [one.name for one in settings.action]


def _actions(line: Line, keys: Keys) -> Iterator[tuple[str, str]]:
    from chargehand.store.profile import read_profiles

    members = [name.decode() for name in line.call("HKEYS", keys.members)]
    return ((name, "") for one in read_profiles(line, keys, members).values() for name in sorted(one.actions))


def _labels(line: Line, keys: Keys) -> Iterator[tuple[str, str]]:
    from chargehand.store.searching import Wanted, search

    return ((label, "") for view in islice(search(line, keys, Wanted()), _LOOKED_AT) for label in view.labels)


def _members(line: Line, keys: Keys) -> list[Member]:
    from chargehand.decoding import decode
    from chargehand.store.membership import Member

    return [decode(found, Member) for found in line.call("HVALS", keys.members)]
