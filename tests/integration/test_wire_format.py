"""docs/wire-format.md, done as it says: with a shell and redis-cli, and nothing of ours but the script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.asking import word
from chargehand.plan.life import ENDED, PlanState, StepState
from chargehand.store.keys import Keys
from support.plans import is_in, view_of
from support.programs import StartProgram, until
from support.server import Server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/wire-format.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KEYS = Keys("default")

Shell = Callable[[str], list[str]]


@pytest.fixture
def shell(server: Server, place: Path) -> Shell:
    """Run what the page says against the test's server; its lines."""
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if program is None:
        pytest.skip("neither redis-cli nor valkey-cli is installed")
    wrapper = place / "bin" / "redis-cli"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec "{program}" -p {server.port} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}

    def run(script: str) -> list[str]:
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_submit_wait_and_read(start_program: StartProgram, shell: Shell, place: Path) -> None:
    """The orchestrator that accepted the plan dies before a worker comes; the shell still gets its answer."""
    for node in ("node-a", "node-b"):
        (place / f"{node}.d").mkdir()
        (place / f"{node}.d" / "modules.toml").write_text('[actions]\nmodules = ["documented_actions"]\n')
    submit, wait, _ = BLOCKS
    first = start_program("orchestrator").ready()
    assert shell(submit + submit) == ["OK", "KNOWN"]
    first.kill()
    start_program("orchestrator", node="node-b").ready()
    start_program("worker").ready()
    state, result, *labelled = shell(submit.partition("redis-cli --eval")[0] + wait)
    assert state == "S"
    attempt, _, node, started_ms, ended_ms, output = json.loads(result)
    assert (attempt, node, output) == (1, "node-a", 202)
    assert 0 < started_ms <= ended_ms
    assert labelled == ["backup-2026-11-24"]


def test_cancel(start_program: StartProgram, shell: Shell, client: Client) -> None:
    """Nobody serves it, and it ends all the same."""
    start_program("orchestrator").ready()
    submit, _, cancel = BLOCKS
    shell(submit + cancel)
    assert client.wait("backup-2026-11-24", 30) is PlanState.CANCELLED
    assert [one.by for one in client.history("backup-2026-11-24") if one.what == "asked"] == ["ada"]


def test_every_other_request_of_the_page(
    start_program: StartProgram, shell: Shell, client: Client, place: Path, server: Server
) -> None:
    """The events of the table, as they stand there, on plans that they fit."""
    start_program("orchestrator").ready()
    start_program("worker").ready()
    events = {name: event for event, name in re.findall(r'^\| `(\["(\w+)", .*?\])`', PAGE, re.MULTILINE)}
    assert set(events) == {"resume", "retry", "skip", "cancel", "halt", "revert", "event", "recurring"}

    def submit(action: str, **inputs: object) -> str:
        plan = client.plan(action)
        plan.add(action, **inputs)  # type: ignore[call-overload]
        return client.submit(plan)

    def ask(name: str, plan: str, **words: str) -> None:
        event = events[name].replace("ID", plan)
        for old, new in words.items():
            event = event.replace(old, new)
        json.loads(event)
        shell(f"redis-cli XADD '{KEYS.inbox}' '*' e '{event}'")

    flag = place / "flag"
    plans = {name: submit("fails_until", path=str(flag)) for name in ("resume", "retry", "skip", "halt", "revert")}
    for plan in plans.values():
        assert client.wait(plan, 30) is PlanState.PAUSED
    flag.touch()
    ask("resume", plans["resume"])
    ask("retry", plans["retry"], STEP="0")
    ask("skip", plans["skip"], STEP="0")
    ask("halt", plans["halt"])
    ask("revert", plans["revert"])
    ends = {"resume": "succeeded", "retry": "succeeded", "skip": "succeeded", "halt": "halted", "revert": "reverted"}
    for name, state in ends.items():
        until(f"{name}: {state}", partial(is_in, client, plans[name], state))
    waiting = submit("waits", path=str(place / "lines"))
    until("it waits", lambda: view_of(client, waiting).counts == {"suspended": 1})
    ask("event", waiting, STEP="0", NAME="go", DATA='{"speed":3}', OPTIONAL="false")
    assert client.wait(waiting, 30) is PlanState.SUCCEEDED
    assert client.output(waiting)["data"] == {"speed": 3}

    (record,) = re.findall(r'RECORD: `(\{"name".*?\})`;', PAGE)
    definition = '{"label":"x","policies":[["nothing"]],"total":1,"steps":[[0]]}'
    ask("recurring", "", RECORD=record.replace("DEFINITION", definition), NAME="nightly")
    until("it recurs", lambda: client.recurring("nightly"))
    view = client.recurring("nightly")
    assert view is not None
    assert (view.label, view.recurrence.zone, view.by) == ("x", "Europe/Berlin", "who")
    assert view.next_ms > 0


def test_the_table_of_states_is_whole() -> None:
    """Every byte that can stand there stands in the page, and those that are final are said to be."""
    rows = re.findall(r"^\| (`\S.*?) \| (.*?) \| (`.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    plans = {letter for row in rows for letter in re.findall(r"`(.)`", row[0])}
    steps = {letter for row in rows for letter in re.findall(r"`(.)`", row[2])}
    assert plans == {chr(state) for state in PlanState}
    assert steps == {chr(state) for state in StepState}
    for state in PlanState:
        row = next(row for row in rows if f"`{chr(state)}`" in row[0])
        assert word(state) in row[1], state
    (final,) = re.findall(r"^(`.*) are final;", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(.)`", final)) == {chr(state) for state in ENDED}
