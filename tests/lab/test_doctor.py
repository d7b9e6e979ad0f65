"""`chargehand doctor` on a node with the unit: what systemd is told about it, and what another user may look at."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lab.node import Node
from lab.service import UNIT, Service


@pytest.fixture
def service(node: Callable[..., Node]) -> Service:
    return Service(node('[[action]]\nname = "fine"\nargv = ["/usr/bin/true"]\ntimeout = "10s"\n'))


def found(service: Service, *before: str) -> dict[str, str]:
    """Check -> the severity of the worst that it says, of those that say something."""
    told = json.loads(service.node.run(*before, "chargehand", "doctor", "--json", check=False))
    return {one["check"]: one["severity"] for one in reversed(told["findings"]) if one["severity"] != "ok"}


def test_the_unit_and_the_files(service: Service) -> None:
    node = service.node
    assert found(service)["node-agent"] == "error", "it does not run"

    node.systemctl("enable", UNIT)
    service.start()
    assert found(service) == {}, "as the package and the documents have it"
    assert "checks passed" in node.run("chargehand", "doctor")

    # As a user with no rights at all: what it cannot look at it says, and nothing is an error for that.
    looked = found(service, "runuser", "-u", "nobody", "--")
    assert looked == {"node-configuration": "note", "node-agent": "note"}, "both are closed to others"
    assert "node-boot" not in looked, "anybody may ask systemd"

    node.systemctl("disable", UNIT)
    assert found(service) == {"node-boot": "warning"}

    drop_in = "/etc/systemd/system/chargehand.service.d/site.conf"
    node.write(drop_in, "[Service]\nWatchdogSec=0\nRestart=no\n")
    node.systemctl("daemon-reload")
    assert found(service)["node-watchdog"] == "warning"
    node.write(drop_in, "[Service]\nType=exec\nNotifyAccess=none\nWatchdogSec=0\n")
    node.systemctl("daemon-reload")
    assert found(service)["node-watchdog"] == "error"
