"""An executor in a Redis Cluster: one slot, wherever it is, while it is moved and while its node fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.config.settings import RedisSettings
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Dialer, Unavailable
from chargehand.store.keys import Keys
from support.cluster import Cluster, ask
from support.commands import chargehand
from support.faults import chains, counted_once, lines_of
from support.programs import Program, until, write_config
from support.server import free_port
from support.tls import Tls

KEYS = Keys("default")
Start = Callable[..., list[Program]]


@pytest.fixture
def replicas() -> int:
    return 0


@pytest.fixture
def tls(place: Path, request: pytest.FixtureRequest) -> Tls | None:
    """A test that is parametrized with True gets it, between the nodes too."""
    return Tls(place / "tls") if getattr(request, "param", False) else None


@pytest.fixture
def cluster(place: Path, replicas: int, tls: Tls | None) -> Iterator[Cluster]:
    made = Cluster(place / "cluster", replicas=replicas, tls=tls)
    yield made
    made.stop()


def write(
    place: Path, url: str, node: str, executor: str = "default", *, min_replicas: int = 0, tls: Tls | None = None
) -> Path:
    redis: dict[str, str | int] = {"min_replicas": min_replicas, **(tls.keys if tls else {})}
    return write_config(place, url, node=node, extra=f'[executor]\nname = "{executor}"', redis=redis)


def connect(config: Path) -> Client:
    settings = load(config).settings
    return Client(settings, load_actions(settings).actions)


@pytest.fixture
def start(place: Path, cluster: Cluster, tls: Tls | None) -> Iterator[Start]:
    """One orchestrator, or two, and a worker."""
    programs: list[Program] = []

    def begin(executor: str = "default", *, min_replicas: int = 0, orchestrators: int = 1) -> list[Program]:
        before = len(programs)
        for number in range(orchestrators):
            node = f"{executor}-{number}"
            config = write(place, cluster.url, node, executor, min_replicas=min_replicas, tls=tls)
            programs.append(Program(place, config, "orchestrator").ready())
        programs.append(Program(place, config, "worker").ready())
        return programs[before:]

    yield begin
    for program in programs:
        program.stop()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"], indirect=True)
def test_executors_on_several_nodes(start: Start, cluster: Cluster, tls: Tls | None, place: Path) -> None:
    """Each is whole in one slot; two of them are on two nodes."""
    home = cluster.owner("default")
    other = next(name for name in map(str, range(100)) if cluster.owner(name) is not home)
    for executor in ("default", other):
        start(executor)
        with connect(write(place, cluster.url, f"client-{executor}", executor, tls=tls)) as client:
            plans = chains(client, place / f"lines-{executor}", 5, 5)
            for plan in plans:
                assert client.wait(plan, 30) is PlanState.SUCCEEDED
        line = cluster.owner(executor).line()
        counted_once(line, Keys(executor), plans)
        line.close()
    for executor in ("default", other):
        slot = cluster.slot(executor)
        owner = cluster.owner(executor)
        line = owner.line()  # at one moment: the executor runs, and writes
        *_, (here, all_here) = line.batch(
            [("MULTI",), ("CLUSTER", "COUNTKEYSINSLOT", slot), ("DBSIZE",), ("EXEC",)],
        )
        line.close()
        assert here == all_here, "and nothing is anywhere else"
        others = [node for node in cluster.nodes if node is not owner]
        assert [ask(node, "CLUSTER", "COUNTKEYSINSLOT", slot) for node in others] == [0, 0]


def test_a_slot_is_moved_while_plans_run(start: Start, cluster: Cluster, place: Path) -> None:
    programs = start(orchestrators=2)
    source = cluster.owner("default")
    target = next(node for node in cluster.nodes if node is not source)
    with connect(write(place, cluster.url, "client")) as client:
        plans = chains(client, place / "lines", 5, 60, seconds=0.05)
        until("they are under way", lambda: len(lines_of(place / "lines")) > 20)
        cluster.migrate(cluster.slot("default"), source, target)
        assert cluster.owner("default") is target
        for plan in plans:
            assert client.wait(plan, 60) is PlanState.SUCCEEDED
        counted_once(target.line(), KEYS, plans)
        assert client.submit(client.plan("empty"), key="after")
    assert set(lines_of(place / "lines").values()) == {1}, "nothing was lost, so nothing ran twice"
    assert all(program.running for program in programs)


@pytest.mark.parametrize("replicas", [2])
@pytest.mark.parametrize("how", ["killed", "planned"])
def test_the_node_of_the_slot_fails_over(start: Start, cluster: Cluster, place: Path, how: str, replicas: int) -> None:
    programs = start(orchestrators=2, min_replicas=1)
    source = cluster.owner("default")
    with connect(write(place, cluster.url, "client", min_replicas=1)) as client:
        plans = chains(client, place / "lines", 5, 60, seconds=0.05)
        until("they are under way", lambda: len(lines_of(place / "lines")) > 20)
        if how == "killed":
            source.kill()
        else:
            ask(cluster.replicas[0], "CLUSTER", "FAILOVER")
        until("a replica has taken over", lambda: cluster.owner("default") is not source, timeout=60)
        plans += chains(client, place / "more", 5, 5)
        for plan in plans:
            assert client.wait(plan, 60) is PlanState.SUCCEEDED
        counted_once(cluster.owner("default").line(), KEYS, plans)
    assert all(program.running for program in programs)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"], indirect=True)
def test_any_node_that_lives_is_enough_to_find_it(cluster: Cluster, tls: Tls | None) -> None:
    home = cluster.owner("default")
    stranger = next(node for node in cluster.nodes if node is not home)
    some = f"127.0.0.1:{free_port()},127.0.0.1:{stranger.port}"
    settings = tls.settings(f"rediss+cluster://{some}") if tls else RedisSettings(url=f"redis+cluster://{some}")
    line = Dialer(settings, "default").line()
    line.call("SET", KEYS.mark, "x")
    assert ask(home, "GET", KEYS.mark) == b"x"
    stranger.kill()
    home.kill()
    with pytest.raises(Unavailable, match=r"cluster 127\.0\.0\.1:\d+: node 127\.0\.0\.1:\d+: Connection refused"):
        Dialer(settings, "default").line()


def test_a_url_of_one_server_says_what_it_met(cluster: Cluster, place: Path) -> None:
    home = cluster.owner("default")
    stranger = next(node for node in cluster.nodes if node is not home)
    program = Program(place, write(place, stranger.url, "node-a"), "orchestrator")
    try:
        program.role("waiting")
        assert program.fields["X_CHARGEHAND_REDIS"].endswith(
            f"its slot is at 127.0.0.1:{home.port}, and a URL of redis+cluster:// finds it there"
        )
    finally:
        program.stop()


def test_commands(start: Start, cluster: Cluster, place: Path) -> None:
    start()
    config = write(place, cluster.url, "client")
    done = chargehand("submit", "echo", "value=x", "--wait", config=config)
    assert done.returncode == 0, done.stderr
    assert json.loads(chargehand("status", "--json", config=config).stdout)["executor"]["plans"]["succeeded"] == 1
