"""`chargehand queue` and `chargehand lease`: what waits where and who serves it; who holds the lock and who waits."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support import commands
from support.commands import Chargehand, Done
from support.nodes import StartNode
from support.plans import step_of, submit
from support.programs import Program, StartProgram, until, write_config, written
from support.server import Server
from support.terminal import Terminal

KEYS = Keys("default")

LIMITED = """
[[queue]]
name = "default"
limit = 2
rate = "1000/m"
"""


@pytest.fixture
def extra() -> str:
    return LIMITED


@pytest.fixture
def chargehand(place: Path, server: Server) -> Chargehand:
    return partial(commands.chargehand, config=write_config(place, server.url, node="node-x", extra=LIMITED))


def parsed(done: Done) -> Any:
    return json.loads(done.stdout)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.usefixtures("orchestrator")
def test_a_queue_with_a_limit(client: Client, chargehand: Chargehand, worker: Program, place: Path) -> None:
    gate = place / "gate"
    held = [submit(client, "held", path=str(place / "lines"), text=f"{n}", gate=str(gate)) for n in range(2)]
    until("both run", lambda: len(written(place / "lines")) == 2)
    third = submit(client, "nothing")
    until("it waits", lambda: client.queues("default")[0].limit is not None and client.queues("default")[0].limit.plans)  # type: ignore[union-attr]

    shown = words(chargehand("queue", "show", "default").stdout)
    assert "queue default waiting 0 steps, " in shown
    assert "workers node-w worker " in shown
    assert "limit 2 at once, of which 2 stand; 1,000 begin a minute; 1 plan waits for room" in shown
    assert all(f"{plan}/0" in shown for plan in held), "who stands under it"
    assert f"waiting for room: plan {third}" in shown
    view = parsed(chargehand("queue", "show", "default", "--json"))
    assert view["limit"]["standing"] == 2
    assert view["limit"]["first"] == [third]

    (row,) = [line for line in chargehand("queue", "list").stdout.splitlines() if line.startswith("default ")]
    assert "2/2, 1000/min, 1 wait" in row
    gate.touch()
    assert client.wait(third, 30) is PlanState.SUCCEEDED
    assert chargehand("queue", "list").returncode == 0


@pytest.mark.usefixtures("orchestrator", "worker")
def test_what_waits_on_a_queue_that_nobody_serves(
    client: Client, chargehand: Chargehand, place: Path, server: Server
) -> None:
    first = submit(client, "urgent", path="/dev/null", text="x")
    after = client.plan("after")
    with after.sequence():
        after.add("nothing")
        after.add("urgent", path="/dev/null", text="y")
    second = client.submit(after)
    until("both wait", lambda: client.queues("urgent")[0].waiting == 2)
    ended = step_of(client, second, 0).result
    assert ended is not None

    view = parsed(chargehand("queue", "show", "urgent", "--json"))
    assert view["workers"] == []
    assert [(one["position"], one["plan"], one["step"], one["action"]) for one in view["entries"]] == [
        (1, first, 0, "urgent"),
        (2, second, 1, "urgent"),
    ]
    assert view["entries"][1]["since_ms"] == ended.ended_ms, "from when what comes before it had ended"
    assert view["entries"][0]["since_ms"] > 0

    until("the list knows it", lambda: "urgent" in chargehand("queue", "list").stdout)
    listed = chargehand("queue", "list")
    assert listed.returncode == 1, "somebody should see to it"
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("urgent ")]
    assert f" {first}/0" in row
    shown = chargehand("queue", "show", "urgent", "--most", "1").stdout
    assert "workers  none serves it" in shown
    assert "and 1 more (--most)" in shown
    assert second not in shown

    terminal = Terminal("--config", place / "node-x.toml", "queue", "list")
    assert terminal.end() == 1
    assert re.search(r"^urgent +2 +0 ", terminal.text, re.MULTILINE)
    assert len([line for line in terminal.lines if line]) == 1 + len(client.census().queues), "no row wraps"
    terminal.close()


def test_a_step_that_failed_waits_since_its_last_try(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    name = submit(client, "third_time_in_hours", path=str(place / "tries"))
    until("it failed once", lambda: line.call("HGET", KEYS.records(name), "0"))
    worker.stop()
    client.retry(name, [0])
    until("it is queued again", lambda: client.queues("default")[0].entries)
    (entry,) = client.queues("default")[0].entries
    failure = step_of(client, name).error
    assert failure is not None
    assert (entry.attempt, entry.since_ms) == (2, failure.ended_ms)


def test_no_such_queue(chargehand: Chargehand) -> None:
    done = chargehand("queue", "show", "nope")
    assert done.returncode == 1
    assert done.stderr == (
        "chargehand: nothing waits on a queue 'nope', and no worker serves it (chargehand queue list)\n"
    )
    assert chargehand("queue", "list").stdout == "no queues: no worker is there, and nothing waits\n"
    assert parsed(chargehand("queue", "list", "--json")) == []


def test_the_lease(start_program: StartProgram, chargehand: Chargehand, line: Line) -> None:
    free = chargehand("lease", "show")
    assert free.returncode == 1
    assert "lease    free: no orchestrator is active" in free.stdout
    assert "fence    none was ever given" in free.stdout
    assert parsed(chargehand("lease", "show", "--json"))["token"] is None
    assert "nobody holds the lease" in chargehand("lease", "step-down").stderr

    active = start_program("orchestrator", node="node-a", lease='ttl = "30s", renew = "1s"')
    active.role("active")
    passive = start_program("orchestrator", node="node-b", lease='ttl = "30s", renew = "1s"')
    passive.role("passive")
    shown = chargehand("lease", "show")
    assert shown.returncode == 0
    assert "held by node-a, epoch 1, since " in shown.stdout
    assert f"token    1:{active.incarnation}" in shown.stdout
    assert f"PID {active.pid}, heard " in shown.stdout
    assert "fence    the same: what it writes counts" in shown.stdout
    assert re.search(rf"^node-b +orchestrator +[0-9.]+ s .*{passive.incarnation}", shown.stdout, re.MULTILINE)
    told = parsed(chargehand("lease", "show", "--json"))
    assert (told["epoch"], told["node"], told["fence"]) == (1, "node-a", told["token"])
    assert [one["node"] for one in told["waiters"]] == ["node-b"]

    refused = chargehand("lease", "step-down")
    assert refused.returncode == 1
    assert refused.stderr == (
        "chargehand: this node, node-x, does not hold the lease: on node-a, run chargehand step-down\n"
    )
    line.call("SET", KEYS.fence, "7:somebody")
    assert "another one: what the holder writes does not count" in chargehand("lease", "show").stdout


def test_step_down_where_it_is_held(start_node: StartNode) -> None:
    nodes = [start_node(name, lease='ttl = "30s", renew = "1s"') for name in ("node-a", "node-b")]
    for node in nodes:
        node.until_whole()
    holder = commands.chargehand("lease", "show", "--json", config=nodes[0].config)
    name = json.loads(holder.stdout)["node"]
    here = next(node for node in nodes if node.name == name)
    other = next(node for node in nodes if node.name != name)
    done = commands.chargehand("lease", "step-down", config=here.config)
    assert (done.returncode, done.stdout) == (
        0,
        "stepped down: another node takes over, if there is one that can\n",
    )
    other.until_status("active (epoch 2)")


@pytest.mark.usefixtures("worker")
def test_completion_offers_queues(place: Path) -> None:
    offered = commands.chargehand(
        env={
            "CHARGEHAND_CONFIG": str(place / "node-w.toml"),
            "_CHARGEHAND_COMPLETE": "bash_complete",
            "CHARGEHAND_COMPLETION_TIMEOUT": "60s",
            "COMP_WORDS": "chargehand queue show def",
            "COMP_CWORD": "3",
        }
    )
    assert offered.stdout.split() == ["plain,default"]
