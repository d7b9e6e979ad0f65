"""A Redis (on some suites Valkey) that all nodes reach and no node's fault touches: on the bridge itself."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from lab.groups import NodeGroup
from lab.host import attempt, call, mount_overlay, unmount, until
from lab.network import PREFIX, Network

__all__ = ["Redis"]

NAME = "redis"  # by which the nodes know it


class Redis:
    """Made stopped; `start` it. What it was told is kept by `stop` and by `kill`, until `discard`."""

    def __init__(self, server: str, layers: list[Path], place: Path, network: Network) -> None:
        """`server`: `redis` or `valkey`."""
        self._server, self._place = server, place
        self._process: subprocess.Popen[bytes] | None = None
        self._group = NodeGroup(f"{PREFIX}-{NAME}")
        network.join(NAME)
        place.mkdir(parents=True)
        call("mount", "-t", "tmpfs", "-o", "mode=0755", "chargehand-lab", place)
        self._root = place / "root"
        mount_overlay(self._root, layers, place / "written", place / "work")

    @property
    def url(self) -> str:
        return f"redis://{NAME}:6379/0"

    def start(self) -> None:
        """Until it answers."""
        assert self._process is None
        words = ["--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always"]
        command = self._inside(f"{self._server}-server", *words, "--dir", "/srv")
        with (self._place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._group.entered_by("", *command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until("an answer of Redis", lambda: self.cli("ping") == "PONG")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def stop(self) -> None:
        """As its service would be: connections close."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """Connections stay open, and nothing answers."""
        self._group.freeze(frozen=True)

    def thaw(self) -> None:
        self._group.freeze(frozen=False)

    def cli(self, *words: str) -> str:
        """What the client prints, without the line's end."""
        return attempt(*self._inside(f"{self._server}-cli", *words), timeout=30).printed.rstrip("\n")

    def log(self) -> str:
        return (self._place / "log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def discard(self) -> None:
        self.thaw()
        self._group.kill()
        if self._process is not None:
            self._process.wait(30)
        self._group.remove()
        unmount(self._place)
        self._place.rmdir()

    def _inside(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", PREFIX, "chroot", str(self._root), *argv]
