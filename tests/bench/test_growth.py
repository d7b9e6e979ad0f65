"""What grows with the work, and what must not: large plans, long queues, long histories, many plans under way.

Everything here compares with itself in the same run: the same work beside little and beside much.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.figures import Figures, print_columns
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.planner import Plan
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from support.programs import Program, until, write_config
from support.server import Server

KEYS = Keys("default")
MILLION = int(os.environ.get("BENCH_MILLION", "1000000"))  # how long a queue or a history is
LONG = 600.0  # seconds


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "redis", appendonly="no")
    yield running
    running.stop()


class Set:
    """An orchestrator and workers that can be started and stopped, and a client."""

    def __init__(self, place: Path, server: Server) -> None:
        self._place, self._server = place, server
        # All that end here are kept: what goes by count is not what is measured.
        self.config = write_config(place, server.url, node="node-a", extra=f"[retention]\nmost = {2 * MILLION}")
        settings = load(self.config).settings
        self.client = Client(settings, load_actions(settings).actions)
        self.line: Line = server.line()
        self._programs: list[Program] = []

    def start(self, *argv: str) -> Program:
        self._programs.append(Program(self._place, self.config, *argv).ready())
        return self._programs[-1]

    def close(self) -> None:
        for program in self._programs:
            program.stop()
        self.client.close()

    def ended(self) -> int:
        count: int = self.line.call("ZCARD", KEYS.index("S"))
        return count

    def queued(self) -> int:
        count: int = self.line.call("LLEN", KEYS.queue("default"))
        return count

    def memory(self) -> int:
        """Bytes that Redis holds."""
        answer = self.line.call("INFO", "memory")
        info: bytes = answer if isinstance(answer, bytes) else b"\n".join(b"%s:%s" % pair for pair in answer.items())
        return int(next(part for part in info.splitlines() if part.startswith(b"used_memory:")).partition(b":")[2])

    def wide(self, steps: int) -> Plan:
        plan = self.client.plan("bench")
        for _ in range(steps):
            plan.add("nothing")
        return plan

    def staged(self, steps: int, width: int) -> Plan:
        """A step a host; each `width` steps begin when the ones before them have ended."""
        plan = self.client.plan("bench")
        with plan.sequence():
            for stage in range(steps // width):
                with plan.concurrence():
                    for host in range(stage * width, (stage + 1) * width):
                        plan.add("echo", value=f"host-{host:06}.rack-{host % 40:02}.example.com")
        return plan

    def singles(self, count: int) -> list[Plan]:
        return [self.wide(1) for _ in range(count)]

    def through(self, plans: list[Plan]) -> float:
        """Submit them and wait for their ends: in seconds."""
        before = self.ended()
        begun = time.perf_counter()
        self.client.submit_all(plans)
        until("all ended", lambda: self.ended() == before + len(plans), timeout=LONG)
        return time.perf_counter() - begun


@pytest.fixture
def work(tmp_path: Path, server: Server) -> Iterator[Set]:
    made = Set(tmp_path, server)
    yield made
    made.close()


def test_one_large_plan(work: Set) -> None:
    work.start("orchestrator")
    work.start("worker")

    def run(steps: int, width: int) -> tuple[float, float, float]:
        """Steps/s planned, seconds until accepted, and steps/s from then to its end."""
        begun = time.perf_counter()
        plan = work.staged(steps, width)
        planned = time.perf_counter()
        name = work.client.submit(plan)
        until("accepted", lambda: work.line.call("STRLEN", KEYS.states(name)), timeout=LONG)
        accepted = time.perf_counter()
        work.client.wait(name, LONG)
        return steps / (planned - begun), accepted - planned, steps / (time.perf_counter() - accepted)

    def many(count: int) -> float:
        """Steps/s of plans of 100 steps, as many as make `count` steps."""
        return count / work.through([work.staged(100, 100) for _ in range(count // 100)])

    many(2_000)  # warm
    small = [many(20_000) for _ in range(3)]
    shapes = {
        "10,000 STEPS": (10_000, 10_000),
        "100,000 STEPS": (100_000, 100_000),
        "IN 2 STAGES": (100_000, 50_000),
        "IN 5,000 STAGES": (100_000, 20),
    }
    found = [[run(*shape) for _ in range(3)] for shape in shapes.values()]
    planned, accepted, ended = ([Figures([run[which] for run in runs]) for runs in found] for which in range(3))
    rows: list[tuple[str, str, list[Figures | None]]] = [
        ("planned", "steps/s", [None, *planned]),
        ("accepted", "s", [None, *accepted]),
        ("run", "steps/s", [Figures(small), *ended]),
    ]
    print()
    print_columns("One plan", ["100 STEPS, MANY PLANS", *shapes], rows)
    assert work.line.call("ZCARD", KEYS.index("P")) == 0


def test_a_long_queue(work: Set) -> None:
    """Steps taken and finished while few are queued, and while a million are."""
    work.start("orchestrator")
    worker = work.start("worker")
    some = 8_000

    def queue(steps: int) -> None:
        """In plans of 2,000: as many as one plan has in queues at once."""
        for _ in range(steps // 2_000):
            work.client.submit(work.wide(2_000))
        until("all queued", lambda: work.queued() >= steps, timeout=LONG)

    def drain() -> float:
        left = work.queued() - some
        begun = time.perf_counter()
        until("taken", lambda: work.queued() <= left, timeout=LONG)
        return some / (time.perf_counter() - begun)

    def measure(depth: int) -> Figures:
        nonlocal worker
        worker.stop()
        queue(depth)
        worker = work.start("worker")
        until("it has begun", lambda: work.queued() < depth - 1_000, timeout=LONG)
        return Figures([drain() for _ in range(3)])

    short = measure(4 * some)
    until("drained", lambda: not work.queued(), timeout=LONG)
    long = measure(MILLION)
    left = work.queued()
    print()
    print_columns(
        "Steps drained from a queue of",
        [f"{4 * some:,} STEPS AND LESS", f"{MILLION:,} STEPS"],
        [("drained", "steps/s", [short, long])],
    )
    assert left >= MILLION - 5 * some


def test_a_long_history(work: Set) -> None:
    """One-step plans beside none and beside a million that have ended; what each takes in Redis."""
    work.start("orchestrator")
    work.start("worker")

    def some(count: int) -> float:
        return count / work.through(work.singles(count))

    some(1_000)  # warm
    empty = Figures([some(5_000) for _ in range(3)])
    before, memory = work.ended(), work.memory()
    while work.ended() < MILLION:
        some(20_000)
    each = (work.memory() - memory) / (work.ended() - before)
    full = Figures([some(5_000) for _ in range(3)])
    print()
    print_columns(
        "One-step plans beside ended ones",
        ["NONE", f"{work.ended():,}"],
        [("one-step plans", "plans/s", [empty, full]), ("an ended plan in Redis", "bytes", [None, Figures([each])])],
    )
    assert work.ended() >= MILLION


def test_many_plans_under_way(work: Set) -> None:
    """10,000 plans whose step is queued: what they take, and how soon a successor starts the next step."""
    count = 10_000
    first = work.start("orchestrator")
    resting = psutil.Process(first.pid).memory_info().rss
    worker = work.start("worker")
    worker_resting = psutil.Process(worker.pid).memory_info().rss
    worker.stop()
    memory = work.memory()
    plans = []
    for _ in range(count):
        plan = work.client.plan("bench")
        plan.add("nothing")
        plans.append(plan)
    work.client.submit_all(plans)
    until("all queued", lambda: work.queued() == count, timeout=LONG)
    each = (work.memory() - memory) / count
    busy = psutil.Process(first.pid).memory_info().rss

    def killed(active: Program) -> float:
        """Its end until its successor queues a new step, in ms."""
        before = work.queued()
        begun = time.perf_counter()
        active.kill()
        report_death(work.line, KEYS, active.incarnation)
        work.client.submit(work.wide(1))
        until("the next step is queued", lambda: work.queued() > before, timeout=LONG)
        return (time.perf_counter() - begun) * 1000

    takeovers = []
    active = first
    for _ in range(3):
        passive = work.start("orchestrator")
        passive.role("passive")
        takeovers.append(killed(active))
        active = passive
    work.start("worker")
    until("all ended", lambda: work.ended() == count + 3, timeout=LONG)
    ran = psutil.Process(active.pid).memory_info().rss
    print()
    rows: list[tuple[str, str, list[Figures | None]]] = [
        ("orchestrator at rest", "MiB", [Figures([resting / 2**20])]),
        ("worker at rest", "MiB", [Figures([worker_resting / 2**20])]),
        ("orchestrator with 10,000 running plans", "MiB", [Figures([busy / 2**20])]),
        ("a successor that has finished them", "MiB", [Figures([ran / 2**20])]),
        ("killed until its successor queues a new step", "ms", [Figures(takeovers)]),
        ("a queued one-step plan in Redis", "bytes", [Figures([each])]),
    ]
    print_columns("10,000 plans under way", ["CHARGEHAND"], rows)
