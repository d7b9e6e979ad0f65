"""The commands that ask this node's agent, with real agents: what they do, and what they say when they cannot."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.commands import COMMAND, Done, chargehand
from support.faults import lines_of
from support.nodes import Node, StartNode
from support.plans import submit, view_of
from support.programs import until, write_config, written
from support.server import free_port

COMMANDS = (
    ("reload",),
    ("restart", "worker"),
    ("step-down",),
    ("drain",),
    ("drain", "--wait"),
    ("undrain",),
    ("events",),
)


def run(config: Path | Node, *words: str, env: dict[str, str] | None = None) -> Done:
    return chargehand(*words, config=config.config if isinstance(config, Node) else config, env=env)


def _heed_interrupts() -> None:
    """A runner in the background ignores them, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A command under way, whose lines are waited for."""

    def __init__(self, node: Node, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--config", str(node.config), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - this process has one thread
        )
        self.said = ""

    def speaks(self, within: float) -> bool:
        """True when there is more to read, or its end."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], within)[0])

    def until(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.said:
            assert self.speaks(30), f"{text!r} did not come: {self.said!r}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"ended before {text!r}: {self.said!r}"
            self.said += data.decode()

    def ended(self) -> tuple[int, str]:
        """Its exit code, and what it said on standard error."""
        out, err = self.process.communicate(timeout=30)
        self.said += out.decode()
        return self.process.returncode, err.decode()


@contextmanager
def running(node: Node, *words: str) -> Iterator[Running]:
    command = Running(node, *words)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def without_redis(place: Path, extra: str = "") -> Path:
    """A node that waits for a Redis that is not there."""
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a", extra=extra)
    config.write_text(config.read_text().replace("[agent]", '[agent]\nready_timeout = "200ms"'))
    return config


def workers_only(place: Path, extra: str = "") -> Path:
    config = without_redis(place, extra)
    config.write_text(config.read_text().replace("[orchestrator]", "[orchestrator]\nenabled = false"))
    return config


@pytest.fixture
def agent(place: Path) -> Iterator[Callable[[Path], Node]]:
    """Start an agent that needs no Redis of the test's."""
    nodes: list[Node] = []

    def start(config: Path) -> Node:
        nodes.append(Node(place, config))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()
        assert node.processes() == []


def held_plan(client: Client, place: Path) -> str:
    """A plan of one step that runs now, until `place / "gate"` is there."""
    name = submit(client, "held", path=str(place / "lines"), text="x", gate=str(place / "gate"))
    until("it runs", lambda: written(place / "lines"))
    return name


# -- nobody to ask --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_agent(place: Path, words: tuple[str, ...]) -> None:
    config = without_redis(place)
    done = run(config, *words)
    assert (done.returncode, done.stdout) == (1, "")
    path = place / "node-a.run/agent.sock"
    assert done.stderr == (
        f"chargehand: no agent runs on this node ({path} does not exist): systemctl start chargehand.service\n"
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_agent_that_was_killed(place: Path, words: tuple[str, ...]) -> None:
    """Its socket is left, and nobody listens."""
    config = without_redis(place)
    (place / "node-a.run").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place / "node-a.run/agent.sock"))
    done = run(config, *words)
    assert done.returncode == 1
    assert "no agent runs on this node (none listens at " in done.stderr


@pytest.mark.parametrize("words", [*COMMANDS, ("logs",), ("logs", "worker"), ("health",)], ids=" ".join)
def test_typed_wrongly(place: Path, words: tuple[str, ...]) -> None:
    done = run(without_redis(place), *words, "--frobnicate")
    assert done.returncode == (3 if words == ("health",) else 2)
    assert "--frobnicate" in (done.stdout if words == ("health",) else done.stderr)


@pytest.mark.parametrize(
    "words", [("restart",), ("restart", ""), ("logs", ""), ("logs", "-n", "-1"), ("logs", "-n", "x")]
)
def test_a_name_or_number_that_is_none(place: Path, words: tuple[str, ...]) -> None:
    done = run(without_redis(place), *words)
    assert done.returncode == 2
    assert done.stderr.startswith("chargehand")
    assert done.stdout == ""


# -- reload, restart ------------------------------------------------------------------------------


def test_reload(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    done = run(node, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded: nothing changed\n", "")

    group = '[[worker]]\nname = "worker"\n[[worker]]\nname = "hosts"\nthreads = {}\n'
    good = node.config.read_text()
    node.config.write_text(good + group.format(1))
    assert run(node, "reload").stdout == "reloaded: hosts added\n"
    node.until("both", lambda node: "workers 2/2" in node.status)
    node.config.write_text(good + group.format(2))
    assert json.loads(run(node, "reload", "--json").stdout) == {"ok": True, "changed": ["hosts"]}
    node.config.write_text(good)
    assert run(node, "reload").stdout == "reloaded: hosts removed\n"
    node.until("one is left", lambda node: "workers 1/1" in node.status)

    before = node.child("worker")["pid"]
    assert run(node, "reload", "--workers").stdout == "reloaded: worker is being replaced\n"
    until("it is replaced", lambda: [one["pid"] for one in workers(node)] != [before] and len(workers(node)) == 1)


def test_reload_and_restart_that_are_waited_for(start_node: StartNode, client: Client, place: Path) -> None:
    """Until the old worker has finished its step and ended; a new child that crashes is told, and the wait is over."""
    node = start_node("node-a")
    node.until_whole()
    before = node.child("worker")["pid"]
    submit(client, "held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    until("it runs", lambda: lines_of(place / "lines"))
    with running(node, "reload", "--workers", "--wait") as command:
        command.until("reloaded: worker is being replaced\nnot in place yet: worker\n")
        until("there are two", lambda: len(workers(node)) == 2)
        assert not command.speaks(0), "the old one still runs its step"
        (place / "gate").touch()
        command.until("all is in place\n")
        assert command.ended() == (0, "")
    (worker,) = workers(node)
    assert worker["pid"] != before
    done = run(node, "restart", "worker", "--wait", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"children": ["worker"], "left": [], "crashing": []})
    assert [one["pid"] for one in workers(node)] != [worker["pid"]]
    assert run(node, "reload", "--wait").stdout == "reloaded: nothing changed\nall is in place\n"

    node.config.write_text(
        node.config.read_text() + '[[child]]\nname = "brittle"\nargv = ["/bin/false"]\nready = "notify"\n'
    )
    done = run(node, "reload", "--wait")
    assert (done.returncode, done.stderr) == (1, "chargehand: crashes again and again: brittle (chargehand logs)\n")
    assert done.stdout == "reloaded: brittle added\nnot in place yet: brittle\n"


def test_a_wait_is_interrupted_and_the_reload_goes_on(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    submit(client, "held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    until("it runs", lambda: lines_of(place / "lines"))
    with running(node, "restart", "worker", "--wait") as command:
        command.until("not in place yet: worker\n")
        command.process.send_signal(signal.SIGINT)
        assert command.ended() == (130, "chargehand: it goes on without anybody who waits for it\n")
    (place / "gate").touch()
    until("the new one is alone", lambda: len(workers(node)) == 1)


def test_a_wait_ends_with_the_agent(start_node: StartNode, client: Client, place: Path) -> None:
    """That no child is left then does not mean that all is in place."""
    node = start_node("node-a")
    node.until_whole()
    submit(client, "held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    until("it runs", lambda: lines_of(place / "lines"))
    with running(node, "restart", "worker", "--wait") as command:
        command.until("not in place yet: worker\n")
        node.agent.send_signal(signal.SIGTERM)
        node.until("it stops", lambda node: node.status.startswith("stopping"))
        (place / "gate").touch()
        code, said = command.ended()
    assert (code, said) == (1, "chargehand: the agent ended before all was in place\n")
    assert "all is in place" not in command.said


def workers(node: Node) -> list[dict[str, Any]]:
    return [one for one in node.describe()["children"] if one["kind"] == "worker"]


@pytest.mark.parametrize(
    "addition",
    ["[[worker]]\nname = 'more'\nthreads = 'many'\nprocesses = 0\n", "[nonsense\n"],
    ids=["two mistakes", "no TOML"],
)
def test_refused_reload_tells_each_problem(start_node: StartNode, addition: str) -> None:
    node = start_node("node-a")
    node.until_whole()
    good = node.config.read_text()
    node.config.write_text(good + addition)
    done = run(node, "reload")
    assert (done.returncode, done.stdout) == (78, "")
    *problems, last = done.stderr.splitlines()
    assert len(problems) == (2 if "worker" in addition else 1)
    assert all(line.startswith(f"chargehand: {node.config}:") for line in problems)
    assert last == "chargehand: refused: the agent goes on with the configuration that it has"
    node.until("it says so", lambda node: "degraded: reload rejected: " in node.status)
    as_json = run(node, "reload", "--json")
    assert as_json.returncode == 78
    assert json.loads(as_json.stdout) == {
        "ok": False,
        "problems": [line.removeprefix("chargehand: ") for line in problems],
    }
    assert run(node, "health").returncode == 1, "a refused file does not hide the agent"
    node.config.write_text(good)
    assert run(node, "reload").returncode == 0
    node.until("forgiven", lambda node: "degraded" not in node.status)


def test_reload_that_needs_a_restart(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    node.config.write_text(node.config.read_text().replace('name = "node-a"', 'name = "node-z"'))
    done = run(node, "reload")
    assert done.returncode == 78
    assert "node.name: a change of it needs a restart: systemctl restart chargehand" in done.stderr


def test_restart(agent: Callable[[Path], Node], place: Path) -> None:
    program = '[[child]]\nname = "sleeper"\nargv = ["/bin/sleep", "1000"]\n'
    node = agent(workers_only(place, f'[[worker]]\nname = "many"\nprocesses = 2\n{program}'))
    node.until_whole("workers 2/2")
    pids = {child["name"]: child["pid"] for child in node.describe()["children"]}
    assert run(node, "restart", "many").stdout == "restarting: many-1, many-2\n"
    assert json.loads(run(node, "restart", "sleeper", "--json").stdout) == {"children": ["sleeper"]}

    def replaced() -> bool:
        found = [(child["name"], child["pid"], child["state"]) for child in node.describe()["children"]]
        return len(found) == 3 and all(pids[name] != pid and state == "ready" for name, pid, state in found)

    until("all are others", replaced)
    done = run(node, "restart", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'chargehand: there is no child "nobody" here; there are: many-1, many-2, sleeper\n'


# -- step-down, drain -----------------------------------------------------------------------------


def test_step_down(start_node: StartNode) -> None:
    first = start_node("node-a")
    first.until_whole()
    second = start_node("node-b")
    second.until_status("passive")
    done = run(second, "step-down")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "chargehand: this node's orchestrator is passive; the lock is held by node-a\n"
    done = run(first, "step-down")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "stepped down: another node takes over, if there is one that can\n"
    second.until_status("active (epoch 2)")
    first.until_status("passive")


def test_drain_is_kept_over_a_restart_and_taken_back(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    done = run(node, "undrain")
    assert (done.returncode, done.stderr) == (1, "chargehand: this node is not drained\n")
    done = run(node, "drain", "--reason", "new kernel", "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["draining: 0 steps still run", "drained"]

    node.stop()
    node.start()
    node.until_status("drained (by ")
    assert node.status.endswith(": new kernel)")
    again = run(node, "drain", "--reason", "another")
    assert (again.returncode, again.stdout) == (0, "drained\n")
    assert re.fullmatch(
        r"chargehand: note: drained already, by \S+ since [-0-9]+ [:0-9]+: new kernel; it keeps its reason\n",
        again.stderr,
    )
    health = run(node, "health")
    assert health.returncode == 1
    assert health.stdout.startswith("WARNING - drained (by ")
    shown = run(node, "status").stdout
    assert re.search(r"^agent    node-a: drained \(by \S+ since .*: new kernel\)$", shown, re.MULTILINE)

    assert run(node, "undrain").stdout == "undrained: this node works again\n"
    node.until_status("active")
    assert run(node, "undrain").returncode == 1


def test_drain_waits_for_what_runs(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    name = held_plan(client, place)
    with running(node, "drain", "--wait") as command:
        command.until("draining: 1 step still runs\n")
        (place / "gate").touch()
        command.until("drained\n")
        assert command.ended() == (0, "")
    other = start_node("node-b")
    other.until_whole()
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert view.steps[0].attempt == 1


def test_interrupted_wait_leaves_the_drain_in_force(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    held_plan(client, place)
    with running(node, "drain", "--wait") as command:
        command.until("draining: 1 step still runs\n")
        command.process.send_signal(signal.SIGINT)
        assert command.ended() == (
            130,
            "chargehand: the drain stays in force; chargehand undrain takes it back\n",
        )
    assert node.describe()["drain"] is not None
    # Without --wait, and what it says then.
    done = run(node, "drain")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "chargehand drain --wait follows it; chargehand undrain takes it back"
    with running(node, "drain", "--wait") as command:
        command.until("draining: 1 step still runs\n")
        assert run(node, "undrain").returncode == 0
        code, said = command.ended()
    assert code == 1
    assert "chargehand: somebody took the drain back: the node is " in said
    (place / "gate").touch()


def test_agent_that_ends_while_its_drain_is_waited_for(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    held_plan(client, place)
    with running(node, "drain", "--wait") as command:
        command.until("draining: 1 step still runs\n")
        node.kill()
        assert command.ended() == (
            1,
            "chargehand: the agent ended before; the drain is kept and goes on when it starts\n",
        )
    node.start()
    node.until_status("drained")


# -- health ---------------------------------------------------------------------------------------


def test_health_of_an_active_and_a_passive_node(start_node: StartNode) -> None:
    first = start_node("node-a")
    first.until_whole()
    second = start_node("node-b")
    second.until_whole()
    second.until_status("passive")
    done = run(first, "health")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK - active (epoch 1); workers 1/1; 0 steps queued | workers=1;;;0;1 steps=0;;;0;5 ")
    done = run(second, "health")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "OK - passive (waiting on lock, held by node-a, epoch 1); workers 1/1 "
        "| workers=1;;;0;1 steps=0;;;0;5 restarts=0c\n"
    )
    as_json = json.loads(run(second, "health", "--json").stdout)
    assert (as_json["code"], as_json["level"]) == (0, "OK")
    assert as_json["workers"] == {"ready": 1, "configured": 1}


def test_health_is_a_warning_when_a_child_crashes(start_node: StartNode) -> None:
    node = start_node("node-a", extra='[[child]]\nname = "brittle"\nargv = ["/bin/false"]\n')
    node.until(
        "it crashes", lambda node: re.search(r"brittle crashed \d+ times", node.status) and "workers 1/1" in node.status
    )
    done = run(node, "health")
    assert done.returncode == 1
    assert done.stdout.startswith("WARNING - active (epoch 1), degraded: brittle crashed ")


def test_health_is_critical_while_redis_is_away(agent: Callable[[Path], Node], place: Path) -> None:
    node = agent(without_redis(place))
    node.until_status("waiting (Redis ")
    done = run(node, "health")
    assert done.returncode == 2
    assert done.stdout.startswith("CRITICAL - waiting (Redis 127.0.0.1:")
    assert "Connection refused" in done.stdout


def test_health_is_critical_without_a_worker(start_node: StartNode, place: Path) -> None:
    (place / "ends_at_once.py").write_text("import os\nos._exit(9)\n")
    node = start_node("node-a")
    node.until_whole()
    node.stop()
    text = node.config.read_text().replace('"site_actions"', '"ends_at_once"')
    node.config.write_text(text.replace("path = [", f'path = ["{place}", '))
    node.start()
    node.until("it crashes", lambda node: re.search(r"active .*worker crashed \d+ times", node.status))
    done = run(node, "health")
    assert done.returncode == 2
    assert done.stdout.startswith("CRITICAL - no worker is ready: active (epoch 2), degraded: worker crashed ")


def test_health_without_an_agent(place: Path) -> None:
    done = run(without_redis(place), "health")
    assert done.returncode == 2
    assert done.stdout.startswith("CRITICAL - no agent runs on this node (")
    assert done.stdout.endswith("systemctl start chargehand.service\n")
    assert done.stderr == ""
    assert json.loads(run(without_redis(place), "health", "--json").stdout)["code"] == 2


def test_health_cannot_be_told(place: Path) -> None:
    done = run(place / "none.toml", "health")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith(f"UNKNOWN - {place}/none.toml: no such file")
    config = without_redis(place)
    (place / "node-a.run").mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "node-a.run/agent.sock"))
        silent.listen()
        done = run(config, "health")
    assert done.returncode == 3
    assert done.stdout.startswith("UNKNOWN - the agent at ")
    assert "gave no answer in 2 s" in done.stdout


def test_health_asked_by_a_user_who_may_not(agent: Callable[[Path], Node], place: Path) -> None:
    node = agent(without_redis(place))
    node.until_status("waiting (Redis ")
    (node.runtime_dir / "agent.sock").chmod(0)
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*powerless, *COMMAND, "--config", str(node.config), "health"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith(f"UNKNOWN - {node.runtime_dir}/agent.sock may not be used by this user")


# -- logs, events ---------------------------------------------------------------------------------

CHATTY = (
    '[[child]]\nname = "chatty"\nargv = ["/bin/sh", "-c", "echo one; echo two; exec sleep 1000"]\nlast_words = true\n'
)


def test_logs_without_a_journal(agent: Callable[[Path], Node], place: Path) -> None:
    node = agent(workers_only(place, CHATTY))
    until("it has spoken", lambda: "two" in run(node, "logs", "chatty").stdout)
    assert run(node, "logs", "chatty").stdout == "one\ntwo\n"
    assert run(node, "logs", "chatty", "-n", "1").stdout == "two\n"
    assert run(node, "logs", "chatty", "-n", "0").stdout == ""
    assert "chatty: two\n" in run(node, "logs").stdout
    assert json.loads(run(node, "logs", "chatty", "-n", "1", "--json").stdout) == [{"child": "chatty", "text": "two"}]
    for words, text in {
        ("nobody",): 'there is no child "nobody" here; there are: chatty, worker',
        ("chatty", "-f"): "-f follows the journal, and this agent does not write to one",
        ("agent",): "the agent's own lines are on its standard error",
    }.items():
        done = run(node, "logs", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr


def test_logs_in_the_journal(
    agent: Callable[[Path], Node], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent whose standard error is the journal's: what is executed is journalctl, which need not find anything."""
    log = place / "node-a.agent.log"
    log.touch()
    monkeypatch.setenv("JOURNAL_STREAM", f"{log.stat().st_dev}:{log.stat().st_ino}")
    config = workers_only(place, CHATTY)
    node = agent(config)
    node.until("READY", lambda node: "READY" in node.fields)
    asked = tmp_path / "journalctl"
    asked.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    asked.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run(node, "logs", "chatty", "-n", "5", "-f", env=path)
    assert done.returncode == 7, "its exit code is ours"
    assert done.stdout.split() == [
        "--unit=chargehand.service",
        "--identifier=chargehand-chatty",
        "--lines=5",
        "--follow",
    ]
    done = run(node, "logs", "nobody", env=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'there is no child "nobody" here; there are: chatty, worker, agent' in done.stderr
    done = run(node, "logs", env={"PATH": str(place)})
    assert done.returncode == 1
    assert "there is no journalctl to read it" in done.stderr
    node.stop()
    done = run(config, "logs", "worker", env=path)
    assert done.returncode == 7
    assert "--identifier=chargehand-worker" in done.stdout
    assert "note: no agent runs on this node" in done.stderr


def test_events(agent: Callable[[Path], Node], place: Path) -> None:
    node = agent(workers_only(place, CHATTY))
    node.until_whole()
    with running(node, "events") as plain, running(node, "events", "--json") as objects:
        # Whether they listen yet shows in nothing but an event.
        def heard() -> bool:
            run(node, "restart", "chatty")
            return plain.speaks(0.5) and objects.speaks(0.5)

        until("both listen", heard)
        plain.until("request method=Restart by=")
        objects.until('"event": "request"')
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \w+", plain.said)
        plain.process.send_signal(signal.SIGINT)
        assert plain.ended() == (0, "")
        node.agent.terminate()
        assert objects.ended() == (0, "chargehand: the agent has ended\n")
    for line in objects.said.splitlines():
        assert json.loads(line)["node"] == "node-a"


# -- status, completion ---------------------------------------------------------------------------


def test_status_shows_what_the_agent_knows(agent: Callable[[Path], Node], place: Path) -> None:
    node = agent(without_redis(place, '[[child]]\nname = "brittle"\nargv = ["/bin/false"]\n'))
    node.until("it crashes", lambda node: re.search(r"brittle crashed \d+ times", node.status))
    node.until("it waits", lambda node: node.status.startswith("waiting"))
    done = run(node, "status")
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0].startswith("executor default: Redis unreachable: ")
    assert lines[1].startswith("agent    node-a: ")
    assert re.fullmatch(rf"         since \d\d:\d\d:\d\d, PID {node.agent.pid}, \S+", lines[2])
    assert re.search(r"^  orchestrator  starting  since \d\d:\d\d:\d\d +\d+ MiB  waiting", done.stdout, re.MULTILINE)
    crashed = r"^  brittle +\w+ +since .* restarts; crashed \d+ times since \d\d:\d\d:\d\d; last: exit 1$"
    assert re.search(crashed, done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def complete(config: Path, *words: str) -> list[str]:
    done = subprocess.run(
        COMMAND,
        env={
            **os.environ,
            "_CHARGEHAND_COMPLETE": "bash_complete",
            "CHARGEHAND_COMPLETION_TIMEOUT": "60s",
            "COMP_WORDS": " ".join(["chargehand", *words]),
            "COMP_CWORD": str(len(words)),
            "CHARGEHAND_CONFIG": str(config),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_the_shell_completes_names_of_children(agent: Callable[[Path], Node], place: Path) -> None:
    config = workers_only(place, '[[worker]]\nname = "many"\nprocesses = 2\n' + CHATTY)
    assert complete(config, "restart", "m") == [], "silent without an agent"
    assert complete(place / "none.toml", "restart", "m") == []
    node = agent(config)
    node.until("READY", lambda node: "READY" in node.fields)
    assert complete(config, "restart", "m") == ["many", "many-1", "many-2"]
    assert complete(config, "restart", "") == ["chatty", "many", "many-1", "many-2"]
    assert complete(config, "logs", "a") == ["agent"]
    assert complete(config, "dr") == ["drain"]


def test_every_command_of_the_agent_is_documented() -> None:
    """Its exit codes in its help, and itself in docs/cli.md."""
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    for command in ("reload", "restart", "step-down", "drain", "undrain", "health", "logs", "events", "status"):
        done = chargehand(command, "--help")
        assert "Exit code:" in done.stdout, command
        assert f"`chargehand {command}" in page, command


def test_status_of_a_node_whose_configuration_has_become_bad(start_node: StartNode) -> None:
    """The agent goes on with the one before, and is shown; what is wrong is told too."""
    node = start_node("node-a")
    node.until_whole()
    node.config.write_text(node.config.read_text() + '[[worker]]\nname = "more"\nthreads = "many"\n')
    done = run(node, "status")
    assert done.returncode == 78
    assert "agent    node-a: active (epoch 1)" in done.stdout
    assert f"chargehand: {node.config}:" in done.stderr
    assert 'worker "more": threads: found "many"' in done.stderr
    answer = json.loads(run(node, "status", "--json").stdout)
    assert answer["agent"]["state"] == "active"
    assert len(answer["problems"]) == 1
