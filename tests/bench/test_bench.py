"""Speed, beside a peer (Huey) and beside Redis itself in the same run. `make bench` prints the table.

One orchestrator, one worker of five threads, real processes; what is asserted is that the work was done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.figures import Figures, Row, print_table
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import epoch_of, report_death
from support.programs import Program, until, write_config
from support.server import Server

REPEATS = 3
KEYS = Keys("default")
HERE = Path(__file__).parent


def rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


class Ours:
    def __init__(self, client: Client, server: Server) -> None:
        self.client = client
        self.line = server.line()

    def plans(self, count: int, fill: Callable[[Plan], object], *, bulk: bool = True) -> None:
        """Submit `count` plans, in bulk or by a call each, and wait until all have ended."""
        plans = []
        for _ in range(count):
            plan = self.client.plan("bench")
            fill(plan)
            plans.append(plan)
        before = self.line.call("ZCARD", KEYS.index("S"))
        for some in [plans] if bulk else [[plan] for plan in plans]:
            self.client.submit_all(some)
        until("all ended", lambda: self.line.call("ZCARD", KEYS.index("S")) == before + count, timeout=120)

    def stamp(self) -> float:
        """Milliseconds from submitting to the step's start."""
        plan = self.client.plan("bench")
        plan.add("stamp")
        begun = time.time()
        name = self.client.submit(plan)
        assert self.client.wait(name, 30) is PlanState.SUCCEEDED
        started: float = self.client.output(name)
        return (started - begun) * 1000

    def hop(self) -> float:
        """Milliseconds a hop of an idle chain of 50."""
        plan = self.client.plan("bench")
        with plan.sequence():
            for _ in range(50):
                plan.add("stamp")
        name = self.client.submit(plan)
        assert self.client.wait(name, 30) is PlanState.SUCCEEDED
        view = self.client.read(name)
        assert view is not None
        stamps = [msgspec.json.decode(step.result.output, type=float) for step in view.steps if step.result]
        return (stamps[-1] - stamps[0]) * 1000 / 49


class Peer:
    """Huey, with its own consumer."""

    def __init__(self, url: str) -> None:
        os.environ["BENCH_REDIS"] = url
        from bench import peer_tasks

        self.tasks = peer_tasks
        self._consumer = subprocess.Popen(
            [sys.executable, "-m", "huey.bin.huey_consumer", "bench.peer_tasks.huey", "-w", "5", "-k", "thread", "-q"],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert self.tasks.one()(blocking=True, timeout=30) == 1

    def close(self) -> None:
        self._consumer.send_signal(signal.SIGINT)
        self._consumer.wait()

    def _results(self, count: int) -> None:
        until("all have results", lambda: self.tasks.huey.result_count() >= count, timeout=120)
        self.tasks.huey.storage.flush_results()

    def jobs(self, count: int) -> None:
        for _ in range(count):
            self.tasks.nothing()
        self._results(count)

    def chains(self, count: int, length: int) -> None:
        for _ in range(count):
            chain = self.tasks.nothing.s()
            for _ in range(length - 1):
                chain = chain.then(self.tasks.nothing)
            self.tasks.huey.enqueue(chain)
        self._results(count * length)

    def joins(self, count: int, width: int) -> None:
        """It has no joins of its own: the client polls the hundred results, then sends the last job."""

        def joined(group: list[Any]) -> Any:
            until("the group is done", lambda: all(one() is not None for one in group), timeout=120)
            return self.tasks.total([one() for one in group])

        groups = [[self.tasks.one() for _ in range(width)] for _ in range(count)]
        sums = [joined(group) for group in groups]
        assert [one(blocking=True, timeout=30) for one in sums] == [width] * count
        self.tasks.huey.storage.flush_results()

    def stamp(self) -> float:
        begun = time.time()
        started: float = self.tasks.stamp()(blocking=True, timeout=30, backoff=1, max_delay=0.005)
        return (started - begun) * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "redis", appendonly="no")
    yield running
    running.stop()


def _start(place: Path, server: Server, *argv: str, node: str) -> Program:
    return Program(place, write_config(place, server.url, node=node), *argv).ready()


@pytest.fixture
def ours(tmp_path: Path, server: Server) -> Iterator[Ours]:
    config = write_config(tmp_path, server.url, node="node-a")
    programs = [_start(tmp_path, server, program, node="node-a") for program in ("orchestrator", "worker")]
    settings = load(config).settings
    with Client(settings, load_actions(settings).actions) as client:
        yield Ours(client, server)
    for program in programs:
        program.stop()


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    made = Peer(server.url)
    yield made
    made.close()


def _redis_alone(server: Server) -> Figures:
    """LPUSH/s of one client in pipelines of 64: what the server can take, without us."""
    line = server.line()
    figures = []
    for _ in range(REPEATS):
        figures.append(rate(64 * 500, lambda: [line.batch([("LPUSH", "alone", "x")] * 64) for _ in range(500)]))
        line.call("DEL", "alone")
    return Figures(figures)


def test_speed(ours: Ours, peer: Peer, server: Server) -> None:
    limit = _redis_alone(server)
    ours.plans(500, lambda plan: plan.add("nothing"))  # warm
    peer.jobs(500)

    def row(what: str, unit: str, mine: Callable[[], None], count: int, theirs: Callable[[], None], less: int) -> Row:
        return Row(
            what,
            unit,
            Figures([rate(count, mine) for _ in range(REPEATS)]),
            Figures([rate(less, theirs) for _ in range(REPEATS)]),
            limit,
        )

    rows = [
        row(
            "one-step plans",
            "plans/s",
            lambda: ours.plans(10_000, lambda plan: plan.add("nothing")),
            10_000,
            lambda: peer.jobs(3_000),
            3_000,
        ),
        row(
            "chains of 10",
            "steps/s",
            lambda: ours.plans(1_000, lambda plan: plan.add("chain", length=10)),
            10_000,
            lambda: peer.chains(200, 10),
            2_000,
        ),
        row(
            "fan-out 100 + join",
            "steps/s",
            lambda: ours.plans(100, lambda plan: plan.add("fan_out", width=100)),
            10_100,
            lambda: peer.joins(10, 100),
            1_010,
        ),
    ]
    lone = sorted(ours.stamp() for _ in range(200))
    hops = sorted(ours.hop() for _ in range(20))
    peer_lone = sorted(peer.stamp() for _ in range(100))
    rows += [
        Row("lone task, submit to start", "ms", Figures(lone), Figures(peer_lone)),
        Row("lone task, 99th percentile", "ms", Figures([lone[197]]), Figures([peer_lone[98]])),
        Row("hop of an idle chain of 50", "ms", Figures(hops)),
    ]
    print()
    print_table("1 orchestrator, 1 worker x 5 threads; no append-only file", rows)
    newest = ours.client.list(most=500)
    assert {view.state for view in newest} == {"succeeded"}
    sums = [ours.client.output(view.plan) for view in newest if view.label == "bench" and view.total == 101]
    assert set(sums) <= {sum(range(100))}


def test_durable_speed(tmp_path: Path) -> None:
    """The same with an append-only file, flushed every second: what the embedded server and most sites run."""
    server = Server(tmp_path / "redis", fsync="everysec")
    programs = [_start(tmp_path, server, program, node="node-a") for program in ("orchestrator", "worker")]
    settings = load(tmp_path / "node-a.toml").settings
    with Client(settings, load_actions(settings).actions) as client:
        ours = Ours(client, server)
        ours.plans(500, lambda plan: plan.add("nothing"))  # warm
        single = [rate(10_000, lambda: ours.plans(10_000, lambda plan: plan.add("nothing"))) for _ in range(REPEATS)]
        chains = [
            rate(10_000, lambda: ours.plans(1_000, lambda plan: plan.add("chain", length=10))) for _ in range(REPEATS)
        ]
    for program in programs:
        program.stop()
    server.stop()
    print()
    rows = [Row("one-step plans", "plans/s", Figures(single)), Row("chains of 10", "steps/s", Figures(chains))]
    print_table("The same, append-only file flushed every second", rows)


def _epoch(line: Line) -> tuple[int, int]:
    """The epoch of the lease (0: nobody holds it) and when it was acquired, ms."""
    token, since = line.batch([("GET", KEYS.lease), ("HGET", KEYS.holder, "since")])
    return (epoch_of(token.decode()) if token else 0), int(since)


def _first_step_of_successor(client: Client, line: Line, before: int) -> float:
    """Submit until a step has started that only the successor can have dispatched; when it did."""
    while True:
        plan = client.plan("bench")
        plan.add("stamp")
        name = client.submit(plan)
        assert client.wait(name, 30) is PlanState.SUCCEEDED
        started: float = client.output(name)
        epoch, since = _epoch(line)
        if epoch > before and started * 1000 >= since:
            return started


@pytest.mark.parametrize("kill", [False, True], ids=["clean", "killed"])
def test_handover(tmp_path: Path, server: Server, *, kill: bool) -> None:
    """From the signal to the first step that the successor dispatched, ten times."""
    config = write_config(tmp_path, server.url, node="node-a")
    worker = _start(tmp_path, server, "worker", node="node-a")
    active = _start(tmp_path, server, "orchestrator", node="node-a")
    settings = load(config).settings
    figures = []
    with Client(settings, load_actions(settings).actions) as client:
        ours = Ours(client, server)
        ours.stamp()
        line = server.line()
        for turn in range(10):
            passive = _start(tmp_path, server, "orchestrator", node=f"node-{turn}")
            epoch = _epoch(line)[0]
            begun = time.time()
            if kill:
                active.kill()
                report_death(line, KEYS, active.incarnation)  # as its agent does
            else:
                active.signal(signal.SIGTERM)
            figures.append((_first_step_of_successor(client, line, epoch) - begun) * 1000)
            active.stop()
            active = passive
    worker.stop()
    active.stop()
    print()
    what = "orchestrator killed, its agent alive" if kill else "clean handover"
    print_table("From the signal to the successor's first step", [Row(what, "ms", Figures(figures))])
    assert len(figures) == 10
