"""The nodes' network: a bridge in a namespace of its own, so that the host's network is not touched at all."""

from __future__ import annotations

from lab.host import LAB, call

__all__ = ["PREFIX", "Network"]

PREFIX = f"chlab-{LAB}"  # of everything with a name that the whole machine shares
_SUBNET = "198.18.0"  # of RFC 2544: for tests of networks, routed nowhere


class Network:
    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        call("ip", "netns", "add", PREFIX)
        call("ip", "-n", PREFIX, "link", "add", "bridge", "type", "bridge")
        call("ip", "-n", PREFIX, "link", "set", "bridge", "up")

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

    def cut(self, node: str) -> None:
        """Nothing comes to the node or goes from it; its own interface still looks well to it."""
        call("ip", "-n", PREFIX, "link", "set", node, "nomaster")

    def mend(self, node: str) -> None:
        call("ip", "-n", PREFIX, "link", "set", node, "master", "bridge")

    def unplug(self, node: str) -> None:
        # By name, at once: a namespace goes in the background, and its interfaces with it.
        call("ip", "-n", PREFIX, "link", "del", node)
        call("ip", "netns", "del", f"{PREFIX}-{node}")
