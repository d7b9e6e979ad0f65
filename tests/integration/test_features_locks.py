"""What holds plans and steps up: locks, other plans, limits and rates. The active orchestrator dies while they wait.

The actions note their own starts and ends, so what is counted is what has really run beside what.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from support.counting import Log, nothing_held
from support.orchestrators import Orchestrators
from support.plans import view_of
from support.programs import Program, StartProgram, until

KEYS = Keys("default")
QUEUES = ("default", "narrow", "slow")
EXTRA = """
[[worker]]
name = "worker"
queues = ["default", "narrow", "slow"]
threads = 8

[[queue]]
name = "narrow"
limit = 2

[[queue]]
name = "slow"
rate = "4/s"
"""

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def extra() -> str:
    return EXTRA


@pytest.fixture
def submit(client: Client, log: Log, place: Path) -> Callable[..., str]:
    """Submit one step of an action that notes TEXT and stays until the file `gate-TEXT` is there."""

    def submit(action: str, text: str, **options: Any) -> str:
        plan = client.plan(action, **options)
        plan.add(action, path=log.path, text=text, gate=str(place / f"gate-{text}"))
        return client.submit(plan)

    return submit


def open_gates(place: Path, *texts: str) -> None:
    for text in texts:
        (place / f"gate-{text}").touch()


def states(client: Client, *plans: str) -> list[str]:
    return [view_of(client, plan).state for plan in plans]


def accepted(client: Client, *plans: str) -> None:
    for plan in plans:
        until("it is accepted", partial(_is_accepted, client, plan))


def _is_accepted(client: Client, plan: str) -> bool:
    return view_of(client, plan).state != "submitted"


def succeed(client: Client, *plans: str) -> None:
    assert [client.wait(plan, 60) for plan in plans] == [PlanState.SUCCEEDED] * len(plans)


# -- locks ----------------------------------------------------------------------------------------


def test_singleton(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """One at a time, in the order of submission, over two deaths; who waits is told for whom."""
    plans = [submit("single", text) for text in "abcd"]
    accepted(client, *plans)
    log.until_started(1)
    orchestrators.kill_active()
    assert states(client, *plans) == ["running", "waiting", "waiting", "waiting"]
    waits = [view_of(client, plan).waits for plan in plans]
    held = f"it waits for the lock 'action single', held by plan {plans[0]}"
    assert waits == [[], [held], [f"{held}; 1 before it"], [f"{held}; 2 before it"]]
    open_gates(place, "a")
    log.until_started(2)
    orchestrators.kill_active()
    open_gates(place, *"bcd")
    succeed(client, *plans)
    assert log.words == ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]
    nothing_held(line, KEYS, *QUEUES)


def test_singleton_that_refuses_others(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """The successor knows who holds it, and that it is free afterwards."""
    first = submit("single_or_not", "a")
    log.until_started(1)
    orchestrators.kill_active()
    second = submit("single_or_not", "b")
    assert client.wait(second, 30) is PlanState.FAILED
    error = view_of(client, second).error
    assert error is not None
    assert (error.kind, error.message) == ("not started", "another plan holds 'action single_or_not'")
    open_gates(place, *"abc")
    succeed(client, first)
    succeed(client, submit("single_or_not", "c"))
    log.once_each("ac")
    nothing_held(line, KEYS, *QUEUES)


def test_exclusive_and_shared_locks(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Two read, one wants to write, and another that reads waits behind it: nobody is passed."""
    names = ["read-1", "read-2", "write-1", "read-3", "read-4", "write-2"]
    plans = [submit("reads" if name.startswith("read") else "writes", name) for name in names]
    accepted(client, *plans)
    log.until_started(2)
    orchestrators.kill_active()
    assert states(client, *plans) == ["running", "running", *["waiting"] * 4]
    open_gates(place, "read-1")
    succeed(client, plans[0])
    assert states(client, *plans[1:]) == ["running", *["waiting"] * 4], "one that reads is left"
    open_gates(place, "read-2")
    log.until_started(3)
    assert states(client, *plans[2:]) == ["running", "waiting", "waiting", "waiting"]
    orchestrators.kill_active()
    open_gates(place, "write-1")
    log.until_started(5)
    assert states(client, *plans[3:]) == ["running", "running", "waiting"]
    open_gates(place, "read-3", "read-4", "write-2")
    succeed(client, *plans)
    assert log.started[:3] == ["read-1", "read-2", "write-1"] or log.started[:3] == ["read-2", "read-1", "write-1"]
    for writer in ("write-1", "write-2"):
        at = log.words.index(f"+{writer}")
        assert log.words[at + 1] == f"-{writer}", "alone"
    assert log.most() == 2
    nothing_held(line, KEYS, *QUEUES)


def test_counted_locks(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Two hold it, eight wait; a takeover after each step further."""
    plans = [submit("one_of_two", str(number)) for number in range(10)]
    accepted(client, *plans)
    for number in range(3):
        log.until_started(number + 2)
        orchestrators.kill_active()
        assert states(client, *plans[number:]) == ["running"] * 2 + ["waiting"] * (8 - number)
        open_gates(place, str(number))
    open_gates(place, *map(str, range(10)))
    succeed(client, *plans)
    assert log.most() == 2
    assert sorted(log.started[:2]) == ["0", "1"]
    assert log.started[2:5] == ["2", "3", "4"]
    log.once_each(map(str, range(10)))
    nothing_held(line, KEYS, *QUEUES)


def test_several_locks_at_once(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Asked for in opposite orders, by many: nobody waits for ever, none of them holds one beside another."""
    pairs = ["xy", "yz", "zx", "yx", "zy"] * 4
    texts = [f"{number}-{pair}" for number, pair in enumerate(pairs)]
    plans = [submit("stays", text, locks=list(text[-2:])) for text in texts]
    accepted(client, *plans)
    log.until_started(1)
    orchestrators.kill_active()
    open_gates(place, *texts)
    succeed(client, *plans)
    for lock in "xyz":
        assert log.most(partial(_names, lock)) == 1
    log.once_each(texts)
    nothing_held(line, KEYS, *QUEUES)


def _names(lock: str, text: str) -> bool:
    return lock in text


def test_locks_of_a_plan_that_is_paused_cancelled_or_halted(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """A paused plan keeps them; one that ends in whatever way gives them to the next, also while it waits."""

    def failing() -> str:
        plan = client.plan("failing", locks=["disk"])
        plan.add("fails_until", path="/nowhere")
        return client.submit(plan)

    paused, waiting, halted, last = failing(), submit("writes", "never"), failing(), submit("writes", "last")
    accepted(client, paused, waiting, halted, last)
    assert client.wait(paused, 30) is PlanState.PAUSED
    orchestrators.kill_active()
    client.cancel(waiting)
    assert client.wait(waiting, 30) is PlanState.CANCELLED
    assert states(client, paused, halted, last) == ["paused", "waiting", "waiting"]
    client.cancel(paused)
    assert client.wait(halted, 30) is PlanState.PAUSED
    orchestrators.kill_active()
    client.halt(halted)
    open_gates(place, "last")
    succeed(client, last)
    assert log.words == ["+last", "-last"]
    nothing_held(line, KEYS, *QUEUES)


# -- other plans ----------------------------------------------------------------------------------


def test_chaining(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Each after the one before it, the last after all of them; over a takeover in each wait."""
    first = submit("stays", "a")
    second = submit("stays", "b", after=[first])
    third = submit("stays", "c", after=[second])
    last = submit("stays", "d", after=[first, second, third])
    accepted(client, last)
    log.until_started(1)
    orchestrators.kill_active()
    assert view_of(client, second).waits == [f"it waits for plan {first} to end"]
    assert view_of(client, last).waits == [f"it waits for plans {first}, {second}, {third} to end"]
    open_gates(place, "a")
    log.until_started(2)
    orchestrators.kill_active()
    assert view_of(client, last).waits == [f"it waits for plans {second}, {third} to end"]
    open_gates(place, *"bcd")
    succeed(client, first, second, third, last)
    assert log.words == ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]
    nothing_held(line, KEYS, *QUEUES)


def test_chaining_after_a_failure(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """What depends on it fails, and says so, with what depends on that; who says "run" runs."""
    first = submit("stays", "a")
    fails = submit("stays", "b", after=[first])
    fails_too = submit("stays", "c", after=[fails])
    runs = submit("stays", "d", after=[first], after_failure="run")
    accepted(client, runs)
    log.until_started(1)
    orchestrators.kill_active()
    client.halt(first)
    open_gates(place, *"abcd")
    succeed(client, runs)
    for plan, other, word in ((fails, first, "halted"), (fails_too, fails, "failed")):
        assert client.wait(plan, 30) is PlanState.FAILED
        error = view_of(client, plan).error
        assert error is not None
        assert error.message == f"it was to start after plan {other}, which is {word}"
    assert log.started == ["a", "d"]
    nothing_held(line, KEYS, *QUEUES, ended=[first])


# -- limits ---------------------------------------------------------------------------------------


def test_limit_of_an_action(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Three at once, of 30 in one plan and 10 in plans of their own; other actions pass."""
    many = client.plan("many")
    for number in range(30):
        many.add("three_at_once", path=log.path, text=f"m{number}", gate=str(place / "gate-many"))
    plans = [client.submit(many), *(submit("three_at_once", f"s{number}") for number in range(10))]
    accepted(client, *plans)
    log.until_started(3)
    for _ in range(2):
        orchestrators.kill_active()
        other = client.plan("other")
        other.add("nothing")
        succeed(client, client.submit(other))
        assert len(log.started) == 3, "the successor has queued what it can, and knows who is there"
    assert view_of(client, plans[-1]).waits == ["step 0 waits for room under the limit of action 'three_at_once'"]
    open_gates(place, "many", *(f"s{number}" for number in range(10)))
    log.until_started(8)
    orchestrators.kill_active()
    succeed(client, *plans)
    assert log.most() == 3
    log.once_each([*(f"m{number}" for number in range(30)), *(f"s{number}" for number in range(10))])
    nothing_held(line, KEYS, *QUEUES)


def test_limit_of_a_queue_beside_that_of_an_action(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    """Two at once through the queue, of one of its actions one; plans wait for both, and none is forgotten."""
    numbers = count()
    names: list[str] = []

    def both() -> str:
        plan = client.plan("both")
        for action, letter in (("through_the_narrow", "q"), ("one_through_the_narrow", "a")) * 2:
            names.append(f"{letter}{next(numbers)}")
            plan.add(action, path=log.path, text=names[-1], gate=str(place / "gate-all"))
        return client.submit(plan)

    plans = [both() for _ in range(10)]
    accepted(client, *plans)
    log.until_started(2)
    orchestrators.kill_active()
    open_gates(place, "all")
    log.until_started(15)
    orchestrators.kill_active()
    succeed(client, *plans)
    assert log.most() == 2
    assert log.most(lambda text: text.startswith("a")) == 1
    log.once_each(names)
    nothing_held(line, KEYS, *QUEUES)


def test_limit_of_a_plan(
    orchestrators: Orchestrators, client: Client, submit: Callable[..., str], log: Log, line: Line, place: Path
) -> None:
    plan = client.plan("limited", limit=3)
    for number in range(20):
        plan.add("stays", path=log.path, text=str(number), gate=str(place / "gate-plan"))
    name = client.submit(plan)
    log.until_started(3)
    orchestrators.kill_active()
    succeed(client, _other(client, submit, place))
    assert len([text for text in log.started if text != "other"]) == 3
    open_gates(place, "plan")
    log.until_started(10)
    orchestrators.kill_active()
    succeed(client, name)
    assert log.most(lambda text: text != "other") == 3
    log.once_each(["other", *map(str, range(20))])
    nothing_held(line, KEYS, *QUEUES)


def _other(client: Client, submit: Callable[..., str], place: Path) -> str:
    open_gates(place, "other")
    return submit("stays", "other")


def test_room_of_what_was_lost_cancelled_or_failed_is_given_back(
    orchestrators: Orchestrators,
    client: Client,
    submit: Callable[..., str],
    start_program: StartProgram,
    worker: Program,
    log: Log,
    line: Line,
    place: Path,
) -> None:
    """The worker of three is killed, and so is the orchestrator: those three run again, and never a fourth beside."""
    plans = [submit("three_at_once", text) for text in "abcdef"]
    accepted(client, *plans)
    log.until_started(3)
    with orchestrators.nobody_active():
        worker.kill()
    start_program("worker", node="node-x", extra=EXTRA).ready()
    report_death(line, KEYS, worker.incarnation)
    log.until_started(6)
    assert sorted(log.started[3:]) == sorted(log.started[:3]) == list("abc")
    client.cancel(plans[0], grace=0.0)
    client.halt(plans[1])
    assert client.wait(plans[0], 30) is PlanState.CANCELLED
    log.until_started(8)
    orchestrators.kill_active()
    open_gates(place, *"abcdef")
    succeed(client, *plans[2:])
    nothing_held(line, KEYS, *QUEUES, ended=plans[:2])


@pytest.mark.parametrize("action", ["four_a_second", "through_the_slow"])
def test_rate(orchestrators: Orchestrators, client: Client, log: Log, line: Line, action: str) -> None:
    """Four at once, then one every 250 ms: none sooner, and a successor does not begin anew."""
    before = _now(line)
    plan = client.plan("rated")
    for number in range(14):
        plan.add(action, path=log.path, text=str(number))
    name = client.submit(plan)
    log.until_started(6)
    orchestrators.kill_active()
    log.until_started(9)
    orchestrators.kill_active()
    succeed(client, name)
    started = [note.at for note in log.notes if note.starts]
    assert len(started) == 14
    early = [(place, at - before) for place, at in enumerate(started) if at < before + max(0, place - 3) * 0.25]
    assert early == []
    nothing_held(line, KEYS, *QUEUES)


def _now(line: Line) -> float:
    seconds, micros = line.call("TIME")
    return int(seconds) + int(micros) / 1e6
