"""Watching a plan: its states, its steps' states, what they say and print, live, through outages and failovers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargehand.client import Client, NotPossible, WaitTimeout
from chargehand.config.load import load
from chargehand.registry import load_actions
from chargehand.store.keys import Keys
from chargehand.store.watching import Change
from support.programs import Program, StartProgram, until, write_config
from support.server import Server

KEYS = Keys("default")


class Watcher:
    """Watches on a thread of its own, with a client of its own."""

    def __init__(self, place: Path, server: Server, plan: str, past: int | None = None) -> None:
        settings = load(write_config(place, server.url, node="watcher")).settings
        self.seen: list[Change] = []
        self._client = Client(settings, load_actions(settings).actions)
        self._thread = threading.Thread(target=self._watch, args=(plan, past))
        self._thread.start()

    def _watch(self, plan: str, past: int | None) -> None:
        with self._client:
            for change in self._client.watch(plan, past=past, timeout=60):
                self.seen.append(change)

    def saw(self, kind: str, text: str) -> bool:
        return any((one.kind, one.text) == (kind, text) for one in self.seen)

    def end(self) -> list[Change]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.seen


@pytest.fixture
def watch(place: Path, server: Server) -> Iterator[Callable[..., Watcher]]:
    watchers: list[Watcher] = []

    def begin(plan: str, past: int | None = None) -> Watcher:
        watchers.append(Watcher(place, server, plan, past))
        return watchers[-1]

    yield begin
    for watcher in watchers:
        watcher.end()


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in changes]


def test_live(running: Program, client: Client, place: Path, watch: Callable[..., Watcher]) -> None:
    plan = client.plan("tells")
    plan.add("tells", gate=str(place / "gate"), lines=3)
    name = client.submit(plan)
    watcher = watch(name)
    until("it is heard", lambda: watcher.saw("progress", "half way") and watcher.saw("plan", "running"))
    assert not watcher.saw("plan", "succeeded")
    (place / "gate").touch()
    seen = watcher.end()
    assert told(seen)[-1] == ("plan", "succeeded")
    said = "\n".join(one.text for one in seen if one.kind == "say")
    assert said.splitlines() == ["begun", "line 0", "line 1", "line 2"]
    assert [one.fraction for one in seen if one.kind == "progress"][-1] == 1.0
    assert {one.step for one in seen if one.kind in {"say", "progress"}} == {0}
    assert seen[-1].done == 1
    assert all(one.ms and one.attempt == 1 for one in seen if one.kind == "say")


def test_output_of_a_command(start_program: StartProgram, place: Path, server: Server) -> None:
    extra = """
[[action]]
name = "talk"
argv = ["/bin/sh", "-c", "echo out; echo err >&2"]
"""
    start_program("orchestrator", extra=extra).ready()
    start_program("worker", extra=extra).ready()
    settings = load(write_config(place, server.url, node="client", extra=extra)).settings
    with Client(settings, load_actions(settings).actions) as client:
        plan = client.plan("talk")
        plan.add("talk")
        seen = told(list(client.watch(client.submit(plan), timeout=30)))
    assert ("out", "out") in seen
    assert ("err", "err") in seen
    assert seen[-1] == ("plan", "succeeded")


def test_through_a_failover_and_an_outage(
    running: Program,
    start_program: StartProgram,
    client: Client,
    place: Path,
    server: Server,
    watch: Callable[..., Watcher],
) -> None:
    """Each thing is heard once, in order, though the server was away and another orchestrator ends the plan."""
    plan = client.plan("tells")
    with plan.sequence():
        plan.add("tells", gate=str(place / "gate-1"))
        plan.add("tells", gate=str(place / "gate-2"))
    name = client.submit(plan)
    watcher = watch(name)
    until("the first is heard", lambda: watcher.saw("progress", "half way"))
    running.kill()
    server.kill()
    server.start()
    start_program("orchestrator", node="node-b").ready()
    (place / "gate-1").touch()
    until("the second is heard", lambda: any(one.step == 1 and one.kind == "progress" for one in watcher.seen))
    (place / "gate-2").touch()
    seen = watcher.end()
    assert told(seen)[-1] == ("plan", "succeeded")
    assert "\n".join(one.text for one in seen if one.kind == "say").splitlines() == ["begun", "line 0"] * 2
    assert [text for kind, text in told(seen) if kind == "plan"] == ["running", "succeeded"]


def test_what_was_said_before(running: Program, client: Client, place: Path) -> None:
    (place / "gate").touch()
    plan = client.plan("tells")
    plan.add("tells", gate=str(place / "gate"), lines=100)
    name = client.submit(plan)
    client.wait(name, 20)
    everything = list(client.watch(name))
    assert told(everything)[-1] == ("plan", "succeeded")
    said = "\n".join(one.text for one in everything if one.kind == "say").splitlines()
    assert said == ["begun", *(f"line {number}" for number in range(100))]
    assert told(list(client.watch(name, past=0))) == [("plan", "succeeded")]
    assert len(list(client.watch(name, past=2))) == 3


def test_until_it_pauses(running: Program, client: Client) -> None:
    plan = client.plan("fails")
    plan.add("fails_until", path="/nowhere")
    assert told(list(client.watch(client.submit(plan), timeout=30)))[-1] == ("plan", "paused")


def test_time_out_and_no_plan(running: Program, client: Client) -> None:
    plan = client.plan("later", start_at="1h")
    plan.add("nothing")
    name = client.submit(plan)
    with pytest.raises(WaitTimeout, match=f"plan {name} has not ended in the time given; it goes on"):
        list(client.watch(name, timeout=0.5))
    client.halt(name)
    with pytest.raises(NotPossible, match="there is no plan 'nope'"):
        list(client.watch("nope"))


def test_more_than_one_answer_holds(client: Client, server: Server) -> None:
    """Thousands of messages of a plan that has ended meanwhile: all of them, in order, and its end after them."""
    plan = client.plan("much")
    plan.add("nothing")
    name = client.submit(plan)
    line = server.line()
    entries = [b'[0,1,%d,"say","line %d"]' % (1_000 + number, number) for number in range(1_700)]
    line.batch([("XADD", KEYS.said(name), "*", "e", entry) for entry in entries])
    line.batch([("XADD", KEYS.said(name), "*", "e", b'["of","a","later","version"]')])
    line.call("SET", KEYS.states(name), "Ss")
    line.close()
    seen = told(list(client.watch(name, timeout=30)))
    assert seen == [*(("say", f"line {number}") for number in range(1_700)), ("plan", "succeeded")]
    assert told(list(client.watch(name, past=3))) == [("say", "line 1698"), ("say", "line 1699"), ("plan", "succeeded")]
