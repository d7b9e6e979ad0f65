"""Two nodes of one executor and a Redis on neither: whatever becomes of the active one while a plan runs, the other
goes on with it. No step is lost, no result counts twice, and the order holds.

The figures stand below the tests' results. `CHARGEHAND_LAB_ROUNDS=n` has each fault n times.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from lab.node import Node
from lab.redis import Redis
from lab.service import UNIT, Service
from lab.session import Lab

LANES, LENGTH = 4, 60  # steps of a lane follow each other
ROUNDS = int(os.environ.get("CHARGEHAND_LAB_ROUNDS") or "1")
NOTES = "/var/lib/chargehand/notes"

CONFIG = """\
[redis]
url = "redis://redis:6379/0"

[orchestrator.env]
CHARGEHAND_LOG = "DEBUG"  # a line for each result that is counted

[actions]
modules = ["site_actions"]
"""

#: A step leaves two lines on the node that runs it, and hands on how many there were before it.
ACTIONS = f"""\
import time

from chargehand import Plan, action, current_step


def _note(word: str) -> None:
    step = current_step()
    with open("{NOTES}", "a") as file:
        file.write(f"{{word}} {{step.step}} {{step.attempt}} {{time.time()}}\\n")


@action
def link(before: int) -> int:
    _note("begun")
    time.sleep(0.1)
    _note("ended")
    return before + 1


@action
def total(lanes: list[int]) -> int:
    return sum(lanes)


@action
def many(plan: Plan, lanes: int, length: int) -> None:
    ends = []
    for _ in range(lanes):
        end = 0
        for _ in range(length):
            end = plan.add(link, before=end)
        ends.append(end)
    plan.add(total, lanes=ends)
"""


class Note(NamedTuple):
    node: str
    word: str  # begun, ended
    step: int
    attempt: int
    at: float


# -- figures ------------------------------------------------------------------------------------------


class Figures:
    """Seconds from the fault, of each round; "back as passive" from its end, where it does not end by itself."""

    COLUMNS = ("takeover", "first step of the successor", "lost step runs again", "back as passive")

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, fault: str, column: str, seconds: float) -> None:
        assert column in self.COLUMNS
        self._found[fault][column].append(seconds)

    def lines(self) -> Iterator[str]:
        yield f"| fault | {' | '.join(self.COLUMNS)} |"
        yield "| --- |" + " --- |" * len(self.COLUMNS)
        for fault, columns in self._found.items():
            yield f"| {fault} | {' | '.join(self._cell(columns[name]) for name in self.COLUMNS)} |"

    @staticmethod
    def _cell(found: list[float]) -> str:
        if not found:
            return "-"
        spread = "" if len(found) == 1 else f" ({_seconds(min(found))}..{_seconds(max(found))})"
        return f"{_seconds(statistics.median(found))}{spread}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


@pytest.fixture(scope="module")
def figures(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Figures]:
    collected = Figures()
    yield collected
    terminal: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        terminal.write(f"\n{lab.suite.name}:\n")
        for line in collected.lines():
            terminal.write_line(line)


# -- the nodes ----------------------------------------------------------------------------------------


@pytest.fixture
def pair(redis: Redis, node: Callable[..., Node]) -> tuple[Service, Service]:
    """The first is active; Redis is on neither."""
    assert redis.url in CONFIG
    first, second = (Service(node(CONFIG, name=name)) for name in ("node-a", "node-b"))
    for service in (first, second):
        service.node.write("/etc/chargehand/actions/site_actions.py", ACTIONS)
        service.node.systemctl("enable", UNIT)
    first.start()
    second.start(role="passive")
    return first, second


def _notes(*services: Service) -> list[Note]:
    found = []
    for service in services:
        for line in service.notes():
            word, step, attempt, at = line.split()
            found.append(Note(service.node.name, word, int(step), int(attempt), float(at)))
    return sorted(found, key=lambda note: note.at)


def _roles(service: Service, role: str, after: float) -> list[float]:
    """When its orchestrator took this role; all nodes share the machine's clock."""
    return [
        at
        for event in service.events("child_role")
        if (event["CHARGEHAND_CHILD"], event["CHARGEHAND_ROLE"]) == ("orchestrator", role)
        and (at := int(event["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6) > after
    ]


# -- faults -------------------------------------------------------------------------------------------

SILENT = {"power cut", "network cut", "node sends nothing", "node hears nothing", "node frozen"}  # nobody reports it
CUT_OFF = {"network cut", "node sends nothing", "node hears nothing"}
UNATTENDED = {"orchestrator killed", "agent killed", "orchestrator frozen"}  # nobody has to mend it


def _strike(fault: str, service: Service) -> float:
    """Returns the moment."""
    node, pids = service.node, service.pids()
    match fault:
        case "systemctl stop":
            return float(node.run("sh", "-c", f"date +%s.%N; systemctl stop --no-block {UNIT}"))
        case "orchestrator killed":
            return float(node.run("sh", "-c", f"date +%s.%N; kill -KILL {pids['orchestrator']}"))
        case "agent killed":
            return float(node.run("sh", "-c", f"date +%s.%N; kill -KILL {service.main_pid}"))
        case "orchestrator frozen":
            return float(node.run("sh", "-c", f"date +%s.%N; kill -STOP {pids['orchestrator']}"))
    now = time.time()
    match fault:
        case "power cut":
            node.pull_the_plug()
        case "network cut":
            node.cut_network()
        case "node sends nothing":
            node.cut_network("out")
        case "node hears nothing":
            node.cut_network("in")
        case "node frozen":
            node.freeze()
    return now


def _mend(fault: str, service: Service) -> float:
    """Only what the fault itself took away; returns the moment."""
    node = service.node
    if fault == "systemctl stop":
        service.until("stopped", lambda: service["ActiveState"] == "inactive")
    now = time.time()
    match fault:
        case "systemctl stop":
            node.systemctl("start", UNIT)
        case "power cut":
            node.boot()
        case "network cut" | "node sends nothing" | "node hears nothing":
            node.mend_network()
        case "node frozen":
            node.thaw()
    return now


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
@pytest.mark.parametrize(
    "fault",
    [
        "systemctl stop",
        "orchestrator killed",
        "agent killed",
        "orchestrator frozen",
        "power cut",
        "network cut",
        "node sends nothing",
        "node hears nothing",
        "node frozen",
    ],
)
def test_the_plan_goes_on(pair: tuple[Service, Service], figures: Figures, fault: str, number: int) -> None:
    first, second = pair
    plan = second.submit("many", f"lanes={LANES}", f"length={LENGTH}")
    second.until("both work", lambda: all(len(service.notes()) > 20 for service in pair))
    before = first.pids()

    at = _strike(fault, first)
    # An agent that comes back reports what died with it, and its own new orchestrator is as near to the lease.
    takers = pair if fault == "agent killed" else (second,)
    second.until("it has taken over", lambda: any(_roles(service, "active", at) for service in takers))
    (taker,) = [service for service in takers if _roles(service, "active", at)]
    other = first if taker is second else second
    taken = _roles(taker, "active", at)[0]
    figures.add(fault, "takeover", taken - at)
    assert second.plan_state(plan) == "running", "the plan was over before the fault"
    if fault in CUT_OFF:
        first.until("it waits", lambda: first.status.startswith("waiting (Redis redis:6379 since "))
        assert first.node.systemctl("is-active", UNIT) == "active"
    if fault in {"network cut", "node frozen"}:
        # Mended late: meanwhile its steps have been given to the other, and what it still has in hand is stale.
        ended = _until_rerun_or_ended(second, plan)
        assert ended or any(note.attempt > 1 for note in _notes(second))
    mended = _mend(fault, first)
    other.until("it is passive", lambda: _roles(other, "passive", at) and other.status.startswith("passive"))
    if other is first:
        back = max(_roles(first, "passive", at))
        figures.add(fault, "back as passive", back - (at if fault in UNATTENDED else mended))

    second.until("the plan's end", lambda: second.plan_state(plan) != "running", 60)
    notes = _notes(first, second)
    begun = [note for note in notes if note.word == "begun"]
    figures.add(fault, "first step of the successor", min(note.at for note in begun if note.at > taken) - at)
    again = [note.at - at for note in begun if note.attempt > 1]
    if again:
        figures.add(fault, "lost step runs again", min(again))
    if fault not in {*SILENT, "agent killed"}:
        assert not again  # the workers have lost nothing
    _all_is_well(second, plan, notes, pair)

    assert f"held by {taker.node.name}, epoch 2" in other.status
    assert taker.status.startswith("active (epoch 2)")
    assert len(_roles(taker, "active", at)) == 1
    assert not _roles(other, "active", at)
    assert second["NRestarts"] == "0"
    assert first["NRestarts"] == ("1" if fault == "agent killed" else "0")
    after = first.pids()
    if fault in {*CUT_OFF, "node frozen"}:
        assert after == before  # it stepped down in place
    elif fault.startswith("orchestrator"):
        assert after.pop("orchestrator") != before.pop("orchestrator")
        assert after == before


def _until_rerun_or_ended(service: Service, plan: str) -> bool:
    def happened() -> bool:
        return service.plan_state(plan) != "running" or any(note.attempt > 1 for note in _notes(service))

    service.until("the silent node's steps run again", happened)
    return service.plan_state(plan) != "running"


def _all_is_well(service: Service, plan: str, notes: list[Note], pair: tuple[Service, Service]) -> None:
    view: dict[str, Any] = json.loads(service.node.run("chargehand", "plan", "show", "--json", plan))
    assert view["state"] == "succeeded"
    assert view["counts"] == {"succeeded": LANES * LENGTH + 1}
    results = {}
    for step in view["steps"]:
        result = step["result"]
        attempt, node, output = result["attempt"], result["node"], result["output"]
        started, ended = result["started_ms"], result["ended_ms"]
        assert attempt == step["attempt"]
        results[step["index"]] = (attempt, node, started / 1000, ended / 1000, output)
    assert results[LANES * LENGTH][-1] == LANES * LENGTH  # none lost, none twice: each is one more than the one before

    # Each attempt is one run, on one node, and what is counted comes from it.
    begun = Counter((note.step, note.attempt) for note in notes if note.word == "begun")
    assert max(begun.values()) == 1
    whole = {(note.step, note.attempt, note.node) for note in notes if note.word == "ended"}
    for step, (attempt, node, *_) in results.items():
        assert step == LANES * LENGTH or (step, attempt, node) in whole

    # No attempt has begun before the result was there that it takes.
    for note in notes:
        if note.word == "begun" and note.step % LENGTH:
            assert note.at >= results[note.step - 1][3] - 0.001, f"{note} came before {results[note.step - 1]}"

    counted: Counter[str] = Counter()
    for one in pair:
        for entry in one.node.journal(identifier="chargehand-orchestrator"):
            word, _, rest = entry["MESSAGE"].partition(" ")
            if word == "step_succeeded" and f"plan={plan}" in rest:
                counted[rest.partition("step=")[2].partition(" ")[0]] += 1
    assert counted
    assert max(counted.values()) == 1, [step for step, times in counted.items() if times > 1]
