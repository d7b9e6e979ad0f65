"""`chargehand why` in a running executor: each plan is brought into a state, and the answer names the cause."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store import moving, submission
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.why import needs_somebody
from chargehand.wire import Definition, Policy, Step
from support import commands
from support.commands import Chargehand
from support.nodes import StartNode
from support.plans import is_in, submit
from support.programs import Program, until, write_config, written
from support.reasons import cause_of, kinds_of, until_why
from support.server import Server

KEYS = Keys("default")
LIMITS = """
[[worker]]
name = "worker"
threads = 20
[[action]]
name = "one_at_once"
argv = ["/bin/sh", "-c", "until [ -e {path} ]; do sleep 0.02; done"]
params.path = { type = "string" }
limit = 1
[[action]]
name = "one_an_hour"
argv = ["/bin/true"]
rate = "1/h"
"""


@pytest.fixture
def extra() -> str:
    return LIMITS


@pytest.fixture
def chargehand(place: Path, server: Server) -> Chargehand:
    return partial(commands.chargehand, config=write_config(place, server.url, node="person"))


def submit_with(client: Client, action: str, *, options: dict[str, Any], **inputs: Any) -> str:
    plan = client.plan(action, **options)
    plan.add(action, **inputs)
    return client.submit(plan)


def test_before_a_plan_begins(running: Program, client: Client, place: Path) -> None:
    """A time, another plan, a lock; its holder is the one to look at."""
    later = submit_with(client, "nothing", options={"start_at": "2h", "start_before": "3h"})
    cause = cause_of(client, later, "scheduled")
    assert cause.text.startswith("it is scheduled for 20")
    assert cause.evidence[0].startswith("that is in 1")  # less than two hours: so many minutes
    assert cause.evidence[1].startswith("it fails if it has not begun before 20")
    assert not needs_somebody(client.why(later))

    first = submit_with(
        client, "held", options={"locks": ["db"]}, path=str(place / "lines"), text="x", gate=str(place / "gate")
    )
    until("it runs", lambda: written(place / "lines"))
    after = submit_with(client, "nothing", options={"after": [first]})
    cause = cause_of(client, after, "after")
    assert cause.text == f"it waits for plan {first} to end"
    assert cause.evidence[0].startswith(f"plan {first} (held) is running for ")
    assert cause.advice == [f"chargehand why {first}"]

    second, third = (submit_with(client, "nothing", options={"locks": ["db"]}) for _ in range(2))
    assert cause_of(client, second, "lock").text == f"it waits for the lock 'db', held by plan {first}"
    cause = cause_of(client, third, "lock")
    assert cause.text == f"it waits for the lock 'db', held by plan {first}; 1 before it"
    assert cause.evidence[1] == f"before it in line: plan {second}"
    assert cause.advice == [f"chargehand why {first}"]
    (place / "gate").touch()
    for plan in (first, after, second, third):
        assert client.wait(plan, 30) is PlanState.SUCCEEDED

    # Nobody is to wait in vain for one that is paused.
    first = submit_with(client, "fails_until", options={"locks": ["db"]}, path="/nowhere")
    assert client.wait(first, 30) is PlanState.PAUSED
    second = submit_with(client, "nothing", options={"locks": ["db"]})
    assert cause_of(client, second, "lock").stuck
    third = submit_with(client, "nothing", options={"after": [first]})
    assert cause_of(client, third, "after").stuck


def test_limits(running: Program, client: Client, place: Path) -> None:
    """Of an action at once and in a time, and of the plan itself."""
    gate = str(place / "gate")
    first = submit(client, "one_at_once", path=gate)
    cause_of(client, first, "running")
    second = submit(client, "one_at_once", path=gate)
    cause = cause_of(client, second, "limit")
    assert cause.text == "step 0 waits for room under the limit of action 'one_at_once'"
    assert cause.evidence == ["the limit is 1 at once", f"its room is taken by step {first}/0"]
    assert cause.advice == [f"chargehand why {first}"]

    assert client.wait(submit(client, "one_an_hour"), 30) is PlanState.SUCCEEDED
    cause = cause_of(client, submit(client, "one_an_hour"), "rate")
    assert cause.text == "step 0 waits for the rate of action 'one_an_hour'"
    assert cause.evidence[0].startswith("the next one may begin at 20")
    assert cause.evidence[1] == "the rate is 1 in 60 min"

    plan = client.plan("narrow", limit=1)
    for number in range(3):
        plan.add("waits", path=f"{gate}.{number}")
    name = client.submit(plan)
    cause = until_why(client, name, "plan-limit", "event")[0]
    assert cause.text == "steps 1, 2 wait for room: of this plan 1 step at once may be under way"
    assert cause.steps == [1, 2]
    (place / "gate").touch()
    assert client.wait(second, 30) is PlanState.SUCCEEDED


def test_steps_that_wait(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    """For a queue that nobody serves, a node that is away, events, times, sub-plans; what somebody must do is first."""
    plan = client.plan("stuck")
    plan.add("where", node="node-z")
    plan.add("where", node="node-z")
    plan.add("urgent", path=str(place / "urgent"), text="x")
    plan.add("waits", path=str(place / "waits"))
    plan.add("Polls", path=str(place / "polls"), times=2, seconds=3_600.0)
    plan.add("tries_in_an_hour", path=str(place / "tries"), flag="/nowhere")
    plan.add("bulk", path=str(place / "lines"), count=3, rate="1/h")
    name = client.submit(plan)
    causes = until_why(client, name, "node-away", "no-worker", "event", "wake", "retry", "sub-plans")
    away, unserved, event, wake, retry, children = causes
    assert (away.text, away.steps, away.stuck) == ("steps 0, 1 wait for node 'node-z': it is away", [0, 1], True)
    assert "nodes that are there: node-a, node-w" in away.evidence
    assert away.advice[0] == "on node-z: systemctl status chargehand; systemctl start chargehand"
    assert unserved.text == "step 2 waits for a worker: none serves 'urgent'"
    assert "step 2 is number 1 in the queue" in unserved.evidence
    assert "worker on node-w: @node-w, default" in unserved.evidence
    assert event.advice == [f"chargehand plan event {name} 3 NAME"]
    assert wake.text.startswith("step 4 waits for an event, or until 20")
    assert retry.text.startswith("step 5 waits for the next attempt, at 20")
    assert retry.evidence[0].startswith("step 5, attempt 1 failed: FileNotFoundError: ")
    assert f"chargehand plan children {name} 6" in children.advice
    assert client.why(name).text == f"{away.text} (and 5 more)"

    done = chargehand("why", name)
    assert done.returncode == 1
    first, second, *rest = done.stdout.splitlines()
    assert first == "Steps 0, 1 wait for node 'node-z': it is away (and 5 more)"
    assert second == f"  plan {name} (stuck): running"
    assert "also: step 3 waits for an event (chargehand plan event)" in rest
    assert json.loads(chargehand("why", name, "--json").stdout)["causes"][1]["kind"] == "no-worker"
    shown = chargehand("plan", "show", name).stdout
    assert shown.startswith(f"{first} (chargehand why {name})\n")

    child = f"{name}.6.1"
    until("the sub-plan waits for its time", lambda: is_in(client, child, "scheduled"))
    assert (
        cause_of(client, child, "scheduled").evidence[-1]
        == f"it is a sub-plan of step 6 of plan {name}, which is running"
    )
    client.cancel(name)
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert not needs_somebody(client.why(name))


def test_steps_that_run(running: Program, worker: Program, client: Client, place: Path) -> None:
    """On which worker, since when, how far, what it said; and one that is over its time and cannot be ended."""
    deaf = submit(client, "deaf", path=str(place / "deaf"), seconds=20.0)
    told = submit(client, "tells", gate=str(place / "gate"))
    cause = cause_of(client, told, "running")
    assert cause.text == "step 0 runs on node-w (worker)"

    def everything() -> bool:
        seen = "\n".join(client.why(told).causes[0].evidence)
        words = ("attempt 1: since 20", "no time-out", "progress 50% 'half way', told at 20", "said last: begun")
        return all(word in seen for word in words)

    until("the worker has told of it", everything)
    over = cause_of(client, deaf, "overtime")
    assert over.text == "step 0 runs on node-w (worker), over its time-out of 0.3 s: it cannot be interrupted"
    assert over.stuck
    assert over.advice[0] == f"chargehand plan halt {deaf}   (give the plan up)"
    (place / "gate").touch()
    assert client.wait(told, 30) is PlanState.SUCCEEDED
    worker.kill()  # it would wait for the deaf one


def test_somebody_is_to_decide(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = submit(client, "fails_until", path=str(place / "flag"))
    assert client.wait(name, 30) is PlanState.PAUSED
    cause = cause_of(client, name, "paused")
    assert cause.text == (
        "it is paused: step 0 (fails_until) failed, and somebody is to decide "
        f"(FileNotFoundError: {place}/flag is not there yet)"
    )
    assert cause.advice[0] == f"chargehand plan resume {name}   (run what failed again)"
    assert chargehand("why", name).returncode == 1

    plan = client.plan("goes on")
    plan.add("fails_until", path="/nowhere")
    plan.add("waits", path=str(place / "waits"))
    other = client.submit(plan)
    failed = until_why(client, other, "event", "failed-step")[1]
    assert failed.text == "step 0 failed; the plan pauses when the others have ended"
    assert failed.advice == [f"chargehand plan retry {other} 0", f"chargehand plan skip {other} 0"]

    (place / "flag").touch()
    assert chargehand(*cause.advice[0].split()[1:4]).returncode == 0
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    done = chargehand("why", name)
    assert done.returncode == 0
    assert done.stdout.startswith("It has ended: succeeded at 20")


def test_plans_that_are_being_ended(running: Program, worker: Program, client: Client, place: Path) -> None:
    """They wait for what runs of them; then how they ended, and why."""
    cancelled = submit(client, "stops_when_asked", path=str(place / "cancelled"))
    failing = client.plan("failing")
    failing.add("fatal", path="/nowhere")
    failing.add("held", path=str(place / "lines"), text="x", gate=str(place / "gate"))
    fails = client.submit(failing)
    forced = submit(client, "stops_by_force", path=str(place / "forced"))
    until("they run", lambda: all(written(place / name) for name in ("cancelled", "forced", "lines")))
    client.cancel(forced, grace=3_600)
    cause = until_why(client, forced, "cancelling", "running")[0]
    assert cause.text == "it is being cancelled, and waits for step 0"
    assert "what runs of it has 60 min to end by itself, then it is ended" in cause.evidence
    assert cause.advice[-1] == f"chargehand plan halt {forced}   (end it at once, whatever runs)"
    cause = until_why(client, fails, "failing", "running")[0]
    assert cause.text == "it is being given up, as a step of it failed, and waits for step 1"
    (place / "gate").touch()
    assert client.wait(fails, 30) is PlanState.FAILED
    ended = client.why(fails)
    assert kinds_of(ended) == ["ended"]
    assert ended.text.startswith("it has ended: failed at 20")
    assert "FileNotFoundError" in ended.text
    assert needs_somebody(ended)

    made = client.plan("made")
    with made.sequence():
        made.add("Makes", path=str(place / "made"))
        made.add("fails_until", path="/nowhere")
    undone = client.submit(made)
    assert client.wait(undone, 30) is PlanState.PAUSED
    assert f"chargehand plan revert {undone}   (undo what it has done)" in cause_of(client, undone, "paused").advice
    client.cancel(cancelled)
    client.halt(forced)
    for plan in (cancelled, forced):
        client.wait(plan, 30)
    worker.stop()
    client.revert(undone)
    causes = until_why(client, undone, "no-worker", "reverting")
    assert causes[1].text == "it is being reverted, and waits for step 0"


def test_what_is_no_plan(running: Program, client: Client, chargehand: Chargehand, line: Line) -> None:
    """Nothing, beginnings, a recurring plan and its run, parts without a submission, a plan that was withdrawn."""
    done = chargehand("why", "nope")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "There is no plan 'nope'")
    assert cause_of(client, "nope", "no-plan").advice == ["chargehand plan list"]

    for name in ("alpha-1", "alpha-2"):
        prepared = submission.prepare(name, Definition("nothing", [Policy("nothing")], 1, [Step(0)]), submitted_ms=5)
        assert submission.submit(line, KEYS, [prepared], max_inbox=100) == ["OK"]
        assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.why("alpha-2").plan == client.why("alpha-2"[:7]).plan == "alpha-2"
    cause = cause_of(client, "alpha", "several")
    assert sorted(cause.evidence) == ["plan alpha-1", "plan alpha-2"]
    assert "plan alpha-1\n" in chargehand("why", "alp").stdout

    nightly = client.plan("nothing")
    nightly.add("nothing")
    client.set_recurring("nightly", nightly, cron="0 3 * * *")
    cause = cause_of(client, "nightly", "recurring")
    assert cause.text.startswith("it is a recurring plan, and runs next at 20")
    assert not cause.stuck
    client.pause_recurring("nightly")
    until("it is paused", lambda: client.why("nightly").text == "it is a recurring plan, and is paused")
    assert client.why("nightly").causes[0].advice == ["chargehand recurring resume nightly"]

    steps = [Step(0)] * 20_000
    large = submission.prepare("large", Definition("nothing", [Policy("nothing")], len(steps), steps), submitted_ms=5)
    submission.upload(line, KEYS, large)
    assert cause_of(client, "large", "parts").evidence[0].startswith("20 parts came; they go in ")

    running.kill()
    withdrawn = submit(client, "nothing")
    assert moving.withdraw(line, KEYS, {withdrawn: "other"}) == {withdrawn: "WITHDRAWN"}
    assert cause_of(client, withdrawn, "other-executor").text == "it is on its way to executor 'other'"
    moving.arrived(line, KEYS, withdrawn)
    assert cause_of(client, withdrawn, "other-executor").text == "it has moved to executor 'other'"


def test_redis_away(start_node: StartNode, server: Server) -> None:
    """The exit code is 2, and the agent of this node says since when."""
    node = start_node("node-a")
    node.until_whole()
    server.kill()
    node.until_status("waiting (Redis ")
    done = commands.chargehand("why", "any", config=node.config)
    assert done.returncode == 2
    assert done.stdout.startswith("Redis cannot be reached, so nobody knows where the plan is (127.0.0.1:")
    seen = " ".join(done.stdout.split())
    assert "the agent of this node (node-a) says at " in seen
    assert "waiting (Redis 127.0.0.1:" in seen
    answer = json.loads(commands.chargehand("why", "any", "--json", config=node.config).stdout)
    assert (answer["state"], answer["causes"][0]["kind"]) == ("unknown", "no-redis")
    server.start()
