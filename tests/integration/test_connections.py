"""Ways to reach Redis: a user with a password from a file, a socket, TLS with client certificates, Sentinel."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from chargehand.config.settings import Duration, RedisSettings
from chargehand.store.connection import Dialer, Line, Unavailable
from support.programs import Program, until, write_config
from support.server import Server, binary, free_port
from support.tls import Tls


@pytest.fixture
def extra_server(place: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        log = (place / f"extra-{len(running)}.log").open("wb")
        running.append(subprocess.Popen([binary(), *options], stdout=log, stderr=log, cwd=place))
        log.close()
        return running[-1]

    yield start
    for one in running:
        one.terminate()
        one.wait()


def connected(settings: RedisSettings) -> Line:
    line: list[Line] = []

    def dial() -> bool:
        try:
            line.append(Dialer(settings).line())
        except Unavailable:
            return False
        return True

    until("the server answers", dial)
    assert line[0].call("PING") in {"PONG", b"PONG"}
    return line[0]


def test_user_and_password_file(place: Path, server: Server) -> None:
    line = server.line()
    line.call(
        "ACL", "SETUSER", "chargehand", "on", ">s3cret", "~chargehand:*", "resetchannels", "&chargehand:*", "+@all"
    )
    secret = place / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    settings = RedisSettings(url=server.url, username="chargehand", password_file=str(secret))
    assert connected(settings).call("ACL", "WHOAMI") == b"chargehand"
    secret.write_text("wrong")
    with pytest.raises(Unavailable, match="login refused") as caught:
        Dialer(settings).line()
    assert "wrong'" not in str(caught.value)
    secret.unlink()
    with pytest.raises(Unavailable, match=f"cannot read {secret}: No such file or directory"):
        Dialer(settings).line()


def test_unreadable_password_is_degraded_not_an_exit(place: Path, server: Server) -> None:
    """Exit 78 is for the TOML alone."""
    config = write_config(place, server.url, node="node-a", redis={"password_file": f"{place}/nothing"})
    program = Program(place, config, "orchestrator")
    try:
        program.role("waiting")
        assert f"cannot read {place}/nothing: No such file or directory" in program.fields["X_CHARGEHAND_REDIS"]
        server.line().call("CONFIG", "SET", "requirepass", "late")
        (place / "nothing").touch(0o600)
        (place / "nothing").write_text("late")
        program.role("active")
    finally:
        program.stop()


def test_unix_socket(place: Path, extra_server: Callable[..., object]) -> None:
    extra_server("--port", "0", "--unixsocket", str(place / "r.sock"), "--save", "")
    connected(RedisSettings(url=f"unix://{place}/r.sock"))


def test_tls_with_client_certificates(place: Path) -> None:
    tls = Tls(place / "tls")
    server = Server(place / "server", tls=tls)
    try:
        known = tls.settings(server.url)
        connected(known)
        for stranger in (replace(known, ca_file=None), replace(known, cert_file=None, key_file=None)):
            with pytest.raises(Unavailable, match=r"TLS: (?i:.*certificate)"):
                Dialer(stranger).line()
    finally:
        server.stop()


def test_ca_file_is_all_that_is_believed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the system believes counts only where there is no `ca_file`."""
    tls, other = Tls(place / "tls"), Tls(place / "other")
    server = Server(place / "server", tls=tls)
    try:
        known = tls.settings(server.url)
        monkeypatch.setenv("SSL_CERT_FILE", known.ca_file or "")
        connected(replace(known, ca_file=None))
        with pytest.raises(Unavailable, match=r"TLS: .*certificate"):
            Dialer(replace(known, ca_file=other.keys["ca_file"])).line()
    finally:
        server.stop()


def test_sentinel(place: Path, server: Server, extra_server: Callable[..., object]) -> None:
    port = free_port()
    config = place / "sentinel.conf"
    config.write_text(
        f"port {port}\nsentinel monitor main 127.0.0.1 {server.port} 1\nsentinel down-after-milliseconds main 1000\n"
    )
    config.chmod(0o600)
    extra_server(str(config), "--sentinel")
    line = connected(RedisSettings(url=f"redis+sentinel://127.0.0.1:{port}/main/0", timeout=Duration(1)))
    line.call("SET", "seen", "1")
    assert server.line().call("GET", "seen") == b"1"
    with pytest.raises(Unavailable, match="no sentinel knows a master"):
        Dialer(RedisSettings(url=f"redis+sentinel://127.0.0.1:{port}/other/0")).line()
