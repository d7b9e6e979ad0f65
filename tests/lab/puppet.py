"""Puppet on a node, with the manifest that docs/puppet.md shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from lab.node import Node

__all__ = ["PAGE", "REDIS", "Applied", "know_redis", "manifest", "puppet_apply"]

PAGE = Path(__file__).parents[2] / "docs/puppet.md"
REDIS = "redis.example.com"  # as the page calls it

_FILE = "/srv/site.pp"
_CHANGED, _FAILED = 2, 4  # of `--detailed-exitcodes`; both may be set


class Applied(NamedTuple):
    code: int
    printed: str

    @property
    def changed(self) -> bool:
        return bool(self.code & _CHANGED)

    @property
    def failed(self) -> bool:
        return bool(self.code & _FAILED)

    @property
    def asked(self) -> list[str]:
        """What it had systemd do, without mere questions: `start chargehand`."""
        commands = re.findall(r"Executing: '/(?:usr/)?bin/systemctl ([\w-]+)(?: -- | )([\w@.-]+)'", self.printed)
        return [f"{verb} {unit}" for verb, unit in commands if verb not in {"is-active", "is-enabled", "show", "cat"}]


def manifest(*, whole: bool = False) -> str:
    """As a reader would copy it: the page's first one, or all of them together."""
    found = re.findall(r"^```puppet\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return "\n".join(found) if whole else str(found[0])


def know_redis(*nodes: Node) -> None:
    """The lab's own Redis by the page's name; once all nodes are made."""
    for node in nodes:
        node.write("/etc/hosts", node.read("/etc/hosts").replace(" redis\n", f" redis {REDIS}\n"))


def puppet_apply(node: Node, text: str) -> Applied:
    """Apply it. A resource that fails does not raise; a manifest that Puppet cannot read does (`AssertionError`)."""
    # Nodes are Debian; RHEL's own provider is what Puppet takes there.
    node.write(_FILE, f"Package {{ provider => 'dnf' }}\n{text}")
    script = 'puppet apply --debug --color=false --detailed-exitcodes "$1" 2>&1; echo "exit $?"'
    printed = node.run("sh", "-c", script, "sh", _FILE, timeout=180)
    code = int(printed.rstrip().rpartition("exit ")[2])
    assert code in {0, _CHANGED, _FAILED, _CHANGED | _FAILED}, printed
    return Applied(code, printed)
