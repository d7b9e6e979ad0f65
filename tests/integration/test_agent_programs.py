"""Any program as a child: how it becomes READY, what it is given, how it ends, what is left of it."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import resource
import signal
import sys
from pathlib import Path

import pytest

from support.nodes import Node
from support.others import child, events, lives, named, pids, running, shell
from support.programs import freeze, until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

#: Says READY and pings until its standing order (a file) is there; then it is silent, and SIGABRT does not end it.
PINGER = """
import os, signal, socket, sys, time
order, aborted = sys.argv[1:]
signal.signal(signal.SIGABRT, lambda *_: open(aborted, "a").close())
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
out.send(b"READY=1")
while not os.path.exists(order):
    out.send(b"WATCHDOG=1")
    time.sleep(0.1)
while True:
    signal.pause()
"""

#: Prints each line that somebody writes into its pipe, which it keeps open: nothing is lost between two lines.
ECHO = 'exec 3<> "$PIPE"; while read -r line <&3; do echo "$line"; done'


def until_state(node: Node, name: str, state: str) -> None:
    until(f"{name} is {state}", lambda: named(node, name)["state"] == state)


def until_runs(node: Node, name: str) -> int:
    """Its own command runs, not what stands before it. Its pid."""

    def command() -> str:
        return Path(f"/proc/{named(node, name)['pid']}/cmdline").read_bytes().replace(b"\0", b" ").decode()

    until("it runs", lambda: re.match(r"\S*(sleep|of-its-own) 1000 $", command()))
    pid: int = named(node, name)["pid"]
    return pid


def tell(pipe: Path, text: str) -> None:
    """Waits for the reader."""
    with pipe.open("w") as out:
        out.write(text + "\n")


@pytest.fixture
def pipe(place: Path) -> Path:
    path = place / "pipe"
    os.mkfifo(path)
    return path


# -- becoming READY -------------------------------------------------------------------------------


def test_ready_once_it_runs(place: Path) -> None:
    with running(place, child("web")) as node:
        node.until("READY", lambda node: "READY" in node.fields)
        until_state(node, "web", "ready")
        assert node.status == "working"
        found = named(node, "web")
        assert found["pid"] == until_runs(node, "web")
        assert (found["kind"], found["group"], found["restarts"], found["role"]) == ("program", "", 0, "")


def test_ready_and_watched_by_notify(place: Path) -> None:
    """Its silence is answered as that of our own: SIGABRT, then SIGKILL, then another one."""
    order, aborted = place / "order", place / "aborted"
    argv = [sys.executable, "-c", PINGER, str(order), str(aborted)]
    with running(place, child("web", *argv, ready="notify", watchdog="1s")) as node:
        until_state(node, "web", "ready")
        first = named(node, "web")["pid"]
        environment = Path(f"/proc/{first}/environ").read_bytes().split(b"\0")
        assert b"WATCHDOG_USEC=1000000" in environment
        assert not any(one.startswith(b"WATCHDOG_PID=") for one in environment)
        order.touch()
        until("SIGABRT", aborted.exists)
        order.unlink()
        until("it is replaced", lambda: named(node, "web")["pid"] not in {first, None})
        assert not lives(first)
        until_state(node, "web", "ready")
        node.until("it is told", lambda node: "web crashed once at" in node.status)
        assert re.search(r"web crashed once at \d\d:\d\d, last: hung: silent for 1(\.\d+)? s", node.status)
        assert ("child_hung", "web") in events(node, "child_hung")


def test_ready_by_a_line_of_its_log(place: Path, pipe: Path) -> None:
    with running(
        place, shell("web", "echo starting; " + ECHO, env={"PIPE": str(pipe)}, ready={"log": "^listening on [0-9]+$"})
    ) as node:
        tell(pipe, "not listening on 80")
        until("it has printed", lambda: "web: not listening on 80" in node.log.read_text())
        assert named(node, "web")["state"] == "starting"
        tell(pipe, "listening on 80")
        until_state(node, "web", "ready")


def test_role_by_its_log(place: Path, pipe: Path) -> None:
    """It is the node's role, and the node READY with it."""
    role = {"active": "entering active mode", "passive": "entering passive mode"}
    with running(place, shell("vip", ECHO, env={"PIPE": str(pipe)}, role=role)) as node:
        node.until_status("starting: vip")
        assert "READY" not in node.fields
        tell(pipe, "12:00 entering passive mode")
        node.until_status("passive (vip)")
        ready = next(message for message in node.history if "READY" in message)
        assert ready["STATUS"] == "passive (vip)"
        tell(pipe, "12:01 entering active mode")
        node.until_status("active (vip)")
        assert named(node, "vip")["role"] == "active"
        os.kill(named(node, "vip")["pid"], signal.SIGKILL)
        node.until("what it was, it is no more", lambda node: node.status.startswith("starting: vip"))


def test_order_of_starts_and_ends(place: Path, pipe: Path) -> None:
    ends = place / "ends"
    script = f'trap "echo $0 >> {ends}; exit" TERM; {{}} echo ready; sleep 1000 & wait'

    def one(name: str, first: str = "", **keys: object) -> dict[str, object]:
        return child(name, "/bin/sh", "-c", script.format(first), name, ready={"log": "^ready$"}, **keys)

    children = [one("c", after=["b"]), one("b", after=["a"]), one("a", f"read -r _ < {pipe};")]
    with running(place, *children) as node:
        until_state(node, "a", "starting")
        assert [named(node, name)["pid"] for name in "bc"] == [None, None]
        tell(pipe, "go")
        until_state(node, "c", "ready")
        order = events(node, "child_started", "child_ready")
        assert order == [(kind, name) for name in "abc" for kind in ("child_started", "child_ready")]
        assert node.stop() == 0
    assert ends.read_text().split() == ["c", "b", "a"]
    assert events(node, "child_stopped") == [("child_stopped", name) for name in "cba"]


def test_never_ready(place: Path) -> None:
    """It is aborted, counted, and tried again."""
    with running(place, child("web", ready="notify", start_timeout="1s")) as node:
        node.until("it is told", lambda node: "web crashed 2 times since " in node.status)
        assert re.search(r"last: not READY in 1(\.\d+)? s$", node.status)
        assert events(node, "child_late")[:2] == [("child_late", "web")] * 2
        node.until_logged("how=not READY in 1")


# -- what it is given -----------------------------------------------------------------------------


def test_environment_and_descriptors(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own, and nothing of the agent's relations to systemd."""
    private = ("INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "MAINPID")
    for name in private:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PASSED_ON", "yes")
    with running(place, child("web", env={"GREETING": "good day = 1", "PASSED_ON": "no"})) as node:
        until_state(node, "web", "ready")
        found = named(node, "web")
        assert found["pid"] == until_runs(node, "web")
        raw = Path(f"/proc/{found['pid']}/environ").read_text()
        environment = dict(line.split("=", 1) for line in raw.split("\0") if line)
        assert environment["GREETING"] == "good day = 1"
        assert environment["PASSED_ON"] == "no"
        assert environment["CHARGEHAND_CHILD"] == "web"
        assert environment["CHARGEHAND_INCARNATION"] == found["incarnation"]
        agents = {*private, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CHARGEHAND_LINK_FD"}
        assert not environment.keys() & agents
        descriptors = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{found['pid']}/fd").iterdir()}
        assert descriptors.pop(0) == "/dev/null"
        assert descriptors.pop(1) == descriptors.pop(2)
        assert list(descriptors.values()) == [f"{place}/node-a.state/children/{found['incarnation']}"]


def test_found_on_its_own_path(place: Path) -> None:
    (place / "bin").mkdir()
    (place / "bin" / "of-its-own").symlink_to("/bin/sleep")
    with running(place, child("web", "of-its-own", "1000", env={"PATH": f"{place}/bin:/bin"})) as node:
        until_runs(node, "web")


def test_everything_is_in_place_before_its_first_instruction(place: Path) -> None:
    limits = {"nofile": 99, "core": "0KiB", "file_size": "1MiB"}
    seen = place / "seen"
    script = f"(ulimit -n; nice; pwd) > {seen}.new; mv {seen}.new {seen}; exec sleep 1000"
    (place / "its own").mkdir()
    with running(place, shell("web", script, limits=limits, nice=7, directory=f"{place}/its own")) as node:
        until("it has looked", seen.exists)
        assert seen.read_text().splitlines() == ["99", "7", f"{place}/its own"]
        pid = named(node, "web")["pid"]
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(pid, resource.RLIMIT_FSIZE) == (1 << 20, 1 << 20)
        assert resource.prlimit(pid, resource.RLIMIT_AS) == resource.prlimit(0, resource.RLIMIT_AS), "left as it was"
        assert os.getpriority(os.PRIO_PROCESS, pid) == 7


def test_stack_limit_is_there_for_all(place: Path) -> None:
    """The kernel puts the stack's limit back when an exec ends: one that is set during it is lost."""
    limits = {"stack": "4MiB"}
    with running(place, *(child(f"p{number:03}", limits=limits) for number in range(150))) as node:
        until("all run", lambda: all(one["state"] == "ready" for one in node.describe()["children"]))
        for one in node.describe()["children"]:
            until_runs(node, one["name"])
        found = [resource.prlimit(one["pid"], resource.RLIMIT_STACK) for one in node.describe()["children"]]
        assert found == [(4 << 20, 4 << 20)] * 150


@pytest.fixture
def open_place(place: Path) -> Path:
    """One that other users may enter and write to."""
    place.chmod(0o755)
    (place / "all").mkdir()
    (place / "all").chmod(0o777)
    return place


def identity(pid: int) -> dict[str, set[int]]:
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in {"Uid", "Gid", "Groups"}:
            found[name] = {int(word) for word in rest.split()}
    return found


@AS_ROOT
@pytest.mark.parametrize(
    "keys", [{"user": "nobody"}, {"user": "nobody", "group": "daemon"}, {"group": "daemon"}], ids=" ".join
)
def test_another_user(open_place: Path, keys: dict[str, str]) -> None:
    """With that user's groups and none of the agent's; and it ends with the agent all the same."""
    with running(open_place, shell("web", f"echo $$ >> {open_place}/all/pids; exec sleep 1000", **keys)) as node:
        until("it runs", lambda: pids(open_place / "all" / "pids"))
        pid = named(node, "web")["pid"]
        assert pids(open_place / "all" / "pids") == [pid]
        user = pwd.getpwnam(keys.get("user", "root"))
        gid = grp.getgrnam(keys["group"]).gr_gid if "group" in keys else user.pw_gid
        groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
        assert identity(pid) == {"Uid": {user.pw_uid}, "Gid": {gid}, "Groups": groups}
        node.kill()
        until("it has ended with the agent", lambda: not lives(pid), timeout=5.0)


@AS_ROOT
def test_another_user_may_notify(open_place: Path) -> None:
    script = f'if test -w "$NOTIFY_SOCKET"; then touch {open_place}/all/may; fi; exec sleep 1000'
    with running(open_place, shell("web", script, ready="notify", user="nobody")):
        until("it may", (open_place / "all" / "may").exists)


# -- what cannot be started -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("", "No such file or directory"),
        ("file", "Permission denied"),
        ("directory", "Permission denied"),
    ],
)
def test_program_that_is_none(place: Path, make: str, words: str) -> None:
    """The status names the file and why; once it is there, it runs."""
    program = place / "program"
    if make == "file":
        program.write_text("#!/bin/sh\nexec sleep 1000\n")
    elif make == "directory":
        program.mkdir()
    with running(place, child("web", str(program))) as node:
        node.until("READY all the same", lambda node: "READY" in node.fields)
        node.until("it is told", lambda node: f"last: cannot start: {program}: {words}" in node.status)
        if make == "directory":
            program.rmdir()
        program.write_text("#!/bin/sh\nexec sleep 1000\n")
        program.chmod(0o755)
        until_state(node, "web", "ready")
        until_runs(node, "web")


def test_directory_that_is_none(place: Path) -> None:
    with running(place, child("web", directory=f"{place}/none")) as node:
        node.until("it is told", lambda node: f"{place}/none: No such file or directory" in node.status)


def test_last_words(place: Path) -> None:
    """Its last line of output, where that is asked for; how it ended, always."""
    script = "echo reading; echo 'no licence was found' >&2; echo; exit 3"
    with running(place, shell("asked", script, last_words=True), shell("unasked", script)) as node:
        node.until("both", lambda node: node.status.count("crashed") == 2)
        words = {one["name"]: one["last_words"] for one in node.describe()["children"]}
        assert words == {"asked": 'exit 3 "no licence was found"', "unasked": "exit 3"}


# -- its end --------------------------------------------------------------------------------------


def test_stop_signal_of_its_own(place: Path) -> None:
    ends = place / "ends"
    script = f'for s in INT TERM; do trap "echo $s >> {ends}; exit" $s; done; echo ready; sleep 1000 & wait'
    with running(place, shell("web", script, stop_signal="SIGINT", ready={"log": "ready"})) as node:
        until_state(node, "web", "ready")
        assert node.stop() == 0
    assert ends.read_text().split() == ["INT"]


def test_stop_is_not_obeyed(place: Path) -> None:
    """After its time it is killed, with what it started."""
    script = "trap '' TERM; sleep 1000 & echo $! >> $PIDS; setsid sleep 1000 & echo $! >> $PIDS; echo ready; wait; wait"
    env = {"PIDS": f"{place}/pids"}
    with running(place, shell("web", script, env=env, stop_timeout="300ms", ready={"log": "ready"})) as node:
        until_state(node, "web", "ready")
        left = [named(node, "web")["pid"], *pids(place / "pids")]
        assert len(left) == 3
        assert node.stop() == 0
        assert not any(map(lives, left))
    assert "killed by SIGKILL" in node.log.read_text()


def test_who_is_asked_for_the_system_ends_with_the_agent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service it asks whether the whole system stops, and does not wait for an answer that comes too late."""
    (place / "bin").mkdir()
    systemctl = place / "bin" / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho $$ >> {place}/asked\nexec sleep 1000\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("INVOCATION_ID", "1")
    waits = f"until [ -s {place}/asked ]; do sleep 0.01; done"
    with running(place, shell("web", f"trap '{waits}; exit' TERM; echo $$ > {place}/waits; sleep 1000 & wait")) as node:
        until("it waits", lambda: pids(place / "waits"))
        assert node.stop(timeout=10.0) == 0
    (asked,) = pids(place / "asked")
    assert not lives(asked)


def test_stopped_by_job_control_it_still_obeys(place: Path) -> None:
    with running(place, child("web", stop_timeout="1h")) as node:
        freeze(until_runs(node, "web"))
        assert node.stop(timeout=10.0) == 0


@pytest.mark.parametrize(
    ("script", "kill"),
    [
        pytest.param("( setsid sleep 1000 & echo $! >> $PIDS ); exit 0", False, id="forks and exits"),
        pytest.param("(trap '' TERM HUP; sleep 1000 & echo $! >> $PIDS); exit 1", False, id="left in its group"),
        pytest.param("setsid sh -c 'trap \"\" TERM; sleep 1000 & echo $! >> $PIDS; wait' & wait", True, id="below"),
    ],
)
def test_nothing_of_it_runs_beside_its_successor(place: Path, script: str, *, kill: bool) -> None:
    path = place / "pids"
    with running(place, shell("web", script, env={"PIDS": str(path)})) as node:
        until("it has left something", lambda: pids(path))
        first = pids(path)[0]
        if kill:
            assert lives(first)
            os.kill(named(node, "web")["pid"], signal.SIGKILL)
        until("another has", lambda: len(pids(path)) > 1)
        assert not lives(first)
        node.until("it is told", lambda node: "web crashed " in node.status)
    assert not any(map(lives, pids(path)))


def test_killed_agent_takes_every_program_along(place: Path) -> None:
    """In any state of its life; what a program had started ends when the next agent starts, before its successor."""
    leaves = f"setsid sleep 1000 & echo $! >> {place}/pids; exec sleep 1000"
    children = [
        child("plain"),
        shell(
            "ignores",
            "trap '' TERM HUP INT; echo ready; while :; do read -r x; done",
            ready={"log": "ready"},
            stop_timeout="300ms",
        ),
        child("starts", ready="notify"),
        shell("leaves", leaves),
        child("frozen"),
    ]
    with running(place, *children) as node:
        until("all run", lambda: all(one["pid"] for one in node.describe()["children"]) and pids(place / "pids"))
        until_state(node, "ignores", "ready")
        own = [one["pid"] for one in node.describe()["children"]]
        freeze(named(node, "frozen")["pid"])
        (left,) = pids(place / "pids")
        node.kill()
        until("none lives", lambda: not any(map(lives, own)), timeout=5.0)
        node.start()
        until("its successor runs", lambda: len(pids(place / "pids")) == 2)
        assert not lives(left)


def test_above_its_memory_it_is_replaced(place: Path) -> None:
    """It grows the first time only."""
    script = (
        "import os, signal, sys\n"
        "if not os.path.exists(sys.argv[1]):\n"
        "    open(sys.argv[1], 'w').close()\n"
        "    grown = b'x' * (128 << 20)\n"
        "signal.pause()\n"
    )
    argv = [sys.executable, "-c", script, f"{place}/grown"]
    with running(place, child("web", *argv, memory_max="64MiB")) as node:
        until("it has grown", (place / "grown").exists)
        first = named(node, "web")["pid"]
        until("it is replaced", lambda: named(node, "web")["pid"] not in {first, None})
        assert not lives(first)
        line = next(line for line in node.log.read_text().splitlines() if "child_over_memory" in line)
        assert re.search(rf"child_over_memory child=web pid={first} bytes=\d+ most={64 << 20}", line)
        node.hear()
        assert node.status == "working", "a replacement is no crash"


def test_what_is_remembered_of_a_program_goes_with_it(place: Path) -> None:
    """Nobody needs to hear of its death: no notice, and no file in the state directory."""
    with running(place, child("web")) as node:
        until_state(node, "web", "ready")
        (path,) = (place / "node-a.state" / "children").iterdir()
        remembered = json.loads(path.read_text())
        assert (remembered["name"], remembered["pid"]) == ("web", named(node, "web")["pid"])
        os.kill(remembered["pid"], signal.SIGKILL)
        until("its successor is remembered", lambda: named(node, "web")["pid"] not in {remembered["pid"], None})
        assert not path.exists()
        assert node.stop() == 0
    assert list((place / "node-a.state" / "children").iterdir()) == []
    assert not (place / "node-a.state" / "notices.json").exists()
