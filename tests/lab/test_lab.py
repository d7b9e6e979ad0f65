"""The lab itself: what the other tests stand on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.host import CommandFailed
from lab.node import Node


def test_nodes_are_apart_and_meet_on_the_network(node: Callable[..., Node]) -> None:
    here, there = node(), node(name="node-b")
    assert here.read("/etc/machine-id") != there.read("/etc/machine-id")
    there.run("redis-server", "--daemonize", "yes", "--protected-mode", "no")
    ask = ("timeout", "2", "redis-cli", "-h", "node-b", "ping")
    assert here.run(*ask) == "PONG\n"

    there.cut_network()
    with pytest.raises(CommandFailed):
        here.run(*ask)
    there.mend_network()
    assert here.run(*ask) == "PONG\n"

    there.freeze()
    with pytest.raises(CommandFailed):
        here.run(*ask)
    there.thaw()
    assert here.run(*ask) == "PONG\n"


def test_power_goes_and_comes_back(node: Callable[..., Node]) -> None:
    one = node()
    boot = one.read("/proc/sys/kernel/random/boot_id")
    one.run("sh", "-c", "echo kept >/srv/file; logger --tag lab before")
    entries = one.journal(identifier="lab")
    one.pull_the_plug()
    assert not one.is_up
    assert one.read("/srv/file") == "kept\n"
    one.boot()
    assert one.read("/proc/sys/kernel/random/boot_id") != boot
    assert one.read("/srv/file") == "kept\n"
    assert one.journal(identifier="lab") == entries
    one.power_off()
    assert not one.is_up
    assert [entry["MESSAGE"] for entry in one.journal(identifier="lab")] == ["before"]
