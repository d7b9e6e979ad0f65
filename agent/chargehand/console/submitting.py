"""A plan of an action and its inputs, as REST and the pages ask for one. Blocks; for a thread."""

from __future__ import annotations

from datetime import datetime
from threading import Lock as Mutex
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from chargehand.actions import ActionError, find
from chargehand.config.settings import Settings
from chargehand.executors import Executors
from chargehand.planner import Plan
from chargehand.registry import Registry, load_actions
from chargehand.wire import Lock

__all__ = ["Actions", "Holding", "Submission", "add", "plan_of", "submit"]

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Moment = Annotated[datetime, Meta(tz=True)]
_AGES = 100 * 365 * 86_400_000


class Actions:
    """The actions of this node's configuration: imported when first asked for, as `chargehand submit` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mutex = Mutex()
        self._found: Registry | None = None

    def known(self) -> Registry:
        with self._mutex:
            if self._found is None:
                self._found = load_actions(self._settings)
            return self._found


class Holding(Struct, kw_only=True, forbid_unknown_fields=True):
    """An action with its inputs, and what its plan has beside its steps."""

    action: Text
    inputs: dict[str, Any] = {}
    labels: Annotated[list[Text], Meta(max_length=100)] = []  # to find it by
    locks: Annotated[list[Text], Meta(max_length=100)] = []  # that it holds while it is under way
    shared_locks: Annotated[list[Text], Meta(max_length=100)] = []  # the same, shared with others that say so
    busy: Literal["wait", "reject"] = "wait"  # when another plan holds one of its locks


class Submission(Holding, kw_only=True, forbid_unknown_fields=True):
    """A plan to be run. An action that plans its steps plans them on a worker."""

    key: Text | None = None  # idempotency key: the same key submitted twice is one plan
    executor: Text | None = None  # this one and no other; default: chosen by load
    nodes: Annotated[list[Text], Meta(max_length=1000)] = []  # a step on each of these
    start_at: Moment | None = None  # not before
    start_in_ms: Annotated[int, Meta(ge=0, le=_AGES)] | None = None  # the same, from now on by Redis' clock
    start_before: Moment | None = None  # when it has not started by then, it fails


def plan_of(asked: Holding, registry: Registry, **options: Any) -> Plan:
    """Raises `ActionError`: no such action, or an input that it does not take."""
    held: list[str | Lock] = [*asked.locks, *(Lock(name, 0) for name in asked.shared_locks)]
    return Plan(
        asked.action,
        registry.actions,
        labels=asked.labels,
        locks=held,
        busy=asked.busy,
        plan_on="worker",
        **options,
    )


def submit(executors: Executors, asked: Submission, registry: Registry) -> str:
    """The plan's id. Raises `ActionError`, `SubmitRefused`, `NotPossible`, `Unavailable`."""
    start: datetime | float | None = asked.start_at
    if start is None and asked.start_in_ms is not None:
        start = asked.start_in_ms / 1000
    plan = plan_of(asked, registry, start_at=start, start_before=asked.start_before)
    add(plan, asked, registry, nodes=list(dict.fromkeys(asked.nodes)))
    return executors.submit(plan, key=asked.key, executor=asked.executor)


def add(plan: Plan, asked: Holding, registry: Registry, *, nodes: list[str] | None = None) -> None:
    """Add the action's step; of several nodes, a step on each. Raises `ActionError`."""
    action = find(registry.actions, asked.action)
    checked = action.check(asked.inputs, unknown_yet=lambda _: False)
    if not nodes:
        plan.add(action, **checked)
    elif action.plans:
        raise ActionError(f"action {action.name!r} plans its steps itself: nodes are for an action that runs")
    else:
        plan.add(action, node=nodes, **checked)
