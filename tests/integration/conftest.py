"""What the integration tests share: a real server, real nodes, and nothing left behind by either."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from support.counting import Log
from support.figures import Figures, print_figures
from support.groups import Group, StartGroup
from support.nodes import Node, StartNode
from support.orchestrators import Orchestrators
from support.programs import Program, StartProgram, write_config
from support.proxy import LosingProxy
from support.server import Server

# Whoever runs us in the background of a shell may have it ignored, and so would all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def start_node(place: Path, server: Server) -> Iterator[StartNode]:
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
def start_program(place: Path, server: Server) -> Iterator[StartProgram]:
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
def second(place: Path) -> Iterator[Server]:
    """Another server than the test's."""
    running = Server(place / "second")
    yield running
    running.stop()


@pytest.fixture
def start_group(place: Path, server: Server) -> Iterator[StartGroup]:
    """Start an executor, on the test's server or another one."""
    groups: list[Group] = []

    def start(name: str, on: Server | None = None, *, threads: int = 2, queues: Iterable[str] = ("default",)) -> Group:
        groups.append(Group(place, on or server, name, threads=threads, queues=queues))
        return groups[-1]

    yield start
    for group in groups:
        group.end()


@pytest.fixture
def extra() -> str:
    """Further TOML for the fixtures below. A module that needs some has a fixture of this name itself."""
    return ""


@pytest.fixture
def client(place: Path, server: Server, extra: str) -> Iterator[Client]:
    settings = load(write_config(place, server.url, node="client", extra=extra)).settings
    registry = load_actions(settings)
    assert registry.problems == []
    with Client(settings, registry.actions) as made:
        yield made


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    made = server.line()
    yield made
    made.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[LosingProxy]:
    made = LosingProxy(server.port)
    yield made
    made.close()


@pytest.fixture
def log(place: Path) -> Log:
    """Where the actions of `counted_actions` note their starts and ends."""
    return Log(place / "notes")


@pytest.fixture
def orchestrator(start_program: StartProgram, extra: str) -> Program:
    return start_program("orchestrator", extra=extra).ready()


@pytest.fixture
def orchestrators(start_program: StartProgram, server: Server, extra: str) -> Orchestrators:
    return Orchestrators(start_program, server, extra)


@pytest.fixture
def worker(start_program: StartProgram, extra: str) -> Program:
    return start_program("worker", node="node-w", extra=extra).ready()


@pytest.fixture
def running(orchestrator: Program, worker: Program) -> Program:
    """Both; the orchestrator is the one to kill."""
    return orchestrator


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """What was measured: printed below the results."""
    collected = Figures()
    yield collected
    print_figures(request, collected)
