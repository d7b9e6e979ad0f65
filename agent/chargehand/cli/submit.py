"""`chargehand submit ACTION name=value ...`"""

from __future__ import annotations

import time
from typing import Any

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, given_value, json_option, print_json, reachable

__all__ = ["submit"]


@click.command()
@click.argument("action")
@click.argument("inputs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--node", metavar="NODE", help="Run it on this node and nowhere else.")
@click.option("--key", metavar="TEXT", help="Idempotency key: the same key submitted twice is one plan.")
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is 0 when it succeeded, 1 otherwise.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: give up waiting after this long.")
@json_option
@config_option
def submit(
    action: str,
    inputs: tuple[str, ...],
    node: str | None,
    key: str | None,
    *,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Submit ACTION with its inputs as an execution plan, and print the plan's id.

    A VALUE is read as the parameter's type asks; JSON works for lists and tables.
    """
    from chargehand.actions import ActionError
    from chargehand.client import Client
    from chargehand.planner import Plan
    from chargehand.registry import load_actions

    settings = reachable()
    registry = load_actions(settings)
    found = registry.actions.get(action)
    if found is None:
        hints = [f"there is no action {action!r} (known: {', '.join(sorted(registry.actions)) or 'none'})"]
        raise CliError("\n".join(hints + registry.problems))
    given = dict(_pair(text) for text in inputs)
    plan = Plan(action, registry.actions)
    checked = found.check(given, unknown_yet=lambda _: False, loose=True)
    if node is not None and found.plans:
        raise ActionError(f"action {action!r} plans its steps itself: --node is for an action that runs")
    plan.add(found, node=node, **checked)
    with Client(settings, registry.actions) as client:
        name = client.submit(plan, key=key)
        if not wait:
            print_json({"plan": name}) if as_json else print(name)
            return 0
        begun = time.monotonic()
        state = client.wait(name, timeout)
        view = client.read(name)
        took = time.monotonic() - begun
    if as_json:
        print_json(view)
    else:
        print(f"{name} {state.name.lower()} after {took:.2f} s")
        if view is not None:
            from chargehand.cli.plan import failures

            for line in failures(view):
                print(line)
            if state.name == "SUCCEEDED" and view.steps and view.steps[-1].result is not None:
                print(bytes(view.steps[-1].result.output).decode())
    return 0 if state.name == "SUCCEEDED" else 1


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"{text!r} is not NAME=VALUE", 2)
    return name, given_value(value, name)
