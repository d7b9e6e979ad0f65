"""A Redis user with exactly the rights that the documents list: everything works; with one less, it is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.rights import COMMANDS, rule
from support.nodes import Node
from support.programs import until, write_config
from support.reasons import cause_of
from support.server import Server

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def allow(server: Server, *words: str) -> None:
    line = server.line()
    try:
        line.call("ACL", "SETUSER", "chargehand", "reset", "on", ">s3cret", *words)
    finally:
        line.close()


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    path = write_config(place, server.url, node="node-a")
    (place / "password").touch(0o600)
    (place / "password").write_text("s3cret\n")
    login = f'[redis]\nusername = "chargehand"\npassword_file = "{place}/password"'
    path.write_text(path.read_text().replace("[redis]", login))
    return path


def test_these_rights_are_enough(server: Server, config: Path) -> None:
    """Work, a retry, a large plan in parts, a takeover, a listing, a stop."""
    allow(server, *rule("default").split())
    node = Node(config.parent, config)
    try:
        node.until_whole()
        settings = load(config).settings
        with Client(settings, load_actions(settings).actions) as client:
            plan = client.plan("all")
            first = plan.add("third_time", path=str(config.parent / "tries"))
            plan.add("echo", value=first)
            large = client.plan("large")
            for number in range(2_500):
                large.add("nothing" if number else "echo", **({} if number else {"value": "x" * 300}))
            names = client.submit(plan), client.submit(large)
            node.kill_child("orchestrator")
            assert [client.wait(name, 60) for name in names] == [PlanState.SUCCEEDED] * 2
            assert len(client.list(most=10)) == 2
            waiting = client.plan("waiting", start_at="1h", locks=["a lock"])
            waiting.add("nothing")
            unserved = client.plan("unserved")
            unserved.add("urgent", path="/dev/null", text="x")
            cause_of(client, client.submit(waiting), "scheduled")
            cause_of(client, client.submit(unserved), "no-worker")
            cause_of(client, "nope", "no-plan")
            node.kill_child("worker")
            node.until("whole again", lambda node: "workers 1/1" in node.status and "active" in node.status)
        line = server.line()
        denied = [
            entry for entry in line.call("ACL", "LOG") if b"client" not in bytes(entry[entry.index(b"object") + 1])
        ]
        line.close()
        assert denied == []
    finally:
        assert node.stop() == 0


@pytest.mark.parametrize("command", ["xtrim", "zadd", "hdel", "publish", "blpop"])
def test_a_missing_right_is_named(server: Server, config: Path, command: str) -> None:
    allow(server, *rule("default").split(), f"-{command}")
    node = Node(config.parent, config)
    try:
        node.until("it says so", lambda node: f"the user may not {command.upper()} on chargehand:" in node.status)
        assert node.agent.poll() is None
        allow(server, *rule("default").split())
        until("it works once it is given", lambda: node.state() == "active")
    finally:
        assert node.stop() == 0


def test_the_document_lists_them() -> None:
    text = DOCUMENT.read_text()
    words = rule("NAME").split()
    assert all(word in text.split() for word in words), [word for word in words if word not in text.split()]
    assert len(set(COMMANDS)) == len(COMMANDS)
