"""The configuration, read by a short-lived process: what reading TOML needs in memory ends with it.

So a file that is being edited, huge or on a dead disk can do nothing to the agent.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from chargehand.config.plain import from_builtins
from chargehand.config.settings import Settings
from chargehand.decoding import decode
from chargehand.linux.spawn import Process, said, spawn
from chargehand.program import own_argv

__all__ = ["Reading", "Refused"]

PATIENCE = 30.0  # seconds


class Refused(Exception):
    """The configuration is not taken. `problems`: a line each, for the person who wrote it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Reading:
    """One reading under way."""

    def __init__(self, config: str | None) -> None:
        """`config`: the file, absolute; None for the default one."""
        self._ours, theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._data = bytearray()
        self.until = time.monotonic() + PATIENCE
        try:
            environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
            argv = own_argv("read-config", *([config] if config else []))
            self._process: Process = spawn(argv, env=environment, stdout=theirs)
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._ours

    def receive(self) -> bool:
        """Take what has arrived; True when that was all."""
        while True:
            try:
                data = os.read(self._ours, 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._data += data

    def give_up(self) -> None:
        """End it; `settings` then says so."""
        self._process.signal(signal.SIGKILL)
        self._process.wait()

    def settings(self) -> Settings:
        """What was read. Raises `Refused`."""
        os.close(self._ours)
        status = self._process.wait()
        self._process.close()
        try:
            answer: dict[str, Any] = decode(self._data)
            if "problems" not in answer:
                return from_builtins(answer["settings"])
        except (msgspec.MsgspecError, KeyError):
            answer = {"problems": [f"the configuration could not be read: its reader ended ({said(status)})"]}
        raise Refused(answer["problems"])


def read_now(config: str | None) -> Settings:
    """Read and wait for it. Raises `Refused`."""
    reading = Reading(config)
    os.set_blocking(reading.fileno(), True)
    try:
        reading.receive()
    except BaseException:  # told to stop meanwhile: the reader goes with us
        reading.give_up()
        raise
    return reading.settings()


def absolute(config: str | None) -> str | None:
    """The agent changes its directory; the file stays the same."""
    return str(Path(config).absolute()) if config else None
