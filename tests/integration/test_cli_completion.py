"""The Tab key, in real shells: what they offer of a running executor, and that they are silent without one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.commands import COMMAND
from support.plans import is_in, submit
from support.programs import Program, StartProgram, until, write_config
from support.server import Server, free_port

PATIENT = {"CHARGEHAND_COMPLETION_TIMEOUT": "60s"}  # a busy machine is no reason to offer nothing

Offered = Callable[..., list[str]]

_BASH = """
source {script}
COMP_WORDS=("${{@}}")
COMP_CWORD=$(( $# - 1 ))
_chargehand_completion chargehand
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def home(place: Path) -> Path:
    """A directory with `chargehand` in it, for PATH, and the script of each shell."""
    program = place / "chargehand"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    for shell in ("bash", "fish"):
        done = subprocess.run(
            COMMAND,
            env={**os.environ, "_CHARGEHAND_COMPLETE": f"{shell}_source"},
            stdout=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        (place / f"completion.{shell}").write_bytes(done.stdout)
    (place / "complete.bash").write_text(_BASH.format(script=place / "completion.bash"))
    return place


@pytest.fixture
def offered(home: Path, server: Server) -> Offered:
    """What bash offers for the last of some words."""
    config = write_config(home, server.url, node="person")

    def complete(*words: str, config: Path = config) -> list[str]:
        done = subprocess.run(
            ["bash", home / "complete.bash", "chargehand", *words],
            env={**os.environ, "PATH": f"{home}:{os.environ['PATH']}", "CHARGEHAND_CONFIG": str(config), **PATIENT},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def scheduled(client: Client, *labels: str) -> str:
    plan = client.plan("echo", labels=labels, start_at="1h")
    plan.add("echo", value=1)
    name = client.submit(plan)
    until("it is accepted", lambda: is_in(client, name, "scheduled"))
    return name


def test_plans_steps_actions_and_more(
    running: Program, start_program: StartProgram, client: Client, place: Path, offered: Offered
) -> None:
    waiting = scheduled(client, "nightly", "with spaces")
    failed = submit(client, "fails_until", path=str(place / "nowhere"))
    assert client.wait(failed, 30) is PlanState.PAUSED
    again = client.plan("nothing")
    again.add("nothing")
    client.set_recurring("every-night", again, cron="0 3 * * *")
    until("it is set", lambda: client.recurring("every-night"))

    assert set(offered("plan", "show", "")) == {waiting, failed}
    assert offered("plan", "show", failed[:-1]) == [failed]
    assert offered("plan", "resume", "") == [failed], "only what can be resumed"
    assert offered("plan", "cancel", failed, "") == [waiting], "not what stands there already"
    assert offered("plan", "retry", "") == [failed]
    assert offered("plan", "retry", failed, "") == ["0"]
    assert offered("plan", "list", "--label", "n") == ["nightly"]
    assert offered("plan", "list", "--state", "pau") == ["paused"]
    assert offered("recurring", "show", "") == ["every-night"]
    assert offered("submit", "fails_") == ["fails_until"], "of the workers: no module is imported for it"
    assert offered("submit", "echo", "--node", "") == ["node-w"]
    assert offered("submit", "echo", "--node", "node-x,") == ["node-x,node-w"]


def test_executors(place: Path, server: Server, offered: Offered) -> None:
    extra = '[[executors]]\nname = "north"\n[[executors]]\nname = "south"\n'
    config = write_config(place, server.url, node="several", extra=extra)
    assert offered("submit", "x", "--executor", "", config=config) == ["north", "south"]


def test_silent_without_redis_and_without_a_configuration(place: Path, offered: Offered) -> None:
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="alone")
    assert offered("plan", "show", "", config=config) == []
    assert offered("plan", "show", "", config=place / "none.toml") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_tells_of_each_plan(running: Program, client: Client, home: Path, server: Server) -> None:
    name = scheduled(client)
    config = write_config(home, server.url, node="person")
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {home}/completion.fish; complete -C 'chargehand plan show '"],
        env={
            **os.environ,
            "PATH": f"{home}:{os.environ['PATH']}",
            "CHARGEHAND_CONFIG": str(config),
            "HOME": str(home),
            **PATIENT,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [f"{name}\tscheduled echo"]
