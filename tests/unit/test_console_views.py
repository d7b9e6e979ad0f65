"""What pages say: times, durations, what can be asked of a plan, who ran what when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from chargehand.console import views
from chargehand.plan.life import PlanState, StepState
from chargehand.store.census import Census, Seen
from chargehand.store.history import Moment
from chargehand.store.membership import Member
from chargehand.store.plans import PLAN_WORDS, STEP_WORDS, PlanView, ResultView, StepView
from chargehand.wire import Failure


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (1_000_000, "11 d"),
        (-5, "0 s"),
    ],
)
def test_age(seconds: float, text: str) -> None:
    assert views.age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0994, "99 ms"), (0.0999, "0.10 s"), (9.99, "9.99 s"), (10, "10 s"), (65, "1 min 5 s")],
)
def test_took(seconds: float, text: str) -> None:
    assert views.took(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0/s"), (0.5, "30/min"), (0.05, "3.0/min"), (2.25, "2.2/s"), (1234.5, "1,234/s")]
)
def test_rate(rate: float, text: str) -> None:
    assert views.rate(rate) == text


@given(st.sampled_from(list(PlanState)))
def test_every_state_has_a_tone_and_says_what_can_be_asked(state: PlanState) -> None:
    view = PlanView("p", "work", PLAN_WORDS[state], 1, {})
    assert views.tone(view.state) in {"good", "busy", "wait", "warn", "bad", "off"}
    assert ("resume" in views.plan_allows(view)) == (state is PlanState.PAUSED)
    assert ("halt" in views.plan_allows(view)) == (view.state not in views.ENDED_WORDS)


@given(st.sampled_from([*STEP_WORDS.values(), "running"]))
def test_what_can_be_asked_of_a_step(word: str) -> None:
    view = PlanView("p", "work", "paused", 1, {})
    allowed = views.step_allows(view, StepView(0, "work", "default", word, 1))
    assert allowed == {"failed": {"retry", "skip"}, "retrying": {"retry"}, "suspended": {"send"}}.get(word, set())
    view.state = "succeeded"
    assert views.step_allows(view, StepView(0, "work", "default", word, 1)) == set()


def test_step_states_are_all_known() -> None:
    assert {STEP_WORDS[state] for state in StepState} >= {"queued", "failed", "suspended", "retrying"}


def test_attempts_are_those_that_failed_that_succeeded_and_that_run() -> None:
    result = ResultView(2, "w", "node-b", 300, 400, Raw(b"1"))
    steps = [
        StepView(0, "a", "default", "succeeded", 2, result=result),
        StepView(1, "b", "default", "running", 1, [0]),
        StepView(2, "c", "default", "waiting", 0, [1]),
    ]
    view = PlanView("p", "work", "running", 3, {}, submitted_ms=50, steps=steps)
    error = Failure("ValueError", "no", "node-a")
    moments = [
        Moment(50, "submitted", by="ada"),
        Moment(200, "failed", step=0, attempt=1, node="node-a", started_ms=100, error=error),
        Moment(400, "succeeded", step=0, attempt=2, node="node-b", started_ms=300),
    ]
    found = [
        (one.step, one.attempt, one.started_ms, one.ended_ms, one.node, one.outcome)
        for one in views.attempts(view, moments, 900, {})
    ]
    assert found == [
        (0, 1, 100, 200, "node-a", "failed"),
        (0, 2, 300, 400, "node-b", "succeeded"),
        (1, 1, 400, 900, "", "running"),
    ]
    assert views.attempts(view, [], 900, {})[0][3:5] == (300, 400)  # without the history, from the result


def test_without_the_history_the_last_failure_is_known() -> None:
    error = Failure("ValueError", "no", "node-a", started_ms=100, ended_ms=200)
    view = PlanView("p", "work", "paused", 1, {}, steps=[StepView(0, "a", "default", "failed", 2, error=error)])
    (found,) = views.attempts(view, [], 900, {})
    assert found == views.Attempt(0, "a", 2, 100, 200, "node-a", "failed")
    told = Moment(200, "failed", step=0, attempt=2, node="node-a", started_ms=100, error=error)
    assert views.attempts(view, [told], 900, {}) == [found]  # once


def test_what_runs_began_when_its_worker_says() -> None:
    told = Member("worker", "node-c", "worker", 1, 0, "1", running=["p/1/3", "other/1/3"], for_ms=[200, 10])
    census = Census(1000, "default", None, 0, "", 0, 0, 0, {}, {}, [Seen("w", told, 0.5, False)])
    run = views.running(census, "p")
    assert run == {(1, 3): ("node-c", 300)}
    view = PlanView("p", "work", "running", 2, {}, submitted_ms=50)
    view.steps = [StepView(0, "a", "default", "waiting", 1), StepView(1, "b", "default", "running", 3)]
    (found,) = views.attempts(view, [], 1000, run)
    assert (found.started_ms, found.ended_ms, found.node) == (300, 1000, "node-c")


def test_history_is_told_the_latest_first() -> None:
    steps = [StepView(0, "a", "default", "failed", 1)]
    view = PlanView("p", "work", "paused", 1, {}, steps=steps)
    error = Failure("ValueError", "no", "node-a")
    moments = [
        Moment(1, "submitted", by="ada@x"),
        Moment(2, "failed", step=0, attempt=1, node="node-a", started_ms=1, error=error),
        Moment(3, "plan", "paused"),
        Moment(4, "asked", "resume", by="ben@y"),
    ]
    assert [one.text for one in views.told(view, moments, 10)] == [
        "resume asked for by ben@y",
        "the plan is paused",
        "step 0 a failed at attempt 1 on node-a: ValueError: no",
        "submitted by ada@x",
    ]
    assert [one.text for one in views.told(view, moments, 1)] == ["resume asked for by ben@y"]


def member(node: str, kind: str, role: str = "", *, silent: bool = False, busy: int = 0, degraded: str = "") -> Seen:
    made = Member(kind, node, kind, 1, 0, "1", role=role, busy=busy, threads=5, degraded=degraded)
    return Seen(f"{node}-{kind}", made, 1.0, silent)


def test_nodes_are_what_is_heard_of_their_members() -> None:
    members = [
        member("a", "orchestrator", "active"),
        member("a", "worker", busy=2, degraded="no space left"),
        member("b", "orchestrator", "passive", silent=True),
        member("c", "worker", busy=1),
    ]
    found = views.nodes(Census(0, "default", None, 0, "", 0, 0, 0, {}, {}, members))
    assert [(one.name, one.role, one.busy, one.threads) for one in found] == [
        ("a", "active", 2, 5),
        ("b", "silent", 0, 0),
        ("c", "working", 1, 5),
    ]
    assert found[0].degraded == ["worker: no space left"]


@given(st.binary(max_size=40))
def test_anything_can_be_shown_as_text(data: bytes) -> None:
    assert isinstance(views.pretty(data), str)


def test_json_is_laid_out() -> None:
    assert views.pretty(b'{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'
