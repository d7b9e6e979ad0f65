"""Chargehand runs tasks on a group of Linux nodes, and keeps running them.

What an author of actions imports:

    from chargehand import Plan, action

    @action(queue="hosts", timeout="30s")
    def patch(host: str) -> dict: ...

    @action
    def patch_all(plan: Plan, hosts: list[str]) -> None:
        for host in hosts:
            plan.add(patch, host=host)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chargehand.aclient import AsyncClient
    from chargehand.actions import Action, action
    from chargehand.aexecutors import AsyncExecutors
    from chargehand.client import Client, SubmitRefused, WaitTimeout
    from chargehand.context import Cancelled, Children, StepContext, SubPlansFailed, Unretriable, current_step
    from chargehand.executors import Executors
    from chargehand.options import Lock, Retry, shared
    from chargehand.planner import Output, Plan
    from chargehand.requests import NotPossible

__all__ = [
    "Action",
    "AsyncClient",
    "AsyncExecutors",
    "Cancelled",
    "Children",
    "Client",
    "Executors",
    "Lock",
    "NotPossible",
    "Output",
    "Plan",
    "Retry",
    "StepContext",
    "SubPlansFailed",
    "SubmitRefused",
    "Unretriable",
    "WaitTimeout",
    "__version__",
    "action",
    "current_step",
    "shared",
]

_HOME = {
    "Action": "actions",
    "AsyncClient": "aclient",
    "AsyncExecutors": "aexecutors",
    "Cancelled": "context",
    "Children": "context",
    "Client": "client",
    "Executors": "executors",
    "Lock": "options",
    "NotPossible": "requests",
    "Output": "planner",
    "Plan": "planner",
    "Retry": "options",
    "StepContext": "context",
    "SubPlansFailed": "context",
    "SubmitRefused": "client",
    "Unretriable": "context",
    "WaitTimeout": "client",
    "action": "actions",
    "current_step": "context",
    "shared": "options",
}


def __getattr__(name: str) -> Any:
    # Lazy: the agent imports this package too and must load none of it.
    if name not in _HOME:
        raise AttributeError(f"module 'chargehand' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see above

    value = getattr(import_module(f"chargehand.{_HOME[name]}"), name)
    globals()[name] = value
    return value
