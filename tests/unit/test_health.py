"""What monitoring makes of a node, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.health import ChildStatus, Level, NodeStatus, judge

ORCHESTRATOR = ChildStatus("orchestrator", kind="orchestrator", state="ready")
WORKER = ChildStatus("worker", kind="worker", state="ready", load="2/5")
OLD = ChildStatus("worker", kind="worker", state="draining", load="1/5", replacing=True)
CRASHED = ChildStatus("worker", kind="worker", state="idle", load="4/5", restarts=6, crashes=6, last_words="exit 1")
STARTING = ChildStatus("worker", kind="worker", state="starting")


def node(state: str, *children: ChildStatus, **more: Any) -> NodeStatus:
    return NodeStatus("node-a", state, f"{state} (so and so)", children=list(children), **more)


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        (node("active", ORCHESTRATOR, WORKER), Level.OK, "active (so and so)"),
        (node("passive", ORCHESTRATOR, WORKER), Level.OK, "passive (so and so)"),
        (node("working", WORKER), Level.OK, "working (so and so)"),
        (node("active", ORCHESTRATOR), Level.OK, "active (so and so)"),  # no workers are configured
        (node("active", ORCHESTRATOR, WORKER, OLD), Level.OK, "active (so and so)"),
        (node("active", ORCHESTRATOR, WORKER, degraded=["so"]), Level.WARNING, "active (so and so)"),
        (node("passive", WORKER, ChildStatus("x", state="idle", crashes=1)), Level.WARNING, "x crashed, last: "),
        (node("starting", ORCHESTRATOR, STARTING), Level.WARNING, "starting (so and so)"),
        (node("draining", OLD), Level.WARNING, "draining (so and so)"),
        (node("drained"), Level.WARNING, "drained (so and so)"),
        (node("stopping", OLD), Level.WARNING, "stopping (so and so)"),
        (node("waiting", ORCHESTRATOR, WORKER), Level.CRITICAL, "waiting (so and so)"),
        (node("active", ORCHESTRATOR, CRASHED), Level.CRITICAL, "no worker is ready: active (so and so)"),
        (node("working", STARTING), Level.CRITICAL, "no worker is ready: working (so and so)"),
        (node("starting", CRASHED), Level.CRITICAL, "no worker is ready: starting (so and so)"),
        (node("starting", CRASHED, STARTING), Level.WARNING, "starting (so and so)"),
        (node("dreaming"), Level.UNKNOWN, 'this version does not know the state "dreaming"'),
    ],
    ids=lambda value: value.state if isinstance(value, NodeStatus) else "",
)
def test_verdicts(status: NodeStatus, level: Level, text: str) -> None:
    verdict = judge(status)
    assert verdict.level is level
    assert text in verdict.text
    assert verdict.line.startswith(f"{level.name} - ")


def test_every_state_of_the_agent_is_known() -> None:
    states = ("starting", "active", "passive", "working", "waiting", "draining", "drained", "stopping")
    assert Level.UNKNOWN not in {judge(node(state)).level for state in states}


def test_figures_count_a_worker_that_is_replaced_once_and_its_steps_both_times() -> None:
    line = judge(node("active", ORCHESTRATOR, WORKER, OLD, CRASHED)).line
    assert line.endswith(" | workers=1;;;0;1 steps=3;;;0;10 restarts=6c")


def test_only_one_bar_parts_the_text_from_the_figures() -> None:
    said = NodeStatus("node-a", "passive", "passive, degraded: worker: a|b", degraded=["worker: a|b"])
    assert judge(said).line.count("|") == 1
