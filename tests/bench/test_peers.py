"""Beside Dramatiq, Celery and Sidekiq, each with a worker of its own of five threads, the same server, in the same run.

Their tasks count themselves; none keeps a result. Ours are whole plans: planned, decided on by an orchestrator,
each result kept. All are there from the beginning and are measured in turn. A peer that is not installed is left
out, and the table says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.counting import STEP
from bench.figures import Figures, print_columns
from bench.test_bench import REPEATS, Ours, rate
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.registry import load_actions
from support.programs import Program, write_config
from support.server import Server

TESTS = Path(__file__).parent.parent
#: What is measured: its words in the table, its unit, and for how many (peers: chains or jobs) of how many tasks each.
MEASURES = {
    "jobs": ("one-step plans, plain jobs, a call each", "1/s", 2_000, 1),
    "bulk": ("the same, sent in bulk", "1/s", 2_000, 1),
    "chains": ("chains of 10", "steps/s", 100, 10),
}
SIDEKIQ = str(TESTS / "bench/sidekiq_jobs.rb")


class Peer(NamedTuple):
    """Its worker's command, and that of what sends its tasks (see `sending`)."""

    worker: Sequence[str]
    sender: Sequence[str]
    kinds: Sequence[str] = ("jobs", "chains")  # of `MEASURES`, what it has

    @property
    def missing(self) -> bool:
        """A worker's program stands beside this Python, or on PATH."""
        return shutil.which(self.worker[0], path=_path()) is None


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", "bench.sending", module]


PEERS = {
    "Dramatiq": Peer(["dramatiq", "bench.dramatiq_tasks", "-p", "1", "-t", "5"], _python("bench.dramatiq_tasks")),
    "Celery": Peer(
        ["celery", "-A", "bench.celery_tasks", "worker", "-P", "threads", "-c", "5", "--without-mingle"],
        _python("bench.celery_tasks"),
    ),
    "Sidekiq": Peer(["sidekiq", "-c", "5", "-r", SIDEKIQ], ["ruby", SIDEKIQ], ["jobs", "bulk"]),
}


class Running:
    """A peer at work."""

    def __init__(self, peer: Peer, server: Server) -> None:
        self._line = server.line()
        environment = {**os.environ, "PATH": _path(), "PYTHONPATH": str(TESTS), "BENCH_REDIS": server.url}
        start = partial(
            subprocess.Popen[str],
            cwd=TESTS,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._worker = start(peer.worker)
        self._sender = start(peer.sender, stdin=subprocess.PIPE)

    def run(self, kind: str, count: int, length: int) -> None:
        """So many chains of so many tasks each, a multiple of STEP in all, from sending to the last one's end."""
        assert self._sender.stdin is not None
        self._sender.stdin.write(f"{kind} {count} {length}\n")
        self._sender.stdin.flush()
        for _ in range(count * length // STEP):
            self._line.send(("BLPOP", "done", 120))
            assert self._line.read(wait=120) is not None

    def close(self) -> None:
        for process in (self._sender, self._worker):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self._line.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "redis", appendonly="no")
    yield running
    running.stop()


def test_beside_peers(tmp_path: Path, server: Server) -> None:
    config = write_config(tmp_path, server.url, node="node-a")
    settings = load(config).settings
    there = {name: peer for name, peer in PEERS.items() if not peer.missing}
    with ExitStack() as stack:
        for one in ("orchestrator", "worker"):
            program = Program(tmp_path, config, one)
            stack.callback(program.stop)
            program.ready()
        ours = Ours(stack.enter_context(Client(settings, load_actions(settings).actions)), server)
        ours.plans(500, lambda plan: plan.add("nothing"))  # warm
        run: dict[tuple[str, str], Callable[[], float]] = {
            ("Chargehand", kind): partial(rate, count * length, partial(ours.plans, count, fill, bulk=bulk))
            for kind, count, length, fill, bulk in (
                ("jobs", 5_000, 1, lambda plan: plan.add("nothing"), False),
                ("bulk", 5_000, 1, lambda plan: plan.add("nothing"), True),
                ("chains", 500, 10, lambda plan: plan.add("chain", length=10), True),
            )
        }
        for name, peer in there.items():
            running = Running(peer, server)
            stack.callback(running.close)
            running.run("jobs", STEP, 1)  # warm
            for kind in peer.kinds:
                _, _, count, length = MEASURES[kind]
                run[name, kind] = partial(rate, count * length, partial(running.run, kind, count, length))
        rounds = [{key: measure() for key, measure in run.items()} for _ in range(REPEATS)]
    figures = {key: Figures([found[key] for found in rounds]) for key in run}
    print()
    print_columns(
        "1 worker x 5 threads; no append-only file; rounds in turn",
        [name.upper() for name in ("Chargehand", *there)],
        [
            (what, unit, [figures.get((name, kind)) for name in ("Chargehand", *there)])
            for kind, (what, unit, *_) in MEASURES.items()
        ],
    )
    if missing := PEERS.keys() - there.keys():
        print("not installed, so left out:", ", ".join(sorted(missing)))
