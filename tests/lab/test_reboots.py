"""A step that reboots its node, by root's own `systemctl reboot` in a privileged worker group: docs/actions.md."""

from __future__ import annotations

import json
from collections.abc import Callable

from lab.host import until
from lab.node import Node
from lab.service import CONFIG, UNIT, Service
from support.documents import DOCS, blocks

#: As an operator would write it; and what is noted before and after tells the boots apart: /run is new in each.
(_PRIVILEGED,) = (text for text in blocks(DOCS / "actions.md", "toml") if "systemctl" in text)
_HOLDING = ("systemd-inhibit", "--what=shutdown", "--mode=delay", "sleep", "infinity")
_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_TO_GO_DOWN = ("busctl", "get-property", *_LOGIND, "PreparingForShutdown")
_NOTE = """
[[action]]
name = "note"
argv = ["/bin/sh", "-c", "(cat /run/boot 2>/dev/null || echo another) >>/var/lib/chargehand/notes"]

[actions]
path = ["/etc/chargehand/actions"]
modules = ["maintenance"]
"""
_MAINTENANCE = """
from chargehand import Plan, action


@action
def maintain(plan: Plan) -> None:
    with plan.sequence():
        plan.add("note", node="node-a")
        plan.add("reboot-node-a")
        plan.add("note", node="node-a")
"""


def test_the_plan_goes_on_after_the_boot(node: Callable[..., Node]) -> None:
    """`systemctl reboot` ends at once, and somebody holds the shutdown up: no step runs in between, none twice."""
    service = Service(node(CONFIG + _PRIVILEGED + _NOTE))
    service.node.write("/etc/chargehand/actions/maintenance.py", _MAINTENANCE)
    for unit in (UNIT, "chargehand-worker@root.service"):
        service.node.systemctl("enable", unit)
    service.node.run("sh", "-c", "echo first >/run/boot")
    service.node.run("systemd-run", "--quiet", "--unit=holding", *_HOLDING)
    until("held up", lambda: "sleep" in service.node.run("systemd-inhibit", "--list", "--no-pager"))
    service.start()
    plan = service.submit("maintain")
    until("it is to go down", lambda: "b true" in service.node.run(*_TO_GO_DOWN))
    service.node.attempt("systemctl", "--no-block", "stop", "holding")

    service.node.let_reboot()
    service.until_whole()
    assert service.until_ended(plan) == "succeeded"
    assert service.notes() == ["first", "another"]
    steps = json.loads(service.node.run("chargehand", "plan", "show", "--json", plan))["steps"]
    assert steps[1]["result"]["output"] == {"exit": None, "stdout": "", "stderr": "", "rebooted": True}
    assert [step["result"]["node"] for step in steps] == ["node-a"] * 3
    assert len(service.node.run("journalctl", "--no-pager", "--quiet", "--list-boots").splitlines()) == 2
    history = service.node.run("chargehand", "plan", "history", plan)
    assert history.count("step 1 lost with its worker") == 1, history
    assert "step 1 succeeded at attempt 2 on node-a" in history
