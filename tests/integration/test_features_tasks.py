"""Running tasks: what each row of docs/features.md promises, over the death of the active orchestrator in its middle.

Where a test holds steps at a gate, the orchestrator dies before the gate is opened: the middle is no matter of time.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand.client import Client, SubmitRefused
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.store.plans import PlanView, ResultView
from support.faults import counted_once, lines_of, nothing_left
from support.orchestrators import Orchestrators
from support.plans import view_of
from support.programs import StartProgram, until
from support.server import Server

KEYS = Keys("default")
COMMANDS = """
[[action]]
name = "held-command"
argv = [
    "/bin/sh", "-c",
    "echo $1 >> $2; until [ -e $3 ]; do sleep 0.02; done; echo $CHARGEHAND_STEP $CHARGEHAND_ATTEMPT $1; echo seen >&2",
    "sh", "{text}", "{path}", "{gate}",
]
params.text = { type = "string", pattern = "[a-z]+" }
params.path = { type = "string" }
params.gate = { type = "string" }

[[action]]
name = "held-too-long"
argv = ["/bin/sh", "-c", "echo command >> $1; sleep 600 & echo $! > $1.pid; wait", "sh", "{path}"]
params.path = { type = "string" }
timeout = "4s"

[[worker]]
name = "worker"

[[worker]]
name = "strict"
queues = ["urgent", "default"]
threads = 1

[[worker]]
name = "weighted"
queues = { urgent = 3, default = 1 }
threads = 1
"""


@pytest.fixture
def extra() -> str:
    return COMMANDS


def at_least(lines: Path, steps: int) -> None:
    until(f"{steps} steps have started", lambda: lines_of(lines).total() >= steps, timeout=60)


def succeeded(client: Client, server: Server, plan: str) -> PlanView:
    """It has, each step once and at the first attempt, and nothing is left lying about."""
    assert client.wait(plan, 60) is PlanState.SUCCEEDED
    line = server.line()
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [plan])
    line.close()
    view = view_of(client, plan)
    assert {step.attempt for step in view.steps} == {1}
    return view


def results(view: PlanView) -> list[ResultView]:
    found = [step.result for step in view.steps]
    assert None not in found
    return [result for result in found if result is not None]


def output(view: PlanView, step: int = -1) -> Any:
    return msgspec.json.decode(results(view)[step].output)


@pytest.mark.usefixtures("worker")
def test_ordering(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """One after another, side by side, and by the use of an output, nested."""
    lines, gate = place / "lines", place / "gate"

    def note(text: str) -> Any:
        return plan.add("note", path=str(lines), text=text)

    plan = client.plan("ordered")
    with plan.sequence():
        note("a")
        with plan.concurrence():
            held = [plan.add("held", path=str(lines), text=text, gate=str(gate)) for text in "bc"]
            with plan.sequence():
                note("d")
                note("e")
        note("f")
        note("g")
    plan.add("echo", value=held)
    name = client.submit(plan)
    at_least(lines, 5)
    orchestrators.kill_active()
    assert sorted(lines_of(lines)) == list("abcde"), "f waits for b and c"
    gate.touch()
    view = succeeded(client, server, name)
    assert lines_of(lines) == dict.fromkeys("abcdefg", 1)
    ran = results(view)
    a, b, c, d, e, f, g, echo = range(8)
    for before, after in [(a, b), (a, c), (a, d), (d, e), (b, f), (c, f), (e, f), (f, g), (b, echo), (c, echo)]:
        assert ran[before].ended_ms <= ran[after].started_ms, (before, after)


@pytest.mark.usefixtures("worker")
def test_data_passing(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """A step that the successor starts reads outputs, whole and in part, from before the death and from after it."""
    plan = client.plan("data")
    early = plan.add("echo", value={"list": [1, {"two": "zwei"}]})
    many = [plan.add("echo", value=number) for number in range(30)]
    late = plan.add("held", path=str(place / "lines"), text="late", gate=str(place / "gate"))
    plan.add("echo", value={"whole": early, "part": early["list"][1]["two"], "many": many, "late": [late, "as it is"]})
    name = client.submit(plan)
    until("all but two are done", lambda: view_of(client, name).counts.get("succeeded") == 31)
    orchestrators.kill_active()
    (place / "gate").touch()
    assert output(succeeded(client, server, name)) == {
        "whole": {"list": [1, {"two": "zwei"}]},
        "part": "zwei",
        "many": list(range(30)),
        "late": ["late", "as it is"],
    }


@pytest.mark.usefixtures("worker")
def test_timeouts(orchestrators: Orchestrators, client: Client, place: Path) -> None:
    """Each ends its attempt by itself: a command with all that it started, a thread, an `async def`."""
    lines = place / "lines"
    plan = client.plan("too long")
    for action in ("held-too-long", "held_too_long", "held_too_long_async"):
        plan.add(action, path=str(lines))
    name = client.submit(plan)
    at_least(lines, 3)
    orchestrators.kill_active()
    assert client.wait(name, 60) is PlanState.PAUSED
    errors = [step.error for step in view_of(client, name).steps]
    assert [(error.kind, error.message) for error in errors if error] == [("timeout", "timeout after 4 s")] * 3
    assert lines_of(lines) == dict.fromkeys(["command", "thread", "async"], 1)
    grandchild = Path(f"/proc/{int((place / 'lines.pid').read_text())}")
    until("what the command started is gone", lambda: not grandchild.exists())


@pytest.mark.usefixtures("worker")
def test_retries(orchestrators: Orchestrators, client: Client, place: Path) -> None:
    """The orchestrator dies while a step waits for its next attempt, twice: what was tried counts on."""
    plan = client.plan("retried")
    plan.add("third_time_slowly", path=str(place / "tries"))
    name = client.submit(plan)
    for tries in (1, 2):
        until(f"it waits after try {tries}", partial(_waits_after, client, name, tries))
        orchestrators.kill_active()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert output(view) == view.steps[0].attempt == 3
    assert (place / "tries").read_text().split() == ["tried"] * 3
    assert view.steps[0].error is not None
    assert view.steps[0].error.message == "try 2", "the last error stays visible"


def _waits_after(client: Client, plan: str, tries: int) -> bool:
    return [(step.state, step.attempt) for step in view_of(client, plan).steps] == [("retrying", tries)]


@pytest.mark.usefixtures("worker")
def test_rescue_by_skipping(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """A step is skipped under one orchestrator; the plan goes on without it under the next."""
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("skipping")
    with plan.sequence():
        with plan.concurrence():
            plan.add("skippable", path="/nowhere")
            plan.add("held", path=str(lines), text="held", gate=str(gate))
        plan.add("note", path=str(lines), text="after")
    name = client.submit(plan)
    until("one is skipped", lambda: view_of(client, name).counts.get("skipped") == 1)
    at_least(lines, 1)
    orchestrators.kill_active()
    gate.touch()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert [step.state for step in view.steps] == ["skipped", "succeeded", "succeeded"]
    assert view.steps[0].error is not None
    assert view.steps[0].error.kind == "FileNotFoundError"
    assert lines_of(lines) == {"held": 1, "after": 1}


@pytest.mark.usefixtures("worker")
def test_rescue_by_pausing_and_resuming(
    orchestrators: Orchestrators, client: Client, server: Server, place: Path
) -> None:
    """Paused under one orchestrator, resumed under the next, with another one dying before the step is done."""
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("pausing")
    first = plan.add("note", path=str(lines), text="first")
    second = plan.add("fails_until", path=str(place / "flag"))
    third = plan.add("held", path=str(lines), text="third", gate=str(gate))
    plan.add("echo", value=[first, second, third])
    name = client.submit(plan)
    until("it has failed", lambda: view_of(client, name).counts.get("failed") == 1)
    orchestrators.kill_active()
    gate.touch()
    assert client.wait(name, 60) is PlanState.PAUSED
    orchestrators.kill_active()
    (place / "flag").touch()
    client.resume(name)
    until("it has succeeded", lambda: view_of(client, name).state == "succeeded", timeout=60)
    assert client.output(name) == ["first", "there", "third"]
    assert lines_of(lines) == {"first": 1, "third": 1}, "what had succeeded did not run again"


def standing(client: Client, lines: Path, count: int, *, seconds: float = 0.0) -> str:
    """A plan of as many steps on the queue `default` as on `urgent`, which come later in it."""
    plan = client.plan("queued")
    for action, word in (("note", "default"), ("urgent", "urgent")):
        for _ in range(count):
            plan.add(action, path=str(lines), text=word, seconds=seconds)
    return client.submit(plan)


def queued(server: Server, count: int) -> None:
    line = server.line()
    lengths = [("LLEN", KEYS.queue(name)) for name in ("default", "urgent")]
    until("all stand in their queues", lambda: line.batch(lengths) == [count, count])
    line.close()


def test_queues_in_strict_order(
    orchestrators: Orchestrators, start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """Steps that one orchestrator has put into queues, taken after its death: the first queue first."""
    name = standing(client, place / "lines", 20)
    queued(server, 20)
    orchestrators.kill_active()
    start_program("worker", "--group", "strict", node="node-w", extra=COMMANDS).ready()
    succeeded(client, server, name)
    assert (place / "lines").read_text().split() == ["urgent"] * 20 + ["default"] * 20


def test_queues_by_weight(
    orchestrators: Orchestrators, start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """3 to 1. Of 240 draws 180 are for `urgent` on the average; 140 and 220 are six standard deviations away."""
    lines = place / "lines"
    name = standing(client, lines, 240, seconds=0.01)  # slow enough for nothing to be prefetched
    queued(server, 240)
    start_program("worker", "--group", "weighted", node="node-w", extra=COMMANDS).ready()
    at_least(lines, 40)
    orchestrators.kill_active()
    succeeded(client, server, name)
    assert 140 < lines.read_text().split()[:240].count("urgent") < 220
    assert lines_of(lines) == {"urgent": 240, "default": 240}


@pytest.mark.usefixtures("worker")
def test_unique_submission(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """The same key before anybody has read it, to the successor, while it runs, and when it is long over."""
    lines, gate = place / "lines", place / "gate"

    def submit(text: str) -> str:
        plan = client.plan("keyed")
        plan.add("held", path=str(lines), text=text, gate=str(gate))
        return client.submit(plan, key="nightly-2026-11-24")

    orchestrators.active.freeze()
    name = submit("once")
    assert submit("once") == name
    assert view_of(client, name).state == "submitted", "nobody has accepted it"
    orchestrators.kill_active()
    assert submit("once") == name
    at_least(lines, 1)
    orchestrators.kill_active()
    assert submit("once") == name
    with pytest.raises(SubmitRefused, match="exists with other content"):
        submit("twice")
    gate.touch()
    succeeded(client, server, name)
    assert submit("once") == name
    assert len(client.list()) == 1
    assert lines_of(lines) == {"once": 1}


@pytest.mark.usefixtures("worker")
def test_commands(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """Declared in TOML; its output counts though the orchestrator that started it is gone."""
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("command")
    heard = plan.add("held-command", text="hello", path=str(lines), gate=str(gate))
    plan.add("echo", value=heard["stdout"])
    name = client.submit(plan)
    at_least(lines, 1)
    orchestrators.kill_active()
    gate.touch()
    view = succeeded(client, server, name)
    assert output(view, 0) == {"exit": 0, "stdout": "0 1 hello\n", "stderr": "seen\n"}
    assert output(view) == "0 1 hello\n"
    assert lines_of(lines) == {"hello": 1}


@pytest.mark.usefixtures("worker")
def test_async(orchestrators: Orchestrators, client: Client, server: Server, place: Path) -> None:
    """`async def` beside threads, in one worker."""
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("both")
    actions = ("held_async", "held", "held_async", "held")
    texts = [plan.add(action, path=str(lines), text=str(n), gate=str(gate)) for n, action in enumerate(actions)]
    plan.add("echo", value=texts)
    name = client.submit(plan)
    at_least(lines, 4)
    orchestrators.kill_active()
    gate.touch()
    assert output(succeeded(client, server, name)) == ["0", "1", "2", "3"]
    assert lines_of(lines) == dict.fromkeys("0123", 1)
