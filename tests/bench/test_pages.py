"""How long the console's pages take beside much: 100,000 plans that have ended, 50 nodes that beat, a plan of
100,000 steps beside one of 100.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from msgspec import Raw

from chargehand.plan.life import StepState
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.membership import BEAT_EVERY, Member, beat, register
from chargehand.store.submission import prepare
from chargehand.wire import Definition, Failure, Policy, Result, Step, encode
from support.browser import Console
from support.programs import Program, write_config
from support.server import Server

KEYS = Keys("default")
PLANS = int(os.environ.get("BENCH_PLANS", "100000"))
STEPS = int(os.environ.get("BENCH_STEPS", "100000"))
NODES = 50
ROUNDS = 20
LITTLE = 100  # steps, of the plan beside
PAGES = ("/", "/plans", "/plans?state=failed", "/plans?q=nowhere", "/failures", "/queues", "/recurring")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with ExitStack() as stack:
        server = Server(tmp_path / "redis", appendonly="no")
        stack.callback(server.stop)
        line = server.line()
        stack.callback(line.close)
        _history(line)
        for total in (LITTLE, STEPS):
            _under_way(line, _plan_of(total), total)
        members = [_member(number, kind) for number in range(NODES) for kind in ("orchestrator", "worker")]
        over = threading.Event()
        beats = threading.Thread(target=_beat, args=(server, members, over))
        beats.start()
        stack.callback(beats.join)
        stack.callback(over.set)
        orchestrator = Program(tmp_path, write_config(tmp_path, server.url, node="node-a"), "orchestrator")
        stack.callback(orchestrator.stop)
        orchestrator.role("active")
        made = Console(tmp_path, server.url)
        stack.callback(made.stop)
        yield made


def _history(line: Line) -> None:
    """Plans as the orchestrator leaves them when they have ended; one in a hundred has failed."""
    begin = int(time.time() * 1000) - PLANS
    for first in range(0, PLANS, 1_000):
        commands: list[Command] = []
        for number in range(first, min(first + 1_000, PLANS)):
            plan, ms, failed = f"{begin + number:011x}{number:010x}", begin + number, number % 100 == 0
            label = f"work-{number % 20}"
            definition = Definition(label, [Policy(label)], 1, [Step(0)], labels=["site=berlin"])
            meta = f'{{"by":"ada@node-a","submitted_ms":{ms}}}'
            commands += [
                ("RPUSH", KEYS.plan(plan), encode(definition), meta),
                ("SET", KEYS.states(plan), "Ff" if failed else "Ss"),
                ("ZADD", KEYS.index("F" if failed else "S"), ms, plan),
                ("ZADD", KEYS.labelled(f"action:{label}"), ms, plan),
                ("ZADD", KEYS.labelled("labelled:site=berlin"), ms, plan),
            ]
            if failed:
                error = Failure("ConnectionError", f"host h{number} is away", f"node-{number % NODES:02}")
                record = encode([1, 1, 0, encode(error).decode()])
                commands.append(("HSET", KEYS.records(plan), "plan", encode(error), "0", record))
        line.batch(commands)


def _plan_of(total: int) -> str:
    return f"of-{total}-steps"


def _under_way(line: Line, plan: str, total: int) -> None:
    """A plan nine tenths of which are over: a check, a patch of each host after it, a report after all of these.

    Twenty steps have failed, five run on a node, others are queued; no worker takes them, so it stays so.
    """
    now = int(time.time() * 1000)
    owner, member = _member(0, "worker")
    hosts = [Step(1, Raw(b'{"host": "h%d"}' % host), [0]) for host in range(total - 2)]
    steps = [Step(0), *hosts, Step(2, after=[(1, total - 1)])]
    definition = Definition("patch all", [Policy("check"), Policy("patch"), Policy("report")], total, steps)
    sent = prepare(plan, definition, submitted_ms=now - 1_000_000)
    over, every = total * 9 // 10, total // 20
    states = bytearray(b"s" * over + b"q" * 5 + b"w" * (total - over - 5))
    commands: list[Command] = []
    for step in range(over):
        if step % every == every // 2:
            states[step] = StepState.FAILED
            error = Failure("ConnectionError", f"host h{step} is away", member.node, started_ms=now - 500, ended_ms=now)
            commands.append(("HSET", KEYS.records(plan), step, encode([1, 1, 0, encode(error).decode()])))
        else:
            result = Result(1, owner, member.node, now - 1_000, now - step % 1_000, Raw(b'{"packages": 3}'))
            commands.append(("HSET", KEYS.outputs(plan), step, encode(result)))
    for step in range(over, over + 5):
        key = f"{plan}/{step}/1"
        commands.append(("HSET", KEYS.own(owner), key, f'{key} ["patch",{{}},{{}}]'))
    commands += [
        ("RPUSH", KEYS.plan(plan), sent.definition, sent.meta, *sent.parts),
        ("SET", KEYS.states(plan), b"R" + bytes(states)),
        ("ZADD", KEYS.index("R"), now, plan),
    ]
    for first in range(0, len(commands), 1_000):
        line.batch(commands[first : first + 1_000])


def _member(number: int, kind: str) -> tuple[str, Member]:
    node = f"node-{number:02}"
    queues = ["default", "reports", f"@{node}"] if kind == "worker" else []
    role = "passive" if kind == "orchestrator" else ""
    made = Member(kind, node, kind, 1, int(time.time() * 1000), "1", role=role, threads=5, queues=queues)
    return f"{number:03x}{kind[0]}", made


def _beat(server: Server, members: list[tuple[str, Member]], over: threading.Event) -> None:
    line = server.line()
    for incarnation, member in members:
        register(line, KEYS, incarnation, member, member.node)
    while not over.wait(BEAT_EVERY):
        for incarnation, member in members:
            beat(line, KEYS, incarnation, member, member.node)
    line.close()


def test_pages(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {page: page for page in PAGES}
    asked |= {f"plan of {total:,} steps": f"/plans/{_plan_of(total)}" for total in (LITTLE, STEPS)}
    told = [f"{'page':<22}{'median':>9}{'most':>9}{'size':>9}"]
    medians = []
    with httpx.Client(base_url=console.url, timeout=60) as browser:
        for name, page in asked.items():
            browser.get(page).raise_for_status()  # templates are compiled when they are used first
            seconds = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                answer = browser.get(page).raise_for_status()
                seconds.append(time.perf_counter() - began)
            median, most = statistics.median(seconds) * 1000, max(seconds) * 1000
            medians.append(median)
            told.append(f"{name:<22}{median:>6.0f} ms{most:>6.0f} ms{len(answer.content) / 1024:>5.0f} KiB")
    little, much = medians[-2:]
    told.append(f"{STEPS:,} steps take {much / little:.1f} times as long as {LITTLE:,}")
    with capsys.disabled():
        print("", f"{PLANS:,} plans, {NODES} nodes", *told, sep="\n")
