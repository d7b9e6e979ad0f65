"""The lab itself: what the other tests stand on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.host import CommandFailed, until
from lab.network import Direction
from lab.node import Node
from lab.redis import Redis

#: Two connections to Redis, and when it may: one command on the first, then what the second hears in so many seconds.
_TALK = """
import socket, sys, time
from pathlib import Path

says, hears = (socket.create_connection(("redis", 6379)) for _ in range(2))
hears.sendall(b"SUBSCRIBE news\\r\\n")
hears.recv(1000)
Path("/srv/connected").touch()
while not Path("/srv/go").exists():
    time.sleep(0.05)
says.sendall(b"INCR said\\r\\n")
hears.settimeout(float(sys.argv[1]))
try:
    heard = hears.recv(1000).decode()
except TimeoutError:
    heard = ""
Path("/srv/heard").write_text(f"heard {heard}", encoding="ascii")
"""


def test_nodes_are_apart_and_meet_on_the_network(node: Callable[..., Node]) -> None:
    here, there = node(), node(name="node-b")
    assert here.read("/etc/machine-id") != there.read("/etc/machine-id")
    there.serve_redis()
    ask = ("timeout", "2", f"{here.server}-cli", "-h", "node-b", "ping")
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


@pytest.mark.parametrize(("direction", "said", "heard"), [("in", "1", False), ("out", "", True)])
def test_one_direction_is_cut(
    redis: Redis, node: Callable[..., Node], direction: Direction, said: str, heard: bool
) -> None:
    one = node()
    one.write("/srv/talk.py", _TALK)
    # What is to be heard has time; that nothing is heard takes three seconds.
    one.run("systemd-run", "python3", "/srv/talk.py", "30" if heard else "3")
    until("connected", (one.root / "srv/connected").exists)
    one.cut_network(direction)
    (one.root / "srv/go").touch()
    redis.cli("publish", "news", "something")
    until("the end", lambda: one.read("/srv/heard").startswith("heard"))
    assert ("something" in one.read("/srv/heard")) == heard
    assert redis.cli("get", "said") == said
    one.mend_network()
    assert one.redis_cli("-h", "redis", "ping") == "PONG"


def test_redis_of_all_goes_and_comes_back(redis: Redis, node: Callable[..., Node]) -> None:
    nodes = [node(name=name) for name in ("node-a", "node-b", "node-c")]
    ask = ("-h", "redis")
    nodes[0].redis_cli(*ask, "set", "key", "kept")
    redis.stop()
    for one in nodes:
        assert one.redis_cli(*ask, "ping") != "PONG"
    redis.start()
    redis.kill()
    redis.start()
    nodes[0].pull_the_plug()
    for one in nodes[1:]:
        assert one.redis_cli(*ask, "get", "key") == "kept"


def test_a_node_has_the_package_or_lacks_it(package: Path, node: Callable[..., Node]) -> None:
    one, other = node(), node(name="node-b", package=False)
    assert one.rpm("--query", "chargehand").startswith("chargehand-")
    assert one.rpm("--verify", "chargehand") == ""
    assert one.systemctl("is-enabled", "chargehand", check=False) == "disabled"
    assert one.run("chargehand", "--version")
    with pytest.raises(CommandFailed, match="is not installed"):
        other.rpm("--query", "chargehand")
    other.install(package)
    assert other.rpm("--query", "chargehand") == one.rpm("--query", "chargehand")
    other.rpm("--erase", "chargehand")
    other.repository(package)
    other.dnf("install", "chargehand")
    assert other.rpm("--query", "chargehand") == one.rpm("--query", "chargehand")
    assert other.systemctl("is-enabled", "chargehand", check=False) == "disabled"
