"""Replies lost: the server has applied a commit, take, finish, acquire or submission, and nobody hears of it.

Nothing is lost, nothing is counted twice, no step is owned by a worker that does not know it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.store.scripts import ACQUIRE, BEAT, COMMIT, FINISH, GIVE_BACK, RENEW, SUBMIT, TAKE, Script
from support.plans import view_of
from support.programs import StartProgram, until
from support.proxy import LosingProxy
from support.server import Server

KEYS = Keys("default")


@pytest.mark.parametrize(
    ("scripts", "every"),
    [
        pytest.param((COMMIT,), 4, id="commit"),
        pytest.param((TAKE,), 4, id="take"),
        pytest.param((FINISH,), 4, id="finish"),
        pytest.param((SUBMIT,), 2, id="submit"),
        pytest.param((ACQUIRE,), 2, id="acquire"),
        pytest.param((COMMIT, TAKE, FINISH, SUBMIT, ACQUIRE, RENEW, BEAT, GIVE_BACK), 7, id="all"),
    ],
)
def test_nothing_lost_and_nothing_twice(
    start_program: StartProgram,
    client: Client,
    server: Server,
    proxy: LosingProxy,
    place: Path,
    scripts: tuple[Script, ...],
    every: int,
) -> None:
    losing = msgspec.structs.replace(
        client._settings, redis=msgspec.structs.replace(client._settings.redis, url=proxy.url)
    )
    proxy.lose(*(script.sha for script in scripts), every=every, first=scripts == (ACQUIRE,))
    orchestrator = start_program("orchestrator", url=proxy.url).ready()
    workers = [start_program("worker", node=node, url=proxy.url).ready() for node in ("node-a", "node-b")]

    plans = []
    with Client(losing, client._actions) as unlucky:
        for number in range(30):
            plan = unlucky.plan("work")
            with plan.sequence():
                plan.add("note", path=str(place / "lines"), text=f"{number}.0")
                with plan.concurrence():
                    for branch in range(1, 5):
                        plan.add("note", path=str(place / "lines"), text=f"{number}.{branch}")
                plan.add("note", path=str(place / "lines"), text=f"{number}.5")
            plans.append(unlucky.submit(plan))
    for plan_id in plans:
        assert client.wait(plan_id, 60) is PlanState.SUCCEEDED
    assert proxy.lost >= (1 if scripts == (ACQUIRE,) else 2), "the test lost nothing"
    proxy.lose(every=0)

    line = server.line()
    for plan_id in plans:
        view = view_of(client, plan_id)
        assert view.counts == {"succeeded": 6}
        assert all(step.attempt == 1 and step.result is not None and step.result.attempt == 1 for step in view.steps)
    # No worker died, so every step had one attempt: it ran once, whatever was lost on the way.
    lines = (place / "lines").read_text().split()
    assert sorted(lines) == sorted(f"{number}.{step}" for number in range(30) for step in range(6))
    until("the inbox is read", lambda: line.call("XLEN", KEYS.inbox) == 0)
    assert line.call("KEYS", KEYS.own("*")) == []
    assert orchestrator.running
    assert all(worker.running for worker in workers)
