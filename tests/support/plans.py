"""Plans of one step, and what has become of a plan that is surely there."""

from __future__ import annotations

from typing import Any

from chargehand.client import Client
from chargehand.store.plans import PlanView, StepView

__all__ = ["is_in", "step_of", "submit", "view_of"]


def submit(client: Client, action: str, **inputs: Any) -> str:
    """A plan of one step: its id."""
    plan = client.plan(action)
    plan.add(action, **inputs)
    return client.submit(plan)


def view_of(client: Client, plan: str, *, steps: bool = True) -> PlanView:
    view = client.read(plan, steps=steps)
    assert view is not None
    return view


def step_of(client: Client, plan: str, step: int = 0) -> StepView:
    return view_of(client, plan).steps[step]


def is_in(client: Client, plan: str, *states: str) -> bool:
    return view_of(client, plan, steps=False).state in states
