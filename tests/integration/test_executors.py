"""Several executors and clients that know all of them: who gets what, and what becomes of it when one fails."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from chargehand.client import NotPossible, SubmitRefused, WaitTimeout
from chargehand.executors import Executors
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.registry import load_actions
from chargehand.store import moving
from support.commands import Done, chargehand
from support.faults import lines_of
from support.groups import Group, StartGroup, client_config, knowing
from support.programs import freeze, thaw, until, written
from support.server import Server


@contextmanager
def clients(place: Path, *groups: Group, told: list[str] | None = None) -> Iterator[Executors]:
    settings = knowing(place, groups)
    actions = load_actions(settings).actions
    with Executors(settings, actions, tell=(told if told is not None else []).append) as made:
        yield made


def noting(executors: Executors, place: Path, text: str, **options: str) -> Plan:
    plan = executors.plan(text)
    plan.add("note", path=str(place / "lines"), text=text, **options)
    return plan


def ends_well(executors: Executors, *plans: str) -> None:
    for plan in plans:
        assert executors.wait(plan, 40) is PlanState.SUCCEEDED


THREADS = {"a": 3, "b": 5, "c": 8, "d": 14}
SHORTEST, ALPHA, LONGEST = 0.3, 1.5, 4.0  # seconds; Pareto
COMING_IN = 12.0  # seconds that plans come in
BEFOREHAND = 1.5  # seconds' worth of them that come at once: all are busy, also while a busy machine holds one up


def test_the_share_of_work_follows_capacity(
    place: Path, start_group: StartGroup, server: Server, second: Server
) -> None:
    """Within 5 % of each one's share, while more comes in than all can do; round robin does not, in the same run."""
    chance = random.Random(11)
    mean = sum(min(SHORTEST * chance.paretovariate(ALPHA), LONGEST) for _ in range(100_000)) / 100_000
    rate = 1.25 * sum(THREADS.values()) / mean
    groups = [
        start_group(name, server if name in {"a", "b"} else second, threads=count).known()
        for name, count in THREADS.items()
    ]
    turns = itertools.cycle(THREADS)

    def shares(executors: Executors, executor: Callable[[], str | None]) -> dict[str, float]:
        """Each one's share of the work that is done while plans come in, as a multiple of its share of the threads."""
        submitted: list[str] = []
        begun = time.time()
        while time.time() < begun + COMING_IN:
            due = int((BEFOREHAND + time.time() - begun) * rate) - len(submitted)
            for _ in range(due):
                plan = executors.plan("nap")
                plan.add("nap", seconds=min(SHORTEST * chance.paretovariate(ALPHA), LONGEST))
                submitted.append(executors.submit(plan, executor=executor()))
            time.sleep(0.01)
        begin, end = begun + 3.0, time.time()
        time.sleep(LONGEST)  # what was running then has ended
        worked = Counter[str]()
        for name in submitted:
            view = executors.read(name)
            assert view is not None
            result = view.steps[0].result
            if result is not None:
                over = min(result.ended_ms / 1000, end) - max(result.started_ms / 1000, begin)
                worked[result.node.removeprefix("node-")] += max(0.0, over)  # type: ignore[assignment]
        assert len(submitted) > 0.9 * COMING_IN * rate, (
            "this machine is too busy to make as many plans as the test wants"
        )
        return {
            name: worked[name] / worked.total() * sum(THREADS.values()) / threads for name, threads in THREADS.items()
        }

    with clients(place, *groups) as executors:
        by_load = shares(executors, lambda: None)
        until(
            "nothing is left",
            lambda: not any(one.load and one.load.backlog + one.load.busy for one in executors.views()),
        )
        in_turn = shares(executors, lambda: next(turns))
    assert all(0.95 <= share <= 1.05 for share in by_load.values()), (by_load, in_turn)
    assert any(not 0.9 <= share <= 1.1 for share in in_turn.values()), (by_load, in_turn)


def test_no_plan_waits_for_a_dead_one(place: Path, start_group: StartGroup) -> None:
    """Its orchestrator is killed for good. What it has not accepted goes elsewhere, what is new goes there at once."""
    groups = [start_group(name).known() for name in "abc"]
    dead = groups[1]
    told: list[str] = []
    with clients(place, *groups, told=told) as executors:
        ends_well(executors, *executors.submit_all([noting(executors, place, f"warm-{n}") for n in range(30)]))
        dead.orchestrator.kill()
        just_after = executors.submit_all([noting(executors, place, f"after-{n}") for n in range(60)])
        assert Counter(executors.where(plan) for plan in just_after)["b"] > 0, "nobody knows yet that it is dead"
        ends_well(executors, *just_after)
        assert {executors.where(plan) for plan in just_after} == {"a", "c"}
        later = executors.submit_all([noting(executors, place, f"later-{n}") for n in range(60)])
        assert {executors.where(plan) for plan in later} == {"a", "c"}
        ends_well(executors, *later)
        line = dead.server.line()
        assert moving.pending(line, dead.keys) == set()
        line.close()
        assert executors.waits == {}
    assert set(lines_of(place / "lines").values()) == {1}
    assert len(lines_of(place / "lines")) == 150


def test_what_it_has_accepted_waits_for_it_and_says_so(place: Path, start_group: StartGroup) -> None:
    groups = [start_group(name).known() for name in "ab"]
    told: list[str] = []
    with clients(place, *groups, told=told) as executors:
        plan = executors.plan("long")
        with plan.sequence():
            plan.add("note", path=str(place / "lines"), text="first", seconds=1.0)
            plan.add("note", path=str(place / "lines"), text="second")
        name = executors.submit(plan, executor="b")
        until("it runs", lambda: written(place / "lines"))
        groups[1].orchestrator.kill()
        with pytest.raises(WaitTimeout, match="executor b has accepted it, and no orchestrator of it is active"):
            executors.wait(name, 8)
        assert len(told) == 1, told
        groups[1].begin_again()
        ends_well(executors, name)
        assert executors.waits == {}


def test_one_whose_redis_does_not_answer_keeps_its_plans_and_says_so(
    place: Path, start_group: StartGroup, second: Server
) -> None:
    told: list[str] = []
    cut_off = start_group("a", second).known()
    with clients(place, cut_off) as alone:
        cut_off.orchestrator.kill()
        name = alone.submit(noting(alone, place, "kept"))
    other = start_group("b").known()
    second.kill()
    with clients(place, cut_off, other, told=told) as executors:
        new = executors.submit_all([noting(executors, place, f"new-{n}") for n in range(10)])
        assert {executors.where(plan) for plan in new} == {"b"}
        ends_well(executors, *new)
        with pytest.raises(WaitTimeout, match=r"a does not answer: .* Connection refused"):
            executors.wait(name, 2)
        assert len(told) == 1, told
        with pytest.raises(NotPossible, match=f"plan '{name}' is in no executor that answers; a does not answer"):
            executors.at(name)
        second.start()
        ends_well(executors, name)
        assert executors.where(name) == "b", "it was not accepted: once its Redis answers it moves"
    assert set(lines_of(place / "lines").values()) == {1}


def test_a_frozen_redis_does_not_stop_a_client(place: Path, start_group: StartGroup, second: Server) -> None:
    """It takes connections and never answers, as behind a cable that was pulled."""
    groups = [start_group("a", second).known(), start_group("b").known()]
    with clients(place, *groups) as executors:
        first = executors.submit(noting(executors, place, "first"), executor="b")
        ends_well(executors, first)
        freeze(second.pid)
        try:
            new = executors.submit_all([noting(executors, place, f"new-{n}") for n in range(20)])
            assert {executors.where(plan) for plan in new} == {"b"}
            ends_well(executors, *new)
        finally:
            thaw(second.pid)


def test_anybody_finds_a_plan_and_brings_it_on(place: Path, start_group: StartGroup) -> None:
    """The client that was moving it died between the two executors."""
    groups = [start_group(name).known() for name in "ab"]
    groups[0].orchestrator.kill()
    with clients(place, *groups) as first:
        pinned = first.submit(noting(first, place, "pinned"), executor="a")
    line = groups[0].server.line()
    with clients(place, groups[0]) as only:
        name = only.submit(noting(only, place, "moved"))
    assert moving.withdraw(line, groups[0].keys, {name: "b"}) == {name: "WITHDRAWN"}
    with clients(place, *groups) as another:
        assert another.where(name) == "b"
        ends_well(another, name)
        view = another.read(name)
        assert view is not None
        assert view.steps[0].result is not None
        assert view.steps[0].result.node == "node-b"
        assert another.where(pinned) == "a"
        with pytest.raises(WaitTimeout):
            another.wait(pinned, 5)
        assert another.where(pinned) == "a", "it was aimed at that one"
        with pytest.raises(NotPossible, match="there is no executor 'z' here"):
            another.submit(noting(another, place, "x"), executor="z")
        assert another.read("nowhere") is None
    line.close()


def test_everybodys_plans_can_be_moved_from_a_dead_one(place: Path, start_group: StartGroup) -> None:
    groups = [start_group(name).known() for name in "ab"]
    with clients(place, *groups) as executors:
        with pytest.raises(NotPossible, match="executor a works"):
            executors.move("a")
        groups[0].orchestrator.kill()
        with clients(place, groups[0]) as only:
            names = only.submit_all([noting(only, place, f"old-{n}") for n in range(250)])
            pinned = only.submit(noting(only, place, "pinned"), executor="a")
        until("a is stale", lambda: executors.views()[0].problem)
        assert sorted(executors.move("a")) == sorted(names)
        ends_well(executors, *names)
        assert executors.views()[0].pending == 1
        assert executors.where(pinned) == "a"


def test_a_key_is_one_plan_wherever_it_goes(place: Path, start_group: StartGroup) -> None:
    groups = [start_group(name).known() for name in "abc"]
    with clients(place, *groups) as one, clients(place, *groups) as other:
        for number in range(20):
            text = f"keyed-{number}"
            assert one.submit(noting(one, place, text), key=text) == other.submit(noting(other, place, text), key=text)
        plans = [one.submit(noting(one, place, f"keyed-{number}"), key=f"keyed-{number}") for number in range(20)]
        ends_well(one, *plans)
        assert len({one.where(plan) for plan in plans}) == 3, "keys spread"
        there = one.where(plans[0])
        elsewhere = next(name for name in "abc" if name != there)
        with pytest.raises(SubmitRefused, match=f"the key 'keyed-0' stands for plan .* is in executor {there}"):
            one.submit(noting(one, place, "keyed-0"), key="keyed-0", executor=elsewhere)
    assert set(lines_of(place / "lines").values()) == {1}
    assert len(lines_of(place / "lines")) == 20


def test_a_plan_goes_where_its_nodes_and_queues_are(place: Path, start_group: StartGroup) -> None:
    groups = [start_group("a").known(), start_group("b", queues=("hosts", "default")).known()]
    with clients(place, *groups) as executors:
        for _ in range(5):
            plan = executors.plan("aimed")
            plan.add("where", node="node-b")
            name = executors.submit(plan)
            assert executors.where(name) == "b"
            ends_well(executors, name)
        plan = executors.plan("apart")
        plan.add("where", node="node-a")
        plan.add("where", node="node-b")
        with pytest.raises(
            SubmitRefused, match="aimed at node node-b, which is in executor b, and the plan is to go to a"
        ):
            executors.submit(plan)
        plan = executors.plan("nowhere")
        plan.add("where", node="node-z")
        with pytest.raises(SubmitRefused, match="aimed at node node-z, which is in no executor"):
            executors.submit(plan)


class TestCommandLine:
    @pytest.fixture
    def groups(self, start_group: StartGroup) -> list[Group]:
        return [start_group(name).known() for name in "ab"]

    @pytest.fixture
    def run(self, place: Path, groups: list[Group]) -> Callable[..., Done]:
        return partial(chargehand, config=client_config(place, groups))

    def test_submitting_finding_and_asking(self, run: Callable[..., Done], place: Path) -> None:
        done = run("submit", "where", "--executor", "b", "--wait")
        assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, '"node-b"', "")
        plan = done.stdout.split()[0]
        shown = run("plan", "show", plan)
        assert "executor   b\n" in shown.stdout
        assert json.loads(run("plan", "show", plan, "--json").stdout)["executor"] == "b"
        assert "submitted" in run("plan", "history", plan).stdout
        assert "plan succeeded" in run("plan", "watch", plan).stdout
        assert run("plan", "wait", plan).stdout == f"{plan} succeeded\n"
        paused = run("submit", "fails_until", f"path={place}/flag", "--executor", "a", "--wait")
        assert paused.returncode == 1
        plans = {view["plan"]: view["executor"] for view in json.loads(run("plan", "list", "--json").stdout)}
        assert plans == {plan: "b", paused.stdout.split()[0]: "a"}
        assert "EXECUTOR" in run("plan", "list").stdout
        assert run("plan", "skip", paused.stdout.split()[0], "0").returncode == 0
        assert run("plan", "wait", paused.stdout.split()[0]).returncode == 0
        assert len(run("plan", "export").stdout.splitlines()) == 2
        unknown = run("plan", "cancel", "nowhere")
        assert (unknown.returncode, unknown.stderr) == (
            1,
            "chargehand: plan 'nowhere' is in no executor (chargehand plan list)\n",
        )
        wrong = run("submit", "where", "--executor", "z")
        assert (wrong.returncode, wrong.stderr) == (1, "chargehand: there is no executor 'z' here (known: a, b)\n")

    def test_executors_and_what_is_said_when_one_is_gone(
        self, run: Callable[..., Done], groups: list[Group], place: Path
    ) -> None:
        listed = run("executors", "list", "--json")
        assert listed.returncode == 0
        assert [(one["name"], one["load"]["threads"], one["problem"]) for one in json.loads(listed.stdout)] == [
            ("a", 2, ""),
            ("b", 2, ""),
        ]
        groups[0].orchestrator.kill()
        with clients(place, groups[0]) as only:
            plan = only.submit(noting(only, place, "old"))
        until("a is stale", lambda: run("executors", "list").returncode == 1)
        (gone, _) = json.loads(run("executors", "list", "--json").stdout)
        assert (gone["problem"], gone["pending"]) == ("no orchestrator of it is active", 1)
        pinned = run("submit", "where", "--executor", "a", "--wait", "--timeout", "1")
        assert pinned.returncode == 1
        moved = run("executors", "move", "a")
        assert (moved.returncode, moved.stdout, moved.stderr) == (0, f"{plan}\n", "1 moved, 1 stay\n")
        assert run("plan", "wait", plan).stdout == f"{plan} succeeded\n"
        refused = run("executors", "move", "b")
        assert refused.stderr == "chargehand: executor b works: what it has not accepted yet it will\n"

    def test_recurring_plans_have_one_home(self, run: Callable[..., Done]) -> None:
        added = run("recurring", "add", "nightly", "where", "--cron", "0 3 * * *", "--executor", "b")
        assert added.returncode == 0, added.stderr
        until("it is there", lambda: "nightly" in run("recurring", "list").stdout)
        assert "recurring  nightly" in run("recurring", "show", "nightly").stdout
        elsewhere = run("recurring", "add", "nightly", "where", "--cron", "0 4 * * *", "--executor", "a", "--replace")
        assert "recurring plan 'nightly' is in executor b: remove it there first" in elsewhere.stderr
        assert run("recurring", "remove", "nightly").returncode == 0
        until("it is gone", lambda: run("recurring", "list").stdout == "no recurring plans\n")
