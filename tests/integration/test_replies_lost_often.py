"""Replies lost again and again of the same request: each try was applied, and the next must find that out."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.keys import Keys
from chargehand.store.scripts import ACQUIRE, COMMIT, FINISH, SUBMIT, TAKE, Script
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import StartProgram, until, write_config
from support.proxy import LosingProxy
from support.server import Server

KEYS = Keys("default")
PLANS, LENGTH = 10, 30


def run_chains(client: Client, server: Server, place: Path) -> None:
    plans = chains(client, place / "lines", PLANS, LENGTH)
    for plan in plans:
        assert client.wait(plan, 40) is PlanState.SUCCEEDED
    line = server.line()
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    # No worker died, so no attempt was lost: each step has run exactly once.
    assert lines_of(place / "lines") == {f"{plan}/{step}": 1 for plan in range(PLANS) for step in range(LENGTH)}


@pytest.mark.parametrize("script", [COMMIT, TAKE, FINISH], ids=lambda script: script.name)
def test_every_other(
    script: Script, start_program: StartProgram, proxy: LosingProxy, client: Client, server: Server, place: Path
) -> None:
    orchestrator = start_program("orchestrator", url=proxy.url)
    worker = start_program("worker", url=proxy.url)
    orchestrator.role("active")
    worker.ready()
    proxy.lose(script.sha, every=2)
    run_chains(client, server, place)
    assert proxy.lost >= 10
    assert orchestrator.running
    assert worker.running


def test_acquire(start_program: StartProgram, proxy: LosingProxy, client: Client, server: Server, place: Path) -> None:
    line = server.line()
    proxy.lose(ACQUIRE.sha, every=1)
    orchestrator = start_program("orchestrator", url=proxy.url)
    start_program("worker", node="node-b")
    until("it has lost the lease's reply often", lambda: proxy.lost >= 20)
    proxy.lose(ACQUIRE.sha, every=0)
    orchestrator.role("active")
    epoch, _, holder = line.call("GET", KEYS.lease).decode().partition(":")
    assert holder == orchestrator.incarnation, "a lease that it did not know of is its own"
    assert int(epoch) == proxy.lost + 1, "each try that was applied is an epoch of its own"
    run_chains(client, server, place)


def test_submit(start_program: StartProgram, proxy: LosingProxy, server: Server, place: Path) -> None:
    settings = load(write_config(place, proxy.url, node="submitter")).settings
    line = server.line()
    proxy.lose(SUBMIT.sha, every=2)
    with Client(settings, load_actions(settings).actions) as client:
        plans = [chains(client, place / "lines", 1, 3)[0] for _ in range(20)]
        assert proxy.lost >= 19
        assert line.call("XLEN", KEYS.inbox) == 20, "a repeated submission is the same plan"
        start_program("orchestrator")
        start_program("worker")
        for plan in plans:
            assert client.wait(plan, 30) is PlanState.SUCCEEDED
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    assert lines_of(place / "lines") == {f"0/{step}": 20 for step in range(3)}


def test_submit_of_a_large_plan(start_program: StartProgram, proxy: LosingProxy, server: Server, place: Path) -> None:
    """Its parts are sent again, although the plan is there already."""
    settings = load(write_config(place, proxy.url, node="submitter")).settings
    line = server.line()
    proxy.lose(SUBMIT.sha, every=2, first=True)
    with Client(settings, load_actions(settings).actions) as client:
        plan = client.plan("large")
        for number in range(2_500):
            plan.add("echo", value=f"{number:050}")
        name = client.submit(plan)
        assert proxy.lost == 1
        assert line.call("XLEN", KEYS.inbox) == 1
        start_program("orchestrator")
        start_program("worker")
        assert client.wait(name, 40) is PlanState.SUCCEEDED
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [name])
    assert line.call("TTL", KEYS.parts(name)) > 0, "parts sent for nothing expire"
