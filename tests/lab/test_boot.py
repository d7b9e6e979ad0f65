"""Three nodes from their first start: one serves, all are healthy, with Redis and without."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.host import CommandFailed, until
from lab.node import Node
from lab.puppet import REDIS, know_redis, manifest, puppet_apply
from lab.redis import Redis
from lab.service import CONFIG, UNIT, Service

_NAMES = ("node-a", "node-b", "node-c")
_FILE = "/etc/chargehand/chargehand.toml"
_DROP_IN = "/etc/chargehand/conf.d/50-lab.toml"


@pytest.fixture
def three(redis: Redis, node: Callable[..., Node]) -> list[Service]:
    """Up and installed, as the package comes."""
    services = [Service(node(name=name)) for name in _NAMES]
    know_redis(*(service.node for service in services))
    return services


def _roles(services: list[Service]) -> list[str]:
    return sorted(service.status.partition(" ")[0] for service in services)


@pytest.mark.usefixtures("package")
def test_one_line_and_a_start_on_three_nodes(three: list[Service]) -> None:
    for service in three:
        service.node.write(_DROP_IN, CONFIG, mode=0o640, group="chargehand")
        service.node.run("sed", "-i", '0,/^# url = /s|^# url = .*|url = "redis://redis:6379/0"|', _FILE)
        service.node.run("chargehand", "config", "check")
    with ThreadPoolExecutor(len(three)) as at_once:
        list(at_once.map(lambda service: service.node.systemctl("enable", "--now", UNIT), three))
        # `systemctl` has returned: each is READY, whatever it waits for.
        assert list(at_once.map(lambda service: service.node.systemctl("is-active", UNIT), three)) == ["active"] * 3
    for service in three:
        took = (int(service["ActiveEnterTimestampMonotonic"]) - int(service["InactiveExitTimestampMonotonic"])) / 1e6
        print(f"figure: {service.node.name} active {took:.2f} s after its start (promised: 3 s)")
    for service in three:
        service.until("workers", lambda service=service: "workers 1/1" in service.status)
    assert _roles(three) == ["active", "passive", "passive"]
    (active,) = [service for service in three if service.status.startswith("active")]
    passive = [service for service in three if service is not active]
    for service in passive:
        told = service.node.systemctl("status", UNIT)
        assert f'Status: "passive (waiting on lock, held by {active.node.name}, epoch 1); workers 1/1"' in told
        assert "Active: active (running)" in told

    plans = [passive[0].submit("hold", "until=/srv", "--node", name) for name in _NAMES]
    assert [passive[1].until_ended(plan) for plan in plans] == ["succeeded"] * 3
    assert [service.notes() for service in three] == [["begun", "ended"]] * 3
    assert [service["NRestarts"] for service in three] == ["0"] * 3


@pytest.mark.usefixtures("package")
def test_redis_is_down_at_boot_for_longer_than_every_time_out(redis: Redis, three: list[Service]) -> None:
    redis.kill()
    for service in three:
        node = service.node
        node.write(_DROP_IN, '[agent]\nready_timeout = "2s"\n', mode=0o640, group="chargehand")
        node.write(f"/etc/systemd/system/{UNIT}.d/short.conf", "[Service]\nTimeoutStartSec=5s\nWatchdogSec=2s\n")
        applied = puppet_apply(node, manifest())
        assert (applied.changed, applied.failed) == (True, False), applied.printed
        node.power_off()
    for service in three:
        service.node.boot()
    pids = [service.main_pid for service in three]
    for service in three:
        assert service.node.systemctl("is-active", UNIT) == "active"
        service.until("waiting", lambda service=service: "workers 1/1" in service.status)
    for service in three:
        applied = puppet_apply(service.node, manifest())
        assert (applied.code, applied.asked) == (0, []), applied.printed
        assert service.status.startswith(f"waiting (Redis {REDIS}:6379 since ")
    newest = three[-1]
    started = int(newest["InactiveExitTimestampMonotonic"]) / 1e6
    until("longer than the time-outs", lambda: float(newest.node.read("/proc/uptime").split()[0]) > started + 12)
    assert {service.status.partition(" ")[0] for service in three} == {"waiting"}

    begun = time.time()
    redis.start()
    for service in three:
        service.until("whole", lambda service=service: service.status.startswith(("active", "passive")))
    until("one active, two passive", lambda: _roles(three) == ["active", "passive", "passive"])
    moments = [_became_active(service) for service in three]
    (moment,) = [moment for moment in moments if moment is not None]
    print(f"figure: active {moment - begun:.2f} s after Redis was told to start (promised: 1 s)")
    assert [service.main_pid for service in three] == pids
    assert [service["NRestarts"] for service in three] == ["0"] * 3


def _became_active(service: Service) -> float | None:
    """When its orchestrator did, by the machine's one clock; None: never."""
    times = [
        int(event["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6
        for event in service.events("child_role")
        if event["CHARGEHAND_CHILD"] == "orchestrator" and event["CHARGEHAND_ROLE"] == "active"
    ]
    return times[-1] if times else None


def test_a_reload_of_broken_toml_tells_why_everywhere(node: Callable[..., Node]) -> None:
    service = Service(node(CONFIG))
    service.start()
    plan = service.submit("hold")
    service.until_noted("begun")
    before, agent = service.pids(), service.main_pid
    file = "/etc/chargehand/conf.d/60-site.toml"
    service.node.write(file, "[agent]\nstop_timeout = soon\n")
    reason = f"{file}:2: not TOML: "

    with pytest.raises(CommandFailed):
        service.node.systemctl("reload", UNIT)
    service.until("the reason", lambda: f"degraded: reload rejected: {reason}" in service.status)
    of_agent = [entry for entry in service.node.journal(unit=UNIT) if entry.get("_PID") == str(agent)]
    assert reason in of_agent[-1]["MESSAGE"]
    with pytest.raises(CommandFailed, match=f"exit 78 (?s:.*){reason}"):
        service.node.run("chargehand", "reload")
    told = json.loads(service.node.run("chargehand", "reload", "--json", check=False))
    assert told["ok"] is False
    assert reason in told["problems"][0]

    # It goes on with what it had, and what ran still runs.
    assert service.node.systemctl("is-active", UNIT) == "active"
    assert (service.pids(), service.main_pid) == (before, agent)
    service.let_go()
    service.until_noted("begun", "ended")

    service.node.write(file, '[agent]\nstop_timeout = "20s"\n')
    service.node.systemctl("reload", UNIT)
    service.until("mended", lambda: "degraded" not in service.status)
    assert service.until_ended(plan) == "succeeded"
    assert (service.pids(), service.main_pid, service["NRestarts"]) == (before, agent, "0")
