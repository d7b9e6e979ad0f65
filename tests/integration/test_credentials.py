"""Passwords and keys: of files that are closed to others, or of systemd's credentials, and for whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chargehand.config.settings import RedisSettings
from chargehand.store.connection import Dialer, Unavailable
from support.commands import Done, chargehand
from support.nodes import Node
from support.others import named
from support.programs import until, write_config
from support.server import Server

CREDENTIAL = "$CREDENTIALS_DIRECTORY/redis"
OTHER = '[[child]]\nname = "other"\nargv = ["/bin/sleep", "1000"]\n'


@pytest.fixture
def credentials(place: Path, server: Server) -> Iterator[Path]:
    """What systemd makes of `LoadCredential=redis:FILE`; the server wants that password."""
    directory = place / "credentials"
    directory.mkdir(mode=0o700)
    (directory / "redis").touch(0o400)
    (directory / "redis").write_text("s3cret\n")
    line = server.line()
    line.call("CONFIG", "SET", "requirepass", "s3cret")
    yield directory
    line.call("CONFIG", "SET", "requirepass", "")
    line.close()


def settings(server: Server, password_file: str) -> RedisSettings:
    return RedisSettings(url=server.url, password_file=password_file)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_password_file_open_to_others_is_refused(credentials: Path, server: Server, mode: int) -> None:
    path = credentials / "redis"
    path.chmod(mode)
    with pytest.raises(Unavailable) as caught:
        Dialer(settings(server, str(path))).line()
    fault = f"{path} is open to others (mode {mode:04o}): chmod o= {path}"
    assert str(caught.value) == f"127.0.0.1:{server.port}: {fault}"
    path.chmod(0o640)
    Dialer(settings(server, str(path))).line().close()


def test_a_key_open_to_others_is_refused(place: Path) -> None:
    for name in ("client.crt", "client.key"):
        (place / name).touch(0o644)
    given = RedisSettings(url="rediss://127.0.0.1:1", cert_file=f"{place}/client.crt", key_file=f"{place}/client.key")
    with pytest.raises(Unavailable, match=r"client\.key is open to others \(mode 0644\)"):
        Dialer(given).line()
    (place / "client.crt").unlink()
    with pytest.raises(Unavailable, match=r"cannot read .*client\.crt: No such file or directory"):
        Dialer(given).line()


@pytest.mark.parametrize("path", [CREDENTIAL, "${CREDENTIALS_DIRECTORY}/redis"])
def test_a_credential(credentials: Path, server: Server, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    Dialer(settings(server, path)).line().close()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(Unavailable) as caught:
        Dialer(settings(server, path)).line()
    assert str(caught.value).endswith(f"{path} is not there: the unit has no LoadCredential=redis:FILE")


def test_our_children_get_credentials_others_do_not(
    credentials: Path, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config = write_config(place, server.url, node="node-a", extra=OTHER)
    config.write_text(config.read_text().replace("[redis]", f'[redis]\npassword_file = "{CREDENTIAL}"'))
    node = Node(place, config)
    try:
        node.until_whole()
        node.until_status("active")
        until("the other runs", lambda: named(node, "other")["state"] == "ready")
        told = {
            one["name"]: b"CREDENTIALS_DIRECTORY=" in Path(f"/proc/{one['pid']}/environ").read_bytes()
            for one in node.describe()["children"]
        }
        assert told == {"orchestrator": True, "worker": True, "other": False}
    finally:
        assert node.stop() == 0


def test_what_an_operator_sees_of_an_open_file(credentials: Path, place: Path, server: Server) -> None:
    """The node waits and says why, `config check` names it; once it is closed all is well."""
    path = credentials / "redis"
    path.chmod(0o644)
    config = write_config(place, server.url, node="node-a")
    config.write_text(config.read_text().replace("[redis]", f'[redis]\npassword_file = "{path}"'))

    def check(*options: str) -> Done:
        return chargehand("config", "check", *options, "--config", config)

    fault = f"{path} is open to others (mode 0644): chmod o= {path}"
    node = Node(place, config)
    try:
        node.until_status("waiting (Redis")
        assert f"open to others (mode 0644): chmod o= {path}" in node.status
        refused = check()
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"chargehand: redis.password_file: {fault}\n")
        assert json.loads(check("--json").stdout)["exposed"] == [f"redis.password_file: {fault}"]
        path.chmod(0o600)
        node.until_status("active")
        assert check().returncode == 0
    finally:
        assert node.stop() == 0


def test_commands_look_where_systemd_keeps_the_credentials(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No unit of that name runs here, so all that can be seen is where it looks."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = write_config(place, server.url, node="node-a")
    config.write_text(config.read_text().replace("[redis]", f'[redis]\npassword_file = "{CREDENTIAL}"'))
    done = chargehand("plan", "list", "--config", config)
    assert done.returncode == 1
    assert done.stderr == (
        f"chargehand: Redis unreachable: 127.0.0.1:{server.port}: cannot read "
        "/run/credentials/chargehand.service/redis: No such file or directory\n"
    )
