"""`chargehand plan show` and `plan watch`: steps folded, drawn, chosen; bars on a terminal; several plans at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support import commands
from support.commands import COMMAND, Chargehand
from support.plans import submit, view_of
from support.programs import Program, StartProgram, until, write_config
from support.server import Server


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    return write_config(place, server.url, node="person")


@pytest.fixture
def chargehand(config: Path) -> Chargehand:
    return partial(commands.chargehand, config=config)


def wide(client: Client, place: Path, count: int) -> str:
    """A step, `count` after it of which one fails, and one after those; it has paused."""
    plan = client.plan("wide")
    with plan.sequence():
        plan.add("echo", value="first")
        with plan.concurrence():
            for number in range(count):
                plan.add("echo", value=number)
            plan.add("fails_until", path=str(place / "nowhere"))
        plan.add("nothing")
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.PAUSED
    return name


def test_steps_are_folded_and_drawn(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = wide(client, place, 200)
    done = chargehand("plan", "show", name, "--graph")
    assert done.returncode == 0
    head, _, table = done.stdout.partition("\n\n     STEP")
    assert head.startswith("It is paused: step 201 (fails_until) failed")
    assert f"\nplan       {name}\nstate      paused since " in head
    assert "\nsteps      203 (201 succeeded, 1 failed, 1 waiting)\n" in head
    rows = table.splitlines()[1:]
    assert [row[:14].rstrip() for row in rows] == [
        "●       0  ech",
        "├─●     1  ech",
        "│ │        … 1",
        "● │   201  fai",
        "│ │        Fil",
        "○─╯   202  not",
    ]
    assert rows[2].startswith("│ │        … 199 more like step 1: succeeded, on node-w, 0.0")
    assert f"FileNotFoundError: {place}/nowhere is not there yet" in rows[4]

    plain = chargehand("plan", "show", name).stdout
    assert "… 199 more like step 1: succeeded" in plain
    assert "○" not in plain
    ascii_only = chargehand("plan", "show", name, "--graph", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert "\no-+   202" in ascii_only.stdout


def test_steps_that_somebody_chooses(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = wide(client, place, 40)

    def numbers(*words: str) -> list[str]:
        table = chargehand("plan", "show", name, *words).stdout.partition("\nSTEP")[2]
        return [row.split()[0] for row in table.splitlines()[1:] if row.split()[0].isdigit()]

    assert numbers("--steps", "all") == [str(number) for number in range(43)]
    assert numbers("--steps", "failed") == ["41"]
    assert numbers("--steps", "3,7-9") == ["3", "7", "8", "9"]
    assert numbers() == ["0", "1", "41", "42"]
    assert "      = 2\n" in chargehand("plan", "show", name, "--steps", "3").stdout, "what it returned"
    assert "Traceback" not in chargehand("plan", "show", name, "--steps", "failed").stdout
    assert "site_actions.py" in chargehand("plan", "show", name, "--steps", "41").stdout, "where it failed"
    assert "no step is running\n" in chargehand("plan", "show", name, "--steps", "running").stdout
    for words, line in (
        (("--steps", "odd"), "'odd' is no state of a step (there are: all, running, "),
        (("--steps", "3,x"), '\'x\' is no step: write "3" or "3,7-9"'),
        (("--steps", "failed", "--graph"), "--graph draws the whole plan"),
    ):
        wrong = chargehand("plan", "show", name, *words)
        assert wrong.returncode == 2
        assert line in wrong.stderr


def test_a_running_step_tells_where_and_how_far(
    running: Program, client: Client, chargehand: Chargehand, place: Path
) -> None:
    name = submit(client, "tells", gate=str(place / "gate"))
    until("it tells", lambda: view_of(client, name).steps[0].progress is not None)
    until("its worker says that it runs", lambda: any(one.member.running for one in client.census().members))
    shown = chargehand("plan", "show", name).stdout
    assert shown.startswith("plan  "), "what runs does not stand still"
    row = shown.splitlines()[-1].split()
    assert row[:4] == ["0", "tells", "running", "node-w"]
    assert row[-3:] == ["50%", "half", "way"]
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED


def test_watch_several(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    """Each line names its plan; the exit code is that of `wait`; one that is unknown is told."""
    (place / "gate").touch()
    one = submit(client, "tells", gate=str(place / "gate"))
    two = submit(client, "fails_until", path=str(place / "nowhere"))
    done = chargehand("plan", "watch", one, two, "nope")
    assert done.returncode == 1
    assert done.stderr == "chargehand: there is no plan 'nope' (chargehand plan list)\n"
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert {f"{one} step 0 begun", f"{one} plan succeeded", f"{two} plan paused"} <= set(lines)
    assert chargehand("plan", "watch", one, one).returncode == 0
    objects = [json.loads(line) for line in chargehand("plan", "watch", "--json", one, two).stdout.splitlines()]
    ends = {(change["plan"], change["text"]) for change in objects if change["kind"] == "plan"}
    assert ends == {(one, "succeeded"), (two, "paused")}


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """It ends with the block at the latest, and when it says nothing of what is waited for."""
    watchdog = Timer(120, process.kill)
    watchdog.start()
    try:
        yield
        process.wait(timeout=30)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def test_watch_on_a_terminal_has_bars(running: Program, client: Client, config: Path, place: Path) -> None:
    """A bar of the plan and one of its step, what the step says above them, and in the end why it stopped."""
    plan = client.plan("both")
    with plan.sequence():
        plan.add("tells", gate=str(place / "gate"))
        plan.add("fails_until", path=str(place / "nowhere"))
    name = client.submit(plan)
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--config", config, "plan", "watch", name],
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(follower)
    seen = ""

    def read() -> bool:
        nonlocal seen
        try:
            seen += os.read(leader, 65_536).decode(errors="replace")
        except OSError:  # it has left the terminal
            return False
        return True

    with ended(process):
        while "50% half way" not in seen:
            assert read(), seen
        assert "step 0 tells" in seen
        (place / "gate").touch()
        while read():
            pass
    os.close(leader)
    assert process.wait(timeout=30) == 1
    assert "step 0 line 0" in seen
    assert "paused 1/2 steps" in seen
    assert "failed     step 1 fails_until on node-w: FileNotFoundError: " in seen


def test_events_of_the_executor(
    running: Program, start_program: StartProgram, client: Client, config: Path, place: Path
) -> None:
    """States of all plans and the lease, through a failover; Ctrl-C ends it well."""
    process = subprocess.Popen(
        [*COMMAND, "--config", config, "events", "--executor", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen: list[dict[str, Any]] = []

    def read_until(event: str, **fields: Any) -> None:
        assert process.stdout is not None
        while not (seen and {"event": event, **fields}.items() <= seen[-1].items()):
            line = process.stdout.readline()
            assert line, seen
            seen.append(json.loads(line))

    with ended(process):
        read_until("lease_held", by="node-a", epoch="1")
        name = submit(client, "fails_until", path=str(place / "gate"))
        read_until("plan_paused", plan=name, action="fails_until")
        running.kill()
        start_program("orchestrator", node="node-b").ready()
        read_until("lease_held", by="node-b", epoch="2")
        (place / "gate").touch()
        client.resume(name)
        read_until("plan_succeeded", plan=name)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    process.stdout.close()
