"""`chargehand queue [list|show]`: what waits, since when, and who serves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from chargehand.cli import completion
from chargehand.cli.columns import Cell, Column, Said, arranged, print_lines, terminal_width
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, connected, json_option, print_json

if TYPE_CHECKING:
    from chargehand.store.queues import LimitView, QueueView

__all__ = ["queue", "queue_lines", "queue_list_lines"]

_PERIODS = (
    (86_400_000, "d", "a day"),
    (3_600_000, "h", "an hour"),
    (60_000, "min", "a minute"),
    (1_000, "s", "a second"),
)


@click.group()
@config_option
def queue() -> None:
    """Queues: what waits on them, since when, and which workers serve them."""


@queue.command("list")
@json_option
@config_option
def list_queues(*, as_json: bool) -> int:
    """Each queue: how much waits, the plan of the oldest step and since when that waits, workers, rates, its limit.

    Rates are of the last minute. Entries carry no time: since when is what its plan tells.

    Exit code: 0, or 1 when steps wait that no worker serves.
    """
    with connected() as executors:
        views = executors.of().queues()
    if as_json:
        print_json(views)
    elif not views:
        print("no queues: no worker is there, and nothing waits")
    else:
        width = terminal_width()
        print_lines(queue_list_lines(views, datetime.now().astimezone(), width), width=width)
    return int(any(view.waiting and not view.workers for view in views))


def queue_list_lines(views: Sequence[QueueView], now: datetime, width: int | None) -> list[Said]:
    from chargehand.cli.overview import queue_cells

    columns = (
        Column("QUEUE", cut=True),
        Column("WAITING", right=True),
        Column("WORKERS", right=True),
        Column("BUSY", right=True, drop=1),
        Column("IN/S", right=True, drop=3),
        Column("OUT/S", right=True, drop=3),
        Column("LIMIT", drop=2),
        Column("WAITS", right=True),
        Column("OLDEST", drop=4),
    )
    rows: list[list[Cell]] = []
    for view in views:
        oldest = view.entries[0] if view.entries else None
        busy = sum(one.busy for one in view.workers), sum(one.threads for one in view.workers)
        rows.append(
            [
                *queue_cells(view.name, view.waiting, len(view.workers), busy, (view.in_rate, view.out_rate)),
                ", ".join(_limit_in_brief(view.limit)) if view.limit is not None else "",
                _since(oldest.since_ms, now) if oldest is not None else "",
                f"{oldest.plan}/{oldest.step}" if oldest is not None else "",
            ]
        )
    return arranged(columns, rows, width)


@queue.command()
@click.argument("name", shell_complete=completion.queues)
@click.option("--most", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many steps.")
@json_option
@config_option
def show(name: str, most: int, *, as_json: bool) -> None:
    """One queue: its workers, its limit and who stands under it, and the first steps that wait.

    WAITS is about: entries carry no time, so it counts from when a step's plan, and what comes before it, let it begin.
    """
    with connected() as executors:
        client = executors.of()
        known = client.census().queues
        (view,) = client.queues(name, most=most)
    if name not in known and not view.entries:
        raise CliError(f"nothing waits on a queue {name!r}, and no worker serves it (chargehand queue list)")
    if as_json:
        print_json(view)
        return
    width = terminal_width()
    print_lines(queue_lines(view, datetime.now().astimezone(), width), width=width)


def queue_lines(view: QueueView, now: datetime, width: int | None) -> Iterator[Said]:
    from chargehand.cli.overview import folded, rate

    yield from folded("queue", [view.name], width)
    steps = "1 step" if view.waiting == 1 else f"{view.waiting:,} steps"
    yield from folded("waiting", [steps, f"{rate(view.in_rate)}/s come", f"{rate(view.out_rate)}/s go"], width)
    if view.workers:
        each: list[Cell] = [f"{one.node} {one.child} {one.busy}/{one.threads}" for one in view.workers]
        yield from folded("workers", each, width)
    else:
        yield from folded("workers", [("none serves it", "bold red")], width)
    if view.limit is not None:
        yield from folded("limit", list(_limit_in_words(view.limit)), width, between="; ")
        if view.limit.steps:
            yield from folded("", _some("under it", view.limit.steps, view.limit.standing), width)
        if view.limit.first:
            yield from folded("", _some("waiting for room: plan", view.limit.first, view.limit.plans), width)
    if not view.entries:
        return
    yield [""]
    columns = (
        Column("#", right=True),
        Column("PLAN"),
        Column("STEP", right=True),
        Column("TRY", right=True, drop=1),
        Column("ACTION", cut=True),
        Column("WAITS", right=True),
        Column("", drop=2),
    )
    rows: list[list[Cell]] = [
        [
            f"{one.position:,}",
            one.plan,
            str(one.step),
            str(one.attempt),
            one.action,
            _since(one.since_ms, now),
            "runs alone" if one.alone else "",
        ]
        for one in view.entries
    ]
    yield from arranged(columns, rows, width)
    if view.waiting > len(view.entries):
        yield [f"and {view.waiting - len(view.entries):,} more (--most)"]


def _some(what: str, names: Sequence[str], count: int) -> list[Cell]:
    more = [f"and {count - len(names):,} more"] if count > len(names) else []
    return [f"{what} {names[0]}", *names[1:], *more]


def _limit_in_brief(limit: LimitView) -> Iterator[str]:
    if limit.most:
        yield f"{limit.standing}/{limit.most}"
    elif limit.standing and not limit.times:
        yield f"{limit.standing} stand"
    if limit.times:
        short = {size: name for size, name, _ in _PERIODS}
        yield f"{limit.times}/{short.get(limit.per_ms) or f'{limit.per_ms / 1000:g}s'}"
    if limit.plans:
        yield f"{limit.plans} wait"


def _limit_in_words(limit: LimitView) -> Iterator[str]:
    if limit.most:
        yield f"{limit.most:,} at once, of which {limit.standing:,} stand"
    if limit.times:
        yield f"{limit.times:,} begin {_per(limit.per_ms)}"
    if not limit.most and not limit.times:
        yield f"none in this node's configuration, but {limit.standing:,} stand under one"
    if limit.plans:
        yield f"{limit.plans:,} {'plan waits' if limit.plans == 1 else 'plans wait'} for room"


def _per(ms: int) -> str:
    return next((words for size, _, words in _PERIODS if size == ms), f"in {ms / 1000:g} s")


def _since(ms: int, now: datetime) -> str:
    from chargehand.cli.times import lasting

    return lasting(now.timestamp() - ms / 1000) if ms else "?"
