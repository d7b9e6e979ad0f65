"""`chargehand lease [show|step-down]`: the orchestrator lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.columns import Cell, Column, Said, arranged, print_lines, terminal_width
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, print_json, reachable

if TYPE_CHECKING:
    from chargehand.store.census import Census, Seen

__all__ = ["lease", "lease_lines"]


@click.group()
@config_option
def lease() -> None:
    """The orchestrator lock: who holds it, who waits for it."""


@lease.command()
@json_option
@config_option
def show(*, as_json: bool) -> int:
    """Its token, who holds it and since when, when it runs out, who waits for it, and the last token ever given.

    Exit code: 0 when it is held, 1 when it is free.
    """
    from chargehand.client import Client

    settings = reachable()
    with Client(settings) as client:
        census = client.census()
    if as_json:
        print_json(_as_json(census))
    else:
        width = terminal_width()
        ttl = float(settings.orchestrator.lease.ttl)
        print_lines(lease_lines(census, ttl, width), width=width)
    return 0 if census.lease_token else 1


def _as_json(census: Census) -> dict[str, Any]:
    token = census.lease_token
    active = census.active
    return {
        "executor": census.executor,
        "token": token,
        "epoch": int(token.partition(":")[0]) if token else None,
        "incarnation": token.partition(":")[2] if token else None,
        "node": census.holder if token else None,
        "child": active.member.child if active is not None else None,
        "since_ms": census.holder_since_ms if token else None,
        "left": census.lease_left,
        "fence": census.fence,
        "now_ms": census.now_ms,
        "waiters": [
            {
                "node": one.member.node,
                "child": one.member.child,
                "incarnation": one.incarnation,
                "beat_age": one.beat_age,
                "silent": one.silent,
                "version": one.member.version,
                "degraded": one.member.degraded,
            }
            for one in census.passive
        ],
    }


def lease_lines(census: Census, ttl: float, width: int | None) -> list[Said]:
    """`ttl`: seconds, as this node's configuration has it."""
    from chargehand.cli.overview import folded, lease_line, passive_line

    lines = lease_line(census, width)
    if census.lease_token:
        lines += folded("token", [census.lease_token], width)
        active = census.active
        who = "not registered now: it may be starting, or gone"
        if active is not None:
            who = f"{active.member.child}, PID {active.member.pid}, heard {active.beat_age:.1f} s ago"
        lines += folded("holder", [f"{census.holder}: {who}"], width)
        lines += folded("ttl", [f"{ttl:g} s here, {census.lease_left:.1f} s left unless it is renewed"], width)
    lines += folded("fence", [_fence(census)], width)
    waiting = census.passive
    if not waiting:
        return [*lines, *passive_line(census, width)]
    columns = (
        Column("WAITS", cut=True),
        Column("CHILD"),
        Column("BEAT", right=True),
        Column("VERSION", drop=2),
        Column("INCARNATION", drop=1),
        Column("", cut=True),
    )
    return [*lines, [""], *arranged(columns, [_row(one) for one in waiting], width)]


def _fence(census: Census) -> Cell:
    if census.fence == (census.lease_token or ""):
        return "the same: what it writes counts" if census.fence else "none was ever given"
    if not census.lease_token:
        return f"{census.fence}, the last that was given"
    return (f"{census.fence}, another one: what the holder writes does not count (the data went back in time?)", "red")


def _row(one: Seen) -> list[Cell]:
    note = "not heard" if one.silent else one.member.degraded
    style = "red" if one.silent else ""
    return [
        one.member.node,
        one.member.child,
        (f"{one.beat_age:.1f} s", style),
        one.member.version,
        one.incarnation,
        (note, "red"),
    ]


@lease.command("step-down")
@json_option
@config_option
def step_down(*, as_json: bool) -> int:
    """Have this node's orchestrator hand the lease over, if it holds it; else say which node to ask.

    Exit code: 0 when it was handed over, 1 when this node does not hold it or no agent answers.
    """
    from chargehand.cli.drain import hand_over
    from chargehand.client import Client

    settings = reachable()
    with Client(settings) as client:
        census = client.census()
    if not census.lease_token:
        raise CliError("nobody holds the lease: there is nothing to hand over (chargehand status)")
    if census.holder != settings.node.name:
        raise CliError(
            f"this node, {settings.node.name}, does not hold the lease: on {census.holder}, run chargehand step-down"
        )
    return hand_over(as_json=as_json)
