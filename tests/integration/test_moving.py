"""Taking plans back that are not accepted: the script, and against an orchestrator that accepts as fast as it can."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.commit import Commit
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.store import lease, moving
from chargehand.store.committing import commit_command
from chargehand.store.connection import Line
from chargehand.store.counting import Flow, MinuteRecord, Page, write_page
from chargehand.store.keys import Keys
from chargehand.store.lease import Held
from chargehand.store.load import measure, read_load
from chargehand.store.membership import Member, register
from chargehand.store.submission import Prepared, exists, prepare, submit, upload
from chargehand.wire import Definition, Policy, Step
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import StartProgram, until
from support.server import Server

KEYS = Keys("default")
OTHER = Keys("other")


def some_plan(name: str = "p", *, steps: int = 1, pinned: bool = False, after: list[str] | None = None) -> Prepared:
    definition = Definition("x", [Policy("echo")], steps, [Step(0)] * steps, by="ada", after=after or [])
    return prepare(name, definition, submitted_ms=5, pinned=pinned)


def submitted(line: Line, plan: Prepared, keys: Keys = KEYS) -> Prepared:
    if plan.parts:
        upload(line, keys, plan)
    assert submit(line, keys, [plan], max_inbox=100) == ["OK"]
    return plan


def seq(line: Line) -> int:
    return int(line.call("HGET", KEYS.head, "seq") or 0)


class TestWithdraw:
    def test_one_that_waits_is_withdrawn(self, line: Line) -> None:
        plan = submitted(line, some_plan())
        submitted(line, some_plan("q"))
        assert moving.withdraw(line, KEYS, {"p": "other"}) == {"p": "WITHDRAWN"}
        assert line.call("XLEN", KEYS.inbox) == 1
        assert moving.pending(line, KEYS) == {"q"}
        assert moving.where(line, KEYS, "p") == moving.Place(here=False, moving_to="other")
        assert exists(line, KEYS, "p"), "who waits for it must not submit it here again"
        assert moving.read_moving(line, KEYS, "p") == moving.Moving("other", plan)
        assert moving.withdraw(line, KEYS, {"p": "third"}) == {"p": "UNKNOWN"}
        assert moving.read_moving(line, KEYS, "p") == moving.Moving("other", plan), "it keeps its way"

    def test_arrived(self, line: Line) -> None:
        submitted(line, some_plan())
        moving.withdraw(line, KEYS, {"p": "other"})
        moving.arrived(line, KEYS, "p")
        assert moving.read_moving(line, KEYS, "p") == moving.Moving("other", None)
        assert line.call("TTL", KEYS.moving("p")) > 0

    def test_a_large_one_goes_whole(self, line: Line) -> None:
        plan = submitted(line, some_plan(steps=25_000))
        assert len(plan.parts) == 25
        moving.withdraw(line, KEYS, {"p": "other"})
        found = moving.read_moving(line, KEYS, "p")
        assert found == moving.Moving("other", plan)
        assert found.plan is not None
        submitted(line, found.plan, OTHER)
        assert line.call("LLEN", OTHER.plan("p")) == 27

    def test_an_accepted_one_stays(self, line: Line) -> None:
        submitted(line, some_plan())
        line.call("SET", KEYS.states("p"), "R")
        assert moving.withdraw(line, KEYS, {"p": "other"}) == {"p": "ACCEPTED"}
        assert line.call("XLEN", KEYS.inbox) == 1
        assert seq(line) == 0

    def test_one_whose_event_nobody_knows_stays(self, line: Line) -> None:
        submitted(line, some_plan())
        line.call("HDEL", KEYS.pending, "p")
        assert moving.withdraw(line, KEYS, {"p": "other"}) == {"p": "ACCEPTED"}

    def test_an_unknown_one(self, line: Line) -> None:
        assert moving.withdraw(line, KEYS, {"p": "other"}) == {"p": "UNKNOWN"}
        assert moving.where(line, KEYS, "p") == moving.Place(here=False, moving_to=None)
        assert moving.read_moving(line, KEYS, "p") is None
        assert seq(line) == 0

    def test_many_at_once_each_by_itself(self, line: Line) -> None:
        for name in "abc":
            submitted(line, some_plan(name))
        line.call("SET", KEYS.states("b"), "R")
        words = moving.withdraw(line, KEYS, dict.fromkeys("abcd", "other"))
        assert words == {"a": "WITHDRAWN", "b": "ACCEPTED", "c": "WITHDRAWN", "d": "UNKNOWN"}
        assert line.call("XLEN", KEYS.inbox) == 1

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_a_commit_under_way_diverges(self, line: Line, times: int) -> None:
        """However many are withdrawn meanwhile: it must never be taken for one that was applied already."""
        held = lease.acquire(line, KEYS, incarnation="leader", node="node-a", ttl=5, seen=0)
        assert isinstance(held, Held)
        for number in range(times):
            submitted(line, some_plan(f"p{number}"))
            moving.withdraw(line, KEYS, {f"p{number}": "other"})
        made = Commit(position="9-0", created={"p0": b"Rq"})
        reply = line.call(*commit_command(KEYS, made, token=held.token, seq=0, ttl_ms=5_000))
        assert reply[0] == b"DIVERGED"
        assert line.call("EXISTS", KEYS.states("p0")) == 0

    def test_a_full_redis_lets_them_go(self, line: Line) -> None:
        plan = submitted(line, some_plan())
        line.call("CONFIG", "SET", "maxmemory", 1, "maxmemory-policy", "noeviction")
        try:
            assert moving.withdraw(line, KEYS, {"p": "other"}) == {"p": "WITHDRAWN"}
        finally:
            line.call("CONFIG", "SET", "maxmemory", 0)
        assert moving.read_moving(line, KEYS, "p") == moving.Moving("other", plan)

    def test_who_may_leave(self, line: Line) -> None:
        submitted(line, some_plan("free"))
        submitted(line, some_plan("aimed", pinned=True))
        submitted(line, some_plan("chained", after=["free"]))
        submitted(line, some_plan("gone"))
        line.call("HDEL", KEYS.pending, "gone")
        assert moving.leaving(line, KEYS, ["free", "aimed", "chained", "gone", "none"]) == {"free": {"default"}}
        assert moving.leaving(line, KEYS, []) == {}


class TestLoad:
    def test_what_is_measured(self, line: Line) -> None:
        for name, threads, queues in (("w1", 5, ["@a", "default"]), ("w2", 3, ["hosts"])):
            member = Member("worker", "a", name, 1, 0, "0", threads=threads, queues=queues)
            register(line, KEYS, name, member, "machine")
        register(line, KEYS, "o", Member("orchestrator", "a", "o", 1, 0, "0"), "machine")
        line.call("RPUSH", KEYS.queue("hosts"), *"abc")
        line.call("RPUSH", KEYS.alone("default"), "x")
        line.call("RPUSH", KEYS.queue("nobody's"), "x")
        line.call("HSET", KEYS.own("w2"), "p/1/1", "x")
        submitted(line, some_plan())
        found, held = measure(line, KEYS, share=7, also=["hosts", "nobody's"])
        assert held == {"@a": 0, "default": 1, "hosts": 3, "nobody's": 1}
        assert (found.backlog, found.busy, found.threads, found.share) == (5, 1, 8, 7)
        assert found.queues == ["@a", "default", "hosts"]

    def test_it_is_dated_by_redis_and_only_the_holder_writes_it(self, line: Line) -> None:
        load = measure(line, KEYS, share=0).load
        page = Page(0, MinuteRecord(), {}, Flow())
        write_page(line, KEYS, "1:somebody", load, page)
        assert read_load(line, KEYS) is None
        held = lease.acquire(line, KEYS, incarnation="leader", node="node-a", ttl=5, seen=0)
        assert isinstance(held, Held)
        write_page(line, KEYS, held.token, load, page)
        found = read_load(line, KEYS)
        assert found is not None
        assert found.load == load
        assert held.now_ms <= found.at_ms <= found.now_ms

    def test_a_record_that_nobody_can_read_is_none(self, line: Line) -> None:
        line.call("HSET", KEYS.load, "record", "nonsense", "at", "1")
        assert read_load(line, KEYS) is None

    def test_an_active_orchestrator_publishes_it(self, start_program: StartProgram, line: Line) -> None:
        start_program("orchestrator").ready()
        start_program("worker").ready()
        until("its worker counts", lambda: (found := read_load(line, KEYS)) is not None and found.load.threads == 5)
        first = read_load(line, KEYS)
        assert first is not None
        until(
            "the next one is there", lambda: (found := read_load(line, KEYS)) is not None and found.at_ms > first.at_ms
        )
        second = read_load(line, KEYS)
        assert second is not None
        assert second.load.queues == ["@node-a", "default"]


def test_withdrawn_or_accepted_never_both(
    start_program: StartProgram, client: Client, server: Server, line: Line, place: Path
) -> None:
    """Clients take plans back while the orchestrator accepts them as fast as it can: each has one of the two fates.

    What was withdrawn never runs; what was not runs once, and so do the plans that were under way.
    """
    orchestrator = start_program("orchestrator").ready()
    start_program("worker").ready()
    chance = random.Random(7)
    under_way = chains(client, place / "chains", 20, 20)
    fates: dict[str, str] = {}
    made: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def take_back() -> None:
        hand = server.line()
        while some := made.get():
            fates.update(moving.withdraw(hand, KEYS, dict.fromkeys(some, "other")))
        hand.close()

    taking = threading.Thread(target=take_back)
    taking.start()
    names: list[str] = []
    try:
        while Counter(fates.values())["ACCEPTED"] < 200 or Counter(fates.values())["WITHDRAWN"] < 200:
            assert len(names) < 20_000, Counter(fates.values())
            plans: list[Plan] = []
            for _ in range(chance.randint(1, 5)):
                plan = client.plan("one")
                plan.add("note", path=str(place / "lines"), text=str(len(names) + len(plans)))
                plans.append(plan)
            some = client.submit_all(plans)
            names += some
            time.sleep(chance.choice([0.0, 0.0, 0.001, 0.002, 0.004]))  # the orchestrator is at different points then
            made.put(some)
    finally:
        made.put([])
        taking.join()
    accepted = [name for name in names if fates[name] == "ACCEPTED"]
    states = [("GETRANGE", KEYS.states(name), 0, 0) for name in accepted + under_way]
    until("all of those have ended", lambda: set(line.batch(states)) == {bytes([PlanState.SUCCEEDED])}, 60)
    counted_once(line, KEYS, accepted + under_way)
    ran = lines_of(place / "lines")
    assert ran == Counter(str(at) for at, name in enumerate(names) if fates[name] == "ACCEPTED")
    assert set(lines_of(place / "chains").values()) == {1}
    nothing_left(line, KEYS)
    assert orchestrator.running
    assert "a client has withdrawn a plan" in orchestrator.log.read_text()
