"""The lab: one at a time of each name; it clears away what an earlier one that was killed has left."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from pathlib import Path
from typing import Self

import psutil

from lab.groups import NodeGroup
from lab.host import LAB, call, mounts_below, unmount, until
from lab.image import Image, Suite, cache_directory
from lab.network import PREFIX, Network
from lab.node import Node
from lab.redis import Redis

__all__ = ["Lab", "LabInUse"]

_PLACE = Path(f"/run/chargehand-lab-{LAB}")
_PROPAGATE = Path("/run/systemd/nspawn/propagate")
_PATIENCE = 900.0  # seconds that a lab waits for another to end
_AT_ONCE = 3  # nodes that are up; the machine may have two cores


class LabInUse(Exception):
    """Another lab of this name stands on this machine, and does not end."""


class Lab:
    def __init__(self, tree: Path, suite: Suite) -> None:
        """`tree`: the checkout that is built and installed on the nodes. Raises `LabInUse`."""
        self.suite = suite
        self._lock = os.open(f"{_PLACE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until("alone", self._locked, _PATIENCE)
        except AssertionError as error:
            os.close(self._lock)
            advice = "wait for its end, or name this one: CHARGEHAND_LAB=NAME"
            raise LabInUse(f"another lab {LAB!r} has stood here for {_PATIENCE:g} s: {advice}") from error
        self._nodes: list[Node] = []
        try:
            self.clear()
            self.image = Image(tree, suite, cache_directory(), _PLACE)
            self._network = Network(self.image.base)
        except BaseException:  # whatever it is, another lab may try
            os.close(self._lock)
            raise

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def node(self, name: str, *, package: bool = True) -> Node:
        """A new node, switched off. `name`: at most 9 characters, of which the kernel makes an interface's name."""
        assert len(name) < 10
        assert sum(node.is_up for node in self._nodes) < _AT_ONCE, f"at most {_AT_ONCE} nodes are up at once"
        layers = self.image.layers if package else self.image.bare
        self._nodes.append(Node(name, layers, _PLACE / name, self._network, server=self.suite.server))
        hosts = "".join(f"{address} {name}\n" for name, address in self._network.addresses.items())
        for node in self._nodes:
            node.write("/etc/hosts", f"127.0.0.1 localhost\n{hosts}")
        return self._nodes[-1]

    def redis(self) -> Redis:
        """One for all nodes that are made from now on, stopped."""
        return Redis(self.suite.server, [self.image.base], _PLACE / "redis", self._network)

    def discard(self, node: Node) -> None:
        self._nodes.remove(node)
        node.discard()

    def close(self) -> None:
        for node in list(self._nodes):
            self.discard(node)
        self.clear()
        self.image.close()
        os.close(self._lock)

    @staticmethod
    def clear() -> None:
        """End and remove, by name, whatever a lab made; the lock says that it is nobody's."""
        for process in psutil.process_iter(["pid", "name"]):
            if process.info["name"] != "systemd-nspawn":
                continue
            try:
                if any(word.startswith(f"--machine={PREFIX}-") for word in process.cmdline()):
                    process.send_signal(signal.SIGKILL)
                    process.wait(30)
            except psutil.NoSuchProcess:
                continue
        for group in NodeGroup.standing(f"{PREFIX}-"):
            group.kill()
            group.remove()
        unmount(_PLACE)
        assert not mounts_below(_PLACE)
        shutil.rmtree(_PLACE, ignore_errors=True)
        for path in Path("/run/netns").glob(f"{PREFIX}*"):
            if path.name == PREFIX or path.name.startswith(f"{PREFIX}-"):
                call("ip", "netns", "del", path.name)
        for path in _PROPAGATE.glob(f"{PREFIX}-*"):
            path.rmdir()
