"""The agent's decisions: a child's life, when it is started again, what systemd is told."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.notify import clean, parse
from chargehand.supervisor.life import LIFE, RUNNING, Action, Event, State
from chargehand.supervisor.restart import HEALTHY_AFTER, LONGEST, Restarts
from chargehand.supervisor.status import ChildReport, NodeReport, is_ready, state_word, status_line


class TestLife:
    def test_every_pair_is_decided(self) -> None:
        assert set(LIFE) == set(State)
        for state, row in LIFE.items():
            assert set(row) == set(Event), state

    def test_stop_leads_to_stopped_from_everywhere(self) -> None:
        """Whatever the state, after STOP only STOPPED is left, once the process has ended and its tree is gone."""
        for start in State:
            state = start
            for event in (Event.DRAIN, Event.STOP, Event.OVERDUE, Event.EXITED, Event.SWEPT):
                move = LIFE[state][event]
                state = move.next if move else state
            assert state is State.STOPPED, start

    def test_every_end_of_a_process_is_buried_once(self) -> None:
        for state in RUNNING:
            move = LIFE[state][Event.EXITED]
            assert move is not None
            assert Action.KILL in move.actions, "what is left of its tree"
            swept = LIFE[move.next][Event.SWEPT]
            assert swept is not None
            assert Action.BURY in swept.actions

    def test_what_drains_is_never_started_again(self) -> None:
        for event in Event:
            move = LIFE[State.DRAINING][event]
            assert move is None or move.next in {State.STOPPING, State.CLOSING}, event
        for state in (State.STOPPING, State.CLOSING):
            for event in Event:
                move = LIFE[state][event]
                assert move is None or move.next in {State.STOPPING, State.CLOSING, State.STOPPED}

    def test_a_hung_child_dumps_its_stacks_before_it_is_killed(self) -> None:
        hung = LIFE[State.READY][Event.SILENT]
        assert hung is not None
        assert hung.actions == (Action.ABORT,)
        overdue = LIFE[hung.next][Event.OVERDUE]
        assert overdue is not None
        assert overdue.actions == (Action.KILL,)


class TestRestarts:
    def test_at_once_then_doubling_up_to_a_minute(self) -> None:
        restarts = Restarts()
        delays = [restarts.delay(0.0, 1.0, 7.0) for _ in range(12)]
        assert delays[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
        assert delays[-1] == LONGEST
        assert restarts.in_a_row == restarts.total == 12

    def test_a_minute_of_health_forgives(self) -> None:
        restarts = Restarts()
        for _ in range(5):
            restarts.delay(0.0, 0.5, 7.0)
        assert restarts.delay(HEALTHY_AFTER, 0.5, 99.0) == 0.0
        assert restarts.in_a_row == 1
        assert restarts.first_at == 99.0, "since when it is in trouble now"

    @given(st.floats(0, 1, exclude_max=True), st.integers(1, 100))
    def test_jitter_stays_within_a_quarter(self, draw: float, ends: int) -> None:
        restarts, plain = Restarts(), Restarts()
        for _ in range(ends):
            with_jitter, full = restarts.delay(0.0, draw, 0.0), plain.delay(0.0, 1.0, 0.0)
        assert 0.75 * full <= with_jitter <= full


def orchestrator(role: str = "", **more: object) -> ChildReport:
    ready = role in {"active", "passive"}
    return ChildReport("orchestrator", "orchestrator", ready=ready, has_role=True, role=role, **more)  # type: ignore[arg-type]


def worker(name: str = "worker", **more: object) -> ChildReport:
    return ChildReport(name, "worker", **({"ready": True, "role": "working"} | more))  # type: ignore[arg-type]


PASSIVE = orchestrator("passive", epoch="7", holder="node-b")
ACTIVE = orchestrator("active", epoch="8", queued="14", holder="node-a")
WAITING = orchestrator("waiting", redis="redis:6379 since 10:04, Connection refused")
TEN = time.mktime((2026, 11, 24, 10, 4, 0, 0, 0, -1))
WORDS = 'exit 1 "ModuleNotFoundError: x"'
CRASHED = worker("worker-1", ready=False, role="", crashes=6, crashed_since=TEN, last_words=WORDS)


@pytest.mark.parametrize(
    ("node", "ready", "line"),
    [
        pytest.param(
            NodeReport([orchestrator(), worker(ready=False)]),
            False,
            "starting: orchestrator; workers 0/1",
            id="starting",
        ),
        pytest.param(
            NodeReport([PASSIVE, worker("a"), worker("b")]),
            True,
            "passive (waiting on lock, held by node-b, epoch 7); workers 2/2",
            id="passive",
        ),
        pytest.param(
            NodeReport([ACTIVE, worker("a"), worker("b")]),
            True,
            "active (epoch 8); workers 2/2; 14 steps queued",
            id="active",
        ),
        pytest.param(
            NodeReport([ACTIVE, worker()], embedded=True),
            True,
            "active (epoch 8, embedded Redis, this node only); workers 1/1; 14 steps queued",
            id="embedded",
        ),
        pytest.param(
            NodeReport([PASSIVE, worker()], troubles=["cannot write /var/lib/chargehand: No space left"]),
            True,
            "passive (waiting on lock, held by node-b, epoch 7), "
            "degraded: cannot write /var/lib/chargehand: No space left; workers 1/1",
            id="the agent's own trouble",
        ),
        pytest.param(
            NodeReport([WAITING, worker()]),
            False,
            "starting: Redis redis:6379 since 10:04, Connection refused; workers 1/1",
            id="waiting at start",
        ),
        pytest.param(
            NodeReport([WAITING, worker()], waited=10.0),
            True,
            "waiting (Redis redis:6379 since 10:04, Connection refused); workers 1/1",
            id="waiting beyond ready_timeout",
        ),
        pytest.param(
            NodeReport([WAITING, worker()], was_ready=True),
            False,  # READY was said already
            "waiting (Redis redis:6379 since 10:04, Connection refused); workers 1/1",
            id="Redis lost later",
        ),
        pytest.param(
            NodeReport([PASSIVE, CRASHED, worker("worker-2")]),
            True,
            "passive (waiting on lock, held by node-b, epoch 7), degraded: worker-1 crashed 6 times since 10:04, "
            'last: exit 1 "ModuleNotFoundError: x"; workers 1/2',
            id="a child keeps crashing",
        ),
        pytest.param(NodeReport([worker()]), True, "working; workers 1/1", id="no orchestrator here"),
        pytest.param(
            NodeReport([worker(role="waiting", redis="r:1 since 10:04, Connection refused")]),
            True,
            "waiting (Redis r:1 since 10:04, Connection refused); workers 1/1",
            id="no orchestrator and no Redis",
        ),
        pytest.param(
            NodeReport([ACTIVE, worker(), ChildReport("worker", "worker", draining=True, busy=2)]),
            True,
            "active (epoch 8); workers 1/1; 14 steps queued",
            id="a worker that was replaced still drains",
        ),
        pytest.param(
            NodeReport(
                [ChildReport("worker", "worker", draining=True, busy=2)], drain="by root since 2026-11-24 10:04"
            ),
            True,
            "draining (2 steps still run)",
            id="draining",
        ),
        pytest.param(
            NodeReport([ChildReport("exporter", "program", ready=True)], drain="by root since 2026-11-24 10:04: disks"),
            True,
            "drained (by root since 2026-11-24 10:04: disks)",
            id="drained, other programs go on",
        ),
        pytest.param(
            NodeReport([ChildReport("dynflow", "program", ready=True, has_role=True, role="passive"), worker()]),
            True,
            "passive (dynflow); workers 1/1",
            id="a program that logs its role",
        ),
        pytest.param(
            NodeReport([PASSIVE, worker(busy=3)], stopping=True), True, "stopping (3 steps still run)", id="stopping"
        ),
        pytest.param(
            NodeReport([PASSIVE, worker(busy=1)], stopping=True),
            True,
            "stopping (1 step still runs)",
            id="stopping, one",
        ),
    ],
)
def test_status(node: NodeReport, ready: bool, line: str) -> None:
    assert status_line(node) == line
    assert is_ready(node) is ready


def test_workers_never_gate_readiness() -> None:
    assert is_ready(NodeReport([PASSIVE, CRASHED]))


@given(st.text(max_size=400), st.integers(0, 400))
def test_status_is_one_line_of_ascii_and_cut_at_the_cause(words: str, crashes: int) -> None:
    node = NodeReport([ACTIVE, worker(crashes=crashes, last_words=words)])
    line = status_line(node)
    assert line.isascii()
    assert "\n" not in line
    assert len(line) <= 200
    assert line.startswith("active (epoch 8)")
    assert line.endswith("; workers 1/1; 14 steps queued")


def test_state_word() -> None:
    assert [state_word(NodeReport([one])) for one in (PASSIVE, ACTIVE, orchestrator())] == [
        "passive",
        "active",
        "starting",
    ]
    assert state_word(NodeReport([WAITING], was_ready=True)) == "waiting"


def test_messages() -> None:
    assert parse(b"READY=1\nSTATUS=a=b\nnonsense\n\xff=1") == {"READY": "1", "STATUS": "a=b", "�": "1"}
    assert clean("über\nzwei  Zeilen") == "?ber zwei Zeilen"
    assert len(clean("x" * 500)) == 200
