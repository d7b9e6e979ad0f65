"""What Dynflow 2.0 was measured to do wrong, done here: two nodes with the timers at their defaults.

What happened is asserted, never how long it took; the figures stand below the results, for
docs/high-availability.md. `CHARGEHAND_ROUNDS=n` has each n times.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support.commands import COMMAND
from support.faults import counted_once, lines_of, nothing_left
from support.figures import Figures
from support.nodes import Node, StartNode
from support.plans import view_of
from support.programs import until, write_config
from support.server import Server

KEYS = Keys("default")
ROUNDS = int(os.environ.get("CHARGEHAND_ROUNDS") or "1")
DEFAULTS = 'ttl = "5s", renew = "1s"'
LEASES = 15.0  # seconds: three times the ttl, and longer than the 8 s of silence after which a member is dead

pytestmark = pytest.mark.parametrize("number", range(1, ROUNDS + 1))


@pytest.fixture
def pair(start_node: StartNode) -> tuple[Node, Node]:
    """(active, passive)"""
    active = start_node("node-a", lease=DEFAULTS)
    active.until_whole()
    passive = start_node("node-b", lease=DEFAULTS)
    passive.until_whole()
    assert active.status.startswith("active (epoch 1)")
    return active, passive


def epoch(line: Line) -> int:
    """Of the last token that anybody was given."""
    token: bytes = line.call("GET", KEYS.fence)
    return int(token.partition(b":")[0])


def taken_over(line: Line, before: int = 1) -> float:
    """Wait until the lease is another's; since when, Unix time."""
    until("another has taken over", lambda: epoch(line) > before, timeout=60)
    return int(line.call("HGET", KEYS.holder, "since")) / 1000


def ended_at(line: Line, plan: str) -> float:
    return float(line.call("ZSCORE", KEYS.index("S"), plan)) / 1000


def at_least(lines: Path, steps: int) -> None:
    until(f"{steps} steps have started", lambda: lines_of(lines).total() >= steps, timeout=60)


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Its orchestrator, and its agent first, which would replace one that does not ping."""
    processes = [psutil.Process(pid) for pid in (node.agent.pid, node.child("orchestrator")["pid"])]
    try:
        for process in processes:
            process.suspend()
            until("it is frozen", partial(_is_frozen, process))
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _is_frozen(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


def succeeded(client: Client, plan: str) -> None:
    assert client.wait(plan, 60) is PlanState.SUCCEEDED


# -- a clean stop with steps in flight: 4 to 42 s, and 3 of 3 plans ended paused though all steps had succeeded --------


def test_clean_stop_with_steps_in_flight(
    pair: tuple[Node, Node], client: Client, line: Line, place: Path, figures: Figures, number: int
) -> None:
    """Three plans, each with a step in flight on the node that stops and one on the other."""
    active, passive = pair
    lines, gate = place / "lines", place / "gate"
    plans = []
    for index in range(3):
        plan = client.plan("in flight")
        with plan.sequence():
            with plan.concurrence():
                for node in (active.name, passive.name):
                    plan.add("held", path=str(lines), text=f"{index}/{node}", gate=str(gate), node=node)
            plan.add("note", path=str(lines), text=f"{index}/after")
        plans.append(client.submit(plan))
    at_least(lines, 6)
    stopped = time.time()
    active.agent.terminate()
    figures.took("clean stop with steps in flight: the other has the lease", taken_over(line) - stopped)
    passive.until_status("active (epoch 2)")
    for name in plans:
        view = view_of(client, name)
        assert (view.state, view.counts) == ("running", {"queued": 2, "waiting": 1}), "nothing was disturbed"
    gate.touch()
    assert active.stop() == 0
    undisturbed = [client.wait(name, 60) is PlanState.SUCCEEDED for name in plans]
    figures.went("clean stop with steps in flight: plans that succeeded", sum(undisturbed), len(plans))
    assert all(undisturbed)
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    assert lines_of(lines) == {
        f"{index}/{what}": 1 for index in range(3) for what in (active.name, passive.name, "after")
    }
    for name in plans:
        view = view_of(client, name)
        assert [step.attempt for step in view.steps] == [1, 1, 1]
        assert [step.result.node for step in view.steps[:2] if step.result] == [active.name, passive.name]


# -- the orchestrator dies under a long step: "abnormal termination", though its worker still ran it -------------------


@pytest.mark.parametrize("victim", ["orchestrator", "node"])
def test_orchestrator_killed_under_a_long_step(
    pair: tuple[Node, Node], client: Client, line: Line, place: Path, figures: Figures, victim: str, number: int
) -> None:
    """The step outlives it by three lease times, and its silence by far: it is neither failed nor run again."""
    active, passive = pair
    plan = client.plan("long")
    plan.add("held", path=str(place / "lines"), text="long", gate=str(place / "gate"), node=passive.name)
    name = client.submit(plan)
    at_least(place / "lines", 1)
    killed = time.time()
    if victim == "orchestrator":
        active.kill_child("orchestrator")
    else:
        active.kill()
    figures.took(f"{victim} killed under a long step: another has the lease", taken_over(line) - killed)
    time.sleep(LEASES)  # this much time must pass: it is what the test is about
    view = view_of(client, name)
    assert (view.state, view.steps[0].state, view.steps[0].attempt) == ("running", "running", 1)
    (place / "gate").touch()
    succeeded(client, name)
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [name])
    assert lines_of(place / "lines") == {"long": 1}
    view = view_of(client, name)
    (step,) = view.steps
    assert (step.attempt, step.losses, step.error) == (1, 0, None)
    assert step.result is not None
    assert step.result.node == passive.name
    figures.took(
        f"{victim} killed under a long step: its plan ended after it",
        ended_at(line, name) - step.result.ended_ms / 1000,
    )


# -- a worker is killed: its step was still `running` after 150 s ------------------------------------------------------


@pytest.mark.parametrize("victim", ["worker", "worker and orchestrator", "node"])
def test_worker_killed(
    start_node: StartNode, client: Client, line: Line, place: Path, figures: Figures, victim: str, number: int
) -> None:
    """Three steps of its run again, on whatever worker is there, and count once."""
    active = start_node("node-a", lease=DEFAULTS)
    active.until_whole()
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("work")
    for step in range(3):
        plan.add("held", path=str(lines), text=str(step), gate=str(gate))
    name = client.submit(plan)
    at_least(lines, 3)
    passive = start_node("node-b", lease=DEFAULTS)
    passive.until_whole()
    killed = time.time()
    if victim == "node":
        active.kill()
    else:
        for kind in victim.split(" and "):
            active.kill_child(kind)
    at_least(lines, 6)
    gate.touch()
    succeeded(client, name)
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [name])
    assert lines_of(lines) == {str(step): 2 for step in range(3)}
    view = view_of(client, name)
    assert [(step.attempt, step.losses) for step in view.steps] == [(2, 1)] * 3
    again = [step.result for step in view.steps if step.result is not None]
    assert {result.attempt for result in again} == {2}
    if victim == "node":
        assert {result.node for result in again} == {passive.name}
    else:
        assert "silent" not in active.log.read_text() + passive.log.read_text(), "nobody waited for a heartbeat"
    figures.took(
        f"{victim} killed: all its steps run again", max(result.started_ms for result in again) / 1000 - killed
    )


# -- an executor is killed with 20 new plans: 10 of them were stuck ----------------------------------------------------


def test_executor_killed_with_twenty_new_plans(
    pair: tuple[Node, Node], client: Client, line: Line, place: Path, figures: Figures, number: int
) -> None:
    """Its node dies with none of them accepted: the successor takes them all, the first time."""
    active, passive = pair
    plans = []
    with frozen(active), frozen(passive):  # however long it takes, nobody takes over
        for index in range(20):
            plan = client.plan("new")
            plan.add("note", path=str(place / "lines"), text=str(index))
            plans.append(client.submit(plan))
        assert line.call("HLEN", KEYS.pending) == 20, "nobody has accepted any"
        killed = time.time()
        active.kill()
    figures.took("executor killed with 20 new plans: another has the lease", taken_over(line) - killed)
    done = [client.wait(plan, 60) is PlanState.SUCCEEDED for plan in plans]
    figures.went("executor killed with 20 new plans: plans that succeeded", sum(done), len(plans))
    assert all(done)
    figures.took(
        "executor killed with 20 new plans: the last has ended", max(ended_at(line, plan) for plan in plans) - killed
    )
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    assert lines_of(place / "lines") == {str(step): 1 for step in range(20)}
    passive.until_status("active (epoch 2)")


# -- clients that waited, or triggered just after the kill: 6 of 6 never got their answer ------------------------------


def test_clients_get_their_answers_over_a_failover(
    pair: tuple[Node, Node], client: Client, line: Line, server: Server, place: Path, figures: Figures, number: int
) -> None:
    """Three that wait on a step in flight, one of them a command line; three whose plans nobody is there to accept."""
    active, passive = pair
    lines, gate = place / "lines", place / "gate"
    config = write_config(place, server.url, node="asking")
    settings = load(config).settings
    actions = load_actions(settings).actions
    node = passive.name  # its worker lives on

    def ask(text: str) -> tuple[PlanState, float]:
        """One client: it submits, waits, and gets its answer now."""
        with Client(settings, actions) as asking:
            plan = asking.plan(text)
            plan.add("held", path=str(lines), text=text, gate=str(gate), node=node)
            return asking.wait(asking.submit(plan), 120), time.time()

    words = ("submit", "held", f"path={lines}", "text=command", f"gate={gate}", "--node", node, "--wait")
    command = subprocess.Popen([*COMMAND, "--config", str(config), *words], stdout=subprocess.PIPE, text=True)
    with ThreadPoolExecutor(5) as clients:
        try:
            waiting = [clients.submit(ask, f"before-{index}") for index in range(2)]
            at_least(lines, 3)
            with frozen(passive):  # however long the three take, nobody has taken over
                killed = time.time()
                active.kill()
                waiting += [clients.submit(ask, f"after-{index}") for index in range(3)]
                until("all have triggered", lambda: line.call("HLEN", KEYS.pending) == 3)
                assert epoch(line) == 1
            taken = taken_over(line)
            at_least(lines, 5)  # the worker has five threads, of which two are free
            gate.touch()
            answers = [one.result() for one in waiting]
            said, _ = command.communicate(timeout=60)
        finally:
            gate.touch()
            command.kill()
            command.wait()
    answered = [state for state, _ in answers].count(PlanState.SUCCEEDED) + (" succeeded after " in said)
    figures.went("clients over a failover: answered", answered, 6)
    figures.took("clients over a failover: the other has the lease", taken - killed)
    assert answered == 6, said
    assert command.returncode == 0
    assert lines_of(lines) == dict.fromkeys(["command", "before-0", "before-1", "after-0", "after-1", "after-2"], 1)
    plans = [view.plan for view in client.list(state="succeeded")]
    assert len(plans) == 6
    latest = max(ended_at(line, plan) for plan in plans)
    figures.took("clients over a failover: last answer after its plan's end", max(at for _, at in answers) - latest)
    nothing_left(line, KEYS, queue=f"@{node}")
    counted_once(line, KEYS, plans)
