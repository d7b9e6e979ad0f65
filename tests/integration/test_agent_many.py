"""Two hundred children of one agent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.nodes import Node
from support.others import child, events, lives, named, running, shell
from support.programs import until

MANY = 200


def states(node: Node) -> dict[str, str]:
    return {one["name"]: one["state"] for one in node.describe()["children"]}


def test_two_hundred(place: Path) -> None:
    """All run and are told; one that is killed is replaced and the others are left alone; a stop ends all."""
    names = [f"p{number:03}" for number in range(MANY)]
    with running(place, *(child(name) for name in names)) as node:
        until("all run", lambda: states(node) == dict.fromkeys(names, "ready"), timeout=120.0)
        node.until("READY", lambda node: "READY" in node.fields)
        before = {one["name"]: one["pid"] for one in node.describe()["children"]}
        assert len(set(before.values())) == MANY
        assert all(map(lives, before.values()))
        victim = before.pop("p117")
        os.kill(victim, signal.SIGKILL)
        until("it is replaced", lambda: named(node, "p117")["pid"] not in {victim, None})
        node.until("it is told", lambda node: "p117 crashed once at " in node.status)
        after = {one["name"]: one["pid"] for one in node.describe()["children"]}
        assert after.pop("p117") != victim
        assert after == before
        assert node.stop(timeout=120.0) == 0
        assert not any(map(lives, [*after.values(), victim]))
    assert len(events(node, "child_stopped")) == MANY
    assert list((place / "node-a.run").iterdir()) == []
    assert list((place / "node-a.state" / "children").iterdir()) == []


def test_two_hundred_that_crash_for_ever(place: Path) -> None:
    """The status stays one line, a child that works goes on, and the agent answers and stops."""
    crashing = [shell(f"p{number:03}", "exit 1") for number in range(MANY)]
    with running(place, child("works"), *crashing) as node:
        until("all have ended", lambda: all(one["crashes"] for one in node.describe()["children"][1:]), timeout=120.0)
        pid = named(node, "works")["pid"]
        node.until("it is told", lambda node: "degraded: p000 crashed " in node.status)
        assert len(node.status) <= 200
        assert (named(node, "works")["state"], named(node, "works")["pid"]) == ("ready", pid)
        assert node.stop(timeout=120.0) == 0


def test_killed_agent_of_two_hundred(place: Path) -> None:
    """None outlives it, and its successor runs them all again."""
    names = [f"p{number:03}" for number in range(MANY)]
    with running(place, *(child(name) for name in names)) as node:
        until("all run", lambda: set(states(node).values()) == {"ready"}, timeout=120.0)
        before = [one["pid"] for one in node.describe()["children"]]
        node.kill()
        until("none lives", lambda: not any(map(lives, before)), timeout=5.0)
        node.start()
        node.until("READY", lambda node: "READY" in node.fields)
        until("all run again", lambda: states(node) == dict.fromkeys(names, "ready"), timeout=120.0)
        assert not {one["pid"] for one in node.describe()["children"]} & set(before)
