"""The scripts against a real server, one answer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from chargehand.client import Client
from chargehand.plan.commit import Commit, Corpse, Move, StateWrite
from chargehand.plan.life import PlanState
from chargehand.store import lease
from chargehand.store.committing import commit_command
from chargehand.store.connection import Line, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.lease import Held, Waiting
from chargehand.store.membership import Gone, Member, NodeNameTaken, beat, register
from chargehand.store.scripts import RENEW
from chargehand.store.submission import Prepared, prepare, submit, upload
from chargehand.store.work import Finish, finish, give_back, take
from chargehand.wire import Definition, Entry, Extra, Finished, Policy, Result, Step, read_entry, step_key, write_entry
from support.faults import counted_once
from support.programs import StartProgram, until
from support.server import Server, free_port

KEYS = Keys("default")
TTL = 2.0


def hold(line: Line, incarnation: str = "leader", *, ttl: float = TTL, seen: int = 0) -> Held:
    found = lease.acquire(line, KEYS, incarnation=incarnation, node="node-a", ttl=ttl, seen=seen)
    assert isinstance(found, Held)
    return found


def worker(line: Line, incarnation: str = "w1", *, node: str = "node-a", machine: str = "machine") -> None:
    register(line, KEYS, incarnation, Member("worker", node, "worker", 1, 0, "0", queues=["default"]), machine)


def fill(line: Line, *entries: bytes, key: str = "") -> None:
    line.call("RPUSH", key or KEYS.queue("default"), *entries)


def entry(number: int, *, suspect: bool = False, alone: bool = False, attempt: int = 1) -> bytes:
    extra = Extra(alone=True) if alone else None
    return write_entry(step_key("p", number, attempt), "echo", b"{}", extra, suspect=suspect)


def taken(line: Line, free: int = 1, prefetch: int = 0, *, idle: bool = True, by: str = "w1") -> list[int]:
    found = take(line, KEYS, by, ["default"], free=free, prefetch=prefetch, idle=idle)
    return [int(one.key.split("/")[1]) for _, one in found.entries]


def waiting(line: Line) -> list[int]:
    return [int(read_entry(raw).key.split("/")[1]) for raw in line.call("LRANGE", KEYS.queue("default"), 0, -1)]


class TestCommit:
    def commit(self, line: Line, token: str, seq: int, commit: Commit | None = None) -> list[Any]:
        command = commit_command(KEYS, commit or Commit(), token=token, seq=seq, ttl_ms=round(TTL * 1000))
        reply: list[Any] = line.call(*command)
        return reply

    def created(self, plan: str = "p", *, queue: str = "default") -> Commit:
        made = Commit(position="5-0", created={plan: b"Rq"}, indexed={plan: Move("", "R", 1)})
        made.push(made.pushed, queue, entry(0))
        return made

    def test_ok(self, line: Line) -> None:
        held = hold(line)
        line.call("HSET", KEYS.pending, "p", "5-0")
        line.call("XADD", KEYS.inbox, "5-0", "e", "x")
        line.call("XADD", KEYS.inbox, "6-0", "e", "y")
        reply = self.commit(line, held.token, 0, self.created())
        assert reply[0] == b"OK"
        assert reply[1] >= held.now_ms
        assert line.call("HGETALL", KEYS.head) == [b"seq", b"1", b"position", b"5-0"]
        assert line.call("GET", KEYS.states("p")) == b"Rq"
        assert line.call("EXISTS", KEYS.pending) == 0
        assert waiting(line) == [0]
        assert line.call("LLEN", KEYS.bell("default")) == 1
        assert [position for position, _ in line.call("XRANGE", KEYS.inbox, "-", "+")] == [b"6-0"]

    def test_extends_the_lease(self, line: Line) -> None:
        held = hold(line)
        line.call("PEXPIRE", KEYS.lease, 500)
        self.commit(line, held.token, 0)
        assert line.call("PTTL", KEYS.lease) > 1_000

    def test_sent_again_changes_nothing_more(self, line: Line) -> None:
        held = hold(line)
        self.commit(line, held.token, 0, self.created())
        assert self.commit(line, held.token, 0, self.created()) == [b"DIVERGED", b"1"]
        assert waiting(line) == [0], "pushed once"
        assert line.call("HGET", KEYS.head, "seq") == b"1"

    def test_fenced(self, line: Line) -> None:
        held = hold(line)
        lease.release(line, KEYS, held.token)
        later = hold(line, "other")
        assert self.commit(line, held.token, 0, self.created()) == [b"FENCED", later.token.encode()]
        self.nothing(line)

    def test_fenced_when_data_is_lost(self, line: Line) -> None:
        assert self.commit(line, "3:leader", 0, self.created()) == [b"FENCED", b""]
        self.nothing(line)

    @pytest.mark.parametrize("seq", [1, 7], ids=["by-one", "by-many"])
    def test_diverged(self, line: Line, seq: int) -> None:
        held = hold(line)
        assert self.commit(line, held.token, seq, self.created()) == [b"DIVERGED", b"0"]
        self.nothing(line)

    def test_diverged_forward(self, line: Line) -> None:
        held = hold(line)
        line.call("HSET", KEYS.head, "seq", 2)
        assert self.commit(line, held.token, 0, self.created()) == [b"DIVERGED", b"2"]
        self.nothing(line)

    def test_lapsed(self, line: Line) -> None:
        held = hold(line)
        line.call("DEL", KEYS.lease)
        assert self.commit(line, held.token, 0, self.created()) == [b"LAPSED"]
        self.nothing(line)
        assert line.call("EXISTS", KEYS.lease) == 0, "not taken again silently"

    def test_changed_plan_exists(self, line: Line) -> None:
        held = hold(line)
        line.call("SET", KEYS.states("p"), b"Ss")
        assert self.commit(line, held.token, 0, self.created()) == [b"CHANGED", KEYS.states("p").encode()]
        assert line.call("GET", KEYS.states("p")) == b"Ss"
        assert waiting(line) == []

    def test_changed_corpse_owns_another_step(self, line: Line) -> None:
        held = hold(line)
        worker(line)
        fill(line, entry(1))
        assert taken(line) == [1]
        made = Commit(reaped=[Corpse("w1", ("p/0/1",))])
        assert self.commit(line, held.token, 0, made) == [b"CHANGED", KEYS.own("w1").encode()]
        made = Commit(reaped=[Corpse("w1", ())])
        assert self.commit(line, held.token, 0, made) == [b"CHANGED", KEYS.own("w1").encode()]
        assert line.call("HEXISTS", KEYS.members, "w1") == 1
        made = Commit(reaped=[Corpse("w1", ("p/1/1",))])
        assert self.commit(line, held.token, 0, made)[0] == b"OK"
        assert line.call("EXISTS", KEYS.own("w1"), KEYS.members, KEYS.beats) == 0

    def test_changed_corpse_has_beaten_since(self, line: Line) -> None:
        held = hold(line)
        worker(line)
        beaten = int(line.call("ZSCORE", KEYS.beats, "w1"))
        made = Commit(reaped=[Corpse("w1", (), beaten - 1)])
        assert self.commit(line, held.token, 0, made) == [b"CHANGED", KEYS.beats.encode()]
        made = Commit(reaped=[Corpse("w1", (), beaten)])
        assert self.commit(line, held.token, 0, made)[0] == b"OK"

    def test_large(self, line: Line) -> None:
        held = hold(line)
        made = Commit(position="1-0", created={"p": b"R" + b"q" * 20_000})
        for number in range(20_000):
            made.push(made.pushed, "default", entry(number))
        made.returned = {"default": [entry(-2), entry(-1)]}
        made.states = [StateWrite("p", 20_000, b"s")]
        assert self.commit(line, held.token, 0, made)[0] == b"OK"
        assert waiting(line) == [-2, -1, *range(20_000)]
        assert line.call("GETRANGE", KEYS.states("p"), -2, -1) == b"qs"

    def nothing(self, line: Line) -> None:
        assert line.call("EXISTS", KEYS.states("p"), KEYS.index("R"), KEYS.queue("default")) == 0
        assert line.call("HGET", KEYS.head, "position") is None


class TestLease:
    def test_held_by_another(self, line: Line) -> None:
        held = hold(line)
        found = lease.acquire(line, KEYS, incarnation="other", node="node-b", ttl=TTL, seen=0)
        assert isinstance(found, Waiting)
        assert (found.token, found.node, found.since_ms) == (held.token, "node-a", held.now_ms)
        assert 0 < found.left <= TTL

    def test_same_incarnation_after_a_lost_reply(self, line: Line) -> None:
        assert hold(line).token == "1:leader"
        assert hold(line).token == "2:leader"
        assert line.call("GET", KEYS.fence) == b"2:leader"
        assert not lease.release(line, KEYS, "1:leader"), "the first token is fenced"

    def test_epoch_grows_beyond_what_was_seen(self, line: Line) -> None:
        assert hold(line, seen=41).token == "42:leader"

    def test_epoch_grows_beyond_the_fence(self, line: Line) -> None:
        lease.release(line, KEYS, hold(line, seen=41).token)
        assert hold(line, "other").token == "43:other"

    def test_renew(self, line: Line) -> None:
        held = hold(line, ttl=0.5)
        assert line.call(*RENEW([KEYS.lease, KEYS.head], held.token, 5_000))[0] == b"OK"
        assert line.call("PTTL", KEYS.lease) > 1_000

    def test_renew_of_a_lost_lease(self, line: Line) -> None:
        held = hold(line)
        line.call("DEL", KEYS.lease)
        assert line.call(*RENEW([KEYS.lease, KEYS.head], held.token, 5_000))[0] == b"LOST"
        assert line.call("EXISTS", KEYS.lease) == 0, "not taken again silently"
        later = hold(line, "other")
        assert line.call(*RENEW([KEYS.lease, KEYS.head], held.token, 5_000))[0] == b"LOST"
        assert line.call("GET", KEYS.lease).decode() == later.token

    def test_death_notice_frees_only_the_dead_ones_lease(self, line: Line) -> None:
        hold(line)
        hold(line)
        assert not lease.report_death(line, KEYS, "somebody")
        assert line.call("EXISTS", KEYS.lease) == 1
        assert lease.report_death(line, KEYS, "leader"), "at whatever epoch"
        assert line.call("EXISTS", KEYS.lease) == 0
        assert line.call("XLEN", KEYS.inbox) == 2


def definition(steps: int = 1, *, large: int = 0) -> Definition:
    given = Raw(b'{"value":"%s"}' % (b"x" * large))
    return Definition("work", [Policy("echo")], steps, [Step(0, given) for _ in range(steps)])


class TestSubmit:
    def send(self, line: Line, *plans: Prepared, most: int = 100) -> list[str]:
        return submit(line, KEYS, plans, max_inbox=most)

    def test_ok_known_conflict(self, line: Line) -> None:
        one, other = (prepare("p", definition(steps), submitted_ms=1) for steps in (1, 2))
        assert self.send(line, one) == ["OK"]
        again = prepare("p", definition(1), submitted_ms=99)
        assert self.send(line, again, other) == ["KNOWN", "CONFLICT"]
        assert line.call("XLEN", KEYS.inbox) == 1
        assert line.call("HLEN", KEYS.pending) == 1
        assert line.call("LINDEX", KEYS.plan("p"), 0) == one.definition

    def test_twice_in_one_call(self, line: Line) -> None:
        one = prepare("p", definition(), submitted_ms=1)
        assert self.send(line, one, one) == ["OK", "KNOWN"]
        assert line.call("XLEN", KEYS.inbox) == 1

    def test_full_takes_what_fits(self, line: Line) -> None:
        plans = [prepare(f"p{number}", definition(), submitted_ms=1) for number in range(4)]
        assert self.send(line, *plans[:3], most=2) == ["OK", "OK", "FULL"]
        assert self.send(line, plans[0], plans[3], most=2) == ["KNOWN", "FULL"]
        assert line.call("EXISTS", KEYS.plan("p2"), KEYS.plan("p3")) == 0

    def test_parts(self, line: Line) -> None:
        large = prepare("p", definition(2_500, large=50), submitted_ms=1)
        assert len(large.parts) == 3
        assert self.send(line, large) == ["INCOMPLETE"], "nothing was uploaded"
        assert line.call("EXISTS", KEYS.plan("p"), KEYS.inbox) == 0
        upload(line, KEYS, large)
        line.call("RPOP", KEYS.parts("p"))
        assert self.send(line, large) == ["INCOMPLETE"], "a part is missing"
        upload(line, KEYS, large)
        upload(line, KEYS, large)
        assert line.call("TTL", KEYS.parts("p")) > 0
        assert self.send(line, large) == ["OK"]
        assert line.call("EXISTS", KEYS.parts("p")) == 0
        assert line.call("TTL", KEYS.plan("p")) == -1
        assert line.call("LRANGE", KEYS.plan("p"), 0, -1) == [large.definition, large.meta, *large.parts]
        upload(line, KEYS, large)
        assert self.send(line, large) == ["KNOWN"]


class TestTake:
    def test_gone(self, line: Line) -> None:
        fill(line, entry(0))
        with pytest.raises(Gone):
            taken(line)
        assert waiting(line) == [0]

    def test_gone_after_reaping(self, line: Line) -> None:
        worker(line)
        line.call("HDEL", KEYS.members, "w1")
        with pytest.raises(Gone):
            taken(line)
        with pytest.raises(Gone):
            beat(line, KEYS, "w1", Member("worker", "node-a", "worker", 1, 0, "0"), "machine")

    def test_leaves_the_queue_and_is_owned_in_order(self, line: Line) -> None:
        worker(line)
        fill(line, *(entry(number) for number in range(4)))
        assert taken(line, free=3) == [0, 1, 2]
        assert waiting(line) == [3]
        assert set(line.call("HKEYS", KEYS.own("w1"))) == {b"p/0/1", b"p/1/1", b"p/2/1"}
        assert line.call("LLEN", KEYS.bell("default")) == 1, "whoever waits is told that there is more"

    def test_prefetches_a_fair_share(self, line: Line) -> None:
        worker(line, "w1")
        worker(line, "w2", node="node-b")
        fill(line, *(entry(number) for number in range(21)))
        assert taken(line, free=1, prefetch=64) == [*range(6)], "one to start, a quarter of the other 20"

    def test_never_prefetches_a_suspect(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0), entry(1), entry(2, suspect=True), *(entry(number) for number in range(3, 9)))
        assert taken(line, free=1, prefetch=64) == [0, 1]
        assert waiting(line) == [2, *range(3, 9)], "put back in order"

    def test_never_prefetches_beside_a_suspect(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0, suspect=True), *(entry(number) for number in range(1, 9)))
        assert taken(line, free=1, prefetch=64) == [0]
        assert waiting(line) == [*range(1, 9)]

    def test_alone_only_when_idle_and_by_itself(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0), entry(1))
        fill(line, entry(7, alone=True, suspect=True), key=KEYS.alone("default"))
        busy = take(line, KEYS, "w1", ["default"], free=2, prefetch=0, idle=False)
        assert busy.drain
        assert busy.entries == []
        assert waiting(line) == [0, 1], "what is ordinary waits until it has run"
        assert taken(line, free=2, prefetch=64) == [7]
        assert taken(line, free=2) == [0, 1]

    def test_queues_in_the_order_asked_for(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0))
        fill(line, entry(1), key=KEYS.queue("urgent"))
        found = take(line, KEYS, "w1", ["urgent", "default"], free=2, prefetch=0, idle=True)
        assert [(queue, one.key) for queue, one in found.entries] == [("urgent", "p/1/1"), ("default", "p/0/1")]


class TestFinish:
    def finish(self, line: Line, number: int, *, attempt: int = 1, by: str = "w1") -> bool:
        result = Result(attempt, by, "node-a", 0, 1, Raw(b"%d" % number))
        one = Finish("p", step_key("p", number, attempt), str(number), result, Finished("p", number, attempt))
        return finish(line, KEYS, by, [one])[0]

    def test_counts_once(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0))
        taken(line)
        assert self.finish(line, 0)
        assert not self.finish(line, 0), "a repeated result is stale"
        assert line.call("XLEN", KEYS.inbox) == 1
        assert line.call("HKEYS", KEYS.outputs("p")) == [b"0"]
        assert line.call("EXISTS", KEYS.own("w1")) == 0

    def test_stale_attempt_and_stale_owner(self, line: Line) -> None:
        worker(line, "w1")
        worker(line, "w2", node="node-b")
        fill(line, entry(0, attempt=2))
        taken(line, by="w2")
        assert not self.finish(line, 0, attempt=1, by="w2")
        assert not self.finish(line, 0, attempt=2, by="w1")
        assert line.call("EXISTS", KEYS.inbox, KEYS.outputs("p")) == 0
        assert self.finish(line, 0, attempt=2, by="w2")

    def test_saved_state_goes_with_the_last_result(self, line: Line) -> None:
        worker(line)
        fill(line, entry(0), entry(1))
        taken(line, free=2)
        line.call("HSET", KEYS.outputs("p"), "saved 0", "a", "saved 1", "b")
        result = Result(1, "w1", "node-a", 0, 1, Raw(b"1"))
        one = Finish("p", "p/0/1", "0", result, Finished("p", 0, 1), gone="saved 0")
        other = Finish("p", "p/1/1", "saved 1", result, Finished("p", 1, 1))
        assert finish(line, KEYS, "w1", [one, other]) == [True, True]
        assert finish(line, KEYS, "w1", [one._replace(gone="saved 1")]) == [False]
        assert set(line.call("HKEYS", KEYS.outputs("p"))) == {b"0", b"saved 1"}

    def test_give_back_to_the_front_in_order(self, line: Line) -> None:
        worker(line)
        fill(line, *(entry(number) for number in range(6)))
        found = take(line, KEYS, "w1", ["default"], free=4, prefetch=0, idle=True)
        line.call("DEL", KEYS.bell("default"))
        back: list[tuple[str, Entry]] = found.entries[1:]
        assert give_back(line, KEYS, "w1", back[::-1]) == 3
        assert waiting(line) == [1, 2, 3, 4, 5], "the last one given back is the first to be taken"
        assert line.call("LLEN", KEYS.bell("default")) == 1
        assert give_back(line, KEYS, "w1", back) == 0, "no longer owned: nothing is put twice"
        assert waiting(line) == [1, 2, 3, 4, 5]
        assert line.call("HKEYS", KEYS.own("w1")) == [b"p/0/1"]

    def test_give_back_of_one_that_runs_alone(self, line: Line) -> None:
        worker(line)
        fill(line, entry(7, alone=True), key=KEYS.alone("default"))
        found = take(line, KEYS, "w1", ["default"], free=4, prefetch=0, idle=True)
        assert give_back(line, KEYS, "w1", found.entries) == 1
        assert line.call("LLEN", KEYS.alone("default")) == 1
        assert waiting(line) == []


class TestNodeName:
    def test_taken_by_another_machine(self, line: Line) -> None:
        worker(line, "w1", machine="one")
        worker(line, "w2", machine="one")
        with pytest.raises(NodeNameTaken, match="one"):
            worker(line, "w3", machine="two")
        assert line.call("HEXISTS", KEYS.members, "w3") == 0
        line.call("SET", KEYS.node("node-a"), "two")
        with pytest.raises(NodeNameTaken, match="two"):
            beat(line, KEYS, "w1", Member("worker", "node-a", "worker", 1, 0, "0"), "one")
        line.call("DEL", KEYS.node("node-a"))
        beat(line, KEYS, "w1", Member("worker", "node-a", "worker", 1, 0, "0"), "one")
        assert line.call("PTTL", KEYS.node("node-a")) > 0


class TestNotNow:
    def test_replica(self, line: Line) -> None:
        """A server that was demoted in a fail-over refuses to write: not our mistake, and not for ever."""
        worker(line)
        fill(line, entry(0), entry(1))
        line.call("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(Unavailable):
            line.call("SET", "key", "value")
        with pytest.raises(Unavailable):
            taken(line)
        with pytest.raises(Unavailable):
            hold(line)
        line.call("REPLICAOF", "NO", "ONE")
        assert taken(line) == [0]


STRANGE = [
    b"",
    b"garbage",
    b"\xff\xfe\x00",
    b"[]",
    b'["unheard-of",1]',
    b'["finish","p","not a number",1]',
    b'["finish","p"]',
    b'{"kind":"finish"}',
    b'["submit",7,{}]',
]
HARMLESS = [  # can be read, and say nothing to anybody
    b'["finish","no such plan",0,1]',
    b'["finish","no such plan",-5,-1]',
    b'["died","nobody"]',
    b'["resume","no such plan"]',
]


class TestStrangeEvents:
    @pytest.mark.parametrize("steps", [1, 20], ids=["alone", "amid-work"])
    def test_are_put_aside(
        self, start_program: StartProgram, client: Client, server: Server, line: Line, place: Path, steps: int
    ) -> None:
        start_program("orchestrator").role("active")
        start_program("worker").ready()
        plans = []
        for raw in [*STRANGE, *HARMLESS]:
            plan = client.plan("beside")
            for _ in range(steps):
                plan.add("nothing")
            plans.append(client.submit(plan))
            line.call("XADD", KEYS.inbox, "*", "e", raw)
        line.call("XADD", KEYS.inbox, "*", "another field", "x")
        for plan_id in plans:
            assert client.wait(plan_id, 20) is PlanState.SUCCEEDED
        until("the inbox is empty", lambda: line.call("XLEN", KEYS.inbox) == 0)
        kept = line.call("LRANGE", KEYS.strange, 0, -1)
        assert sorted(set(kept)) == sorted(STRANGE)
        counted_once(line, KEYS, plans)

    def test_events_that_name_steps_there_are_not(
        self, start_program: StartProgram, client: Client, line: Line, place: Path
    ) -> None:
        orchestrator = start_program("orchestrator")
        orchestrator.role("active")
        plan = client.plan("steps")
        with plan.sequence():
            plan.add("nothing")
            plan.add("nothing")
        plan_id = client.submit(plan)
        until("it is accepted", lambda: line.call("EXISTS", KEYS.states(plan_id)))
        for step, attempt in ((99, 1), (-1, 1), (1, 1), (0, 7), (0, 0)):
            line.call("XADD", KEYS.inbox, "*", "e", b'["finish","%s",%d,%d]' % (plan_id.encode(), step, attempt))
        until("the inbox is empty", lambda: line.call("XLEN", KEYS.inbox) == 0)
        assert line.call("GET", KEYS.states(plan_id)) == b"Rqw"
        start_program("worker")
        assert client.wait(plan_id, 20) is PlanState.SUCCEEDED
        assert orchestrator.running
