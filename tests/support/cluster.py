"""A Redis Cluster of real servers on loopback: three masters that share the slots, and replicas of one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chargehand.store.keys import Keys
from support.programs import until
from support.server import Server, free_port
from support.tls import Tls

__all__ = ["Cluster", "ask"]

_SLOTS = 16_384
_BUS = 10_000  # the port of a node's bus is that much higher


class Cluster:
    def __init__(self, directory: Path, *, replicas: int = 0, tls: Tls | None = None) -> None:
        """`replicas`: of the node that has the slot of the executor `default`."""
        self._directory, self._tls = directory, tls
        self.replicas: list[Server] = []
        self.nodes = [self._node(number) for number in range(3)]
        for number, node in enumerate(self.nodes):
            slots = range(number * _SLOTS // 3, (number + 1) * _SLOTS // 3)
            ask(node, "CLUSTER", "ADDSLOTS", *slots)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self._meet(self.nodes[1:])
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"{'rediss' if tls else 'redis'}+cluster://{hosts}"
        if replicas:
            owner = self.owner("default")
            self.replicas = [self._node(3 + number) for number in range(replicas)]
            self._meet(self.replicas)
            master = node_id(owner)
            until("they know their master", lambda: all(master in _known(replica) for replica in self.replicas))
            for replica in self.replicas:
                ask(replica, "CLUSTER", "REPLICATE", master)
            until("the replicas are in step", lambda: ask(owner, "WAIT", replicas, 10) >= replicas, timeout=60)
            until("everybody knows of them", lambda: all(self._knows_replicas(node, master) for node in self.nodes))

    def _node(self, number: int) -> Server:
        while (port := free_port()) + _BUS > 65_535:
            pass
        return Server(
            self._directory / f"node-{number}",
            port=port,
            tls=self._tls,
            options=(
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1500"),
                *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
            ),
        )

    def _meet(self, others: list[Server]) -> None:
        for other in others:
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", other.port)
        every = {*self.nodes, *others}

        def one_cluster() -> bool:
            return all(b"cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in every)

        until("all know each other", lambda: all(len(_known(node)) >= len(every) for node in every), timeout=60)
        until("it is one cluster", one_cluster, timeout=60)

    def _knows_replicas(self, node: Server, master: str) -> bool:
        lines = ask(node, "CLUSTER", "NODES").decode().splitlines()
        return sum(f"slave {master}" in line for line in lines) == len(self.replicas)

    def owner(self, executor: str) -> Server:
        """The master that has the executor's slot, as most of the living say."""
        slot = self.slot(executor)
        told: list[int] = []
        for node in self.living:
            for first, last, master, *_ in ask(node, "CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    told.append(master[1])
        port = max(told, key=told.count)
        return next(node for node in [*self.nodes, *self.replicas] if node.port == port)

    def slot(self, executor: str) -> int:
        found: int = ask(self.living[0], "CLUSTER", "KEYSLOT", Keys(executor).lease)
        return found

    @property
    def living(self) -> list[Server]:
        return [node for node in [*self.nodes, *self.replicas] if node.running]

    def migrate(self, slot: int, source: Server, target: Server) -> None:
        """Move a slot as operators' tools do: its keys one after the other, while clients use it."""
        here, there = node_id(source), node_id(target)
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 5):
            ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *(one for one in self.nodes if one not in {source, target})):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", there)

    def stop(self) -> None:
        for node in [*self.nodes, *self.replicas]:
            node.kill()


def ask(node: Server, *command: Any) -> Any:
    line = node.line()
    try:
        return line.call(*command)
    finally:
        line.close()


def node_id(node: Server) -> str:
    found: str = ask(node, "CLUSTER", "MYID").decode()
    return found


def _known(node: Server) -> set[str]:
    """Ids of the nodes that it is connected to, itself included."""
    lines = ask(node, "CLUSTER", "NODES").decode().splitlines()
    return {line.split()[0] for line in lines if "handshake" not in line and " connected" in line}
