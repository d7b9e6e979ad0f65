"""`chargehand doctor`: each fault of Redis, and of the way to it, planted in a real server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chargehand.store.rights import rule
from support.cluster import Cluster
from support.doctors import Diagnosis, diagnose, write_node
from support.programs import until
from support.sentinels import Group
from support.server import Server, binary, free_port


def redis_of(found: Diagnosis) -> dict[str, str]:
    """What it says of Redis: check -> the worst severity. (No agent runs in these tests: that it says too.)"""
    return {check: ones[0].severity for check, ones in found.wrong.items() if check.startswith("redis-")}


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    return write_node(place, server.url, "node-a")


def tell(server: Server, *command: str) -> None:
    line = server.line()
    line.call(*command)
    line.close()


def test_settings_of_the_server_that_lose_data(server: Server, config: Path) -> None:
    assert redis_of(diagnose(config)) == {}, "a sound one"

    tell(server, "CONFIG", "SET", "maxmemory", "100mb")
    tell(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    tell(server, "CONFIG", "SET", "appendfsync", "no")
    found = diagnose(config)
    assert redis_of(found) == {"redis-eviction": "error", "redis-persistence": "warning"}
    assert found["redis-eviction"].startswith("error: Redis evicts keys when it is full (allkeys-lru), the lease")
    assert "CONFIG SET maxmemory-policy noeviction" in found["redis-eviction"]
    assert "appendfsync: no" in found["redis-persistence"]
    assert found.code == 2

    tell(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    tell(server, "CONFIG", "SET", "appendonly", "no")
    assert diagnose(config)["redis-persistence"].startswith("error: Redis keeps nothing on disk")
    tell(server, "CONFIG", "SET", "min-replicas-to-write", "1")
    found = diagnose(config)
    assert "0 replicas are in step, and min-replicas-to-write 1: nothing is acknowledged" in found["redis-replicas"]
    assert "orchestrator-active" in found.checks, "it can be read"
    tell(server, "CONFIG", "SET", "save", "900 1")
    assert diagnose(config)["redis-persistence"].startswith("warning: Redis writes snapshots only")


def test_memory_and_connections_run_out(server: Server, config: Path) -> None:
    line = server.line()
    line.call("SETRANGE", "big", 30_000_000, "x")  # beside it the buffers of connections are small
    info = dict(row.split(b":") for row in line.call("INFO", "memory").split() if b":" in row)
    used = int(info[b"used_memory"])
    line.call("CONFIG", "SET", "maxmemory", round(used * 1.2))
    line.call("CONFIG", "SET", "maxclients", "32")
    others = [server.line() for _ in range(26)]
    found = diagnose(config)
    assert redis_of(found) == {"redis-memory": "warning", "redis-clients": "warning"}
    assert " % of its maxmemory" in found["redis-memory"]
    for one in others:
        one.close()
    line.call("CONFIG", "SET", "maxmemory", used // 2)
    found = diagnose(config)
    assert redis_of(found) == {"redis-memory": "error"}, "what a full server refuses is no fault by itself"
    line.close()


def test_rights_of_the_user(place: Path, server: Server) -> None:
    """As the document has them, with one less, and with no right to be looked at."""
    secret = place / "password"
    secret.touch(0o600)
    secret.write_text("s3cret")
    login = f'username = "chargehand"\npassword_file = "{secret}"'
    config = write_node(place, server.url, "node-a", redis=login)

    def allow(*words: str) -> None:
        tell(server, "ACL", "SETUSER", "chargehand", "reset", "on", ">s3cret", *rule("default").split(), *words)

    allow()
    found = diagnose(config)
    assert redis_of(found) == {"redis-visible": "note"}, "CONFIG is not needed"
    assert "may not CONFIG GET" in found["redis-visible"]
    assert "+config|get" in found["redis-visible"]
    allow("+config|get")
    assert redis_of(diagnose(config)) == {}
    allow("-zadd")
    found = diagnose(config)
    assert redis_of(found)["redis-rights"] == "error"
    assert "the user may not ZADD on chargehand:{default}:*" in found["redis-rights"]
    allow("-info", "-config")
    found = diagnose(config)
    assert redis_of(found) == {"redis-visible": "note"}
    assert "may not INFO and CONFIG GET" in found["redis-visible"]
    assert "redis-memory" not in found.checks, "it cannot be looked at"


def test_which_part_of_the_way_is_wrong(place: Path, server: Server) -> None:
    secret = place / "password"
    secret.touch(0o600)
    secret.write_text("right")
    with_password = f'password_file = "{secret}"'

    def says(url: str, redis: str = "") -> str:
        found = diagnose(write_node(place, url, "node-a", redis=redis, timeout="1s"))
        assert redis_of(found) == {"redis-reachable": "error"}
        assert found.code == 2
        assert "node-agent" in found.checks, "this node is looked at all the same"
        assert "orchestrator-active" not in found.checks
        return found["redis-reachable"]

    assert "Connection refused" in (said := says(f"redis://127.0.0.1:{free_port()}/0"))
    assert "is the server running" in said
    assert "correct the host in redis.url" in says("redis://no-such-host.invalid:6379/0")
    assert "listen on this address" in says(f"unix://{place}/nothing.sock")
    assert "the number of the database" in says(server.url.replace("/0", "/99"))
    assert "a server without TLS does not answer to it: then the url" in says(server.url.replace("redis", "rediss", 1))
    assert "correct the path" in says(server.url, 'password_file = "/nowhere/password"')

    tell(server, "CONFIG", "SET", "requirepass", "right")
    assert "compare redis.username and the text of redis.password_file" in says(server.url)
    secret.write_text("wrong")
    assert "login refused" in (said := says(server.url, with_password))
    assert "wrong" not in said
    secret.write_text("right")
    secret.chmod(0o644)
    found = diagnose(write_node(place, server.url, "node-a", redis=with_password))
    assert found["node-secrets"].startswith(f"error: redis.password_file: {secret} is open to others (mode 0644)")
    assert "close the file to others" in found["redis-reachable"]

    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts, and never answers
        port = deaf.getsockname()[1]
        assert "is the port open in the firewalls between?" in says(f"redis://127.0.0.1:{port}/0")


@pytest.fixture
def tls(place: Path) -> Iterator[int]:
    """The port of a server that speaks TLS and asks for no certificate."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl is needed to make a certificate"
    if "libssl" not in subprocess.run(["ldd", binary()], capture_output=True, text=True, check=False).stdout:
        pytest.skip(f"{binary()} is built without TLS")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere"),
            *("-keyout", "key", "-out", "crt"),
        ],
        cwd=place,
        check=True,
        capture_output=True,
    )
    port = free_port()
    certificates = ("--tls-cert-file", "crt", "--tls-key-file", "key", "--tls-ca-cert-file", "crt")
    options = ("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", "")
    with (place / "tls.log").open("wb") as log:
        process = subprocess.Popen([binary(), *options, *certificates], stdout=log, stderr=log, cwd=place)

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    until("it listens", listens)
    yield port
    process.terminate()
    process.wait()


def test_tls_is_missing_or_not_believed(place: Path, tls: int) -> None:
    said = diagnose(write_node(place, f"redis://127.0.0.1:{tls}/0", "node-a", timeout="1s"))["redis-reachable"]
    assert "does the server speak TLS there? then the url begins with rediss://" in said
    said = diagnose(write_node(place, f"rediss://127.0.0.1:{tls}/0", "node-a"))["redis-reachable"]
    assert "its certificate must name the host of the url, and come from an authority in redis.ca_file" in said


class SlowWay:
    """A proxy that keeps what the server answers back for a while."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port, self._seconds = port, seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            back = threading.Thread(target=_carry, args=(far, near, self._seconds))
            back.start()
            _carry(near, far, 0.0)
            back.join()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            time.sleep(seconds)
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def test_answers_that_are_slow_for_the_lease(place: Path, server: Server) -> None:
    way = SlowWay(server.port, 0.15)
    found = diagnose(write_node(place, way.url, "node-a", lease='ttl = "7s", renew = "1s"', timeout="4s"))
    way.close()
    assert redis_of(found)["redis-latency"] in {"warning", "error"}
    assert "too slow for a lease of 7 s" in found["redis-latency"]
    assert "from here (21 round trips): median " in found["redis-latency"]


def test_replicas_and_sentinels(place: Path) -> None:
    group = Group(place, replicas=1)
    try:
        config = write_node(place, group.url, "node-a")
        found = diagnose(config)
        assert redis_of(found) == {"redis-replicas": "note"}
        assert "redis.min_replicas is 0" in found["redis-replicas"]

        write_node(place, group.url, "node-a", redis="min_replicas = 1")
        assert "without one of them all stands still" in diagnose(config)["redis-replicas"]
        write_node(place, group.first.url, "node-a", redis="min_replicas = 2")
        assert "1 replica is in step, and redis.min_replicas = 2" in diagnose(config)["redis-replicas"]

        write_node(place, group.servers[1].url, "node-a")
        assert diagnose(config)["redis-replicas"].startswith("error: the server is a replica")

        write_node(place, group.url, "node-a")
        group.sentinels[0].kill()
        found = diagnose(config)
        assert redis_of(found)["redis-sentinels"] == "warning"
        assert "1 of 3 sentinels in redis.url do not answer" in found["redis-sentinels"]
        group.sentinels[1].kill()
        until("the last one notices", lambda: "NOQUORUM" in _quorum(group))
        found = diagnose(config)
        assert {one.severity for one in found.wrong["redis-sentinels"]} == {"warning", "error"}
        assert "there would be no failover now" in found["redis-sentinels"]
    finally:
        group.stop()


def _quorum(group: Group) -> str:
    try:
        return str(group.sentinels[2].ask("SENTINEL", "CKQUORUM", "main"))
    except Exception as error:
        return str(error)


def test_a_cluster_that_is_named_as_one_server(place: Path) -> None:
    cluster = Cluster(place)
    try:
        config = write_node(place, cluster.url, "node-a")
        assert redis_of(diagnose(config)) == {}
        owner = cluster.owner("default")
        other = next(node for node in cluster.nodes if node is not owner)
        write_node(place, owner.url, "node-a")
        assert diagnose(config)["redis-cluster"].startswith("warning: the server is a node of a cluster")
        write_node(place, other.url, "node-a")
        assert "redis+cluster://HOST:PORT" in diagnose(config)["redis-reachable"]
        other.kill()
        write_node(place, cluster.url, "node-a")
        assert "1 of 3 nodes in redis.url do not answer" in diagnose(config)["redis-cluster"]
    finally:
        cluster.stop()
