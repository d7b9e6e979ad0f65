"""Failovers that sentinels make, while plans run: everything goes on, and no acknowledged plan is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.config.settings import RedisSettings
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Dialer, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.server import sentinels
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import Program, until, write_config
from support.sentinels import Group, Sentinel, follows, leads, url_of
from support.server import Server
from support.tls import Tls

KEYS = Keys("default")


@pytest.fixture
def tls(place: Path, request: pytest.FixtureRequest) -> Tls | None:
    """A test that is parametrized with True gets it, between all: servers, sentinels, clients."""
    return Tls(place / "tls") if getattr(request, "param", False) else None


@pytest.fixture
def group(place: Path, tls: Tls | None) -> Iterator[Group]:
    """With two replicas: after the loss of one server there is a master with one."""
    made = Group(place / "group", replicas=2, tls=tls)
    yield made
    made.stop()


@pytest.fixture
def min_replicas() -> int:
    return 1


@pytest.fixture
def redis(min_replicas: int, tls: Tls | None) -> dict[str, str | int]:
    """Further keys of [redis]."""
    return {"min_replicas": min_replicas, **(tls.keys if tls else {})}


def connect(place: Path, url: str, redis: Mapping[str, str | int]) -> Client:
    settings = load(write_config(place, url, node="client", redis=redis)).settings
    return Client(settings, load_actions(settings).actions)


@pytest.fixture
def client(place: Path, group: Group, redis: dict[str, str | int]) -> Iterator[Client]:
    with connect(place, group.url, redis) as made:
        yield made


@pytest.fixture
def executor(place: Path, group: Group, redis: dict[str, str | int]) -> Iterator[list[Program]]:
    """The active orchestrator, the passive one, two workers."""
    programs: list[Program] = []
    try:
        for argv, node in (
            ("orchestrator", "node-a"),
            ("orchestrator", "node-b"),
            ("worker", "node-a"),
            ("worker", "node-b"),
        ):
            programs.append(Program(place, write_config(place, group.url, node=node, redis=redis), argv).ready())
        yield programs
    finally:
        for program in programs:
            program.stop()


class Submitter:
    """Submits plan after plan, and knows which were acknowledged."""

    def __init__(self, place: Path, url: str, redis: Mapping[str, str | int]) -> None:
        self.acknowledged: list[str] = []
        self._client = connect(place, url, redis)
        self._place = place
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._enough.is_set():
            self.acknowledged += chains(self._client, self._place / "more", 1, 2)

    def stop(self) -> list[str]:
        self._enough.set()
        self._thread.join()
        self._client.close()
        return self.acknowledged


def fails_over(group: Group, how: str) -> Server:
    if how == "master-killed":
        group.first.kill()
    else:
        group.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
    return group.until_master_is_another()


@pytest.mark.parametrize(
    ("how", "min_replicas", "tls"),
    [("master-killed", 1, False), ("planned", 2, False), ("master-killed", 1, True)],
    ids=["master-killed", "planned", "master-killed-tls"],
    indirect=["tls"],
)
def test_failover_while_plans_run(
    executor: list[Program], client: Client, group: Group, place: Path, how: str, redis: dict[str, str | int]
) -> None:
    """In a planned one the old master serves on for a while, perhaps with one replica: so both must have a plan."""
    plans = chains(client, place / "lines", 5, 60, seconds=0.05)
    submitter = Submitter(place, group.url, redis)
    until("all is under way", lambda: len(submitter.acknowledged) > 20 and len(lines_of(place / "lines")) > 10)
    master = fails_over(group, how)
    seen = len(submitter.acknowledged)
    until("plans are acknowledged again", lambda: len(submitter.acknowledged) > seen + 20, timeout=60)
    plans += submitter.stop()
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
    line = master.line()
    counted_once(line, KEYS, plans)
    nothing_left(line, KEYS)
    assert all(program.running for program in executor)


def test_the_old_master_comes_back_as_a_replica(
    executor: list[Program], client: Client, group: Group, place: Path
) -> None:
    fails_over(group, "master-killed")
    group.first.start()
    until("it follows", lambda: follows(group.first), timeout=60)
    plans = chains(client, place / "lines", 5, 5)
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
    assert group.master() is not group.first


def test_a_client_that_waits_over_a_failover_gets_its_answer(
    executor: list[Program], client: Client, group: Group, place: Path
) -> None:
    (plan,) = chains(client, place / "lines", 1, 40, seconds=0.1)
    found: list[PlanState] = []
    waiting = threading.Thread(target=lambda: found.append(client.wait(plan, 90)), daemon=True)
    waiting.start()
    until("it runs", lambda: lines_of(place / "lines"))
    fails_over(group, "master-killed")
    waiting.join()
    assert found == [PlanState.SUCCEEDED]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"], indirect=True)
def test_an_old_master_that_lives_is_left_as_soon_as_another_is_told(
    group: Group, tls: Tls | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made a replica seconds later: all that is written to it until then is lost."""
    dialer = Dialer(tls.settings(group.url) if tls else RedisSettings(url=group.url), "default")
    dialer.follow()
    ears = dialer.line()
    ears.call("SUBSCRIBE", KEYS.lease_channel)
    with caplog.at_level("WARNING", "chargehand.store"):
        group.sentinels[0].ask("SENTINEL", "FAILOVER", "main")
        with pytest.raises(Unavailable, match="Connection closed by server"):
            ears.ready(60)
    assert leads(group.first), "it does not know yet"
    master = group.until_master_is_another()
    assert f"another master: 127.0.0.1:{master.port}, told by sentinel 127.0.0.1:" in caplog.text
    line = dialer.line()
    line.call("SET", KEYS.mark, "x")
    assert master.line().call("GET", KEYS.mark) == b"x"


def test_status_while_there_is_no_master(executor: list[Program], group: Group) -> None:
    for server in group.servers:
        server.kill()
    for program in executor:
        program.until(
            "says which is gone",
            lambda fields: (
                fields.get("X_CHARGEHAND_REDIS", "").endswith(": Connection refused")
                and ", master 127.0.0.1:" in fields["X_CHARGEHAND_REDIS"]
            ),
        )
        assert f"main by sentinel 127.0.0.1:{group.sentinels[0].port} since" in program.fields["X_CHARGEHAND_REDIS"]


def test_one_sentinel_of_three_is_enough(group: Group) -> None:
    dialer = Dialer(RedisSettings(url=group.url), "default")
    for sentinel in group.sentinels[:2]:
        sentinel.kill()
        dialer.line().close()
    group.sentinels[2].kill()
    with pytest.raises(Unavailable, match=r"main by sentinel 127\.0\.0\.1:\d+: sentinel 127.*: Connection refused"):
        dialer.line()


def test_a_sentinel_that_knows_an_old_master_is_not_believed(group: Group, place: Path) -> None:
    """What it tells is a replica now: the others are asked."""
    stale = Sentinel(place / "stale", group.servers[1].port, quorum=1)
    try:
        url = url_of([stale, *group.sentinels])
        line = Dialer(RedisSettings(url=url), "default").line()
        assert line.call("ROLE")[0] == b"master"
        with pytest.raises(Unavailable, match=r"master 127\.0\.0\.1:\d+: You can't write against a read only replica"):
            Dialer(RedisSettings(url=url_of([stale])), "default").line()
    finally:
        stale.kill()


@pytest.mark.parametrize("tls", [True], ids=["tls"], indirect=True)
def test_sentinels_that_want_a_certificate(group: Group, tls: Tls) -> None:
    """`rediss+sentinel://` says that they speak TLS too; `chargehand doctor` asks each of them."""
    known = tls.settings(group.url)
    Dialer(known, "default").line().close()
    assert [(one.trouble, one.sentinels, one.majority) for one in sentinels(known)] == [("", 3, "")] * 3
    for stranger, why in (
        (replace(known, cert_file=None, key_file=None), r"TLS: (?i:.*certificate)"),
        (replace(known, ca_file=None), r"TLS: (?i:.*certificate)"),
        (replace(known, url=group.url.replace("rediss", "redis")), r"Connection (closed|reset) by "),
    ):
        with pytest.raises(Unavailable, match=rf"main by sentinel 127\.0\.0\.1:\d+: sentinel [\d.:]+: {why}"):
            Dialer(stranger, "default").line()
