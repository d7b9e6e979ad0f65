"""What the integration tests share: a real server, real nodes, and nothing left behind by either."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.registry import load_actions
from support.nodes import Node
from support.programs import Program, write_config
from support.server import Server


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory: the path of a socket may have 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="ch-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def server(place: Path) -> Iterator[Server]:
    running = Server(place / "redis")
    yield running
    running.stop()


@pytest.fixture
def start_node(place: Path, server: Server) -> Iterator[Callable[..., Node]]:
    """Start an agent against the test's server; all are stopped afterwards, and must leave nothing."""
    nodes: list[Node] = []

    def start(name: str, *, extra: str = "", lease: str = "") -> Node:
        nodes.append(Node(place, write_config(place, server.url, node=name, extra=extra, lease=lease)))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()
    for node in nodes:
        assert node.processes() == []


@pytest.fixture
def start_program(place: Path, server: Server) -> Iterator[Callable[..., Program]]:
    """Start an orchestrator or worker by itself."""
    programs: list[Program] = []

    def start(
        *argv: str, node: str = "node-a", name: str = "", extra: str = "", url: str = "", lease: str = ""
    ) -> Program:
        config = write_config(place, url or server.url, node=node, extra=extra, lease=lease)
        programs.append(Program(place, config, *argv, name=name))
        return programs[-1]

    yield start
    for program in programs:
        program.stop()


@pytest.fixture
def client(place: Path, server: Server) -> Iterator[Client]:
    settings = load(write_config(place, server.url, node="client")).settings
    with Client(settings, load_actions(settings).actions) as made:
        yield made
