"""Which executor gets a plan: who may get anything, and that the share of work follows capacity."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.plan.routing import STALE, Load, Router, home_order

NAMES = ["a", "b", "c", "d"]


def heard(router: Router, name: str, load: Load, *, age: float = 0.0, boot: float = 100.0, at_ms: int = 1_000) -> None:
    router.heard(name, load, at_ms=at_ms, now_ms=at_ms + round(age * 1000), boot=boot)


IDLE = Load(backlog=0, busy=0, threads=4)


class TestFreshness:
    def test_what_was_never_heard_gets_nothing(self) -> None:
        router = Router(NAMES, Random(1))
        assert router.choose(1, 100.0) is None
        heard(router, "b", IDLE)
        assert {router.choose(1, 100.0) for _ in range(100)} == {"b"}

    @given(st.floats(0, 10), st.floats(0, 10))
    def test_age_is_what_redis_says_and_what_has_passed_since(self, age: float, passed: float) -> None:
        router = Router(["a"], Random(1))
        heard(router, "a", IDLE, age=age)
        assert router.age("a", 100.0 + passed) == pytest.approx(age + passed, abs=0.001)
        assert router.fresh("a", 100.0 + passed) == (router.age("a", 100.0 + passed) < STALE)  # type: ignore[operator]

    def test_reading_the_same_record_again_does_not_make_it_younger(self) -> None:
        router = Router(["a"], Random(1))
        heard(router, "a", IDLE, boot=100.0)
        heard(router, "a", IDLE, boot=104.0)
        assert not router.fresh("a", 104.0)
        heard(router, "a", IDLE, boot=104.0, at_ms=5_000)
        assert router.fresh("a", 104.0)

    def test_the_stale_one_gets_nothing_however_idle_it_was(self) -> None:
        router = Router(NAMES, Random(1))
        for name in NAMES:
            busy = Load(backlog=0 if name == "a" else 10_000, busy=0, threads=4)
            heard(router, name, busy, age=STALE if name == "a" else 0.0)
        assert "a" not in {router.choose(1, 100.0) for _ in range(1_000)}


class TestChoice:
    def test_local_correction(self) -> None:
        """Between two records of it, an executor does not get more than its share because it was idle at the first."""
        router = Router(["a", "b"], Random(1))
        heard(router, "a", IDLE)
        heard(router, "b", Load(backlog=40, busy=4, threads=4))
        first = [router.choose(1, 100.0) for _ in range(40)]
        assert first.count("a") >= 25, "a has room for 44 steps before it is as busy as b"
        for _ in range(60):
            router.choose(1, 100.0)
        later = [router.choose(1, 100.0) for _ in range(100)]
        assert 45 <= later.count("a") <= 55, "by now they are alike"
        heard(router, "a", IDLE, at_ms=2_000)
        heard(router, "b", IDLE, at_ms=2_000)
        assert router.choose(1, 100.0) in {"a", "b"}
        assert max(router._heard[name].sent for name in "ab") == 1, "a new record counts what was sent before"

    def test_without_a_worker_it_comes_last(self) -> None:
        router = Router(["a", "b"], Random(1))
        heard(router, "a", Load(backlog=0, busy=0, threads=0))
        heard(router, "b", Load(backlog=99, busy=4, threads=4))
        assert {router.choose(1, 100.0) for _ in range(100)} == {"b"}
        assert router.choose(1, 100.0, leave_out={"b"}) == "a"
        assert router.choose(1, 100.0, leave_out={"a", "b"}) is None

    def test_queues_that_nobody_serves_come_last(self) -> None:
        router = Router(["a", "b", "c"], Random(1))
        heard(router, "a", Load(backlog=0, busy=0, threads=4, queues=["default"]))
        heard(router, "b", Load(backlog=99, busy=4, threads=4, queues=["@node-b", "default", "hosts"]))
        heard(router, "c", Load(backlog=0, busy=0, threads=0, queues=["hosts"]))
        assert router.serving(["hosts", "default"]) == router.serving(["@node-b"]) == ["b"]
        assert {router.choose(1, 100.0, queues={"hosts"}) for _ in range(100)} == {"b"}
        assert {router.choose(1, 100.0, queues={"default"}) for _ in range(100)} == {"a", "b"}
        assert {router.choose(1, 100.0, queues={"nobody's"}) for _ in range(100)} == {"a", "b"}

    def test_a_saturated_orchestrator_is_avoided(self) -> None:
        router = Router(["a", "b"], Random(1))
        heard(router, "a", Load(backlog=0, busy=0, threads=4, share=90))
        heard(router, "b", Load(backlog=1_000, busy=4, threads=4))
        chosen = [router.choose(1, 100.0) for _ in range(1_000)]
        assert 200 <= chosen.count("a") <= 300, "only where both draws are it"

    @given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.integers(0, 2**32))
    def test_whoever_is_fresh_and_able_can_be_chosen_and_nobody_else(self, threads: list[int], seed: int) -> None:
        router = Router(NAMES, Random(seed))
        for name, count in zip(NAMES, threads, strict=True):
            heard(router, name, Load(backlog=0, busy=0, threads=count))
        able = {name for name, count in zip(NAMES, threads, strict=True) if count} or set(NAMES)
        assert router.choose(1, 100.0) in able


@given(st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True), st.text())
def test_home_order_is_everybodys_and_stays_when_one_goes(names: list[str], key: str) -> None:
    order = home_order(names, key)
    assert sorted(order) == sorted(names)
    assert home_order(names[::-1], key) == order
    assert home_order([name for name in names if name != order[-1]], key) == order[:-1]


def test_keys_spread_over_the_executors() -> None:
    firsts = [home_order(NAMES, f"key-{number}")[0] for number in range(4_000)]
    assert all(900 <= firsts.count(name) <= 1_100 for name in NAMES)


# -- a day of four executors, simulated ------------------------------------------------------------


@dataclass
class Simulated:
    """An executor in a simulation: `threads` steps at a time, the rest waits in order."""

    threads: int
    running: int = 0
    queue: deque[tuple[float, float]] = field(default_factory=deque)  # (arrived, seconds)
    given: float = 0.0  # seconds of work that it was sent
    worked: float = 0.0  # seconds of work that it did while plans were coming in
    since: float = 0.0
    waits: list[float] = field(default_factory=list)

    def passes(self, now: float) -> None:
        self.worked += self.running * (now - self.since)
        self.since = now

    @property
    def load(self) -> Load:
        return Load(backlog=len(self.queue), busy=self.running, threads=self.threads)


THREADS = {"a": 4, "b": 6, "c": 8, "d": 12}
ALPHA = 1.5  # Pareto: the variance is infinite; the mean is 3 times the shortest
SHORTEST = 0.02
MEAN = SHORTEST * ALPHA / (ALPHA - 1)
DELAY = 0.3  # seconds until a client has read what was published
CLIENTS = 5


def simulate(
    choose: Callable[[Router, float], str | None], *, demand: float, plans: int, seed: int
) -> dict[str, Simulated]:
    """Several clients send plans of one step, at random moments; each hears every load once a second, late.

    `demand`: the work that comes in, as a share of what all threads together can do.
    """
    chance = Random(seed)
    executors = {name: Simulated(threads) for name, threads in THREADS.items()}
    routers = [Router(list(THREADS), Random(seed + number)) for number in range(CLIENTS)]
    number = itertools.count()
    agenda: list[tuple[float, int, str, Any]] = []

    def at(moment: float, kind: str, what: Any) -> None:
        heapq.heappush(agenda, (moment, next(number), kind, what))

    def begin(name: str, now: float) -> None:
        executor = executors[name]
        while executor.queue and executor.running < executor.threads:
            arrived, seconds = executor.queue.popleft()
            executor.running += 1
            executor.waits.append(now - arrived)
            at(now + seconds, "end", name)

    rate = demand * sum(THREADS.values()) / MEAN
    moment = 1.0 + DELAY
    for _ in range(plans):
        moment += chance.expovariate(rate)
        at(moment, "plan", min(SHORTEST * chance.paretovariate(ALPHA), 60.0))
    for name in THREADS:
        at(chance.random(), "publish", name)
    left = plans
    while left:
        now, _, kind, what = heapq.heappop(agenda)
        if now <= moment:
            for executor in executors.values():
                executor.passes(now)
        if kind == "publish":
            at(now + DELAY, "hear", (what, executors[what].load, round(now * 1000)))
            at(now + 1.0, "publish", what)
        elif kind == "hear":
            name, load, written = what
            for router in routers:
                router.heard(name, load, at_ms=written, now_ms=round(now * 1000), boot=now)
        elif kind == "plan":
            chosen = choose(chance.choice(routers), now)
            assert chosen is not None
            executors[chosen].given += what
            executors[chosen].queue.append((now, what))
            begin(chosen, now)
        else:
            executors[what].running -= 1
            left -= 1
            begin(what, now)
    return executors


def in_turn() -> Callable[[Router, float], str | None]:
    turns = itertools.cycle(THREADS)
    return lambda router, now: next(turns)


def by_load(router: Router, now: float) -> str | None:
    return router.choose(1, now)


def shares(work: dict[str, float]) -> dict[str, float]:
    return {name: one / sum(work.values()) for name, one in work.items()}


CAPACITY = shares({name: float(threads) for name, threads in THREADS.items()})


def late(executors: dict[str, Simulated]) -> float:
    """How long the unluckiest hundredth of all steps waited at least, in seconds."""
    waits = sorted(wait for one in executors.values() for wait in one.waits)
    return waits[-len(waits) // 100]


@pytest.mark.parametrize("seed", range(3))
def test_with_more_work_than_threads_each_does_its_share(seed: int) -> None:
    """Within 5 % of its own share: nobody runs dry while others have a backlog. In turn, the large ones do."""
    done = simulate(by_load, demand=1.2, plans=20_000, seed=seed)
    found = shares({name: one.worked for name, one in done.items()})
    assert all(abs(found[name] / CAPACITY[name] - 1) <= 0.05 for name in THREADS), found
    done = simulate(in_turn(), demand=1.2, plans=20_000, seed=seed)
    found = shares({name: one.worked for name, one in done.items()})
    assert any(abs(found[name] / CAPACITY[name] - 1) > 0.1 for name in THREADS), found


@pytest.mark.parametrize("seed", range(3))
def test_with_less_work_than_threads_each_is_sent_its_share(seed: int) -> None:
    """Within 5 points of all the work. In turn it is far from it, and the small ones are never done."""
    loaded = simulate(by_load, demand=0.85, plans=20_000, seed=seed)
    found = shares({name: one.given for name, one in loaded.items()})
    assert all(abs(found[name] - CAPACITY[name]) <= 0.05 for name in THREADS), found
    turned = simulate(in_turn(), demand=0.85, plans=20_000, seed=seed)
    found = shares({name: one.given for name, one in turned.items()})
    assert any(abs(found[name] - CAPACITY[name]) > 0.1 for name in THREADS), found
    assert late(loaded) < late(turned) / 10, (late(loaded), late(turned))
