"""Control groups: the test delegates one, as systemd does: a child's whole tree is known, however it hides."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.nodes import Node
from support.others import child, events, lives, named, pids, shell, write
from support.programs import until

MOUNTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
ROOT = next((path for path in MOUNTS if (path / "cgroup.procs").exists() and os.access(path, os.W_OK)), None)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or ROOT is None, reason="needs root and control groups of version 2 that may be written"
)

#: What escapes every other search: another session, no environment (so no mark), no descriptor, deaf to SIGTERM.
HIDDEN = (
    "setsid env -i /bin/sh -c \"trap '' TERM HUP; sleep 1000 & echo \\$! >> {path}; exec >&- 2>&-; wait\" "
    "3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- & "
)


@pytest.fixture
def group(place: Path) -> Iterator[Path]:
    """One below the root, marked as systemd marks what it delegates. Nothing of it is left afterwards."""
    assert ROOT is not None
    path = ROOT / place.name
    path.mkdir()
    os.setxattr(path, "trusted.delegate", b"1")
    yield path
    (path / "cgroup.kill").write_text("1")
    until("it is empty", lambda: "populated 0" in (path / "cgroup.events").read_text())
    for below in sorted((one for one in path.rglob("*") if one.is_dir()), reverse=True):
        below.rmdir()
    path.rmdir()


#: Joins the group that is named first, as a service is put into its own, and becomes the agent.
ENTER = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "chargehand", "agent", *sys.argv[2:]])
"""


@contextmanager
def running(place: Path, group: Path, *children: dict[str, Any]) -> Iterator[Node]:
    node = Node(place, write(place, *children), program=("-c", ENTER, str(group)))
    try:
        node.until("it answers", lambda node: node.status)
        yield node
    finally:
        node.stop()


def members(path: Path) -> list[int]:
    return [int(word) for word in (path / "cgroup.procs").read_text().split()]


def children_groups(group: Path) -> list[str]:
    return sorted(path.name for path in group.glob("*.child"))


def test_everyone_in_a_group_of_its_own(place: Path, group: Path) -> None:
    with running(place, group, child("web"), shell("feed", "sleep 1000 & wait")) as node:
        until("both run", lambda: len(children_groups(group)) == 2 and all(pid_of(node, n) for n in ("web", "feed")))
        assert members(group) == [], "a group that has groups holds no process itself"
        assert members(group / "agent") == [node.agent.pid]
        web, feed = named(node, "web"), named(node, "feed")
        assert children_groups(group) == sorted(f"{one['name']}.{one['incarnation']}.child" for one in (web, feed))
        assert members(group / f"web.{web['incarnation']}.child") == [web["pid"]]
        until("its own too", lambda: len(members(group / f"feed.{feed['incarnation']}.child")) == 2)
        assert feed["pid"] in members(group / f"feed.{feed['incarnation']}.child")
        assert node.stop() == 0
        assert children_groups(group) == []
    assert "populated 0" in (group / "cgroup.events").read_text()
    assert events(node, "cgroup_failed") == []


def pid_of(node: Node, name: str) -> int:
    return int(named(node, name)["pid"] or 0)


def test_no_grandchild_is_born_outside(place: Path, group: Path) -> None:
    """The first thing that it does is to fork: its gate has kept it until it was in its group."""
    script = f"cat /proc/self/cgroup > {place}/seen.new; mv {place}/seen.new {place}/seen; exec sleep 1000"
    with running(place, group, shell("web", script)) as node:
        until("it has looked", (place / "seen").exists)
        found = named(node, "web")
        line = next(line for line in (place / "seen").read_text().splitlines() if line.startswith("0::"))
        assert line.endswith(f"/{group.name}/web.{found['incarnation']}.child")


def test_what_hides_ends_before_the_successor_starts(place: Path, group: Path) -> None:
    script = HIDDEN.format(path=place / "pids") + "exec sleep 1000"
    with running(place, group, shell("web", script)) as node:
        until("it hides", lambda: pids(place / "pids"))
        (first,) = pids(place / "pids")
        hidden = Path(f"/proc/{first}/environ").read_bytes()
        assert b"CHARGEHAND" not in hidden
        killed = named(node, "web")
        os.kill(killed["pid"], signal.SIGKILL)
        until("another hides", lambda: len(pids(place / "pids")) == 2)
        assert not lives(first)
        assert named(node, "web")["restarts"] == 1
        until(
            "its group has gone", lambda: children_groups(group) == [f"web.{named(node, 'web')['incarnation']}.child"]
        )
        assert node.stop() == 0
        assert not any(map(lives, pids(place / "pids")))
        assert children_groups(group) == []


def test_groups_below_a_childs_own_go_too(place: Path, group: Path) -> None:
    """As a container engine makes them."""
    script = (
        "own=$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir -p ROOT$own/a/b; "
        "sh -c 'echo $$ > '\"ROOT$own/a/b\"'/cgroup.procs; exec sleep 1000' & echo $! >> PIDS; exec sleep 1000"
    )
    script = script.replace("ROOT", str(ROOT)).replace("PIDS", str(place / "pids"))
    with running(place, group, shell("web", script)) as node:
        until("it has one", lambda: any(members(path) for path in group.glob("*.child/a/b")))
        (below,) = pids(place / "pids")
        os.kill(named(node, "web")["pid"], signal.SIGKILL)
        until("it is replaced", lambda: len(pids(place / "pids")) == 2)
        assert not lives(below)
        assert node.stop() == 0
    assert children_groups(group) == []


@pytest.mark.parametrize("times", [1, 3])
def test_killed_agent(place: Path, group: Path, times: int) -> None:
    """What it left is ended by the next in the same group, before a successor starts; no group is left either."""
    script = HIDDEN.format(path=place / "pids") + "exec sleep 1000"
    with running(place, group, shell("web", script), child("feed")) as node:
        for number in range(1, times + 1):
            until("it hides", lambda: len(pids(place / "pids")) == number)  # noqa: B023 - called before the next
            assert lives(pids(place / "pids")[-1])
            node.kill()
            node.start()
            until("another hides", lambda: len(pids(place / "pids")) == number + 1)  # noqa: B023
            assert not any(map(lives, pids(place / "pids")[:-1]))
            node.until("READY", lambda node: "READY" in node.fields)
        assert node.stop() == 0
        assert not any(map(lives, pids(place / "pids")))
    assert children_groups(group) == []


def test_reload_stays_in_the_agents_leaf(place: Path, group: Path) -> None:
    """What reads the configuration is the agent's own: it is no reason to take the group for somebody else's."""
    with running(place, group, child("web")) as node:
        write(place, child("web"), child("feed"))
        node.agent.send_signal(signal.SIGHUP)
        until("it runs too", lambda: len(children_groups(group)) == 2)
        assert members(group) == []
        until("only the agent is left in its leaf", lambda: members(group / "agent") == [node.agent.pid])


def test_group_that_is_shared_is_left_alone(place: Path, group: Path) -> None:
    """Somebody else is in it: it is not the agent's to divide, and nobody in it is killed."""
    other = subprocess.Popen(["sleep", "1000"])
    try:
        (group / "cgroup.procs").write_text(str(other.pid))
        with running(place, group, child("web")) as node:
            until("it runs", lambda: pid_of(node, "web"))
            assert children_groups(group) == []
            assert not (group / "agent").exists()
            assert set(members(group)) >= {other.pid, node.agent.pid}
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_group_that_nobody_delegated_is_left_alone(place: Path, group: Path) -> None:
    """Root may write to every group; that makes none its own."""
    os.removexattr(group, "trusted.delegate")
    with running(place, group, child("web")) as node:
        until("it runs", lambda: pid_of(node, "web"))
        assert children_groups(group) == []
        assert node.agent.pid in members(group)


def test_group_in_which_nothing_can_be_made(place: Path, group: Path) -> None:
    """No group more is allowed: children run without one of their own, and that is told."""
    (group / "cgroup.max.descendants").write_text("1")
    with running(place, group, shell("web", f"setsid sleep 1000 & echo $! >> {place}/pids; exec sleep 1000")) as node:
        until("it runs", lambda: pids(place / "pids"))
        assert children_groups(group) == []
        assert ("cgroup_failed", "web") in events(node, "cgroup_failed")
        os.kill(pid_of(node, "web"), signal.SIGKILL)
        until("another runs", lambda: len(pids(place / "pids")) == 2)
        assert not lives(pids(place / "pids")[0]), "found by its mark"
        assert node.stop() == 0
        assert not any(map(lives, pids(place / "pids")))
