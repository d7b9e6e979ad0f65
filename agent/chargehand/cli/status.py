"""`chargehand status`: who is where, from any node."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.options import config_option, json_option, print_json, print_table, reachable

if TYPE_CHECKING:
    from chargehand.config.problems import Problem
    from chargehand.config.settings import Settings
    from chargehand.store.census import Census, Seen

__all__ = ["status"]

_SHORT = 10  # children of this node that are shown below the whole executor


@click.command()
@json_option
@config_option
def status(*, as_json: bool) -> int:
    """Each node, child and role; who holds the lock; workers and their load; queues.

    Below it what this node's agent knows: why it is degraded, who drained it, its children with their memory and
    restarts. It is there when Redis is away too.

    Exit code: 0 when an orchestrator is active, 1 when none is, 2 when Redis cannot be reached, 78 when the
    configuration is refused as it stands now (the agent that runs goes on with the one before, and is shown).
    """
    from chargehand.config.load import ConfigError
    from chargehand.store.census import take_census
    from chargehand.store.connection import Dialer, Unavailable
    from chargehand.store.keys import Keys

    try:
        settings = reachable()
    except ConfigError as error:
        return _refused(error.problems, as_json=as_json)
    executor = settings.executor.name
    local, silence = _local()
    try:
        line = Dialer(settings.redis, executor).line()
        census = take_census(line, Keys(executor), executor)
        line.close()
    except Unavailable as error:
        if as_json:
            print_json({"redis": str(error), "agent": local})
        else:
            print(f"executor {executor}: Redis unreachable: {error}")
            _print_local(local, silence)
        return 2
    absent = _absent_units(settings, census)
    if as_json:
        print_json({"executor": census, "agent": local, "absent_units": absent})
    else:
        _print(census)
        for unit in absent:
            print(f"absent   {unit} does not run on this node: systemctl enable --now {unit}")
        _print_local(local, silence, most=_SHORT)
    return 0 if census.lease_token else 1


def _absent_units(settings: Settings, census: Census) -> list[str]:
    """Units of this node's privileged groups of which nothing is heard."""
    heard = {(one.member.node, one.member.child) for one in census.members if not one.silent}
    return [
        f"chargehand-worker@{group.name}.service"
        for group in settings.worker
        if group.unit and (settings.node.name, group.name) not in heard
    ]


def _refused(problems: list[Problem], *, as_json: bool) -> int:
    local, silence = _local()
    if as_json:
        print_json({"problems": [str(problem) for problem in problems], "agent": local})
        return 78
    _print_local(local, silence)
    sys.stdout.flush()
    for problem in problems:
        print(f"chargehand: {problem}", file=sys.stderr)
    return 78


def _local() -> tuple[dict[str, Any] | None, str]:
    """What the agent of this node says; else why it says nothing."""
    from chargehand.cli.agent import ControlError, ask
    from chargehand.config.problems import ConfigError

    try:
        return ask("Status", timeout=2.0), ""
    except ConfigError:
        return None, "no file says where it listens"
    except ControlError as error:
        return None, str(error)


def _print_local(local: dict[str, Any] | None, silence: str, *, most: int | None = None) -> None:
    if local is None:
        print(f"agent    {silence}")
        return
    from chargehand.cli.agent import ControlError, node_status
    from chargehand.cli.node import node_lines

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    try:
        print("\n".join(node_lines(node_status(local), now=time.time(), width=width, most=most)))
    except ControlError as error:
        print(f"agent    {error}")


def _print(census: Census) -> None:
    from rich.table import Table

    if census.lease_token:
        epoch = census.lease_token.partition(":")[0]
        since = _ago((census.now_ms - census.holder_since_ms) / 1000)
        lock = f"held by {census.holder}, epoch {epoch}, since {since}"
    else:
        lock = "free: no orchestrator is active"
    print(f"executor {census.executor}\nlock     {lock}")
    counts = {**census.plans, "not accepted yet": census.pending}
    plans = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count) or "none"
    print(f"plans    {plans}; inbox {census.inbox:,} events")
    table = Table(box=None, pad_edge=False)
    for column in ("NODE", "CHILD", "ROLE", "SINCE", "BUSY", "QUEUES", "BEAT", ""):
        table.add_column(column)
    for one in census.members:
        table.add_row(*_row(one, census.now_ms))
    print_table(table)
    queues = Table(box=None, pad_edge=False)
    queues.add_column("QUEUE")
    queues.add_column("WAITING", justify="right")
    queues.add_column("WORKERS", justify="right")
    for name, depth in census.queues.items():
        serving = sum(name in one.member.queues and not one.silent for one in census.members)
        queues.add_row(name, str(depth), str(serving))
    print_table(queues)


def _row(one: Seen, now_ms: int) -> list[str]:
    member = one.member
    role = member.role + (f" (epoch {member.epoch})" if member.role == "active" else "")
    color = "red" if one.silent else {"active": "green", "passive": "yellow"}.get(member.role, "cyan")
    notes = ["silent"] if one.silent else []
    notes += [member.degraded] if member.degraded else []
    return [
        member.node,
        member.child,
        f"[{color}]{role}[/]",
        _ago((now_ms - member.since_ms) / 1000) if member.since_ms else "",
        f"{member.busy}/{member.threads}" if member.kind == "worker" else f"{member.share} %" if member.share else "",
        ",".join(member.queues),
        f"{one.beat_age:.1f} s",
        "; ".join(notes),
    ]


def _ago(seconds: float) -> str:
    started = datetime.fromtimestamp(time.time() - max(0.0, seconds)).astimezone()
    return started.strftime("%H:%M:%S" if seconds < 86_400 else "%Y-%m-%d %H:%M")
