"""The unit on a node, as it stands in units/: what it is told, what systemd says of it, what its steps leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.host import until
from lab.node import Node, Process

__all__ = ["CONFIG", "UNIT", "Service"]

UNIT = "chargehand.service"

_NOTES = "/var/lib/chargehand/notes"  # the unit may write there, and next to nowhere else

#: Notes that it has begun, and ends once a file is there.
_HOLD = f"""#!/bin/sh
echo begun >>{_NOTES}
until test -e "$1"; do sleep 0.1; done
echo ended >>{_NOTES}
"""

#: A program that hides most of itself before it does anything else.
_SCATTER = """#!/bin/sh
for number in 1 2; do
    env -i setsid sh -c "trap '' TERM HUP INT; while :; do sleep 1000; done" hidden-tree &
done
exec sleep 100000
"""

#: Notes how many of an earlier tree live; grows one that hides in sessions of its own, without its environment,
#: and ends by nothing but SIGKILL, partly without a parent; then as above.
_TREE = f"""#!/bin/sh
echo "found $(pgrep --count --full 'hidden-[t]ree')" >>{_NOTES}
for number in 1 2 3; do
    env -i setsid sh -c "trap '' TERM HUP INT; while :; do sleep 1000; done" hidden-tree &
done
env -i setsid sh -c "trap '' TERM HUP INT; setsid sh -c 'while :; do sleep 1000; done' hidden-tree &" leaves
until test "$(pgrep --count --full 'hidden-[t]ree')" -ge 4; do sleep 0.1; done
echo grown >>{_NOTES}
until test -e "$1"; do sleep 0.1; done
"""

CONFIG = """\
[[action]]
name = "hold"
argv = ["/usr/local/bin/hold", "{until}"]
params.until = { default = "/srv/go" }

[[action]]
name = "tree"
argv = ["/usr/local/bin/tree", "{until}"]
params.until = { default = "/srv/go" }

[[action]]
name = "fail"
argv = ["/usr/bin/false"]
"""


class Service:
    def __init__(self, node: Node) -> None:
        self.node = node
        for name, text in (("hold", _HOLD), ("tree", _TREE), ("scatter", _SCATTER)):
            node.write(f"/usr/local/bin/{name}", text, mode=0o755)

    # -- asked of systemd -------------------------------------------------------------------------

    def __getitem__(self, name: str) -> str:
        """A property of the unit."""
        return self.node.show(UNIT, name).get(name, "")

    @property
    def status(self) -> str:
        return self["StatusText"]

    @property
    def main_pid(self) -> int:
        return int(self["MainPID"])

    def start(self, role: str = "active") -> None:
        """Until it has this role and all its workers. Raises `CommandFailed` when it does not start."""
        self.node.systemctl("start", UNIT)
        self.until_whole(role=role)

    def until_whole(self, workers: str = "workers 1/1", role: str = "active") -> None:
        self.until(f"{role}, {workers}", lambda: self.status.startswith(role) and workers in self.status)

    def until(self, what: str, condition: Any, timeout: float = 30.0) -> None:
        try:
            until(what, condition, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.status!r}") from None

    def processes(self) -> list[Process]:
        return self.node.processes(UNIT)

    def events(self, event: str) -> list[dict[str, Any]]:
        """The agent's own journal entries of that name."""
        return self.node.journal(f"CHARGEHAND_EVENT={event}")

    # -- asked of the agent -----------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """Of the children, by name."""
        told = json.loads(self.node.run("chargehand", "status", "--json", check=False))
        return {child["name"]: child["pid"] for child in told["agent"]["children"]}

    # -- plans ------------------------------------------------------------------------------------

    def submit(self, action: str, *words: str) -> str:
        return self.node.run("chargehand", "submit", action, *words).strip()

    def plan_state(self, plan: str) -> str:
        state: str = json.loads(self.node.run("chargehand", "plan", "show", "--json", plan))["state"]
        return state

    def until_ended(self, plan: str) -> str:
        """The state in which it has ended."""
        self.until("the plan's end", lambda: self.plan_state(plan) in {"succeeded", "paused", "rejected"})
        return self.plan_state(plan)

    def notes(self) -> list[str]:
        return self.node.read(_NOTES).splitlines()

    def until_noted(self, *lines: str) -> None:
        self.until(f"notes {lines}", lambda: self.notes() == list(lines))

    def let_go(self) -> None:
        """Running steps may end."""
        Path(self.node.root / "srv/go").touch()
