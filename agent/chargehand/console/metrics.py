"""What Prometheus reads: all that `chargehand status` knows, asked of Redis when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chargehand import __version__
from chargehand.console.desk import Desk
from chargehand.executors import Executors
from chargehand.store.census import Census
from chargehand.store.connection import Full, Refused, Unavailable
from chargehand.store.stats import Stats

__all__ = ["METRICS", "ROUTES", "Asked", "metrics_of"]

#: Name -> what it is, and its labels beside `executor`. What ends in `_total` is a counter, the rest are gauges.
METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "chargehand_up": ("1 when the Redis of the executor answers the console, 0 otherwise.", ()),
    "chargehand_lease_held": ("1 when an orchestrator is active: it holds the lease.", ()),
    "chargehand_lease_remaining_seconds": ("Until the lease expires unless it is renewed.", ()),
    "chargehand_lease_epoch": ("Of the lease: it grows with each orchestrator that becomes active.", ()),
    "chargehand_lease_held_since_timestamp_seconds": ("When the orchestrator became active.", ()),
    "chargehand_inbox_events": ("Events that no orchestrator has decided on yet.", ()),
    "chargehand_plans_pending": ("Plans that were submitted and not accepted yet.", ()),
    "chargehand_plans": ("Plans that are kept, by their state.", ("state",)),
    "chargehand_queue_waiting_steps": ("Steps that wait on a queue for a worker.", ("queue",)),
    "chargehand_queue_workers": ("Workers that serve a queue and are heard.", ("queue",)),
    "chargehand_queue_threads": ("Steps that the workers of a queue can run at once.", ("queue",)),
    "chargehand_member_heard": (
        "1 when an orchestrator or worker beats, 0 when it is silent.",
        ("node", "child", "kind"),
    ),
    "chargehand_member_heartbeat_age_seconds": ("Since its latest beat.", ("node", "child", "kind")),
    "chargehand_member_degraded": ("1 when it says that something is wrong.", ("node", "child", "kind")),
    "chargehand_member_start_timestamp_seconds": ("When it was started.", ("node", "child", "kind")),
    "chargehand_orchestrator_active": ("1 for the active orchestrator, 0 for passive ones.", ("node",)),
    "chargehand_orchestrator_busy_ratio": (
        "Share of the last minute that the active orchestrator was busy.",
        ("node",),
    ),
    "chargehand_orchestrator_inbox_delay_seconds": ("What the oldest event had waited for.", ("node",)),
    "chargehand_worker_threads": ("Steps that a worker can run at once.", ("node", "child")),
    "chargehand_worker_busy_threads": ("Steps that a worker runs.", ("node", "child")),
    "chargehand_steps_finished_total": ("Steps that were done, by action.", ("action",)),
    "chargehand_step_failures_total": ("Attempts that failed, by action.", ("action",)),
    "chargehand_step_losses_total": ("Attempts that were lost with their worker, by action.", ("action",)),
    "chargehand_minute_plans_submitted": ("Plans that were accepted in the last whole minute.", ()),
    "chargehand_minute_plans_succeeded": ("Plans that succeeded in the last whole minute.", ()),
    "chargehand_minute_plans_failed": ("Plans that paused or ended not well in the last whole minute.", ()),
    "chargehand_minute_plan_duration_median_seconds": (
        "From submission to end, of the plans that ended in the last whole minute: half took less.",
        (),
    ),
    "chargehand_minute_plan_duration_p95_seconds": ("The same: 95 of 100 took less.", ()),
}

_ACTIONS = 200  # the busiest: each is a series of its own
_QUEUES = 1_000

_Sample = tuple[str, dict[str, str], float]


class Asked(Collector):
    """What was asked once, for one answer."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def metrics_of(found: dict[str, tuple[Census, Stats] | None], *, node: str) -> list[Metric]:
    """Of each executor what is known; None: its Redis does not answer. Pure."""
    families: dict[str, Metric] = {}
    for name, (text, more) in METRICS.items():
        kind: type[Any] = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        families[name] = kind(name, text, labels=("executor", *more))
    for executor, known in found.items():
        families["chargehand_up"].add_sample("chargehand_up", {"executor": executor}, 0.0 if known is None else 1.0)
        for name, labels, value in _samples(*known) if known is not None else ():
            families[name].add_sample(name, {"executor": executor, **labels}, value)
    build = GaugeMetricFamily("chargehand_build_info", "The console that answers.", labels=("version", "node"))
    build.add_metric((__version__, node), 1.0)
    return [build, *families.values()]


def _samples(census: Census, stats: Stats) -> Iterator[_Sample]:
    yield from _lease(census)
    yield "chargehand_inbox_events", {}, census.inbox
    yield "chargehand_plans_pending", {}, census.pending
    for state, count in census.plans.items():
        yield "chargehand_plans", {"state": state}, count
    for queue in sorted(stats.queues, key=lambda one: -one.waiting)[:_QUEUES]:
        labels = {"queue": queue.name}
        yield "chargehand_queue_waiting_steps", labels, queue.waiting
        yield "chargehand_queue_workers", labels, queue.workers
        yield "chargehand_queue_threads", labels, queue.threads
    yield from _members(census)
    for action in stats.actions[:_ACTIONS]:
        labels = {"action": action.name}
        yield "chargehand_steps_finished_total", labels, action.done
        yield "chargehand_step_failures_total", labels, action.failed
        yield "chargehand_step_losses_total", labels, action.lost
    whole = stats.minutes[:-1]  # the last one is not over
    if whole:
        minute = whole[-1]
        yield "chargehand_minute_plans_submitted", {}, minute.submitted
        yield "chargehand_minute_plans_succeeded", {}, minute.plans
        yield "chargehand_minute_plans_failed", {}, minute.bad
        yield "chargehand_minute_plan_duration_median_seconds", {}, minute.median_ms / 1000
        yield "chargehand_minute_plan_duration_p95_seconds", {}, minute.p95_ms / 1000


def _lease(census: Census) -> Iterator[_Sample]:
    token = census.lease_token
    yield "chargehand_lease_held", {}, 0.0 if token is None else 1.0
    yield "chargehand_lease_remaining_seconds", {}, census.lease_left
    if token is not None:
        epoch = token.partition(":")[0]
        yield "chargehand_lease_epoch", {}, float(epoch) if epoch.isdecimal() else 0.0
        yield "chargehand_lease_held_since_timestamp_seconds", {}, census.holder_since_ms / 1000


def _members(census: Census) -> Iterator[_Sample]:
    told: set[tuple[str, str, str]] = set()
    # One that was replaced stands beside its successor until it is reaped: the one that is heard is meant.
    for one in sorted(census.members, key=lambda one: one.beat_age):
        member = one.member
        key = (member.node, member.child, member.kind)
        if key in told:
            continue
        told.add(key)
        labels = {"node": member.node, "child": member.child, "kind": member.kind}
        yield "chargehand_member_heard", labels, 0.0 if one.silent else 1.0
        yield "chargehand_member_heartbeat_age_seconds", labels, one.beat_age
        yield "chargehand_member_degraded", labels, 1.0 if member.degraded else 0.0
        yield "chargehand_member_start_timestamp_seconds", labels, member.started_ms / 1000
        if member.kind == "orchestrator":
            node = {"node": member.node}
            active = member.role == "active" and not one.silent
            yield "chargehand_orchestrator_active", node, 1.0 if active else 0.0
            yield "chargehand_orchestrator_busy_ratio", node, member.share / 100 if active else 0.0
            yield "chargehand_orchestrator_inbox_delay_seconds", node, member.behind if active else 0.0
        else:
            worker = {"node": member.node, "child": member.child}
            yield "chargehand_worker_threads", worker, member.threads
            yield "chargehand_worker_busy_threads", worker, member.busy


def _metrics(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    with desk.executors() as executors:
        found = {name: _known(executors, name) for name in executors.names}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Asked(metrics_of(found, node=desk.settings.node.name)))
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": kind})


def _known(executors: Executors, name: str) -> tuple[Census, Stats] | None:
    client = executors.client(name)
    try:
        return client.census(), client.stats()
    except (Unavailable, Full, Refused):
        return None


ROUTES: list[BaseRoute] = [Route("/metrics", _metrics, name="metrics")]
