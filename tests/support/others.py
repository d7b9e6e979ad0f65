"""Nodes that run other programs only: no orchestrator, no worker, no Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from support.nodes import Node
from support.programs import lives, written
from support.server import free_port

__all__ = ["child", "events", "lives", "named", "pids", "running", "shell", "write"]


def child(name: str, *argv: str, **keys: Any) -> dict[str, Any]:
    """One `[[child]]`; without a command it sleeps."""
    return {"name": name, "argv": list(argv) or ["/bin/sleep", "1000"], **keys}


def shell(name: str, script: str, **keys: Any) -> dict[str, Any]:
    return child(name, "/bin/sh", "-c", script, **keys)


def write(place: Path, *children: dict[str, Any], **agent: Any) -> Path:
    """The node's configuration."""
    path = place / "node-a.toml"
    settings = {
        "node": {"name": "node-a"},
        "redis": {"url": f"redis://127.0.0.1:{free_port()}/0"},
        "orchestrator": {"enabled": False},
        "worker": [{"name": "worker", "enabled": False}],
        "agent": {"state_dir": f"{place}/node-a.state", "runtime_dir": f"{place}/node-a.run"} | agent,
        "child": list(children),
    }
    path.write_text(tomli_w.dumps(settings))
    return path


@contextmanager
def running(place: Path, *children: dict[str, Any], **agent: Any) -> Iterator[Node]:
    """A node with these children, once it answers; it is stopped at the end, and must leave nothing."""
    node = Node(place, write(place, *children, **agent))
    try:
        node.until("it answers", lambda node: node.status)
        yield node
    finally:
        node.stop()
    assert node.processes() == []


def named(node: Node, name: str) -> dict[str, Any]:
    """What the agent tells of a child; while one takes another's place, of the later one."""
    found: dict[str, Any] = [one for one in node.describe()["children"] if one["name"] == name][-1]
    return found


def events(node: Node, *kinds: str) -> list[tuple[str, str]]:
    """Kind and child of the agent's events of these kinds, in their order."""
    found = []
    for line in node.log.read_text(errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["agent:"] and words[2] in kinds:
            found.append((words[2], next((w[len("child=") :] for w in words if w.startswith("child=")), "")))
    return found


def pids(path: Path) -> list[int]:
    """Those that programs have written down."""
    return [int(word) for line in written(path) for word in line.split()]
