"""What a worker has for its attempts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from chargehand.actions import Action
from chargehand.commands import CommandAction
from chargehand.store.connection import Dialer
from chargehand.store.keys import Keys
from chargehand.store.reports import Report
from chargehand.store.work import outputs
from chargehand.worker.command import Runner
from chargehand.worker.ending import Ending
from chargehand.worker.errands import Errands, RedisErrands
from chargehand.worker.reader import Reader
from chargehand.worker.reporter import Reporter, Reports

__all__ = ["Shop", "Workshop"]


class Shop(Protocol):
    """What `run_attempt` needs; also the in-process executor (`chargehand.testing`) is one."""

    @property
    def actions(self) -> Mapping[str, Action[..., Any]]: ...

    @property
    def node(self) -> str: ...

    @property
    def privileged(self) -> bool:
        """It runs privileged actions and no others."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where `async def` runs: on another thread."""
        ...

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        """Of a plan's outputs. Not for code that may be ended."""
        ...

    def errands(self) -> Errands:
        """For code that may be ended."""
        ...

    def reports(self, key: str) -> Reports:
        """For an attempt that begins to say something."""
        ...

    def last_words(self, reports: Reports) -> Report | None:
        """Its attempt has ended: what goes with the result."""
        ...

    def run_command(
        self,
        command: CommandAction,
        inputs: dict[str, Any],
        variables: dict[str, str],
        ending: Ending,
        tell: Callable[[str, str], None],
    ) -> dict[str, Any]:
        """As `Runner.run`."""
        ...


class Workshop:
    """A worker's. Thread-safe."""

    def __init__(
        self,
        *,
        dialer: Dialer,
        keys: Keys,
        actions: Mapping[str, Action[..., Any]],
        runner: Runner,
        reporter: Reporter,
        node: str,
        privileged: bool,
        max_inbox: int,
    ) -> None:
        """`max_inbox`: sub-plans leave the inbox half empty."""
        self._dialer = dialer
        self._keys = keys
        self.actions = actions
        self._runner = runner
        self._reporter = reporter
        self.node = node
        self.privileged = privileged
        self._max_inbox = max(1, max_inbox // 2)
        self._reader = Reader(dialer)
        self._reading = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        with self._reading:
            return self._reader.ask(lambda line: outputs(line, self._keys, plan, fields))

    def errands(self) -> Errands:
        return RedisErrands(Reader(self._dialer), self._keys, self._max_inbox)

    def reports(self, key: str) -> Reports:
        return self._reporter.reports(key)

    def last_words(self, reports: Reports) -> Report | None:
        return self._reporter.close(reports)

    def run_command(
        self,
        command: CommandAction,
        inputs: dict[str, Any],
        variables: dict[str, str],
        ending: Ending,
        tell: Callable[[str, str], None],
    ) -> dict[str, Any]:
        return self._runner.run(command, inputs, variables, ending, tell)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._loop_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="async", daemon=True).start()
            return self._loop
