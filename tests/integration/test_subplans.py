"""A step starts sub-plans and goes on when all have ended: each once, whatever dies meanwhile."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from chargehand.client import Client
from chargehand.decoding import decode
from chargehand.plan.life import PlanState
from chargehand.store import submission
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from chargehand.wire import Cancelled, Definition, child_id
from support.faults import lines_of
from support.plans import step_of, submit
from support.programs import Program, StartProgram, until

KEYS = Keys("default")


def definition(line: Line, plan: str) -> Definition:
    return decode(line.call("LINDEX", KEYS.plan(plan), 0), Definition)


def children(line: Line, plan: str) -> int:
    """Sub-plans that were submitted."""
    return len(line.call("KEYS", KEYS.plan(f"{plan}.*").replace("{", "\\{")))


def once_each(path: Path, count: int) -> bool:
    return lines_of(path) == {str(number): 1 for number in range(count)}


def test_many_over_a_takeover(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """A generator of 2,500; the active orchestrator is killed while they run."""
    path = place / "lines"
    name = submit(client, "bulk", path=str(path), count=2_500)
    until("some have run", lambda: sum(lines_of(path).values()) > 300)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert client.output(name) == {"total": 2_500, "succeeded": 2_500, "failed": 0}
    assert once_each(path, 2_500)


def test_worker_dies_while_it_starts_them(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """Its successor starts the same ones, which are there already, and goes on; each runs once."""
    path, gate = place / "lines", place / "gate"
    name = submit(client, "slow_bulk", path=str(path), count=500, gate=str(gate))
    until("half are submitted", lambda: children(line, name) == 200)
    until("it waits in the middle", lambda: "half" in lines_of(path))
    worker.kill()
    gate.touch()
    start_program("worker", node="node-c").ready()
    report_death(line, KEYS, worker.incarnation)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert client.output(name) == {"total": 500, "succeeded": 500, "failed": 0}
    ran = lines_of(path)
    # Sub-plans in the hands of the dead worker ran again; none was started twice, none was left out.
    assert {str(number) for number in range(500)} <= set(ran)
    assert children(line, name) == 500


def test_items_that_change_from_attempt_to_attempt_are_refused(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    path, gate = place / "lines", place / "gate"
    name = submit(client, "never_the_same", path=str(path), gate=str(gate))
    until("a hundred are submitted", lambda: children(line, name) == 100)
    worker.kill()
    gate.touch()
    start_program("worker", node="node-c").ready()
    report_death(line, KEYS, worker.incarnation)
    assert client.wait(name, 60) is PlanState.PAUSED
    error = step_of(client, name).error
    assert error is not None
    assert error.kind == "Misused"
    assert error.message == (
        f"sub-plan {name}.0.0 was started by an earlier attempt, with other content: whenever a step runs, "
        "the items that it gives to spawn(...) must be the same, in the same order"
    )


def test_failed_ones_are_named(orchestrator: Program, worker: Program, client: Client, place: Path) -> None:
    name = submit(client, "all_fail", path=str(place / "lines"))
    assert client.wait(name, 30) is PlanState.PAUSED
    error = step_of(client, name).error
    assert error is not None
    assert (error.kind, error.message) == (
        "sub-plans failed",
        f"2 of 2 sub-plans failed (first: {name}.0.0: FileNotFoundError: /nowhere is not there yet)",
    )


def test_try_again_starts_only_what_has_not_succeeded(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    path = place / "lines"
    name = submit(client, "some_fail", path=str(path), count=250, gate=str(place / "gate"))
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert client.output(name) == {"total": 250, "succeeded": 250, "failed": 0}
    assert lines_of(path) == {str(number): 1 + (number % 3 == 0) for number in range(250)}
    assert line.call("EXISTS", KEYS.plan(child_id(name, 0, 3, 1))) == 1
    assert line.call("EXISTS", KEYS.plan(child_id(name, 0, 4, 1))) == 0


def test_class_gets_their_results_and_starts_others(
    orchestrator: Program, worker: Program, client: Client, place: Path
) -> None:
    """One of the first failed; the class goes on by itself, with what came of each, and counts anew."""
    path = place / "lines"
    name = submit(client, "Gathers", path=str(path), count=3)
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    states = ["succeeded", "failed", "succeeded"]
    assert client.output(name) == {
        "last": [[number, "succeeded", f"b{state}", ""] for number, state in enumerate(states)],
        "failed": 0,
        "counts": [3, 3, 0],
    }
    assert lines_of(path) == {"a0": 1, "a1": 1, "a2": 1, "bsucceeded": 2, "bfailed": 1}


def test_nothing_to_start(orchestrator: Program, worker: Program, client: Client, place: Path) -> None:
    name = submit(client, "bulk", path=str(place / "lines"), count=0)
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == {"total": 0, "succeeded": 0, "failed": 0}


def test_plans_with_steps_of_their_own(orchestrator: Program, worker: Program, client: Client, place: Path) -> None:
    name = submit(client, "plans_of_plans", path=str(place / "lines"))
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    lines = (place / "lines").read_text().splitlines()
    for number in range(3):
        assert lines.index(f"{number} first") < lines.index(f"{number} last")


def test_limit(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path
) -> None:
    """Never more than two at once, over a takeover."""
    path = place / "lines"
    name = submit(client, "bulk", path=str(path), count=30, limit=2, seconds=0.1)
    most = 0

    def look() -> bool:
        nonlocal most
        running = [view for view in client.list(state="running", most=100, children=True) if view.parent is not None]
        most = max(most, len(running))
        return sum(lines_of(path).values()) >= 10

    until("some have run", look)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    until("all have run", lambda: look() and sum(lines_of(path).values()) == 30)
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert once_each(path, 30)
    assert 1 <= most <= 2


def test_rate(orchestrator: Program, worker: Program, client: Client, place: Path, line: Line) -> None:
    """Their times to start are that far apart, on Redis' clock; none began before its time."""
    name = submit(client, "bulk", path=str(place / "lines"), count=8, rate="10/s")
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    starts = [definition(line, child_id(name, 0, number)).start_at_ms for number in range(8)]
    assert starts[0] == 0, "the first starts at once"
    assert [later - sooner for sooner, later in pairwise(starts[1:])] == [100] * 6
    for number in range(1, 8):
        result = step_of(client, child_id(name, 0, number)).result
        assert result is not None
        assert result.started_ms >= starts[number]


def test_cancelled_while_it_starts_them(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    """What was submitted is cancelled too."""
    path = place / "lines"
    blocker = client.plan("blocker")
    for number in range(4):
        blocker.add("held", path=str(place / "held"), text=str(number), gate=str(place / "free"))
    client.submit(blocker)
    until("four threads are busy", lambda: sum(lines_of(place / "held").values()) == 4)
    name = submit(client, "slow_bulk", path=str(path), count=500, gate=str(place / "gate"))
    until("half are submitted", lambda: children(line, name) == 200)
    submission.ask(line, KEYS, Cancelled(name, 0))
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert step_of(client, name).state == "cancelled"
    ended = [client.wait(child_id(name, 0, number), 30) for number in range(200)]
    (place / "free").touch()
    # The thread that is free now may have run some before their turn to be cancelled came.
    assert set(ended) <= {PlanState.SUCCEEDED, PlanState.CANCELLED}
    assert PlanState.CANCELLED in ended
    assert children(line, name) == 200


def test_cancelled_while_they_run(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """The active orchestrator dies after it was asked."""
    path = place / "lines"
    name = submit(client, "bulk", path=str(path), count=300, seconds=0.2)
    until("some have run", lambda: sum(lines_of(path).values()) > 5)
    submission.ask(line, KEYS, Cancelled(name, 60_000))
    until("it is being cancelled", lambda: submission.plan_state(line, KEYS, name) is not PlanState.RUNNING)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.CANCELLED
    ids = [child_id(name, 0, number) for number in range(300)]
    ended = {one: submission.plan_state(line, KEYS, one) for one in ids}
    assert set(ended.values()) == {PlanState.SUCCEEDED, PlanState.CANCELLED}, "they have ended when it has"
    ran = lines_of(path)
    # What had begun had time to end, though its plan was cancelled; what had not never did.
    for number, one in enumerate(ids):
        assert (step_of(client, one).state == "succeeded") == (ran[str(number)] == 1), one


def test_full_inbox_slows_it_down(start_program: StartProgram, client: Client, place: Path, line: Line) -> None:
    """With nobody active the inbox fills up to half; whoever starts them waits, and goes on."""
    path = place / "lines"
    first = start_program("orchestrator").ready()
    (place / "node-w.d").mkdir()
    (place / "node-w.d" / "inbox.toml").write_text("[orchestrator]\nmax_inbox = 400\n")
    worker = start_program("worker", node="node-w").ready()
    name = submit(client, "slow_bulk", path=str(path), count=600, gate=str(place / "gate"))
    until("it waits in the middle", lambda: "half" in lines_of(path))
    first.kill()
    (place / "gate").touch()
    until("the inbox is half full", lambda: line.call("XLEN", KEYS.inbox) >= 200)
    assert children(line, name) < 600
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert client.output(name) == {"total": 600, "succeeded": 600, "failed": 0}
    assert worker.running
