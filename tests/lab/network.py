"""The nodes' network: a bridge in a namespace of its own, so that the host's network is not touched at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lab.host import LAB, call

__all__ = ["PREFIX", "Direction", "Network"]

PREFIX = f"chlab-{LAB}"  # of everything with a name that the whole machine shares
_SUBNET = "198.18.0"  # of RFC 2544: for tests of networks, routed nowhere

#: As the node sees it: what comes to it, what goes from it.
Direction = Literal["both", "in", "out"]
_HOOKS = {"in": "egress", "out": "ingress"}  # as the bridge sees it


class Network:
    def __init__(self, tools: Path) -> None:
        """`tools`: a root file system that has nft."""
        self._tools = tools
        self._cut: set[str] = set()
        self.addresses: dict[str, str] = {}
        call("ip", "netns", "add", PREFIX)
        call("ip", "-n", PREFIX, "link", "add", "bridge", "type", "bridge")
        for name in ("lo", "bridge"):
            call("ip", "-n", PREFIX, "link", "set", name, "up")

    def join(self, name: str) -> None:
        """The bridge's own end is `name`, for what no node's fault may reach."""
        self.addresses[name] = f"{_SUBNET}.1"
        call("ip", "-n", PREFIX, "address", "replace", f"{self.addresses[name]}/24", "dev", "bridge")

    def plug_in(self, node: str) -> str:
        """A namespace for the node, its `eth0` on the bridge. Returns the namespace's path."""
        space = f"{PREFIX}-{node}"
        self.addresses.setdefault(node, f"{_SUBNET}.{len(self.addresses) + 10}")  # a name keeps its address
        call("ip", "netns", "add", space)
        call("ip", "-n", PREFIX, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", space)
        call("ip", "-n", PREFIX, "link", "set", node, "master", "bridge", "up")
        call("ip", "-n", space, "link", "set", "lo", "up")
        call("ip", "-n", space, "address", "add", f"{self.addresses[node]}/24", "dev", "eth0")
        call("ip", "-n", space, "link", "set", "eth0", "up")
        return f"/run/netns/{space}"

    def cut(self, node: str, direction: Direction) -> None:
        """Packets vanish between the bridge and the node; its own interface still looks well to it."""
        self.mend(node)
        self._cut.add(node)
        self._nft("add", "table", "netdev", _table(node))
        for way in ("in", "out") if direction == "both" else (direction,):
            hook = f'{{ type filter hook {_HOOKS[way]} device "{node}" priority 0; policy drop; }}'
            self._nft("add", "chain", "netdev", _table(node), way, hook)

    def mend(self, node: str) -> None:
        if node in self._cut:
            self._nft("delete", "table", "netdev", _table(node))
            self._cut.remove(node)

    def unplug(self, node: str) -> None:
        self.mend(node)
        # By name, at once: a namespace goes in the background, and its interfaces with it.
        call("ip", "-n", PREFIX, "link", "del", node)
        call("ip", "netns", "del", f"{PREFIX}-{node}")

    def _nft(self, *words: str) -> None:
        call("ip", "netns", "exec", PREFIX, "chroot", self._tools, "/usr/sbin/nft", *words)


def _table(node: str) -> str:
    return f"cut_{node.replace('-', '_')}"
