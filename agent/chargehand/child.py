"""What orchestrator and worker have in common: who they are, how they hear the agent, what they tell it.

Started by the agent, a child has a link, a notify socket and an identity from it. Started by hand or as a
unit of its own, it has a configuration file, perhaps systemd's notify socket, and an identity of its own.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from chargehand import logs
from chargehand.config.load import load
from chargehand.config.plain import reachable
from chargehand.config.settings import Settings
from chargehand.greeting import OtherVersion, settings_of
from chargehand.link import Link, LinkError
from chargehand.linux.parent import die_with_parent
from chargehand.notify import Notifier

__all__ = ["Child", "Ending", "Request", "machine_id"]


_EX_CONFIG = 78  # of sysexits.h


class Ending(Exception):
    """The agent is gone or ends us, or somebody sent SIGTERM."""


class Request:
    """What the agent asks of us; answered once."""

    def __init__(self, link: Link, method: str, parameters: dict[str, Any]) -> None:
        self._link = link
        self.method = method
        self.parameters = parameters

    def answer(self) -> None:
        self._link.reply({})

    def fail(self, error: str, reason: str) -> None:
        self._link.fail(f"io.chargehand.Child.{error}", {"reason": reason})


class Child:
    """This process as a child of its agent."""

    def __init__(self, config: str | None, *, default_name: str) -> None:
        self.link = Link.from_environment()
        die_with_parent(self.link)
        self._notifier = Notifier.from_environment()
        self.files: list[Path] = []  # of the configuration, when no agent gave it
        self.settings = self._settings(config)
        self.node = self.settings.node.name
        self.name = os.environ.get("CHARGEHAND_CHILD", default_name)
        self.incarnation = os.environ.get("CHARGEHAND_INCARNATION") or secrets.token_hex(8)
        self.machine = machine_id()
        self._outage: datetime | None = None
        self._ready = False
        self._told: dict[str, str] = {}
        self._period = int(os.environ.get("WATCHDOG_USEC", "3000000")) / 1e6 / 3
        self._next_ping = 0.0
        self._stopped = False
        self._wake_read, self._wake_write = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C in a terminal reaches the whole group: the agent decides what it means for its children.
        signal.signal(signal.SIGINT, signal.SIG_IGN if self.link else self._on_signal)
        logs.configure(self.name, self.node)

    def _settings(self, config: str | None) -> Settings:
        if self.link is None:
            found = load(config)
            self.files = found.files
            return reachable(found.settings)
        try:
            return settings_of(self.link.receive_first(timeout=10.0))
        except (LinkError, OtherVersion) as error:
            self.last_words(str(error))
            print(f"chargehand: {error}", file=sys.stderr)
            raise SystemExit(_EX_CONFIG) from error

    def _on_signal(self, *_: object) -> None:
        self._stopped = True

    # -- hearing the agent ------------------------------------------------------------------------

    @property
    def watched(self) -> list[int]:
        """Descriptors to wait on besides one's own; when one is readable, call `requests`."""
        link = [self.link.fileno()] if self.link is not None else []
        return [self._wake_read.fileno(), *link]

    def wake(self) -> None:
        """Make the loop that waits on `watched` turn (from another thread)."""
        self._wake_write.send(b"\0")

    def requests(self) -> Iterator[Request]:
        """What the agent asks now. Raises `Ending` at the end of the link and after SIGTERM."""
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            pass
        if self._stopped:
            self._stopped = False  # each signal counts once
            raise Ending
        if self.link is None:
            return
        messages, ended = self.link.receive()
        for message in messages:
            yield Request(self.link, message["method"].rpartition(".")[2], message.get("parameters", {}))
        if ended:
            raise Ending

    # -- telling it -------------------------------------------------------------------------------

    def ping_in(self) -> float:
        """Seconds until the next ping is due."""
        return max(0.0, self._next_ping - time.monotonic())

    def ping(self, **load: str) -> None:
        """WATCHDOG=1 when due, on a grid that all children share, with what has changed."""
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = (now // self._period + 1) * self._period
        self._notifier.send("WATCHDOG=1", *self._changed(load))

    def tell(self, *, ready: bool = False, status: str = "", **fields: str) -> None:
        """Send what has changed: X_CHARGEHAND_ fields, STATUS, and READY the first time."""
        lines = self._changed(fields)
        if status and self._told.get("STATUS") != status:
            self._told["STATUS"] = status
            lines.append(f"STATUS={status}")
        if ready and not self._ready:
            self._ready = True
            lines.append("READY=1")
        if lines:
            self._notifier.send(*lines)

    def _changed(self, fields: dict[str, str]) -> list[str]:
        lines = []
        for name, value in fields.items():
            if self._told.get(name, "") != value:
                self._told[name] = value
                lines.append(f"X_CHARGEHAND_{name.upper()}={value}")
        return lines

    def waiting(self, reason: str) -> None:
        """Redis cannot be reached: `name: cause`. Since when is remembered until `reached`."""
        if self._outage is None:
            self._outage = datetime.now().astimezone()
            logging.getLogger("chargehand").warning("Redis unreachable: %s", reason)
        where, _, cause = reason.partition(": ")
        since = f"{where} since {self._outage:%H:%M}, {cause}"
        self.tell(status=f"waiting (Redis {since})", role="waiting", redis=since)

    def reached(self) -> None:
        if self._outage is not None:
            gone = (datetime.now().astimezone() - self._outage).total_seconds()
            logging.getLogger("chargehand").warning("Redis is back after %.1f s", gone)
            self._outage = None

    def barred(self, reason: str) -> None:
        """Redis is there, and this node must not serve; an empty reason ends it."""
        if reason != self._told.get("barred", ""):
            log = logging.getLogger("chargehand")
            if reason:
                log.warning("barred: %s: nothing is served until that one is gone or the name is another", reason)
            else:
                log.info("barred no more")
        self.tell(barred=reason)

    def degraded(self, cause: str) -> None:
        """Say what is wrong while we go on; an empty cause ends it."""
        self.tell(degraded=cause)

    def ending(self) -> None:
        self._notifier.send("STOPPING=1")

    def extend(self) -> None:
        """Ask systemd for patience."""
        self._notifier.send("EXTEND_TIMEOUT_USEC=10000000")

    def refused(self, reason: str) -> None:
        """Say why this process will not run at all."""
        self._notifier.send(f"STATUS={reason}")

    def last_words(self, error: str) -> None:
        self._notifier.send(f"X_CHARGEHAND_ERROR={error.splitlines()[0][:150] if error else ''}")


def machine_id() -> str:
    """This machine's id; the boot id where it has none (a container): then a name belongs to one boot."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            found = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if found:
            return found
    return socket.gethostname()
