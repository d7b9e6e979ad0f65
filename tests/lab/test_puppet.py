"""Puppet and a passive node: the trouble that Chargehand is there to end, and what each event of a run does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.editions import small_package
from lab.host import CommandFailed, until
from lab.node import Node
from lab.puppet import Applied, know_redis, manifest, puppet_apply
from lab.redis import Redis
from lab.service import CONFIG, UNIT, Service

_STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"  # systemd's own: "Starting …"

#: As the executor was before: nothing but the active one is ever READY.
_OLD_PROGRAM = """#!/bin/sh
until test "$(SERVER-cli -h redis set old:lock "$(uname -n)" NX)" = OK; do sleep 0.2; done
systemd-notify --ready
exec sleep infinity
"""
_OLD_UNIT = """[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/local/bin/old
TimeoutStartSec=5s
"""
_OLD_MANIFEST = "service { 'old': ensure => running }\n"

#: Shorter than a passive node is looked at here, by far.
_SHORT = "[Service]\nTimeoutStartSec=10s\nWatchdogSec=2s\n"


pytestmark = pytest.mark.usefixtures("package")


@pytest.fixture
def pair(redis: Redis, node: Callable[..., Node]) -> tuple[Node, Node]:
    """Two nodes with the package; nothing of ours runs yet."""
    first, second = node(name="node-a"), node(name="node-b")
    _prepare(first, second)
    return first, second


@pytest.fixture
def alone(redis: Redis, node: Callable[..., Node]) -> Node:
    one = node()
    _prepare(one)
    return one


def _prepare(*nodes: Node) -> None:
    know_redis(*nodes)
    for one in nodes:
        one.write("/etc/chargehand/conf.d/50-actions.toml", CONFIG, mode=0o640, group="chargehand")


def _starts(node: Node, unit: str) -> int:
    """How often systemd has begun to start it."""
    return len(node.journal(_STARTING, f"UNIT={unit}"))


def _uptime(node: Node) -> float:
    return float(node.read("/proc/uptime").split()[0])


def _since(node: Node, unit: str) -> float:
    return int(node.show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]) / 1e6


# -- the original trouble -----------------------------------------------------------------------------


def test_control_a_unit_that_is_ready_only_with_the_lock_never_comes_to_rest(
    redis: Redis, pair: tuple[Node, Node]
) -> None:
    holder, waiter = pair
    for one in pair:
        one.write("/usr/local/bin/old", _OLD_PROGRAM.replace("SERVER", one.server), mode=0o755)
        one.write("/etc/systemd/system/old.service", _OLD_UNIT)
        one.systemctl("daemon-reload")
    assert not puppet_apply(holder, _OLD_MANIFEST).failed
    assert holder.systemctl("is-active", "old") == "active"

    waiter.systemctl("start", "--no-block", "old")
    until("activating", lambda: waiter.systemctl("is-active", "old", check=False) == "activating")
    until(
        "killed", lambda: waiter.show("old", "ActiveState", "Result") == {"ActiveState": "failed", "Result": "timeout"}
    )
    assert _starts(waiter, "old.service") == 1

    # Puppet starts it again, waits for the time-out with it, and fails: in every run.
    applied = puppet_apply(waiter, _OLD_MANIFEST)
    assert applied.failed
    assert "start old" in applied.asked
    assert waiter.show("old", "Result")["Result"] == "timeout"
    assert _starts(waiter, "old.service") == 2
    # While it waits it counts as stopped, too.
    waiter.systemctl("start", "--no-block", "old")
    assert "start old" in puppet_apply(waiter, _OLD_MANIFEST).asked

    # And nothing else was wrong with it.
    holder.systemctl("stop", "old")
    redis.cli("del", "old:lock")
    assert not puppet_apply(waiter, _OLD_MANIFEST).failed
    assert waiter.systemctl("is-active", "old") == "active"


def test_puppet_leaves_a_passive_node_alone(pair: tuple[Node, Node]) -> None:
    for one in pair:
        one.write(f"/etc/systemd/system/{UNIT}.d/short.conf", _SHORT)
        one.systemctl("daemon-reload")
    first, second = Service(pair[0]), Service(pair[1])
    for service, role in ((first, "active"), (second, "passive")):
        applied = puppet_apply(service.node, manifest())
        assert (applied.changed, applied.failed) == (True, False), applied.printed
        service.until_whole(role=role)
    pids = [service.main_pid for service in (first, second)]

    for _ in range(5):
        _nothing_changed(puppet_apply(second.node, manifest()))
    until("longer than the time-outs", lambda: _uptime(second.node) - _since(second.node, UNIT) > 20)
    _nothing_changed(puppet_apply(second.node, manifest()))
    _nothing_changed(puppet_apply(first.node, manifest()))

    assert second.status == "passive (waiting on lock, held by node-a, epoch 1); workers 1/1"
    assert [service.main_pid for service in (first, second)] == pids
    assert [service["NRestarts"] for service in (first, second)] == ["0", "0"]
    assert [_starts(service.node, UNIT) for service in (first, second)] == [1, 1]


def _nothing_changed(applied: Applied) -> None:
    assert applied.code == 0, applied.printed
    assert applied.asked == []


# -- what each event does -----------------------------------------------------------------------------


@pytest.mark.usefixtures("redis")
def test_the_first_run_does_all(package: Path, tmp_path: Path, node: Callable[..., Node]) -> None:
    one = node(package=False)
    know_redis(one)
    one.install(small_package("other", tmp_path))  # Puppet stumbles over a node with one package alone
    one.repository(package)
    applied = puppet_apply(one, manifest())
    assert (applied.changed, applied.failed) == (True, False), applied.printed
    assert {"start chargehand", "enable chargehand"} <= set(applied.asked)
    assert one.systemctl("is-active", UNIT) == "active"
    assert one.systemctl("is-enabled", UNIT) == "enabled"
    assert one.run("stat", "--format=%a %U:%G", "/etc/chargehand/chargehand.toml") == "640 root:chargehand\n"
    Service(one).until_whole()
    _nothing_changed(puppet_apply(one, manifest()))
    assert _starts(one, UNIT) == 1


_HIERA = """version: 5
hierarchy:
  - name: common
    path: common.yaml
"""
_MODULE = """from chargehand import action


@action
def where() -> str:
    return "here"
"""


def test_more_files_are_in_force_together(redis: Redis, alone: Node) -> None:
    secret = "correct-horse"
    environment = "/etc/puppet/code/environments/production"
    alone.write(f"{environment}/hiera.yaml", _HIERA)
    alone.write(f"{environment}/data/common.yaml", f"chargehand::redis_password: {secret}\n")
    alone.write(f"{environment}/modules/site/files/patching.py", _MODULE)
    redis.cli("config", "set", "requirepass", secret)
    service = Service(alone)
    applied = puppet_apply(alone, manifest(whole=True))
    assert (applied.changed, applied.failed) == (True, False), applied.printed
    assert secret not in "".join(re.findall(r"^(?:Notice|Info|Warning|Error): .*$", applied.printed, re.MULTILINE))
    service.until_whole()
    assert service.until_ended(service.submit("where")) == "succeeded"
    _nothing_changed(puppet_apply(alone, manifest(whole=True)))


def test_a_change_is_a_reload(alone: Node) -> None:
    service = Service(alone)
    puppet_apply(alone, manifest())
    service.until_whole()
    before, agent = service.pids(), service.main_pid
    more = '    [[worker]]\n    name = "worker"\n    [[worker]]\n    name = "hosts"\n    queues = ["hosts"]\n'
    changed = _with_lines(more)
    applied = puppet_apply(alone, changed)
    assert (applied.changed, applied.failed) == (True, False), applied.printed
    assert applied.asked == ["reload chargehand"]
    service.until_whole("workers 2/2")
    after = service.pids()
    assert after.pop("hosts") > 0
    assert (after, service.main_pid) == (before, agent)
    _nothing_changed(puppet_apply(alone, changed))


def _with_lines(lines: str, text: str = "") -> str:
    """The manifest with more in its TOML, after the line for Redis."""
    text = text or manifest()
    mark = 'redis.example.com:6379/0"\n'
    assert text.count(mark) == 1
    return text.replace(mark, mark + lines)


_BAD = {  # and what Puppet's report says of it
    "    timeout =\n": ":3: not TOML",
    '    timeout = "soon"\n': 'found "soon"',
    '    port = "1"\n': "redis.port",
}


def test_a_bad_template_leaves_the_file_and_the_service(alone: Node) -> None:
    service = Service(alone)
    puppet_apply(alone, manifest())
    service.until_whole()
    on_disk = _configuration(alone)
    processes, status = set(service.processes()), service.status
    for lines, reason in _BAD.items():
        applied = puppet_apply(alone, _with_lines(lines))
        assert (applied.changed, applied.failed) == (False, True), applied.printed
        assert applied.asked == []
        assert reason in _errors(applied)
        assert _configuration(alone) == on_disk
    assert (set(service.processes()), service.status) == (processes, status)
    _nothing_changed(puppet_apply(alone, manifest()))


def test_what_is_wrong_only_together_with_a_drop_in_is_refused_too(alone: Node) -> None:
    puppet_apply(alone, manifest())
    alone.write("/etc/chargehand/conf.d/60-acl.toml", 'redis.username = "chargehand"\n', mode=0o640, group="chargehand")
    on_disk = _configuration(alone)
    applied = puppet_apply(alone, manifest().replace("    url = ", "    # url = "))
    assert (applied.changed, applied.failed) == (False, True), applied.printed
    assert "redis.username" in _errors(applied)
    assert _configuration(alone) == on_disk


def _configuration(node: Node) -> str:
    """Every file, hidden ones too, with what stands in it."""
    return node.run("sh", "-c", "find /etc/chargehand -type f | sort | xargs head -n -0")


def _errors(applied: Applied) -> str:
    return "\n".join(line for line in applied.printed.splitlines() if line.startswith("Error: "))


def test_a_change_that_needs_a_restart_fails_and_says_so(alone: Node) -> None:
    service = Service(alone)
    puppet_apply(alone, manifest())
    service.until_whole()
    agent = service.main_pid
    changed = _with_lines('    [executor]\n    name = "other"\n')
    applied = puppet_apply(alone, changed)
    assert (applied.changed, applied.failed) == (True, True), applied.printed
    assert applied.asked == ["reload chargehand"]
    reason = "executor.name: a change of it needs a restart: systemctl restart chargehand"
    service.until("the reason", lambda: f"degraded: reload rejected: {reason}" in service.status)
    assert (service.main_pid, alone.systemctl("is-active", UNIT)) == (agent, "active")
    # Later runs have nothing to do: the status and monitoring are what goes on telling.
    _nothing_changed(puppet_apply(alone, changed))
    with pytest.raises(CommandFailed, match=r"exit 1 (?s:.*)WARNING(?s:.*)reload rejected"):
        alone.run("chargehand", "health")
    alone.systemctl("restart", UNIT)
    service.until_whole()
    assert "degraded" not in service.status


def test_a_drained_node_is_left_alone_and_a_stopped_one_is_started(alone: Node) -> None:
    service = Service(alone)
    puppet_apply(alone, manifest())
    service.until_whole()
    alone.run("chargehand", "drain", "--wait")
    _nothing_changed(puppet_apply(alone, manifest()))
    assert service.status.startswith("drained (by root since ")
    alone.run("chargehand", "undrain")
    service.until_whole()

    alone.systemctl("stop", UNIT)
    applied = puppet_apply(alone, manifest())
    assert "start chargehand" in applied.asked
    service.until_whole()


def test_a_service_that_refused_its_configuration_is_started_when_that_is_mended(alone: Node) -> None:
    service = Service(alone)
    puppet_apply(alone, manifest())
    service.until_whole()
    alone.write("/etc/chargehand/conf.d/60-site.toml", "[agent]\nstop_timeout = soon\n")
    alone.systemctl("restart", UNIT, check=False)
    assert (service["ActiveState"], service["ExecMainStatus"]) == ("failed", "78")
    for _ in range(2):
        applied = puppet_apply(alone, manifest())
        assert applied.failed
        assert "start chargehand" in applied.asked
        assert "/etc/chargehand/conf.d/60-site.toml:2: not TOML" in applied.printed
    alone.write("/etc/chargehand/conf.d/60-site.toml", '[agent]\nstop_timeout = "20s"\n')
    applied = puppet_apply(alone, manifest())
    assert (applied.changed, applied.failed) == (True, False), applied.printed
    service.until_whole()
