"""A rolling upgrade: one node after the other gets a later package while a long plan runs on all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.editions import LATER, editions
from lab.node import Node
from lab.redis import Redis
from lab.service import UNIT, Service

CHECKOUT = Path(__file__).parents[2]
STEPS = 2000
NOTES = "/var/lib/chargehand/notes"

CONFIG = """\
[redis]
url = "redis://redis:6379/0"

[actions]
modules = ["site_actions"]
"""

#: Each step leaves a line on the node that ran it; the last one has the outputs of all.
ACTIONS = f"""\
import time

from chargehand import Plan, action


@action
def note(number: int) -> int:
    time.sleep(0.25)
    with open("{NOTES}", "a") as file:
        file.write(f"{{number}}\\n")
    return number


@action
def total(numbers: list[int]) -> int:
    return sum(numbers)


@action
def many(plan: Plan, count: int) -> None:
    plan.add(total, numbers=[plan.add(note, number=number) for number in range(count)])
"""


@pytest.fixture
def later(package: Path) -> Path:
    return editions(CHECKOUT, package).later


@pytest.fixture
def services(node: Callable[..., Node], package: Path, redis: Redis) -> list[Service]:
    """Three nodes of one executor with this checkout's package; the first is active."""
    services = [Service(node(name=name)) for name in ("node-a", "node-b", "node-c")]
    for service in services:
        for name, text in (("conf.d/50-lab.toml", CONFIG), ("actions/site_actions.py", ACTIONS)):
            service.node.write(f"/etc/chargehand/{name}", text, mode=0o640, group="chargehand")
    for service in services:
        service.node.systemctl("enable", "--now", UNIT)
        service.until_whole(role="active" if service is services[0] else "passive")
    return services


def _is_active(service: Service) -> bool:
    return service.status.startswith("active")


def _times(service: Service, event: str) -> list[float]:
    """When the agent said so, in seconds."""
    return [int(entry["__REALTIME_TIMESTAMP"]) / 1e6 for entry in service.events(event)]


def _epochs(services: list[Service]) -> dict[int, tuple[str, float]]:
    """Which node became active in each, and when; seconds."""
    found = {}
    for service in services:
        for entry in service.node.journal(identifier="chargehand-orchestrator"):
            if entry["MESSAGE"].startswith("active: epoch "):
                epoch = int(entry["MESSAGE"].split()[2].rstrip(":"))
                found[epoch] = (service.node.name, int(entry["__REALTIME_TIMESTAMP"]) / 1e6)
    return found


def _notes(services: list[Service]) -> list[int]:
    return [int(line) for service in services for line in service.notes()]


def test_nothing_is_lost_or_repeated(
    services: list[Service], later: Path, record_property: Callable[[str, object], None]
) -> None:
    def figure(name: str, value: object) -> None:
        print(f"{name}: {value}")
        record_property(name, value)

    plan = services[1].submit("many", f"count={STEPS}")
    began = time.monotonic()
    givers = []
    for service in services:
        seen = len(_notes(services))
        service.until("the plan goes on", lambda seen=seen: len(_notes(services)) > seen + 50)
        role = "active" if _is_active(service) else "passive"
        givers += [service] if role == "active" else []
        at = time.monotonic()
        service.node.dnf("upgrade", later)
        service.until("back", lambda service=service: "workers 1/1" in service.status, 60)
        figure(f"{service.node.name}, {role}: dnf upgrade until back", f"{time.monotonic() - at:.1f} s")
    assert services[0].plan_state(plan) == "running", "the plan was over before the last node was upgraded"

    services[0].until("the plan's end", lambda: services[0].plan_state(plan) != "running", 240)
    figure(f"{STEPS} steps of 0.25 s and three upgrades", f"{time.monotonic() - began:.1f} s")
    view = json.loads(services[0].node.run("chargehand", "plan", "show", "--json", plan))
    assert view["state"] == "succeeded"
    assert sorted(_notes(services)) == list(range(STEPS))
    assert {step["attempt"] for step in view["steps"]} == {1}
    assert str(sum(range(STEPS))) in json.dumps(view["steps"][-1]["result"])
    assert all(service.notes() for service in services)

    # The lease moved exactly when its node was upgraded.
    epochs = _epochs(services)
    assert sorted(epochs) == list(range(1, len(givers) + 2))
    assert [epochs[epoch][0] for epoch in range(1, len(givers) + 1)] == [service.node.name for service in givers]
    assert sum(_is_active(service) for service in services) == 1
    figure("handovers", len(givers))
    for epoch, giver in enumerate(givers, 1):
        taker, taken = epochs[epoch + 1]
        told = _times(giver, "agent_stopping")[0]
        figure(f"{giver.node.name} told to stop until {taker} active", f"{(taken - told) * 1000:.0f} ms")
    for service in services:
        status = json.loads(service.node.run("chargehand", "status", "--json"))
        assert status["agent"]["version"] == LATER
        assert service["NRestarts"] == "0"
