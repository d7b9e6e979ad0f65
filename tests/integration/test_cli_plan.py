"""`chargehand submit`, `plan`, `recurring` as a person uses them: what they do, and what they say when they cannot."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support import commands
from support.commands import Chargehand
from support.plans import submit, view_of
from support.programs import Program, StartProgram, until, write_config, written
from support.recurring import put_back
from support.server import Server


@pytest.fixture
def chargehand(place: Path, server: Server) -> Chargehand:
    return partial(commands.chargehand, config=write_config(place, server.url, node="person"))


def state(client: Client, plan: str) -> str:
    return view_of(client, plan, steps=False).state


def is_paused(client: Client) -> bool:
    found = client.recurring("nightly")
    assert found is not None
    return found.paused


# -- asking ---------------------------------------------------------------------------------------


def test_cancel_several(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    """Those that cannot be cancelled are told, each with its reason; the others are cancelled all the same."""
    over = submit(client, "nothing")
    client.wait(over, 20)
    one, two = (submit(client, "stops_when_asked", path=str(place / name)) for name in ("one", "two"))
    until("both run", lambda: written(place / "one") and written(place / "two"))
    done = chargehand("plan", "cancel", "--grace", "1m", one, over, two, "nope")
    assert done.returncode == 1
    assert done.stdout == f"{one} is being cancelled\n{two} is being cancelled\n"
    assert done.stderr == (
        f"chargehand: plan {over} is succeeded: only a plan that is under way can be cancelled\n"
        "chargehand: there is no plan 'nope' (chargehand plan list)\n"
    )
    done = chargehand("plan", "wait", one, two)
    assert (done.returncode, done.stdout) == (1, f"{one} cancelled\n{two} cancelled\n")
    assert (place / "one").read_text() == (place / "two").read_text() == "started\nasked\n"
    again = chargehand("plan", "cancel", one)
    assert again.stderr == f"chargehand: plan {one} is cancelled: only a plan that is under way can be cancelled\n"


def test_a_second_cancel_with_less_patience(
    running: Program, client: Client, chargehand: Chargehand, place: Path
) -> None:
    name = submit(client, "stops_by_force", path=str(place / "lines"))
    until("it runs", lambda: written(place / "lines"))
    assert chargehand("plan", "cancel", "--grace", "1h", name).returncode == 0
    until("it is told", lambda: state(client, name) == "cancelling")
    assert chargehand("plan", "cancel", "--grace", "100ms", name).returncode == 0
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert (place / "lines").read_text() == "started\nended\n"


def test_halt(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = submit(client, "stops_when_asked", path=str(place / "lines"))
    until("it runs", lambda: written(place / "lines"))
    assert chargehand("plan", "halt", name).stdout == f"{name} is being halted\n"
    assert client.wait(name, 20) is PlanState.HALTED
    again = chargehand("plan", "halt", name)
    assert (again.returncode, again.stderr) == (
        1,
        f"chargehand: plan {name} is halted: only a plan that has not ended can be halted\n",
    )


def test_retry_one_of_two(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    plan = client.plan("two")
    for flag in ("a", "b"):
        plan.add("fails_until", path=str(place / flag))
    name = client.submit(plan)
    assert client.wait(name, 20) is PlanState.PAUSED
    (place / "a").touch()
    assert chargehand("plan", "retry", name, "0").stdout == f"{name} runs step 0 again\n"
    until("the first succeeded", lambda: view_of(client, name).counts == {"succeeded": 1, "failed": 1})
    refused = chargehand("plan", "retry", name, "0")
    assert refused.stderr == (
        f"chargehand: step 0 of plan {name} is succeeded: only a step that failed can be retried\n"
    )
    refused = chargehand("plan", "retry", name, "7")
    assert refused.stderr == f"chargehand: plan {name} has no step 7 (chargehand plan show {name})\n"


def test_event(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = submit(client, "waits", path=str(place / "lines"))
    until("it waits", lambda: view_of(client, name).counts == {"suspended": 1})
    assert chargehand("plan", "event", name, "0", "go", '{"speed": 3}').stdout == f"{name} is sent 'go'\n"
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    assert client.output(name)["data"] == {"speed": 3}
    refused = chargehand("plan", "event", name, "0", "go")
    assert refused.stderr == f"chargehand: plan {name} is succeeded: only a plan that has not ended takes events\n"
    refused = chargehand("plan", "event", name, "0", "cancel")
    assert refused.stderr == "chargehand: the event 'cancel' comes from the system alone; choose another name\n"


def test_revert(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    plan = client.plan("makes")
    with plan.sequence():
        plan.add("Makes", path=str(place / "made"))
        plan.add("fails_until", path="/nowhere")
    name = client.submit(plan)
    assert client.wait(name, 20) is PlanState.PAUSED
    assert (place / "made").exists()
    assert chargehand("plan", "revert", name).stdout == f"{name} is being reverted\n"
    assert chargehand("plan", "wait", name).stdout == f"{name} reverted\n"
    assert not (place / "made").exists()
    history = chargehand("plan", "history", name).stdout
    assert "step 0 reverted at attempt 2 on node-w" in history
    assert history.endswith(" plan reverted\n")
    refused = chargehand("plan", "revert", name)
    assert refused.stderr == (
        f"chargehand: plan {name} is reverted: only a plan that runs, is paused or is failing can be reverted\n"
    )


# -- following ------------------------------------------------------------------------------------


def test_watch_and_history(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    (place / "gate").touch()
    name = submit(client, "tells", gate=str(place / "gate"))
    done = chargehand("plan", "watch", name)
    assert done.returncode == 0
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert "step 0 begun" in lines
    assert "step 0 100% done" in lines
    assert lines[-1] == "plan succeeded"
    as_json = [json.loads(line) for line in chargehand("plan", "watch", "--json", "-n", "0", name).stdout.splitlines()]
    ended_ms = view_of(client, name).since_ms
    assert as_json == [{"kind": "plan", "text": "succeeded", "ms": ended_ms, "done": 1}], (
        "when it ended, not when asked"
    )
    history = [line.split(" ", 2)[2] for line in chargehand("plan", "history", name).stdout.splitlines()]
    assert history[0].startswith("submitted by ")
    assert history[1].startswith("step 0 succeeded on node-w after ")
    assert history[2] == "plan succeeded"
    kinds = [one["what"] for one in json.loads(chargehand("plan", "history", name, "--json").stdout)]
    assert kinds == ["submitted", "succeeded", "plan"]


def test_watch_of_a_plan_that_pauses(running: Program, client: Client, chargehand: Chargehand) -> None:
    name = submit(client, "fails_until", path="/nowhere")
    done = chargehand("plan", "watch", name)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(" plan paused")
    missing = chargehand("plan", "watch", "nope")
    assert (missing.returncode, missing.stderr) == (1, "chargehand: there is no plan 'nope' (chargehand plan list)\n")


def test_children(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    name = submit(client, "all_fail", path=str(place / "lines"))
    assert client.wait(name, 20) is PlanState.PAUSED
    done = chargehand("plan", "children", name, "0")
    first, *rest = done.stdout.splitlines()
    assert first == "2 sub-plans: 2 failed"
    assert [line.split()[:3] for line in rest] == [[f"{name}.0.{n}", "failed", "child:"] for n in range(2)]
    assert all("FileNotFoundError: /nowhere is not there yet" in line for line in rest)
    view = json.loads(chargehand("plan", "children", name, "0", "--state", "failed", "--first", "1", "--json").stdout)
    assert [child["plan"] for child in view["plans"]] == [f"{name}.0.1"]
    shown = chargehand("plan", "show", f"{name}.0.1").stdout
    assert f"sub-plan   of step 0 of plan {name}" in shown
    none = submit(client, "nothing")
    assert chargehand("plan", "children", none, "0").stdout == f"step 0 of plan {none} has no sub-plans (yet)\n"


def test_list_by_label_for_other_commands(running: Program, chargehand: Chargehand) -> None:
    plans = [chargehand("submit", "nothing", "--in", "1h", "--label", "slow").stdout.strip() for _ in range(2)]
    other = chargehand("submit", "nothing", "--label", "quick").stdout.strip()
    assert chargehand("plan", "wait", other).returncode == 0
    found = chargehand("plan", "list", "--label", "slow", "-q").stdout.split()
    assert found == plans[::-1]
    assert other in chargehand("plan", "list", "--action", "nothing", "--since", "1h").stdout
    assert chargehand("plan", "list", "--action", "nothing", "--until", "1h").stdout == "no plans of that kind\n"
    assert chargehand("plan", "halt", *found).returncode == 0
    assert chargehand("plan", "wait", *found).stdout == "".join(f"{plan} halted\n" for plan in found)


# -- submitting -----------------------------------------------------------------------------------


def test_wait_on_a_terminal_shows_how_far_it_is(
    running: Program, client: Client, chargehand: Chargehand, place: Path
) -> None:
    (place / "gate").touch()
    leader, follower = os.openpty()
    try:
        done = chargehand("submit", "tells", f"gate={place}/gate", "--wait", stderr=follower)
        os.set_blocking(leader, False)
        shown = os.read(leader, 100_000).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == '"told"'
    assert "/1 steps" in shown
    assert shown.endswith("\r\x1b[K"), "the line is gone when it has ended"


def test_several_nodes_and_all_nodes(running: Program, start_program: StartProgram, chargehand: Chargehand) -> None:
    start_program("worker", node="node-b").ready()
    done = chargehand("submit", "where", "--node", "node-b,node-w", "--wait")
    assert done.stdout.splitlines()[1:] == ['node-b: "node-b"', 'node-w: "node-w"']
    done = chargehand("submit", "where", "--all-nodes", "--wait")
    assert done.stdout.splitlines()[1:] == ['node-b: "node-b"', 'node-w: "node-w"']
    both = chargehand("submit", "where", "--all-nodes", "--node", "node-a")
    assert (both.returncode, both.stderr) == (
        2,
        "chargehand: --node names nodes and --all-nodes takes all that there are: use one of them\n",
    )


def test_all_nodes_when_there_are_none(chargehand: Chargehand, server: Server) -> None:
    done = chargehand("submit", "where", "--all-nodes")
    assert (done.returncode, done.stderr) == (
        1,
        "chargehand: no node has a worker that takes steps aimed at it (chargehand status)\n",
    )


def test_scheduled(running: Program, client: Client, chargehand: Chargehand) -> None:
    name = chargehand("submit", "nothing", "--in", "2h").stdout.strip()
    until("it is accepted", lambda: state(client, name) == "scheduled")
    shown = chargehand("plan", "show", name).stdout
    assert "state      scheduled since " in shown
    assert "\nstarts     at " in shown
    assert shown.startswith("It is scheduled for ")
    view = view_of(client, name)
    assert abs(view.start_at_ms - time.time() * 1000 - 7_200_000) < 600_000
    assert chargehand("plan", "cancel", name).returncode == 0
    assert client.wait(name, 20) is PlanState.CANCELLED
    soon = chargehand("submit", "nothing", "--in", "1s", "--wait")
    assert soon.returncode == 0
    wrong = chargehand("submit", "nothing", "--at", "soon")
    assert wrong.returncode == 2
    assert '\'soon\' is no time: write how long from now ("2h", "30m"), or "2026-11-24T10:00"' in wrong.stderr


def test_a_scheduled_action_plans_on_a_worker(running: Program, client: Client, chargehand: Chargehand) -> None:
    """When it starts, as a sub-plan of the step that planned."""
    done = chargehand("submit", "fan_out", "width=3", "--in", "500ms", "--wait")
    assert done.returncode == 0, done.stdout
    name = done.stdout.split()[0]
    view = view_of(client, name)
    assert [step.action for step in view.steps] == ["fan_out:plan"]
    (child,) = client.children(name, 0).plans
    assert (child.label, child.state, child.total) == ("fan_out", "succeeded", 4)


def test_after_another_plan(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    first = submit(client, "held", path=str(place / "l"), text="x", gate=str(place / "gate"))
    second = chargehand("submit", "nothing", "--after", first).stdout.strip()
    until("it waits", lambda: state(client, second) == "waiting")
    shown = chargehand("plan", "show", second).stdout
    assert shown.startswith(f"It waits for plan {first} to end (chargehand why {second})\n")
    (place / "gate").touch()
    assert client.wait(second, 20) is PlanState.SUCCEEDED


def test_locks(running: Program, client: Client, chargehand: Chargehand, place: Path) -> None:
    held = ("held", f"path={place}/l", "text=x", f"gate={place}/gate")
    first = chargehand("submit", *held, "--lock", "db").stdout.strip()
    until("it runs", lambda: written(place / "l"))
    second = chargehand("submit", "nothing", "--lock", "db").stdout.strip()
    third = chargehand("submit", "nothing", "--shared-lock", "db").stdout.strip()
    until("the last waits", lambda: state(client, third) == "waiting")
    shown = chargehand("plan", "show", second).stdout
    assert shown.startswith(f"It waits for the lock 'db', held by plan {first} (chargehand why {second})\n")
    shown = chargehand("plan", "show", third).stdout
    assert shown.startswith(f"It waits for the lock 'db', held by plan {first}; 1 before it (chargehand why {third})\n")
    refused = chargehand("submit", "nothing", "--lock", "db", "--busy", "reject", "--wait")
    assert refused.returncode == 1
    assert "error      not started: another plan holds 'db'" in refused.stdout
    (place / "gate").touch()
    assert chargehand("plan", "wait", first, second, third).returncode == 0


# -- recurring ------------------------------------------------------------------------------------


def test_recurring(running: Program, start_program: StartProgram, client: Client, chargehand: Chargehand) -> None:
    """Set, paused, resumed and removed, with another orchestrator in the middle."""
    calendar = ("--cron", "0 3 * * *", "--zone", "Europe/Berlin")
    done = chargehand("recurring", "add", "nightly", "fan_out", "width=2", *calendar)
    assert (done.returncode, done.stdout) == (
        0,
        "nightly recurs at '0 3 * * *' Europe/Berlin (chargehand recurring show nightly)\n",
    )
    until("it is set", lambda: client.recurring("nightly"))
    again = chargehand("recurring", "add", "nightly", "nothing", "--cron", "@hourly")
    assert (again.returncode, again.stderr) == (
        1,
        "chargehand: there is a recurring plan 'nightly' already: use --replace, or another name\n",
    )
    assert "nightly" in chargehand("recurring", "list").stdout
    running.kill()
    assert chargehand("recurring", "pause", "nightly").stdout == "nightly is being paused\n"
    start_program("orchestrator", node="node-b").ready()
    until("it is paused", lambda: is_paused(client))
    assert "next       paused\n" in chargehand("recurring", "show", "nightly").stdout
    assert chargehand("recurring", "resume", "nightly").returncode == 0
    until("it goes on", lambda: not is_paused(client))
    shown = chargehand("recurring", "show", "nightly").stdout
    assert "action     fan_out\ncron       0 3 * * *\nzone       Europe/Berlin\nnext       20" in shown
    assert chargehand("recurring", "remove", "nightly").returncode == 0
    until("it is gone", lambda: client.recurring("nightly") is None)
    assert chargehand("recurring", "list").stdout == "no recurring plans\n"
    gone = chargehand("recurring", "pause", "nightly")
    assert (gone.returncode, gone.stderr) == (
        1,
        "chargehand: there is no recurring plan 'nightly' (chargehand recurring list)\n",
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--cron", "61 * * * *"), "recurring plan 'x': "),
        (("--cron", "* * * * *", "--zone", "Europe/Berln"), "recurring plan 'x': "),
        (("--cron", "0 0 30 2 *"), "recurring plan 'x': "),
    ],
)
def test_a_calendar_that_cannot_be_followed(
    chargehand: Chargehand, server: Server, words: tuple[str, ...], line: str
) -> None:
    done = chargehand("recurring", "add", "x", "nothing", *words)
    assert done.returncode == 1
    assert line in done.stderr
    assert done.stdout == ""


def test_a_recurring_plan_runs(
    running: Program, start_program: StartProgram, client: Client, chargehand: Chargehand, line: Line
) -> None:
    """An action that plans its steps plans them on a worker, for each run. Its time comes while nobody is active."""
    added = chargehand("recurring", "add", "often", "fan_out", "width=2", "--cron", "* * * * *", "--most", "1")
    assert added.returncode == 0
    until("it is set", lambda: client.recurring("often"))
    running.kill()
    put_back(line, Keys("default"), "often", timedelta(minutes=1))
    start_program("orchestrator", node="node-b").ready()
    until("it ran", lambda: (view := client.recurring("often")) is not None and view.runs == 1)
    view = client.recurring("often")
    assert view is not None
    assert client.wait(view.last_plan, 30) is PlanState.SUCCEEDED
    shown = chargehand("recurring", "show", "often").stdout
    assert "runs       1 of 1\n" in shown
    assert f"last       {view.last_plan} succeeded, " in shown
    assert "next       none: it has ended\n" in shown
