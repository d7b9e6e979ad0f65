"""Agent and child of different versions, as between an upgrade and the restart after it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chargehand.config.load import load
from chargehand.config.plain import reachable, to_builtins
from chargehand.greeting import FORMAT
from chargehand.link import Link, pair
from chargehand.notify import Receiver
from support.nodes import Node
from support.programs import write_config
from support.server import Server

ADVICE = "systemctl restart chargehand: the agent is of another version"
OTHER_FORMAT = FORMAT + 6
#: An agent of a later version, whose children are of this one.
LATER_AGENT = f"""
import sys
from chargehand import greeting
greeting.FORMAT = {OTHER_FORMAT}
from chargehand.supervisor.main import main
sys.exit(main(sys.argv[1:]))
"""


class Told(NamedTuple):
    """A child whose agent is this test."""

    process: subprocess.Popen[str]
    link: Link
    receiver: Receiver

    def says(self) -> Iterator[tuple[str, str]]:
        """What it sends, as it comes, until it has ended."""
        while True:
            ended = self.process.poll() is not None
            for message in self.receiver.receive():
                yield from message.fields.items()
            if ended:
                return
            select.select([self.receiver.fileno()], [], [], 0.2)


StartChild = Callable[[str, dict[str, Any]], Told]


@pytest.fixture
def start_child(place: Path) -> Iterator[StartChild]:
    """Start one of our programs as an agent does, and send it this first."""
    children: list[Told] = []

    def start(kind: str, message: dict[str, Any]) -> Told:
        receiver = Receiver(str(place / f"{kind}.notify"))
        ours, theirs = pair()
        environment = {
            **os.environ,
            "CHARGEHAND_CHILD": kind,
            "CHARGEHAND_LINK_FD": str(theirs.fileno()),
            "NOTIFY_SOCKET": receiver.path,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "chargehand", kind],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        children.append(Told(process, ours, receiver))
        ours.send(message)
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.process.wait()
        child.link.close()
        child.receiver.close()
        assert child.process.stderr is not None
        child.process.stderr.close()


def settings(place: Path, server: Server) -> dict[str, Any]:
    return to_builtins(reachable(load(write_config(place, server.url, node="node-a")).settings))


@pytest.mark.parametrize("kind", ["orchestrator", "worker", "console"])
def test_a_child_refuses_a_format_that_it_cannot_read(start_child: StartChild, kind: str) -> None:
    """In a line, where the agent hears it and where people read it."""
    child = start_child(kind, {"method": "io.chargehand.Child.Settings", "parameters": {"format": OTHER_FORMAT}})
    refusal = f"{ADVICE} (expected format {FORMAT}, found {OTHER_FORMAT})"
    assert ("X_CHARGEHAND_ERROR", refusal) in list(child.says())
    assert child.process.wait() == 78
    assert child.process.stderr is not None
    assert child.process.stderr.read() == f"chargehand: {refusal}\n"


@pytest.mark.parametrize("kind", ["orchestrator", "worker"])
def test_a_child_of_an_older_agent_serves(start_child: StartChild, place: Path, server: Server, kind: str) -> None:
    """It gives no number, and not all that is known here."""
    plain = settings(place, server)
    del plain["retention"], plain["console"], plain["orchestrator"]["max_inbox"]
    child = start_child(kind, {"method": "io.chargehand.Child.Settings", "parameters": {"settings": plain}})
    assert ("READY", "1") in child.says()
    child.link.close()
    assert ("STOPPING", "1") in child.says()
    assert child.process.wait() == 0


@pytest.mark.parametrize("kind", ["orchestrator", "worker"])
def test_a_child_of_a_newer_agent_serves(start_child: StartChild, place: Path, server: Server, kind: str) -> None:
    """It gives more than is known here."""
    plain = settings(place, server) | {"tracing": {"enabled": True}}
    plain["worker"][0]["affinity"] = [0, 1]
    plain["orchestrator"]["lease"]["grace"] = "1s"
    parameters = {"format": FORMAT, "settings": plain, "locale": "C"}
    child = start_child(kind, {"method": "io.chargehand.Child.Settings", "parameters": parameters})
    assert ("READY", "1") in child.says()


def test_a_child_refuses_a_first_message_without_settings(start_child: StartChild) -> None:
    """Told in a line as well."""
    child = start_child("worker", {"method": "io.chargehand.Child.Drain", "parameters": {}})
    assert ("X_CHARGEHAND_ERROR", f"{ADVICE} (its settings: 'settings')") in list(child.says())
    assert child.process.wait() == 78


def test_the_status_says_that_the_agent_is_to_be_restarted(place: Path, server: Server) -> None:
    """An agent of a later version with children of this one: it goes on, and whoever looks at it learns what to do."""
    config = write_config(place, server.url, node="node-a")
    node = Node(place, config, program=("-c", LATER_AGENT))
    try:
        refusal = f'exit 78 "{ADVICE} (expected format {FORMAT}, found {OTHER_FORMAT})"'
        told = re.compile(rf"starting: orchestrator, degraded: orchestrator crashed [^,]*, last: {re.escape(refusal)}")
        node.until("it says what to do", lambda node: told.match(node.status))
        assert node.child("orchestrator")["last_words"] == refusal
        assert "Traceback" not in node.log.read_text()
        assert node.agent.poll() is None
        node.stop()
        node = Node(place, config)
        node.until_whole()
    finally:
        node.stop()
