"""What else a node can meet: its own clone, a second instance beside the first; and how a person finds the children."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.host import CommandFailed
from lab.node import Node
from lab.redis import Redis
from lab.service import CONFIG, UNIT, Service

BLUE = "chargehand@blue.service"
BLUE_FILE = "/etc/chargehand/blue.toml"


# -- a clone ------------------------------------------------------------------------------------------


def test_a_cloned_node_serves_nothing(redis: Redis, node: Callable[..., Node]) -> None:
    config = CONFIG + f'[node]\nname = "node-a"\n[redis]\nurl = "{redis.url}"\n'
    first, clone = Service(node(config, name="node-a")), Service(node(config, name="clone"))
    for service in (first, clone):
        service.node.systemctl("enable", UNIT)
    first.start()
    before, agent = first.pids(), first.main_pid
    clone.node.systemctl("start", UNIT)  # it is READY all the same: to systemd it has not failed
    _until_barred_by(first, clone)
    with pytest.raises(CommandFailed, match=r"exit 2 (?s:.*)CRITICAL - waiting \(node name node-a in use"):
        clone.node.run("chargehand", "health")

    plans = [clone.submit("hold", "until=/srv") for _ in range(20)]
    assert [first.until_ended(plan) for plan in plans] == ["succeeded"] * 20
    assert (len(first.notes()), clone.notes()) == (40, [])
    assert first.status.startswith("active (epoch 1); workers 1/1")
    assert (first.pids(), first.main_pid) == (before, agent)

    # The first is gone for good: its name is free, and with it all that waits for this node.
    first.node.pull_the_plug()
    clone.until_whole()
    assert clone.status.startswith("active (epoch 2); workers 1/1")
    assert clone.until_ended(clone.submit("hold", "until=/srv")) == "succeeded"
    assert len(clone.notes()) == 2

    # It was not: now it is the one that serves nothing.
    first.node.boot()
    _until_barred_by(clone, first)
    assert clone.status.startswith("active (epoch 2); workers 1/1")
    assert [service["NRestarts"] for service in (first, clone)] == ["0", "0"]


def _until_barred_by(other: Service, service: Service) -> None:
    cause = f"node name node-a in use by machine {other.node.read('/etc/machine-id').strip()}"
    service.until("it says so", lambda: service.status == f"waiting ({cause}); workers 0/1")
    for child in ("orchestrator", "worker"):
        lines = [entry["MESSAGE"] for entry in service.node.journal(identifier=f"chargehand-{child}")]
        assert len([line for line in lines if line.startswith(f"barred: {cause}: ")]) == 1, lines


# -- a second instance --------------------------------------------------------------------------------

_URL = '[redis]\nurl = "redis://127.0.0.1:6379/0"\n'
_BLUE_CONFIG = f"""\
[executor]
name = "blue"

{_URL}
[[action]]
name = "wait"
argv = ["/bin/sh", "-c", "until test -e /srv/go; do sleep 0.1; done"]

[[action]]
name = "fail"
argv = ["/usr/bin/false"]
"""


def test_a_second_instance_survives_the_stop_of_the_first(node: Callable[..., Node]) -> None:
    here = node(CONFIG + _URL)
    here.write(BLUE_FILE, _BLUE_CONFIG, mode=0o640, group="chargehand")
    here.serve_redis()
    first = Service(here)

    def blue(*words: str) -> str:
        return here.run("chargehand", "--config", BLUE_FILE, *words).strip()

    def facts() -> tuple[str, dict[str, int]]:
        told = json.loads(blue("status", "--json"))["agent"]
        return here.show(BLUE, "MainPID")["MainPID"], {child["name"]: child["pid"] for child in told["children"]}

    first.start()
    here.systemctl("enable", "--now", BLUE)
    first.until("blue is whole", lambda: here.show(BLUE, "StatusText")["StatusText"].startswith("active (epoch 1); w"))
    plan = blue("submit", "wait")
    failing = blue("submit", "fail")
    first.until("it failed", lambda: json.loads(blue("plan", "show", "--json", failing))["state"] == "paused")
    before = facts()
    assert set(before[1]) == {"orchestrator", "worker"}

    # Each has what is its own, and speaks of itself.
    for place in ("/run/chargehand-blue/agent.sock", "/run/chargehand/agent.sock"):
        here.run("test", "-S", place)
    for place in ("/var/lib/chargehand-blue/children", "/var/lib/chargehand/children"):
        assert here.run("stat", "--format=%U", place).strip() == "chargehand"
    assert "executor blue" in blue("status")
    assert "executor default" in here.run("chargehand", "status")
    assert blue("health").startswith("OK - active (epoch 1)")
    assert failing in blue("logs", "worker")
    assert failing not in here.run("chargehand", "logs", "worker")
    groups = {process.group.partition(".")[0] for process in here.processes(BLUE)}
    assert groups == {"agent", "orchestrator", "worker"}

    here.systemctl("stop", UNIT)
    with pytest.raises(CommandFailed, match="exit 2 "):
        here.run("chargehand", "health")
    here.run("test", "!", "-e", "/run/chargehand")
    assert first.processes() == []
    assert blue("health").startswith("OK - active (epoch 1)")
    assert facts() == before
    first.let_go()
    first.until("its plan's end", lambda: json.loads(blue("plan", "show", "--json", plan))["state"] == "succeeded")

    # And the other way about.
    first.start()
    agent, pids = first.main_pid, first.pids()
    here.systemctl("stop", BLUE)
    assert here.processes(BLUE) == []
    here.run("test", "!", "-e", "/run/chargehand-blue")
    here.run("test", "-d", "/var/lib/chargehand-blue")
    assert (first.main_pid, first.pids()) == (agent, pids)
    assert first.node.run("chargehand", "health").startswith("OK - active")


# -- what a person finds ------------------------------------------------------------------------------

_TWO = '[[worker]]\nname = "worker"\nprocesses = 2\n'


def test_children_are_found_apart(node: Callable[..., Node]) -> None:
    service = Service(node(CONFIG + _TWO))
    service.node.systemctl("start", UNIT)
    service.until_whole("workers 2/2")
    for _ in range(20):
        assert service.until_ended(service.submit("fail")) == "paused"
        if all(_lines(service, f"worker-{number}") for number in (1, 2)):
            break
    pids = service.pids()
    for number in (1, 2):
        lines = _lines(service, f"worker-{number}")
        assert lines
        assert all(f"chargehand-worker-{number}[{pids[f'worker-{number}']}]: " in line for line in lines)

    shown = service.node.run("systemd-cgls", "--no-pager", "--unit", UNIT)
    groups = re.findall(r"[├└]─([\w-]+)(?:\.\w{16}\.child)?(?: .*)?$", shown, flags=re.MULTILINE)
    named = [name for name in groups if not name.isdecimal()]
    assert sorted(named) == ["agent", "orchestrator", "redis", "worker-1", "worker-2"], shown
    for pid in pids.values():
        assert re.search(rf"─{pid} ", shown), shown


def _lines(service: Service, child: str) -> list[str]:
    service.node.run("journalctl", "--sync")
    words = ("--no-pager", "--quiet", "--unit", UNIT, "--identifier", f"chargehand-{child}")
    return service.node.run("journalctl", *words).splitlines()


def test_the_journal_explains_a_takeover(redis: Redis, node: Callable[..., Node]) -> None:
    config = CONFIG + f'[redis]\nurl = "{redis.url}"\n'
    first, second = Service(node(config)), Service(node(config, name="node-b"))
    first.start()
    second.start(role="passive")
    first.node.systemctl("stop", UNIT)
    second.until_whole()
    second.node.run("journalctl", "--sync")
    told = second.node.run("journalctl", "--no-pager", "--catalog", "--unit", UNIT, "CHARGEHAND_EVENT=child_role")
    after = told.partition("child_role child=orchestrator role=active epoch=2")[2]
    assert "Subject: A child has another role" in after
    assert re.search(r"orchestrator is active now\. Of all orchestrators of an executor one is active", after), told
