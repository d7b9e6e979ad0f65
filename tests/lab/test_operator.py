"""What an operator does on a node with the unit: drain it over a reboot, ask for health and logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.host import CommandFailed
from lab.node import Node
from lab.service import CONFIG, UNIT, Service


@pytest.fixture
def service(node: Callable[..., Node]) -> Service:
    return Service(node(CONFIG))


def test_a_drain_outlives_a_reboot(service: Service) -> None:
    service.node.systemctl("enable", UNIT)
    service.start()
    service.node.run("chargehand", "drain", "--wait", "--reason", "new disk")
    service.until("drained", lambda: service.status.startswith("drained (by root since "))
    service.node.power_off()

    service.node.boot()
    assert service.node.systemctl("is-active", UNIT) == "active"
    service.until("drained", lambda: service.status.startswith("drained (by root since "))
    assert not {"worker", "orchestrator"} & {process.group.partition(".")[0] for process in service.processes()}
    with pytest.raises(CommandFailed, match=r"exit 1 (?s:.*)WARNING"):
        service.node.run("chargehand", "health")

    service.node.run("chargehand", "undrain")
    service.until_whole()
    assert service.node.run("chargehand", "health").startswith("OK")


def test_logs_are_found_by_child(service: Service) -> None:
    service.start()
    plan = service.submit("fail")
    assert service.until_ended(plan) == "paused"
    service.node.run("journalctl", "--sync")
    printed = service.node.run("chargehand", "logs", "worker")
    assert plan in printed
    assert "chargehand-orchestrator" not in printed
    assert "agent_ready" in service.node.run("chargehand", "logs", "agent")


def test_health_is_critical_without_the_unit(service: Service) -> None:
    with pytest.raises(CommandFailed, match=r"exit 2 (?s:.*)CRITICAL"):
        service.node.run("chargehand", "health")
