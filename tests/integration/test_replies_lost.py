"""Replies lost: the server has applied a request, and nobody hears of it. Each try finds out what became of the last.

Nothing is lost, nothing is counted twice, no step is owned by a worker that does not know it. In every test the
proxy is named before the programs, so that it outlives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import ACQUIRE, BEAT, COMMIT, FINISH, GIVE_BACK, RENEW, SUBMIT, TAKE, Script
from support.faults import chains, counted_once, lines_of, nothing_left
from support.plans import view_of
from support.programs import StartProgram, until, write_config
from support.proxy import LosingProxy

KEYS = Keys("default")
PLANS, ROUNDS = 8, 10


@pytest.fixture
def unlucky(place: Path, proxy: LosingProxy) -> Iterator[Client]:
    """A client behind the proxy."""
    settings = load(write_config(place, proxy.url, node="unlucky")).settings
    with Client(settings, load_actions(settings).actions) as made:
        yield made


def braids(client: Client, lines: Path) -> list[str]:
    """Submit plans of one step, then four beside each other, then one again, and so on."""
    made = []
    for number in range(PLANS):
        plan = client.plan(f"braid {number}")
        with plan.sequence():
            for part in range(ROUNDS):
                plan.add("note", path=str(lines), text=f"{number}/{part}")
                with plan.concurrence():
                    for branch in "abcd":
                        plan.add("note", path=str(lines), text=f"{number}/{part}{branch}")
        made.append(plan)
    return [client.submit(plan) for plan in made]


def all_end(client: Client, line: Line, place: Path, plans: list[str]) -> None:
    """Well, each step at its first attempt. No worker died, so none was lost: each has run exactly once."""
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    for plan in plans:
        assert {step.attempt for step in view_of(client, plan).steps} == {1}
    assert set(lines_of(place / "lines").values()) == {1}


@pytest.mark.parametrize(
    ("scripts", "every"),
    [
        pytest.param((COMMIT,), 2, id="commit"),
        pytest.param((TAKE,), 2, id="take"),
        pytest.param((FINISH,), 2, id="finish"),
        pytest.param((COMMIT, TAKE, FINISH, SUBMIT, ACQUIRE, RENEW, BEAT, GIVE_BACK), 7, id="all"),
    ],
)
def test_of_every_other_request(
    proxy: LosingProxy,
    unlucky: Client,
    start_program: StartProgram,
    line: Line,
    place: Path,
    scripts: tuple[Script, ...],
    every: int,
) -> None:
    orchestrator = start_program("orchestrator", url=proxy.url).ready()
    workers = [start_program("worker", node=node, url=proxy.url).ready() for node in ("node-a", "node-b")]
    proxy.lose(*(script.sha for script in scripts), every=every)
    plans = braids(unlucky, place / "lines")
    all_end(unlucky, line, place, plans)
    assert lines_of(place / "lines").total() == PLANS * ROUNDS * 5
    assert proxy.lost >= 10
    assert orchestrator.running
    assert all(worker.running for worker in workers)


def test_acquire(proxy: LosingProxy, start_program: StartProgram, client: Client, line: Line, place: Path) -> None:
    proxy.lose(ACQUIRE.sha, every=1)
    orchestrator = start_program("orchestrator", url=proxy.url)
    start_program("worker", node="node-b")
    until("it has lost the lease's reply often", lambda: proxy.lost >= 20)
    proxy.lose(ACQUIRE.sha, every=0)
    orchestrator.role("active")
    epoch, _, holder = line.call("GET", KEYS.lease).decode().partition(":")
    assert holder == orchestrator.incarnation, "a lease that it did not know of is its own"
    assert int(epoch) == proxy.lost + 1, "each try that was applied is an epoch of its own"
    all_end(client, line, place, chains(client, place / "lines", 10, 3))


def test_submit(proxy: LosingProxy, unlucky: Client, start_program: StartProgram, line: Line, place: Path) -> None:
    proxy.lose(SUBMIT.sha, every=2)
    plans = braids(unlucky, place / "lines")
    assert proxy.lost >= PLANS - 1
    assert line.call("XLEN", KEYS.inbox) == PLANS, "a repeated submission is the same plan"
    start_program("orchestrator")
    start_program("worker")
    all_end(unlucky, line, place, plans)
    assert lines_of(place / "lines").total() == PLANS * ROUNDS * 5


def test_submit_of_a_large_plan(proxy: LosingProxy, unlucky: Client, start_program: StartProgram, line: Line) -> None:
    """Its parts are sent again, although the plan is there already."""
    proxy.lose(SUBMIT.sha, every=2, first=True)
    plan = unlucky.plan("large")
    for number in range(2_500):
        plan.add("echo", value=f"{number:050}")
    name = unlucky.submit(plan)
    assert proxy.lost == 1
    assert line.call("XLEN", KEYS.inbox) == 1
    start_program("orchestrator")
    start_program("worker")
    assert unlucky.wait(name, 40) is PlanState.SUCCEEDED
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [name])
    assert line.call("TTL", KEYS.parts(name)) > 0, "parts sent for nothing expire"
