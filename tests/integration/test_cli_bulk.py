"""What is asked of many plans at once: named by what they are, after a look and a count."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support import commands
from support.commands import COMMAND, Chargehand
from support.plans import is_in, submit, view_of
from support.programs import Program, until, write_config
from support.server import Server


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    return write_config(place, server.url, node="person")


@pytest.fixture
def chargehand(config: Path) -> Chargehand:
    return partial(commands.chargehand, config=config)


def scheduled(client: Client, label: str, count: int) -> list[str]:
    """Plans that wait for a time, the newest first."""
    plans = []
    for _ in range(count):
        plan = client.plan("nothing", labels=[label], start_at="1h")
        plan.add("nothing")
        plans.append(client.submit(plan))
    until("they are accepted", lambda: all(is_in(client, one, "scheduled") for one in plans))
    return plans[::-1]


def paused(client: Client, path: Path, count: int) -> list[str]:
    plans = [submit(client, "fails_until", path=str(path)) for _ in range(count)]
    assert {client.wait(one, 30) for one in plans} == {PlanState.PAUSED}
    return plans[::-1]


def test_bulk_cancel_dry_run_count_and_refusals(running: Program, client: Client, chargehand: Chargehand) -> None:
    """Nothing is done without the right count, and those that are not like that are left alone."""
    plans = scheduled(client, "slow", 3)
    (other,) = scheduled(client, "other", 1)
    over = submit(client, "nothing")
    assert client.wait(over, 30) is PlanState.SUCCEEDED

    dry = chargehand("plan", "cancel", "--label", "slow", "--dry-run")
    assert dry.returncode == 0
    titles, *rows, last = dry.stdout.splitlines()
    assert titles.split()[:2] == ["PLAN", "STATE"]
    assert [row.split()[:2] for row in rows] == [[plan, "scheduled"] for plan in plans]
    assert last == "3 plans would be cancelled (3 scheduled); nothing was done"

    wrong = chargehand("plan", "cancel", "--label", "slow", "--yes", "2")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "chargehand: 3 plans can be cancelled, not 2: nothing was done (--dry-run shows them)\n",
    )
    unasked = chargehand("plan", "cancel", "--label", "slow", stdin=subprocess.DEVNULL)
    assert (unasked.returncode, unasked.stderr) == (
        2,
        "chargehand: 3 plans would be cancelled: --yes 3 does it, --dry-run shows them\n",
    )
    assert all(is_in(client, plan, "scheduled") for plan in plans)

    done = chargehand("plan", "cancel", "--label", "slow", "--yes", "3")
    assert (done.returncode, done.stdout) == (0, "".join(f"{plan} is being cancelled\n" for plan in plans))
    assert done.stderr == "chargehand: 3 plans asked, 0 refused\n"
    assert {client.wait(plan, 30) for plan in plans} == {PlanState.CANCELLED}
    assert is_in(client, other, "scheduled")

    none = chargehand("plan", "cancel", "--label", "slow", "--yes", "3")
    assert (none.returncode, none.stdout) == (0, "no plan is like that and can be cancelled\n")
    by_name = chargehand("plan", "cancel", other, over, "nope", "--dry-run")
    assert by_name.returncode == 1
    assert by_name.stdout.endswith("1 plan would be cancelled (1 scheduled); nothing was done\n")
    assert by_name.stderr == (
        "chargehand: there is no plan 'nope' (chargehand plan list)\n"
        f"chargehand: plan {over} is succeeded: only a plan that is under way can be cancelled\n"
    )
    assert is_in(client, other, "scheduled")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("cancel",), "which plans? Name them, or say what they are like: --state, --action, --label, ..."),
        (("halt", "x", "--label", "y"), "name plans, or say what they are like (--state, --action, ...): not both"),
        (("retry", "--label", "x"), "of plans that are not named it is --failed: all steps that failed"),
        (("retry", "x"), "which steps of plan x? Name them, or --failed: all that failed"),
        (("skip", "x", "first"), "'first' is no step: they are numbered from 0"),
        (("resume", "--longer-than", "ages"), "Invalid value for '--longer-than'"),
    ],
)
def test_plans_that_are_not_clearly_named_are_refused(
    chargehand: Chargehand, words: tuple[str, ...], line: str
) -> None:
    done = chargehand("plan", *words)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stdout == ""


def test_a_state_in_which_none_can_be_asked(chargehand: Chargehand, server: Server) -> None:
    done = chargehand("plan", "resume", "--state", "succeeded", "--yes", "1")
    assert (done.returncode, done.stderr) == (
        2,
        "chargehand: a plan that is succeeded: only a paused plan can be resumed\n",
    )


def test_bulk_resume_retry_failed_and_skip_failed(
    running: Program, client: Client, chargehand: Chargehand, place: Path
) -> None:
    """All failed steps of plans that are like that; and of one plan with several."""
    plans = paused(client, place / "gate", 2)
    plan = client.plan("several")
    for _ in range(3):
        plan.add("fails_until", path=str(place / "never"))
    several = client.submit(plan)
    assert client.wait(several, 30) is PlanState.PAUSED

    (place / "gate").touch()
    done = chargehand("plan", "retry", "--failed", "--action", "fails_until", "--state", "paused", "--yes", "2")
    assert (done.returncode, done.stdout) == (0, "".join(f"{one} runs its failed steps again\n" for one in plans))
    assert {client.wait(one, 30) for one in plans} == {PlanState.SUCCEEDED}

    none = chargehand("plan", "retry", "--failed", submit(client, "nap", seconds=60))
    assert none.returncode == 1
    assert "has no step that failed" in none.stderr

    assert chargehand("plan", "skip", "--failed", several).stdout == f"{several} goes on without its failed steps\n"
    assert client.wait(several, 30) is PlanState.SUCCEEDED
    assert view_of(client, several).counts == {"skipped": 3}

    (again,) = paused(client, place / "later", 1)
    (place / "later").touch()
    assert chargehand("plan", "resume", "--text", "FAILS", "--yes", "1").returncode == 0
    assert client.wait(again, 30) is PlanState.SUCCEEDED


def test_on_a_terminal_the_count_is_typed(running: Program, client: Client, config: Path) -> None:
    plans = scheduled(client, "slow", 2)
    assert "nothing was done" in typed(config, "yes", "plan", "halt", "--label", "slow")
    assert all(is_in(client, plan, "scheduled") for plan in plans)
    said = typed(config, "2", "plan", "halt", "--label", "slow")
    assert "type 2 to halt 2 plans (2 scheduled): " in said
    assert {client.wait(plan, 30) for plan in plans} == {PlanState.HALTED}


def typed(config: Path, answer: str, *words: str) -> str:
    """What a command says on a terminal where somebody types an answer."""
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--config", config, *words], stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    os.write(leader, f"{answer}\n".encode())
    said = b""
    while True:
        try:
            said += os.read(leader, 65_536)
        except OSError:  # everybody has left the terminal
            break
    os.close(leader)
    process.wait(timeout=30)
    return said.decode()


def test_list_filters(running: Program, client: Client, chargehand: Chargehand) -> None:
    """By whom, by text, for how long, several states, and the oldest first."""
    client.speak_for("ada@node-x")
    plans = scheduled(client, "spring-cleaning", 2)
    client.speak_for("grace@node-y")
    (other,) = scheduled(client, "autumn", 1)
    over = submit(client, "nothing")
    assert client.wait(over, 30) is PlanState.SUCCEEDED

    def listed(*words: str) -> list[str]:
        done = chargehand("plan", "list", "-q", *words)
        assert done.returncode == 0
        return done.stdout.split()

    assert listed("--by", "ada@") == plans
    assert listed("--text", "SPRING") == plans
    assert listed("--text", "spring", "--oldest") == plans[::-1]
    assert listed("--action", "nothing", "--oldest") == [*plans[::-1], other, over]
    assert listed("--state", "scheduled", "--state", "succeeded") == [other, *plans, over]
    assert listed("--longer-than", "0s", "--state", "scheduled") == [other, *plans]
    assert listed("--longer-than", "1h") == []
    assert chargehand("plan", "list", "--by", "nobody").stdout == "no plans of that kind\n"


def test_a_plan_that_is_not_accepted_yet_is_listed_and_cancelled(client: Client, chargehand: Chargehand) -> None:
    """No orchestrator is there at all."""
    plan = submit(client, "nothing")
    assert chargehand("plan", "list", "--state", "submitted", "-q").stdout.split() == [plan]
    done = chargehand("plan", "cancel", "--state", "submitted", "--yes", "1")
    assert (done.returncode, done.stdout) == (0, f"{plan} is being cancelled\n")
