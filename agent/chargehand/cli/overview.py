"""An executor in lines and tables: what `status` prints once, and `top` again and again. Pure.

`width`: columns of the terminal; None elsewhere, where nothing is cut or left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from chargehand.cli.columns import Cell, Column, Said, arranged, plain
from chargehand.cli.times import lasting, moment_in_brief
from chargehand.plan.routing import SATURATED
from chargehand.store.census import Census, Seen
from chargehand.store.stats import ActionStats, Minute, Trouble

__all__ = [
    "action_rows",
    "degraded_lines",
    "folded",
    "inbox_line",
    "lease_line",
    "member_rows",
    "minute_line",
    "passive_line",
    "plans_line",
    "queue_cells",
    "queue_rows",
    "rate",
    "trouble_rows",
]

_LABEL = 9  # columns
_NAMED = 4  # of many names, so many stand in a line
_TOLD = 12  # causes, one a line
_BEHIND = 1.0  # seconds: an event that waits longer is worth a colour
_ROLES = {"active": "green", "passive": "yellow"}
_STATES = {"paused": "bold yellow", "failed": "red", "rejected": "red", "failing": "red"}


def folded(label: str, items: Sequence[Cell], width: int | None, *, style: str = "", between: str = ", ") -> list[Said]:
    """A label and what it is about, in as many lines as it takes; an item stays whole where it can."""
    lines: list[list[Cell]] = [[(f"{label:<{_LABEL}}", style)]]
    used = _LABEL
    for at, item in enumerate(items):
        text, how = (item, "") if isinstance(item, str) else item
        text = plain(text)
        more = between if at < len(items) - 1 else ""
        if width is not None and used > _LABEL and used + len(text) + len(more.rstrip()) > width:
            lines[-1][-1] = between.rstrip()
            lines.append([" " * _LABEL])
            used = _LABEL
        lines[-1] += [(text, how), more]
        used += len(text) + len(more)
    return [*lines]


# -- the lease ----------------------------------------------------------------------------------------


def lease_line(census: Census, width: int | None) -> list[Said]:
    """Who is active, and since when."""
    if not census.lease_token:
        return folded("lease", [("free: no orchestrator is active", "bold red")], width)
    epoch = census.lease_token.partition(":")[0]
    held = (census.now_ms - census.holder_since_ms) / 1000
    items: list[Cell] = [
        f"held by {census.holder}",
        f"epoch {epoch}",
        f"since {_clock(census, census.holder_since_ms)} ({lasting(held)})",
        f"{census.lease_left:.1f} s left",
    ]
    return folded("lease", items, width)


def passive_line(census: Census, width: int | None) -> list[Said]:
    """Who would take over."""
    names = _names(census, width)
    waiting = [names[one.member.node] for one in census.passive if not one.silent]
    if not waiting:
        nobody = "nobody waits for it: when this one falls, no other takes over" if census.lease_token else ""
        nobody = nobody or "no orchestrator waits for it: is one running? (chargehand doctor)"
        return folded("", [(nobody, "yellow")], width)
    return folded("", [f"{len(waiting)} passive: {waiting[0]}", *_some(waiting[1:])], width)


# -- plans and events ---------------------------------------------------------------------------------


def plans_line(census: Census, width: int | None) -> list[Said]:
    """How many are in which state."""
    items: list[Cell] = [
        (f"{count:,} {state}", _STATES.get(state, "")) for state, count in census.plans.items() if count
    ]
    if census.pending:
        items.append((f"{census.pending:,} not accepted yet", "yellow" if census.inbox_age > _BEHIND else ""))
    return folded("plans", items or ["none"], width)


def inbox_line(census: Census, width: int | None) -> list[Said]:
    """What waits for the orchestrator, and how busy that is."""
    items: list[Cell] = ["empty"]
    if census.inbox:
        events = f"{_counted(census.inbox, 'event')} {'waits' if census.inbox == 1 else 'wait'}"
        oldest = (f"the oldest for {lasting(census.inbox_age)}", "bold red" if census.inbox_age > _BEHIND else "")
        items = [events, oldest]
    active = census.active
    if active is not None:
        share = active.member.share
        items.append((f"orchestrator {share} % busy", "bold red" if share > SATURATED else ""))
    return folded("inbox", items, width)


def minute_line(minutes: Sequence[Minute], width: int | None) -> list[Said]:
    """The last whole minute, or this one where it has seen more."""
    one = minutes[-2] if len(minutes) > 1 and minutes[-2].steps + minutes[-2].plans else minutes[-1]
    items: list[Cell] = [_counted(one.steps, "step")]
    items += [(f"{count:,} {what}", "red") for count, what in ((one.failed, "failed"), (one.lost, "lost")) if count]
    items.append(f"{_counted(one.plans + one.bad, 'plan')} ended")
    if one.p95_ms:
        items += [f"median {lasting(one.median_ms / 1000)}", f"p95 {lasting(one.p95_ms / 1000)}"]
    return folded("a minute", items, width)


def degraded_lines(census: Census, width: int | None) -> Iterator[Said]:
    """What is wrong: who is not heard any more, what members tell, steps that nobody can take; a line each or more."""
    names = _names(census, width)
    found = [*_silent(census, names)]
    found += [
        f"{names[one.member.node]} {one.member.child}: {one.member.degraded}"
        for one in census.members
        if one.member.degraded and not one.silent
    ]
    for name, waiting in census.queues.items():
        if waiting and not census.serving(name):
            found.append(_unserved(name, waiting))
    for text in found[:_TOLD]:
        yield from _sentence(text, width)
    if len(found) > _TOLD:
        yield from _sentence(f"and {len(found) - _TOLD} more of this kind (--json shows all)", width)


def _silent(census: Census, names: Mapping[str, str]) -> Iterator[str]:
    """A node a line; many nodes in one."""
    nodes: dict[str, list[Seen]] = {}
    for one in census.members:
        if one.silent:
            nodes.setdefault(names[one.member.node], []).append(one)
    if len(nodes) > _NAMED:
        yield f"{len(nodes)} nodes have members that are not heard: {', '.join(_some([*nodes]))}"
        return
    for node, some in nodes.items():
        children = ", ".join(one.member.child for one in some)
        yield f"{node} {children}: not heard for {lasting(min(one.beat_age for one in some))}"


def _some(names: Sequence[str]) -> list[str]:
    """The first ones by their name."""
    more = len(names) - _NAMED + 1
    return [*names] if more <= 1 else [*names[: _NAMED - 1], f"and {more} more"]


def _unserved(queue: str, waiting: int) -> str:
    steps = f"{_counted(waiting, 'step')} {'waits' if waiting == 1 else 'wait'}"
    if queue.startswith("@"):
        return f"{steps} for node {queue[1:]}, which has no worker now"
    return f"{steps} in queue {queue}, which no worker serves"


def _sentence(text: str, width: int | None) -> list[Said]:
    words = text.split(" ")
    return folded("degraded", [(word, "red") for word in words], width, style="red", between=" ")


# -- tables -------------------------------------------------------------------------------------------


def member_rows(census: Census, width: int | None, *, members: Sequence[Seen] | None = None) -> list[Said]:
    """Nodes and their children. On a terminal a node is named once."""
    columns = (
        Column("NODE"),
        Column("CHILD"),
        Column("ROLE"),
        Column("SINCE", drop=2, right=True),
        Column("BUSY", right=True),
        Column("BEAT", drop=3, right=True),
        Column("VERSION", drop=4),
        Column("QUEUES", drop=1, cut=True),
    )
    shown = census.members if members is None else members
    names = _names(census, width)
    versions = {one.member.version for one in census.members}
    rows: list[list[Cell]] = []
    before = ""
    for one in shown:
        member = one.member
        name = "" if width is not None and member.node == before else names[member.node]
        before = member.node
        since = member.since_ms or member.started_ms
        role = "silent" if one.silent else member.role
        rows.append(
            [
                name,
                member.child,
                (role, "bold red" if one.silent else _ROLES.get(member.role, "")),
                lasting((census.now_ms - since) / 1000) if since else "",
                _busy(one),
                (f"{one.beat_age:.1f} s", "red" if one.silent else ""),
                member.version if len(versions) > 1 else "",
                _queues(one) if width is not None else ",".join(member.queues),
            ]
        )
    return arranged(columns, rows, width)


def _names(census: Census, width: int | None) -> dict[str, str]:
    """What nodes are called: on a terminal without their domain, where several have the same one."""
    nodes = {one.member.node for one in census.members}
    domains = {node.partition(".")[2] for node in nodes}
    short = width is not None and len(nodes) > 1 and len(domains) == 1
    return {node: node.partition(".")[0] if short else node for node in nodes}


def _queues(one: Seen) -> str:
    """The one of its own node last, and without its name."""
    own = f"@{one.member.node}"
    names = [queue for queue in one.member.queues if queue != own]
    return ",".join([*names, "@node"] if own in one.member.queues else names)


def _busy(one: Seen) -> Cell:
    member = one.member
    if member.kind == "worker":
        return f"{member.busy}/{member.threads}"
    if member.role != "active":
        return ""
    return (f"{member.share} %", "bold red" if member.share > SATURATED else "")


def queue_rows(census: Census, width: int | None, *, names: Iterable[str] | None = None) -> list[Said]:
    """Queues; those of single nodes only where something waits there. Empty when there is nothing to show."""
    columns = (
        Column("QUEUE", cut=True),
        Column("WAITING", right=True),
        Column("WORKERS", right=True),
        Column("BUSY", right=True, drop=1),
        Column("IN/S", right=True, drop=2),
        Column("OUT/S", right=True, drop=2),
    )
    rows: list[list[Cell]] = []
    for name in census.queues if names is None else names:
        waiting = census.queues[name]
        came, went = census.rates.get(name, (0.0, 0.0))
        if name.startswith("@") and not (waiting or came or went):
            continue
        serving = census.serving(name)
        busy, threads = (sum(getattr(one.member, what) for one in serving) for what in ("busy", "threads"))
        rows.append(queue_cells(name, waiting, len(serving), (busy, threads), (came, went)))
    return arranged(columns, rows, width) if rows else []


def queue_cells(name: str, waiting: int, workers: int, busy: tuple[int, int], rates: tuple[float, float]) -> list[Cell]:
    """What every table of queues says of one. busy: steps that run, and threads. rates: in and out a second."""
    unserved = bool(waiting) and not workers
    return [
        name,
        (f"{waiting:,}", "bold red" if unserved else "yellow" if waiting > busy[1] else ""),
        (str(workers), "bold red" if unserved else ""),
        f"{busy[0]}/{busy[1]}" if workers else "-",
        *map(rate, rates),
    ]


def action_rows(actions: Iterable[ActionStats], width: int | None) -> list[Said]:
    """The busiest actions. Empty when there is nothing to show."""
    columns = (
        Column("ACTION", cut=True),
        Column("HOUR OK", right=True),
        Column("HOUR FAILED", right=True),
        Column("ALL OK", right=True, drop=1),
        Column("ALL FAILED", right=True, drop=2),
        Column("ALL LOST", right=True, drop=3),
    )
    rows: list[list[Cell]] = [
        [
            one.name,
            f"{one.hour_done:,}",
            (f"{one.hour_failed:,}", "red" if one.hour_failed else ""),
            f"{one.done:,}",
            f"{one.failed:,}",
            (f"{one.lost:,}", "red" if one.lost else ""),
        ]
        for one in actions
    ]
    return arranged(columns, rows, width) if rows else []


def trouble_rows(troubles: Iterable[Trouble], now: datetime, width: int | None) -> list[Said]:
    """The latest failures by cause. Empty when there is nothing to show."""
    columns = (
        Column("LAST", right=True),
        Column("TIMES", right=True),
        Column("ACTION", drop=1),
        Column("CAUSE", cut=True),
    )
    rows: list[list[Cell]] = [
        [moment_in_brief(one.last_ms, now), f"{one.count:,}", one.action, (one.cause, "red")] for one in troubles
    ]
    return arranged(columns, rows, width) if rows else []


def rate(value: float) -> str:
    """So many a second."""
    if not value:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else "<0.1"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _clock(census: Census, ms: int) -> str:
    """Local time: a day apart with its date."""
    then = datetime.fromtimestamp(ms / 1000).astimezone()
    return then.strftime("%H:%M:%S" if census.now_ms - ms < 86_400_000 else "%Y-%m-%d %H:%M")
