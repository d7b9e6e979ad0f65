"""A network that fails in one direction: what the node says goes, or what is said to it arrives, not both.

The bridge does it, where the node cannot see it. A port that is locked takes only frames of addresses that it knows,
and it is made to know none; a port that is not flooded gets only frames to addresses that are known behind it.
"""

from __future__ import annotations

from lab.host import call
from lab.network import PREFIX
from lab.node import Node

__all__ = ["deafen", "mend", "mute"]


def mute(node: Node) -> None:
    """Nothing that it sends gets anywhere; it still hears."""
    _port(node, "learning", "off", "locked", "on", "fdb_flush")


def deafen(node: Node) -> None:
    """It hears nothing; what it sends still arrives."""
    _port(node, "learning", "off", "flood", "off", "mcast_flood", "off", "bcast_flood", "off", "fdb_flush")


def mend(node: Node) -> None:
    """Both ways again."""
    _port(node, "locked", "off", "flood", "on", "mcast_flood", "on", "bcast_flood", "on", "learning", "on")


def _port(node: Node, *words: str) -> None:
    call("ip", "-n", PREFIX, "link", "set", node.name, "type", "bridge_slave", *words)
