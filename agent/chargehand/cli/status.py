"""`chargehand status`: who is where, from any node."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.options import config_option, json_option, print_json, reachable

if TYPE_CHECKING:
    from chargehand.config.problems import Problem
    from chargehand.config.settings import Settings
    from chargehand.store.census import Census

__all__ = ["status"]

_SHORT = 10  # children of this node that are shown below the whole executor


@click.command()
@json_option
@config_option
def status(*, as_json: bool) -> int:
    """The whole executor: who holds the lease, who waits for it, each node and child, plans, queues, what is degraded.

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
    from chargehand.cli.agent import ControlError, node_status
    from chargehand.cli.node import labelled, node_lines

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if local is not None:
        try:
            print("\n".join(node_lines(node_status(local), now=time.time(), width=width, most=most)))
        except ControlError as error:
            silence = str(error)
    if silence:
        print(labelled("agent", silence, width))


def _print(census: Census) -> None:
    """What the whole executor is like."""
    from chargehand.cli import overview
    from chargehand.cli.columns import Said, print_lines, terminal_width

    width = terminal_width()
    lines: list[Said] = [
        [f"executor {census.executor}"],
        *overview.lease_line(census, width),
        *overview.passive_line(census, width),
        *overview.plans_line(census, width),
        *overview.inbox_line(census, width),
        *overview.degraded_lines(census, width),
    ]
    for table in (overview.member_rows(census, width), overview.queue_rows(census, width)):
        if len(table) > 1:
            lines += [[""], *table]
    print_lines([*lines, [""]], width=width)
