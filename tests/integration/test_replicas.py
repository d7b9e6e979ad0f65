"""`redis.min_replicas`: what too few replicas have does not count: no lease, no acknowledgement, no request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import chargehand.client
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.config.settings import Duration, RedisSettings
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store import lease, submission
from chargehand.store.connection import Dialer, Line, Unconfirmed
from chargehand.store.keys import Keys
from support import programs
from support.faults import chains, counted_once, lines_of
from support.nodes import Node
from support.programs import Program, StartProgram, until, write_config
from support.server import Server

KEYS = Keys("default")
Lose = Callable[[Server], None]


def kill(replica: Server) -> None:
    """The master knows at once."""
    replica.kill()


def freeze(replica: Server) -> None:
    """To the master it is there, and never answers."""
    programs.freeze(replica.pid)


@pytest.fixture(params=[kill, freeze], ids=["killed", "frozen"])
def lose(request: pytest.FixtureRequest) -> Lose:
    found: Lose = request.param
    return found


def synced(master: Server, count: int = 1) -> None:
    line = master.line()
    until("the replicas are in step", lambda: line.call("WAIT", count, 10) >= count)
    line.close()


@pytest.fixture
def replica(place: Path, server: Server) -> Iterator[Server]:
    server.line().call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    running = Server(place / "replica", options=("--replicaof", "127.0.0.1", str(server.port)))
    synced(server)
    yield running
    running.kill()  # one that writes its first AOF refuses to stop


def thaw(replica: Server) -> None:
    if replica.running:
        programs.thaw(replica.pid)


def come_back(replica: Server) -> None:
    """After `kill` or `freeze`."""
    if replica.running:
        thaw(replica)
    else:
        replica.start()


def with_replicas(config: Path) -> Path:
    config.write_text(config.read_text().replace("[redis]", "[redis]\nmin_replicas = 1"))
    return config


def connect(server: Server, timeout: float = 0.5) -> Line:
    """Half of the time-out is for the replica."""
    return Dialer(RedisSettings(url=server.url, min_replicas=1, timeout=Duration(timeout))).line()


@pytest.fixture
def start(place: Path, server: Server, replica: Server) -> Iterator[StartProgram]:
    programs: list[Program] = []

    def begin(*argv: str, node: str = "node-a", lease: str = "") -> Program:
        programs.append(Program(place, with_replicas(write_config(place, server.url, node=node, lease=lease)), *argv))
        return programs[-1]

    yield begin
    for program in programs:
        program.stop()


@pytest.fixture
def cautious(place: Path, server: Server, replica: Server) -> Iterator[Client]:
    settings = load(with_replicas(write_config(place, server.url, node="client"))).settings
    with Client(settings, load_actions(settings).actions) as made:
        yield made


def test_work_with_a_replica(start: StartProgram, cautious: Client, server: Server, place: Path) -> None:
    start("orchestrator").role("active")
    start("worker").ready()
    plans = chains(cautious, place / "lines", 5, 10)
    for plan in plans:
        assert cautious.wait(plan, 30) is PlanState.SUCCEEDED
    counted_once(server.line(), KEYS, plans)


def test_nobody_leads_without_the_replica(
    start: StartProgram, cautious: Client, server: Server, replica: Server, place: Path, lose: Lose
) -> None:
    """Both say what they wait for; the lease is left alone; with the replica all goes on."""
    first = start("orchestrator", node="node-a")
    first.role("active")
    second = start("orchestrator", node="node-b")
    second.role("passive")
    start("worker").ready()
    plans = chains(cautious, place / "lines", 3, 60, seconds=0.05)
    until("they are under way", lambda: len(lines_of(place / "lines")) > 3)
    lose(replica)
    for one in (first, second):
        one.role("waiting")
        assert re.fullmatch(
            rf"127\.0\.0\.1:{server.port} since \d\d:\d\d, 0 of 1 replicas", one.fields["X_CHARGEHAND_REDIS"]
        )
    line = server.line()
    until("nobody holds the lease", lambda: line.call("GET", KEYS.lease) is None)
    epoch = lease.epoch_of(line.call("GET", KEYS.fence).decode())
    assert epoch <= 3, "each tried once at most; then they look for the replica first"
    assert "not renewed in time: 0 of 1 replicas" in first.log.read_text()
    come_back(replica)
    until("one leads again", lambda: line.call("GET", KEYS.lease) is not None)
    for plan in plans:
        assert cautious.wait(plan, 60) is PlanState.SUCCEEDED
    counted_once(line, KEYS, plans)
    assert set(lines_of(place / "lines").values()) == {1}, "the outage cost no attempt"


def test_active_says_so_before_it_steps_down(start: StartProgram, replica: Server) -> None:
    one = start("orchestrator", lease='ttl = "8s", renew = "1s"')
    one.role("active")
    freeze(replica)
    one.until(
        "degraded",
        lambda fields: (
            fields.get("X_CHARGEHAND_DEGRADED") == "0 of 1 replicas: plans are not acknowledged, the lease runs out"
        ),
    )


def test_status_of_the_node(place: Path, server: Server, replica: Server) -> None:
    node = Node(place, with_replicas(write_config(place, server.url, node="node-a")))
    try:
        node.until_status("active")
        replica.kill()
        node.until_status("waiting (Redis")
        status = rf"waiting \(Redis 127\.0\.0\.1:{server.port} since \d\d:\d\d, 0 of 1 replicas\); workers 1/1"
        assert re.fullmatch(status, node.status)
        assert node.agent.poll() is None
        replica.start()
        node.until_status("active")
    finally:
        assert node.stop() == 0


def test_a_submission_waits_for_the_replica(
    start: StartProgram, cautious: Client, server: Server, replica: Server, lose: Lose, place: Path
) -> None:
    """It is not acknowledged while the replica is away, and is when it is back: one plan."""
    start("orchestrator").role("active")
    start("worker").ready()
    lose(replica)
    done: list[str] = []
    submitting = threading.Thread(target=lambda: done.extend(chains(cautious, place / "lines", 1, 1)), daemon=True)
    submitting.start()
    line = server.line()
    until("it stands in the master", lambda: line.call("KEYS", KEYS.plan("*").replace("{", "\\{")))
    assert submitting.is_alive()
    assert done == []
    come_back(replica)
    submitting.join()
    assert cautious.wait(done[0], 30) is PlanState.SUCCEEDED
    assert len(cautious.list()) == 1


def test_a_submission_that_is_never_confirmed_is_an_error(
    cautious: Client, server: Server, replica: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chargehand.client, "_PERSIST", 1.0)
    replica.kill()
    plan = cautious.plan("some")
    plan.add("nothing")
    with pytest.raises(Unconfirmed) as caught:
        cautious.submit(plan, key="once")
    name = chargehand.client.plan_id("default", "once")
    assert str(caught.value) == (
        f"127.0.0.1:{server.port}: 0 of 1 replicas have plan {name}: a failover would lose it; "
        "submit it again, under the same key"
    )
    replica.start()
    assert cautious.submit(plan, key="once") == name


def test_a_known_plan_is_acknowledged_only_once_the_replica_has_it(
    cautious: Client, server: Server, replica: Server
) -> None:
    """The line that asks again has written nothing, so all that its replicas have is not enough."""
    freeze(replica)
    plan = cautious.plan("some")
    plan.add("nothing")
    prepared = submission.prepare("some-plan", plan.definition("test"), submitted_ms=0)
    for _ in range(3):
        line = connect(server)
        with pytest.raises(Unconfirmed, match="0 of 1 replicas"):
            submission.submit(line, KEYS, [prepared], max_inbox=1_000)
        line.close()
    assert server.line().call("XLEN", KEYS.inbox) == 1
    thaw(replica)
    assert submission.submit(connect(server, 20.0), KEYS, [prepared], max_inbox=1_000) == ["KNOWN"]
    assert replica.line().call("XLEN", KEYS.inbox) == 1


def test_requests_are_confirmed_too(server: Server, replica: Server) -> None:
    from chargehand.wire import Resumed

    freeze(replica)
    with pytest.raises(Unconfirmed, match="0 of 1 replicas"):
        submission.ask(connect(server), KEYS, Resumed("some-plan", "test"))


def test_a_lease_that_no_replica_knows_of_is_given_back(server: Server, replica: Server) -> None:
    freeze(replica)
    with pytest.raises(Unconfirmed, match="0 of 1 replicas"):
        lease.acquire(connect(server), KEYS, incarnation="a", node="node-a", ttl=60.0, seen=0)
    assert server.line().call("GET", KEYS.lease) is None
    thaw(replica)
    patient = connect(server, 20.0)
    assert isinstance(lease.acquire(patient, KEYS, incarnation="a", node="node-a", ttl=60.0, seen=0), lease.Held)
    other = lease.acquire(patient, KEYS, incarnation="b", node="node-b", ttl=60.0, seen=0)
    assert isinstance(other, lease.Waiting)


def test_a_server_that_wants_replicas_itself(start: StartProgram, server: Server, replica: Server) -> None:
    """`min-replicas-to-write`: it refuses every write, which is no reason to end."""
    line = server.line()
    line.batch([("CONFIG", "SET", "min-replicas-to-write", 1), ("CONFIG", "SET", "min-replicas-max-lag", 1)])
    one = start("orchestrator")
    one.role("active")
    replica.kill()
    one.role("waiting")
    assert "NOREPLICAS Not enough good replicas to write" in one.fields["X_CHARGEHAND_REDIS"]
    replica.start()
    one.role("active")


def test_an_acl_without_wait_is_told(place: Path, server: Server, replica: Server) -> None:
    server.line().call("ACL", "SETUSER", "default", "-wait")
    config = with_replicas(write_config(place, server.url, node="node-a"))
    program = Program(place, config, "orchestrator")
    try:
        program.role("waiting")
        assert "the user may not WAIT on chargehand:" in program.fields["X_CHARGEHAND_REDIS"]
        server.line().call("ACL", "SETUSER", "default", "+wait")
        program.role("active")
    finally:
        program.stop()
