"""Two nodes of one executor: the passive one is healthy to systemd, and takes over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.node import Node
from lab.service import CONFIG, UNIT, Service

_CONFIG = CONFIG + '[redis]\nurl = "redis://node-b:6379/0"\n'


@pytest.fixture
def pair(node: Callable[..., Node]) -> tuple[Service, Service]:
    """The first is active; Redis is on the second."""
    first, second = Service(node(_CONFIG, name="node-a")), Service(node(_CONFIG, name="node-b"))
    second.node.serve_redis()
    first.start()
    second.start(role="passive")
    return first, second


def test_a_passive_node_is_active_to_systemd(pair: tuple[Service, Service]) -> None:
    first, second = pair
    assert first.status.startswith("active (epoch 1); workers 1/1")
    assert second.status == "passive (waiting on lock, held by node-a, epoch 1); workers 1/1"
    assert second.node.systemctl("is-active", UNIT) == "active"
    assert second.node.run("chargehand", "health").startswith("OK")
    assert second["NRestarts"] == "0"


@pytest.mark.parametrize("fault", ["power", "network", "frozen"])
def test_the_other_takes_over(pair: tuple[Service, Service], fault: str) -> None:
    first, second = pair
    plan = first.submit("hold")
    second.until("begun on one of them", lambda: first.notes() + second.notes() == ["begun"])
    match fault:
        case "power":
            first.node.pull_the_plug()
        case "network":
            first.node.cut_network()
        case _:
            first.node.freeze()
    second.until_whole()
    assert second.status.startswith("active (epoch 2)")
    first.let_go()
    second.let_go()
    assert second.until_ended(plan) == "succeeded"
    match fault:
        case "power":
            first.node.boot()
            first.node.systemctl("start", UNIT)
        case "network":
            first.node.mend_network()
        case _:
            first.node.thaw()
    first.until_whole(role="passive")
    assert "held by node-b, epoch 2" in first.status
    assert first["NRestarts"] == "0"


def test_a_node_that_waits_for_redis_has_not_failed(pair: tuple[Service, Service]) -> None:
    first, second = pair
    before = first.pids()
    second.node.redis_cli("shutdown", "nosave")
    for service in pair:
        service.until("waiting", lambda service=service: service.status.startswith("waiting (Redis node-b:6379 since "))
        assert service.node.systemctl("is-active", UNIT) == "active"
    second.node.serve_redis()
    for service in pair:
        service.until("whole", lambda service=service: "workers 1/1" in service.status and _role(service))
    assert sorted(_role(service) for service in pair) == ["active", "passive"]
    assert first.pids() == before
    assert [service["NRestarts"] for service in pair] == ["0", "0"]


def _role(service: Service) -> str:
    word = service.status.partition(" ")[0]
    return word if word in {"active", "passive"} else ""
