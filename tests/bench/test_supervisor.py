"""The agent as a supervisor, beside supervisord and circusd with the same ten programs in the same run.

What is asserted is that each did its work. `make bench` prints the tables.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from bench.figures import Figures, print_columns
from bench.processes import Memory, Rest, memory, rest
from bench.supervisors import CHILDREN, SUPERVISORS, Beacon, Supervised
from support.nodes import Node
from support.programs import Program, write_config
from support.server import Server

ROUNDS = 3
SETTLE = 2.0  # seconds until a supervisor is taken to be at rest
WINDOW = 10.0  # seconds of rest; the slowest of their intervals fits
SPREAD = 5.0  # circusd's interval
PYTHON = f"Python {sys.version.split()[0]}"


@pytest.fixture(autouse=True)
def byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As installed packages have it: compiling at each start costs time, and a megabyte that stays."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


class Round:
    """One supervisor's figures."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.memory: list[Memory] = []
        self.rest: list[Rest] = []
        self.respawns: list[float] = []

    def rows(self) -> list[Figures]:
        return [
            Figures(self.started),
            Figures([one.rss for one in self.memory]),
            Figures([one.pss for one in self.memory]),
            Figures([one.cpu for one in self.rest]),
            Figures([one.wakeups for one in self.rest]),
            Figures(self.respawns),
        ]


ROWS = (
    ("start until 10 children run", "ms"),
    ("RSS at rest", "MiB"),
    ("PSS at rest", "MiB"),
    ("CPU at rest (100 are 0.01 %)", "us/s"),
    ("wake-ups at rest", "1/s"),
    ("kill -9 of a child to its successor", "ms"),
)


@pytest.mark.skipif(
    not all(importlib.util.find_spec(peer) for peer in ("supervisor", "circus")),
    reason="the peers are the dependency group `bench`: `make bench` installs them",
)
def test_beside_supervisors(tmp_path: Path) -> None:
    for number, supervisor in enumerate(SUPERVISORS):  # not counted: afterwards all files are in memory
        first = Supervised(supervisor, tmp_path / f"first-{number}")
        first.stop()
    found = [Round() for _ in SUPERVISORS]
    for turn in range(ROUNDS):
        for shift in range(len(SUPERVISORS)):  # in another order each time
            number = (turn + shift) % len(SUPERVISORS)
            one = found[number]
            supervised = Supervised(SUPERVISORS[number], tmp_path / f"{turn}-{number}")
            try:
                one.started.append(supervised.seconds_to_start * 1000)
                supervised.be_at_rest(SETTLE)
                one.memory.append(memory(supervised.pid))
                one.rest.append(rest(supervised.pid, partial(supervised.be_at_rest, WINDOW)))
                one.respawns += supervised.respawns(SPREAD)
            finally:
                supervised.stop()
    beacon = Beacon(tmp_path)
    alone = Figures([beacon.alone() for _ in range(30)])
    beacon.close()
    rows = [
        (what, unit, [*figures, alone if "successor" in what else None])
        for (what, unit), figures in zip(ROWS, zip(*(one.rows() for one in found), strict=True), strict=True)
    ]
    print()
    print_columns(
        f"10 programs each, {PYTHON}; the supervisor's process alone; median (min..max) of {ROUNDS} rounds",
        [supervisor.title for supervisor in SUPERVISORS] + ["PROGRAM ALONE"],
        rows,
    )
    assert all(len(one.respawns) == ROUNDS * len(CHILDREN) for one in found)


def test_agent_with_its_own_children(tmp_path: Path) -> None:
    """A passive orchestrator and workers, Redis up: how soon the agent is READY, and what it does at rest."""
    server = Server(tmp_path / "redis", appendonly="no")
    holder = Program(tmp_path, write_config(tmp_path, server.url, node="node-b"), "orchestrator").ready()
    try:
        columns = [_own_children(tmp_path, server, workers) for workers in (1, 9)]
    finally:
        holder.stop()
        server.stop()
    print()
    print_columns(
        f"The agent with its own children, {PYTHON}; the agent's process alone; READY: median (min..max) of {ROUNDS}",
        ["PASSIVE ORCHESTRATOR, 1 WORKER", "PASSIVE ORCHESTRATOR, 9 WORKERS"],
        [
            (what, unit, list(figures))
            for (what, unit), figures in zip(OWN_ROWS, zip(*columns, strict=True), strict=True)
        ],
    )


OWN_ROWS = (
    ("start to READY", "ms"),
    ("RSS at rest", "MiB"),
    ("PSS at rest", "MiB"),
    ("CPU in 30 s of rest (100 are 0.01 %)", "us/s"),
    ("wake-ups in 30 s of rest", "1/s"),
)


def _own_children(place: Path, server: Server, workers: int) -> list[Figures]:
    group = f'[[worker]]\nname = "worker"\nprocesses = {workers}\n'
    config = write_config(place, server.url, node=f"node-a{workers}", extra=group)
    node = Node(place, config, watchdog=30)  # as units/chargehand.service has it; this start is not counted
    ready = []
    try:
        for _ in range(ROUNDS):
            node.until_whole(f"workers {workers}/{workers}")
            assert node.stop() == 0
            begun = time.monotonic()
            node.start()
            node.until("READY", lambda node: "READY" in node.fields)
            ready.append((time.monotonic() - begun) * 1000)
        node.until_whole(f"workers {workers}/{workers}")
        time.sleep(SETTLE)
        held = memory(node.agent.pid)
        found = rest(node.agent.pid, lambda: time.sleep(3 * WINDOW))
        node.hear()
        assert node.status.startswith("passive")
        assert {child["restarts"] for child in node.describe()["children"]} == {0}
    finally:
        node.stop()
    return [Figures(ready), *(Figures([one]) for one in (held.rss, held.pss, found.cpu, found.wakeups))]
