"""Beside Dramatiq and Celery, each with a worker of its own of five threads, the same server, in the same run.

Their tasks count themselves; neither keeps a result. Ours are whole plans: planned, decided on by an orchestrator,
each result kept.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.counting import STEP
from bench.figures import Figures, print_columns
from bench.test_bench import REPEATS, Ours, rate
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from support.programs import Program, write_config
from support.server import Server

TESTS = Path(__file__).parent.parent
PEERS: dict[str, tuple[str, list[str]]] = {
    "dramatiq": ("bench.dramatiq_tasks", ["-m", "dramatiq", "bench.dramatiq_tasks", "-p", "1", "-t", "5"]),
    "celery": (
        "bench.celery_tasks",
        ["-m", "celery", "-A", "bench.celery_tasks", "worker", "-P", "threads", "-c", "5", "--without-mingle"],
    ),
}


class Peer:
    def __init__(self, name: str, server: Server) -> None:
        module, argv = PEERS[name]
        self.line: Line = server.line()
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "BENCH_REDIS": server.url}
        self._worker = subprocess.Popen(
            [sys.executable, *argv],
            cwd=TESTS,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.tasks: ModuleType = importlib.import_module(module)

    def finished(self, count: int) -> None:
        """Wait for `count` tasks, a multiple of STEP."""
        for _ in range(count // STEP):
            self.line.send(("BLPOP", "done", 120))
            assert self.line.read(wait=120) is not None

    def jobs(self, count: int) -> None:
        send: Callable[[], Any] = getattr(self.tasks.nothing, "send", None) or self.tasks.nothing.delay
        for _ in range(count):
            send()
        self.finished(count)

    def chains(self, count: int, length: int) -> None:
        for _ in range(count):
            self.tasks.chain(length)
        self.finished(count * length)

    def close(self) -> None:
        os.killpg(self._worker.pid, signal.SIGKILL)
        self._worker.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server(tmp_path / "redis", appendonly="no")
    monkeypatch.setenv("BENCH_REDIS", running.url)
    monkeypatch.setattr("bench.counting.URL", running.url)
    yield running
    running.stop()


@pytest.mark.filterwarnings("ignore")  # of the peers' own libraries
def test_beside_dramatiq_and_celery(tmp_path: Path, server: Server) -> None:
    pytest.importorskip("dramatiq")
    pytest.importorskip("celery")
    config = write_config(tmp_path, server.url, node="node-a")
    programs = [Program(tmp_path, config, one).ready() for one in ("orchestrator", "worker")]
    settings = load(config).settings
    with Client(settings, load_actions(settings).actions) as client:
        ours = Ours(client, server)
        ours.plans(500, lambda plan: plan.add("nothing"))  # warm
        jobs = [
            Figures([rate(5_000, lambda: ours.plans(5_000, lambda plan: plan.add("nothing"))) for _ in range(REPEATS)])
        ]
        chains = [
            Figures(
                [
                    rate(5_000, lambda: ours.plans(500, lambda plan: plan.add("chain", length=10)))
                    for _ in range(REPEATS)
                ]
            )
        ]
    for program in programs:
        program.stop()
    for name in PEERS:
        peer = Peer(name, server)
        peer.jobs(STEP)  # warm
        jobs.append(Figures([rate(2_000, partial(peer.jobs, 2_000)) for _ in range(REPEATS)]))
        chains.append(Figures([rate(1_000, partial(peer.chains, 100, 10)) for _ in range(REPEATS)]))
        peer.close()
    print()
    print_columns(
        "1 worker x 5 threads; no append-only file",
        ["CHARGEHAND", *(name.upper() for name in PEERS)],
        [("one-step plans, plain jobs", "1/s", jobs), ("chains of 10", "steps/s", chains)],
    )
