"""`chargehand plan watch`: plans as they go on; on a terminal with a bar for each, and for the steps that tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import click

from chargehand.cli import completion
from chargehand.cli.columns import plain
from chargehand.cli.options import config_option, connected, reachable
from chargehand.cli.showing import COLORS, failures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from chargehand.config.settings import Settings
    from chargehand.executors import Executors
    from chargehand.store.plans import PlanView
    from chargehand.store.watching import Change

__all__ = ["change_line", "watch"]

_BARS = 8  # of steps, those that told first
_NAMED = 2_000  # steps: of a larger plan the bars have their numbers alone
_BAR = 20  # columns
_MOVING = frozenset({"running", "queued", "suspended"})  # states of steps that may say more
_COUNTED = frozenset({"queued", "waiting", "succeeded", "running"})  # states of steps that the plan's bar tells


@click.command()
@click.argument("plans", metavar="PLAN...", nargs=-1, required=True, shell_complete=completion.plans)
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="LINES", help="Begin with the last so many; default: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, for programs.")
@config_option
def watch(plans: tuple[str, ...], lines: int | None, *, as_json: bool) -> int:
    """Follow plans: their states, their steps, what they say and print, and how far they are, until they end or pause.

    On a terminal with bars: one a plan, and one for each step that tells how far it is. It goes on through outages.
    Ctrl-C ends the watching, not the plans.

    Exit code: 0 when all succeeded, 1 when one ended otherwise or is paused.
    """
    names = list(dict.fromkeys(plans))
    news = _news(reachable(), names, lines)
    if as_json:
        return _print_json(news, names)
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _show(news, names, _Bars(console, names))
    code = 0
    for plan, one in news:
        if isinstance(one, _Over):
            code = one.told() or code
        elif not isinstance(one, _Begun):
            print(change_line(one, plan if len(names) > 1 else ""), flush=True)
    return code


class _Begun(NamedTuple):
    """The plan as it was when somebody began to watch it."""

    view: PlanView


class _Over(NamedTuple):
    """There is no more to come."""

    state: str
    view: PlanView | None = None
    error: Exception | None = None

    def told(self) -> int:
        """The exit code for this plan. Raises what nobody expects; says that there is no such plan."""
        from chargehand.client import NotPossible

        if isinstance(self.error, NotPossible):
            print(f"chargehand: {self.error}", file=sys.stderr, flush=True)
        elif self.error is not None:
            raise self.error
        return int(self.state != "succeeded")


_News: TypeAlias = "tuple[str, _Begun | Change | _Over]"


def _news(settings: Settings, plans: Sequence[str], lines: int | None) -> Iterator[_News]:
    """What happens to any of them. Each is followed in a thread of its own, for a client is not for two at once."""
    queue: SimpleQueue[_News] = SimpleQueue()
    for plan in plans:
        Thread(target=_follow, args=(settings, plan, lines, queue), daemon=True).start()
    left = len(plans)
    while left:
        news = queue.get()
        left -= isinstance(news[1], _Over)
        yield news


def _follow(settings: Settings, plan: str, lines: int | None, queue: SimpleQueue[_News]) -> None:
    state = ""
    try:
        with connected(settings) as executors:
            view = _read(executors, plan, steps=False)
            if view is not None and view.total <= _NAMED:
                view = _read(executors, plan)
            if view is not None:
                queue.put((plan, _Begun(view)))
            for change in executors.watch(plan, past=lines):
                if change.kind == "plan":
                    state = change.text
                    view = _read(executors, plan, steps=False)
                    change.ms = view.since_ms if view is not None and view.state == state else 0
                queue.put((plan, change))
            queue.put((plan, _Over(state, _read(executors, plan))))
    except Exception as error:  # whoever waits for the news hears of it
        queue.put((plan, _Over(state, error=error)))


def _read(executors: Executors, plan: str, *, steps: bool = True) -> PlanView | None:
    """The plan beside its news. In an outage these go on, and do without."""
    from chargehand.store.connection import Unavailable

    with suppress(Unavailable):
        return executors.read(plan, steps=steps)
    return None


def _print_json(news: Iterator[_News], names: Sequence[str]) -> int:
    """Each change as an object; with the plan's name where there are several."""
    import msgspec

    code = 0
    for plan, one in news:
        if isinstance(one, _Over):
            code = one.told() or code
        elif not isinstance(one, _Begun):
            more = {"plan": plan} if len(names) > 1 else {}
            print(msgspec.json.encode({**more, **msgspec.to_builtins(one)}).decode(), flush=True)
    return code


def change_line(change: Change, plan: str = "") -> str:
    """When, of which plan if there are several, what, and what of it; a line of output each."""
    when = time.strftime("%H:%M:%S", time.localtime(change.ms / 1000 if change.ms else None))
    begin = f"{when} {plan} " if plan else f"{when} "
    if change.kind == "plan":
        return f"{begin}plan {change.text}"
    if change.kind == "step":
        return f"{begin}step {change.step} {change.text}"
    if change.kind == "progress":
        return f"{begin}step {change.step} {change.fraction:.0%} {plain(change.text)}".rstrip()
    mark = {"say": "", "err": "! "}.get(change.kind, "| ")
    lines = change.text.splitlines() or [""]
    return "\n".join(f"{begin}step {change.step} {mark}{plain(line.expandtabs())}" for line in lines)


# -- on a terminal --------------------------------------------------------------------------------


def _show(news: Iterator[_News], names: Sequence[str], bars: _Bars) -> int:
    code = 0
    ended: list[PlanView] = []
    with bars.progress:
        for plan, one in news:
            if isinstance(one, _Begun):
                bars.begin(plan, one.view)
            elif isinstance(one, _Over):
                bars.end(plan)
                code = one.told() or code
                ended += [one.view] if one.view is not None else []
            else:
                bars.note(plan, one)
                if one.kind != "progress" and not (one.kind == "step" and one.text in _COUNTED):
                    line = change_line(one, plan if len(names) > 1 else "")
                    bars.progress.console.print(line, style=COLORS.get(one.text, ""), markup=False)
    for view in ended:
        for line in failures(view) if view.state != "succeeded" else ():
            print(f"{view.plan} {line}" if len(names) > 1 else line)
    return code


class _Bars:
    """A bar a plan, and below it one for each of its steps that runs and tells how far it is."""

    def __init__(self, console: Console, plans: Sequence[str]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self.progress: Progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(_BAR),
            TextColumn("{task.fields[far]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            expand=True,
        )
        #: Which plan a step belongs to, where there are several.
        self._marks = {plan: f"[{number}] " if len(plans) > 1 else "" for number, plan in enumerate(plans, 1)}
        self._plans = {plan: self.progress.add_task(self._marks[plan] + plan, total=None, far="") for plan in plans}
        self._steps: dict[tuple[str, int], TaskID] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._totals: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._done: dict[str, int] = {}
        self._over: set[tuple[str, int]] = set()  # steps that had ended before: what they said is old

    def begin(self, plan: str, view: PlanView) -> None:
        self._totals[plan] = view.total
        self._states[plan] = view.state
        self._done[plan] = view.counts.get("succeeded", 0) + view.counts.get("skipped", 0)
        self._names.update(((plan, step.index), step.action) for step in view.steps)
        self._over.update((plan, step.index) for step in view.steps if step.state not in _MOVING)
        self._draw(plan)

    def note(self, plan: str, change: Change) -> None:
        """What has happened, as far as a bar tells of it."""
        if change.kind == "plan":
            self._states[plan] = change.text
        if change.done is not None:
            self._done[plan] = change.done
            self._draw(plan)
        if change.step is None:
            return
        key = (plan, change.step)
        if change.kind == "step":
            self._over.discard(key)
            self._drop(key)
        elif change.kind == "progress":
            self._tell(key, change.fraction or 0.0, change.text)

    def end(self, plan: str) -> None:
        for key in [key for key in self._steps if key[0] == plan]:
            self._drop(key)

    def _draw(self, plan: str) -> None:
        total, done = self._totals.get(plan), self._done.get(plan, 0)
        self.progress.update(
            self._plans[plan],
            total=total,
            completed=done,
            far=f"{self._states.get(plan, '')} {done:,}/{'?' if total is None else f'{total:,}'} steps",
        )

    def _tell(self, key: tuple[str, int], fraction: float, message: str) -> None:
        task = self._steps.get(key)
        if task is None:
            if len(self._steps) >= _BARS or key in self._over:
                return
            plan, step = key
            name = plain(f"{self._marks[plan] or '  '}step {step} {self._names.get(key, '')}".rstrip())
            task = self._steps[key] = self.progress.add_task(name, total=1.0, far="")
        self.progress.update(task, completed=fraction, far=plain(f"{fraction:.0%} {message}".rstrip()))
        if fraction >= 1.0:
            self._drop(key)  # others may want the room

    def _drop(self, key: tuple[str, int]) -> None:
        task = self._steps.pop(key, None)
        if task is not None:
            self.progress.remove_task(task)
