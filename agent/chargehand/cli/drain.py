"""`chargehand drain`, `undrain`, `step-down`: take this node out of work, or out of charge."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli.agent import ask, follow, node_status
from chargehand.cli.options import config_option, json_option, print_json

if TYPE_CHECKING:
    from chargehand.health import DrainStatus

__all__ = ["drain", "drain_told", "hand_over", "step_down", "undrain"]

_HANDOVER = 20.0  # seconds: the orchestrator may have a commit under way, and Redis may be slow


@click.command()
@click.option("--reason", metavar="TEXT", default="", help="Why; it stands in the status until undrain.")
@click.option("--wait", is_flag=True, help="Follow it until no step runs here any more.")
@json_option
@config_option
def drain(reason: str, *, wait: bool, as_json: bool) -> int:
    """Take this node out of work: hand the lease over, finish what runs, take nothing new.

    The agent stays up and the unit active. A drain is kept, over restarts and reboots too, until chargehand undrain.

    Exit code: 0 when it is in force (with --wait: when the node is drained), 1 when it is not, or somebody took it
    back meanwhile, or no agent answers; 130 when the wait was interrupted, which leaves the drain in force.
    """
    earlier = node_status(ask("Status")).drain
    if earlier is not None and not as_json:
        note = "; it keeps its reason" if reason and reason != earlier.reason else ""
        print(f"chargehand: note: drained already, {drain_told(earlier)}{note}", file=sys.stderr)
    if not wait:
        answer = ask("Drain", {"reason": reason})
        if as_json:
            print_json(answer)
        else:
            print(_progress(answer))
            if answer["state"] != "drained":
                print("chargehand drain --wait follows it; chargehand undrain takes it back")
        return 0
    return _wait(reason, as_json=as_json)


def _wait(reason: str, *, as_json: bool) -> int:
    answer: dict[str, Any] = {}
    told = ""
    try:
        for answer in follow("Drain", {"reason": reason}):
            line = _progress(answer)
            if not as_json and line != told:
                print(line, flush=True)
                told = line
    except KeyboardInterrupt:
        if not answer:
            raise
        print("chargehand: the drain stays in force; chargehand undrain takes it back", file=sys.stderr)
        return 130
    if as_json:
        print_json(answer)
    state = answer.get("state", "stopping")
    if state in {"draining", "stopping"}:
        print("chargehand: the agent ended before; the drain is kept and goes on when it starts", file=sys.stderr)
    elif state != "drained":
        print(f"chargehand: somebody took the drain back: the node is {state}", file=sys.stderr)
    return 0 if state == "drained" else 1


def _progress(answer: dict[str, Any]) -> str:
    running = answer["running"]
    if answer["state"] == "drained":
        return "drained"
    if answer["state"] != "draining":
        return f"{answer['state']}, not drained"
    return f"draining: {running} {'step still runs' if running == 1 else 'steps still run'}"


def drain_told(one: DrainStatus) -> str:
    since = datetime.fromtimestamp(one.since).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"by {one.by} since {since}" + (f": {one.reason}" if one.reason else "")


@click.command()
@json_option
@config_option
def undrain(*, as_json: bool) -> int:
    """Take a drain back: the node works again.

    Exit code: 0 when it was taken back, 1 when there is none or no agent answers.
    """
    answer = ask("Undrain")
    print_json(answer) if as_json else print("undrained: this node works again")
    return 0


@click.command("step-down")
@json_option
@config_option
def step_down(*, as_json: bool) -> int:
    """Hand the lease over to another node; workers go on.

    This node does not take it back while another can. It is not kept over a restart.

    Exit code: 0 when it was handed over, 1 when this node does not hold it or no agent answers.
    """
    return hand_over(as_json=as_json)


def hand_over(*, as_json: bool) -> int:
    """Ask this node's agent to hand the lease over, and say that it has."""
    answer = ask("StepDown", timeout=_HANDOVER)
    print_json(answer) if as_json else print("stepped down: another node takes over, if there is one that can")
    return 0
