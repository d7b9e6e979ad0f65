"""A master, its replicas and the sentinels that watch them, as real servers on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chargehand.config.settings import RedisSettings
from chargehand.store.connection import Line, Unavailable
from chargehand.store.opening import FAILURES, Opener
from support.programs import until
from support.server import Server, binary, free_port
from support.tls import Tls

__all__ = ["Group", "Sentinel", "follows", "leads", "url_of"]

MASTER = "main"


class Sentinel:
    def __init__(self, directory: Path, master_port: int, *, quorum: int = 2, tls: Tls | None = None) -> None:
        """`master_port`: where it finds the master; the group's other servers and sentinels it finds by itself."""
        directory.mkdir()
        self.port = free_port()
        self._opener = Opener(tls.settings("rediss://") if tls else RedisSettings(url="redis://"))
        speaking = tls.options(self.port) if tls else {"port": str(self.port)}
        config = directory / "sentinel.conf"
        config.write_text(
            "".join(f"{name} {value}\n" for name, value in speaking.items()) + f"bind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master_port} {quorum}\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 6000\n"
        )
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen([binary(), str(config), "--sentinel"], stdout=log, stderr=log)
        until("the sentinel answers", self._answers)

    def _answers(self) -> bool:
        try:
            self.ask("PING")
        except FAILURES:
            return False
        return True

    def ask(self, *command: Any) -> Any:
        line = Line(self._opener.server(("127.0.0.1", self.port)), 1.0, "sentinel")
        try:
            return line.call(*command)
        finally:
            line.close()

    def master(self) -> int:
        """Its port."""
        return int(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def knows(self, *, replicas: int, sentinels: int) -> bool:
        found = self.ask("SENTINEL", "MASTER", MASTER)
        facts = dict(zip(found[::2], found[1::2], strict=True))
        return int(facts[b"num-slaves"]) == replicas and int(facts[b"num-other-sentinels"]) == sentinels

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Group:
    """One master, its replicas, three sentinels. All are in step when it is made."""

    def __init__(
        self, directory: Path, *, replicas: int, master_port: int = 0, known_as: int = 0, tls: Tls | None = None
    ) -> None:
        """`master_port`, `known_as`: where the master listens, and where the others look for it, if not there."""
        options = ("--repl-diskless-sync-delay", "0")
        self.first = Server(directory / "server-0", port=master_port or None, options=options, tls=tls)
        at = known_as or self.first.port
        self.servers = [self.first]
        for number in range(replicas):
            following = ("--replicaof", "127.0.0.1", str(at))
            self.servers.append(Server(directory / f"server-{number + 1}", options=(*options, *following), tls=tls))
        line = self.first.line()
        until("the replicas are in step", lambda: line.call("WAIT", replicas, 10) >= replicas)
        line.close()
        self.sentinels = [Sentinel(directory / f"sentinel-{number}", at, tls=tls) for number in range(3)]
        for sentinel in self.sentinels:
            until("it knows all others", partial(sentinel.knows, replicas=replicas, sentinels=2), timeout=60)
        self.url = url_of(self.sentinels, tls=tls)

    def master(self) -> Server:
        """As most sentinels say."""
        told = [sentinel.master() for sentinel in self.sentinels]
        port = max(told, key=told.count)
        return next((server for server in self.servers if server.port == port), self.first)

    def until_master_is_another(self) -> Server:
        """And can be written to."""
        until("another master is told", lambda: self.master() is not self.first)
        found = self.master()
        until("it is one", lambda: leads(found))
        return found

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.kill()


def leads(server: Server) -> bool:
    """It takes itself for a master."""
    return _role(server)[0] == b"master"


def follows(server: Server) -> bool:
    """It is a replica, and has its master's data."""
    found = _role(server)
    return found[0] == b"slave" and found[3] == b"connected"


def _role(server: Server) -> list[object]:
    try:
        line = server.line()
        found: list[object] = line.call("ROLE")
        line.close()
    except Unavailable:
        return [b""]  # sentinels end all its connections while they change it
    return found


def url_of(sentinels: Sequence[Sentinel], tls: Tls | None = None) -> str:
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
    return f"{'rediss' if tls else 'redis'}+sentinel://{hosts}/{MASTER}/0"
