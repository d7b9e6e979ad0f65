"""`chargehand submit ACTION name=value ...`"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli import completion
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, connected, executor_option, json_option, print_json, reachable
from chargehand.cli.planning import action_arguments, holding_options, known_action, planned, when

if TYPE_CHECKING:
    from chargehand.executors import Executors
    from chargehand.store.plans import PlanView

__all__ = ["submit"]


@click.command()
@action_arguments
@click.option(
    "--node",
    metavar="NODE[,NODE]...",
    shell_complete=completion.nodes,
    help="Run it there and nowhere else; a step on each of several.",
)
@click.option("--all-nodes", is_flag=True, help="Run it on every node that has a worker now, a step on each.")
@click.option("--at", "--in", "at", metavar="TIME", help='Not before: "2026-11-24T10:00", or from now on, "2h".')
@click.option("--before", metavar="TIME", help="When it has not started by then, it fails.")
@click.option(
    "--after", multiple=True, metavar="PLAN", shell_complete=completion.plans, help="Start after this plan has ended."
)
@click.option(
    "--after-failure",
    type=click.Choice(["fail", "run"]),
    default="fail",
    show_default=True,
    help="When one of those ended otherwise than well.",
)
@holding_options
@click.option("--key", metavar="TEXT", help="Idempotency key: the same key submitted twice is one plan.")
@executor_option
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is 0 when it succeeded, 1 otherwise.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: give up waiting after this long.")
@json_option
@config_option
def submit(
    action: str,
    inputs: tuple[str, ...],
    node: str | None,
    at: str | None,
    before: str | None,
    key: str | None,
    executor: str | None,
    *,
    all_nodes: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit ACTION with its inputs as an execution plan, and print the plan's id.

    A VALUE is read as the parameter's type asks; JSON works for lists and tables. With --at, an action that plans its
    steps plans them when it starts, on a worker.
    """
    settings = reachable()
    found, actions = known_action(settings, action)
    if node is not None and all_nodes:
        raise CliError("--node names nodes and --all-nodes takes all that there are: use one of them", 2)
    with connected(settings, actions) as executors:
        nodes = _all_nodes(executors, executor) if all_nodes else None if node is None else _named(node)
        plan = planned(
            found,
            actions,
            inputs,
            nodes=nodes,
            start_at=when(at, "--at"),
            start_before=when(before, "--before"),
            **options,
        )
        name = executors.submit(plan, key=key, executor=executor)
        if not wait:
            print_json({"plan": name}) if as_json else print(name)
            return 0
        begun = time.monotonic()
        state = _follow(executors, name, timeout) if sys.stderr.isatty() else executors.wait(name, timeout).name.lower()
        view = executors.read(name)
        took = time.monotonic() - begun
    if as_json:
        print_json(view)
    else:
        print(f"{name} {state} after {took:.2f} s")
        if view is not None:
            _tell(view)
    return 0 if state == "succeeded" else 1


def _named(nodes: str) -> list[str]:
    found = list(dict.fromkeys(node.strip() for node in nodes.split(",")))
    if "" in found:
        raise CliError(f"--node {nodes!r} names an empty node", 2)
    return found


def _all_nodes(executors: Executors, executor: str | None) -> list[str]:
    """The nodes (of an executor) that have a worker which takes what is aimed at them."""
    names = executors.names if executor is None else [executor]
    seen = [one for name in names for one in executors.client(name).census().members]
    found = {one.member.node for one in seen if not one.silent and f"@{one.member.node}" in one.member.queues}
    if not found:
        raise CliError("no node has a worker that takes steps aimed at it (chargehand status)")
    return sorted(found)


def _follow(executors: Executors, plan: str, timeout: float | None) -> str:
    """Wait for its end; meanwhile a line on the terminal says how far it is. Returns the state."""
    state, step, done, total = "submitted", "", 0, "?"
    view = executors.read(plan, steps=False)
    if view is not None:
        total = str(view.total)
    try:
        for change in executors.watch(plan, past=0, timeout=timeout):
            if change.kind == "plan":
                state = change.text
            elif change.kind == "progress":
                step = f", step {change.step}: {change.fraction:.0%} {change.text}".rstrip()
            elif change.kind == "say":
                step = f", step {change.step}: {change.text.splitlines()[-1]}" if change.text else ""
            done = change.done if change.done is not None else done
            line = f"{plan} {state} {done}/{total} steps{step}"
            sys.stderr.write(f"\r\033[K{line[: _width()]}")
            sys.stderr.flush()
    finally:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
    return state


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1


def _tell(view: PlanView) -> None:
    """What went wrong, or what came out: of a plan that was sent to nodes, of each."""
    from chargehand.cli.showing import failures

    for line in failures(view):
        print(line)
    if view.state != "succeeded" or not view.steps:
        return
    aimed = [step for step in view.steps if step.queue.startswith("@")]
    shown = aimed if len(aimed) > 1 else view.steps[-1:]
    for step in shown:
        if step.result is not None:
            output = bytes(step.result.output).decode()
            print(f"{step.queue[1:]}: {output}" if len(aimed) > 1 else output)
