"""Executors of one orchestrator and one worker each, on one server or several, and what a client needs to know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from chargehand.config.load import load
from chargehand.config.settings import Settings
from chargehand.store.keys import Keys
from chargehand.store.load import read_load
from support.programs import Program, until, write_config
from support.server import Server

__all__ = ["Group", "StartGroup", "client_config", "knowing"]


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


#: The fixture `start_group`: a name, the server when it is not the test's, and `threads`, `queues` by keyword.
StartGroup: TypeAlias = Callable[..., Group]


def client_config(directory: Path, groups: Iterable[Group]) -> Path:
    """The configuration file of a machine that is no node of them and knows these executors."""
    some = list(groups)
    tables = "".join(f'[[executors]]\nname = "{one.name}"\nurl = "{one.server.url}"\n' for one in some)
    node = f"client-of-{'-'.join(one.name for one in some)}"
    return write_config(directory, some[0].server.url, node=node, extra=tables)


def knowing(directory: Path, groups: Iterable[Group]) -> Settings:
    """The settings of a client that knows these executors."""
    return load(client_config(directory, groups)).settings
