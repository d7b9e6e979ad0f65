"""An agent that follows a killed one: nothing is started beside a predecessor that still lives."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from chargehand.linux import tree
from chargehand.supervisor.memory import Memory, Notice
from support.nodes import Node
from support.programs import until


def servers(directory: Path) -> list[int]:
    """By where they work: a server writes over its environment, and with it over every mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_one_server_at_a_time_on_one_set_of_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without setpriv on PATH the kernel does not end the embedded server with its agent."""
    monkeypatch.setenv("PATH", str(place))
    config = place / "solo.toml"
    config.write_text(f'agent = {{ state_dir = "{place}/solo.state", runtime_dir = "{place}/solo.run" }}\n')
    node = Node(place, config)
    try:
        node.until_whole()
        left = node.child("redis")["pid"]
        node.kill()
        assert servers(place / "solo.state" / "redis") == [left], "else this test shows nothing"
        node.start()
        node.until_status("active (epoch 2, embedded Redis")
        assert servers(place / "solo.state" / "redis") == [node.child("redis")["pid"]] != [left]
    finally:
        assert node.stop() == 0
    until("none is left", lambda: servers(place / "solo.state" / "redis") == [])


def test_memory_over_two_agents(place: Path) -> None:
    """Who is to be reported is, once; the embedded server is remembered, and no notice comes of it."""
    first = Memory(str(place))
    worker, server = Notice("w1", "worker", "node-a"), Notice("s1", "redis", "node-a")
    first.born("worker", worker, os.getpid(), reported=True)
    first.born("redis", server, os.getpid(), reported=False)
    os.close(first._lock)  # as its death does
    second = Memory(str(place))
    assert {name: one.lives() for name, one in second.previous.items()} == {"worker": True, "redis": True}
    second.save()
    assert json.loads((place / "children.json").read_bytes())["children"].keys() == {"worker", "redis"}
    second.buried("redis")
    second.buried("worker")
    assert second.notices == [worker]
    second.delivered(worker)
    assert second.notices == []
    assert tree.birth(os.getpid()) != ""
    os.close(second._lock)
