"""Executors of one orchestrator and one worker each, on one server or several, and what a client needs to know them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from chargehand.config.load import load
from chargehand.config.settings import ExecutorAddress, Settings
from chargehand.store.keys import Keys
from chargehand.store.load import read_load
from support.programs import Program, until, write_config
from support.server import Server

__all__ = ["Group", "knowing"]


class Group:
    """An executor, `NAME`, of one node, `node-NAME`."""

    def __init__(
        self, directory: Path, server: Server, name: str, *, threads: int = 2, queues: Iterable[str] = ("default",)
    ) -> None:
        self.name = name
        self.server = server
        self.threads = threads
        self.keys = Keys(name)
        self._directory = directory
        self.config = write_config(
            directory,
            server.url,
            node=f"node-{name}",
            extra=f'[executor]\nname = "{name}"\n[[worker]]\nname = "worker"\nthreads = {threads}\n'
            f"queues = [{', '.join(repr(queue) for queue in queues)}]\n",
        )
        self._programs: list[Program] = []
        self.orchestrator = self._start("orchestrator")
        self.worker = self._start("worker")

    def _start(self, kind: str) -> Program:
        self._programs.append(Program(self._directory, self.config, kind))
        return self._programs[-1]

    @property
    def address(self) -> ExecutorAddress:
        return ExecutorAddress(self.name, self.server.url)

    def known(self) -> Group:
        """Wait until it says that it can do something."""
        self.orchestrator.role("active")
        self.worker.ready()
        line = self.server.line()
        try:
            until("it says so", lambda: (found := read_load(line, self.keys)) and found.load.threads == self.threads)
        finally:
            line.close()
        return self

    def begin_again(self) -> None:
        """Another orchestrator, where the one before was killed."""
        self.orchestrator = self._start("orchestrator")

    def end(self) -> None:
        """Nothing is left to be finished."""
        for program in self._programs:
            program.kill()
            program.stop()


def knowing(directory: Path, groups: Iterable[Group]) -> Settings:
    """The settings of a client that knows these executors."""
    some = list(groups)
    own = load(write_config(directory, some[0].server.url, node="client")).settings
    return msgspec.structs.replace(own, executors=[group.address for group in some])
