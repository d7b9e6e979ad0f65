"""An agent that follows a killed one: nothing is started beside a predecessor that still lives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from chargehand.supervisor.events import Events
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


class Remembering:
    """An agent's memory; its death closes what the kernel would close."""

    def __init__(self, place: Path) -> None:
        self.memory = Memory(str(place), Events(lambda _: None, journal=False))

    def die(self) -> None:
        os.close(self.memory._lock)


def test_memory_over_two_agents(place: Path) -> None:
    """Who is to be reported is, once; the embedded server is remembered, and no notice comes of it."""
    first = Remembering(place)
    worker, server = Notice("w1", "worker", "node-a"), Notice("s1", "redis", "node-a")
    for name, notice in (("worker", worker), ("redis", server)):
        lock = first.memory.expect(name, notice, reported=notice is worker)
        first.memory.born(notice.incarnation, os.getpid(), lock)
    first.die()
    second = Remembering(place).memory
    assert {one.name for one in second.previous.values()} == {"worker", "redis"}
    assert second.survivors("w1") == {os.getpid()}, "by its pid and birth"
    second.save()
    second.buried("s1")
    second.buried("w1")
    assert second.notices == [worker]
    second.delivered(worker)
    assert second.notices == []
    assert list((place / "children").iterdir()) == []
    os.close(second._lock)


@pytest.mark.parametrize("known", [True, False])
def test_what_inherited_the_lock_is_a_survivor(place: Path, known: bool) -> None:
    """Also when the agent died between the start of a child and the note of its pid; the lock ends with its holder."""
    first = Remembering(place)
    lock = first.memory.expect("worker", Notice("w1", "worker", "node-a"), reported=True)
    with subprocess.Popen(["sleep", "1000"], pass_fds=[lock], env={}) as child:
        try:
            if known:
                first.memory.born("w1", child.pid, lock)
            else:
                os.close(lock)
            first.die()
            second = Remembering(place)
            assert second.memory.survivors("w1") == {child.pid}
        finally:
            child.kill()
    until("the lock is free", lambda: second.memory.survivors("w1") == set())
    second.die()
