"""The password of Redis as a credential of the unit, as docs/security.md says."""

from __future__ import annotations

from collections.abc import Callable

from lab.node import Node
from lab.redis import Redis
from lab.service import CONFIG, UNIT, Service
from support.documents import DOCS, blocks

DROP_IN = blocks(DOCS / "security.md", "ini")[0]
PASSWORD = "correct horse"
PLACE = f"/run/credentials/{UNIT}"

_REDIS = """
[redis]
url = "{url}"
password_file = "$CREDENTIALS_DIRECTORY/redis"
"""
_OTHERS = """
[[child]]
name = "site"
argv = ["/usr/bin/sleep", "infinity"]

[[action]]
name = "told"
argv = ["/bin/sh", "-c", "echo ${CREDENTIALS_DIRECTORY-nothing} >>/var/lib/chargehand/notes"]
"""


def test_whom_systemds_credential_reaches(redis: Redis, node: Callable[..., Node]) -> None:
    """The file is closed to all but root, and the service is no root; commands of root find the place by themselves."""
    service = Service(node(CONFIG + _OTHERS + _REDIS.format(url=redis.url)))
    assert redis.cli("config", "set", "requirepass", PASSWORD) == "OK"
    service.node.write("/etc/chargehand/redis.password", f"{PASSWORD}\n", mode=0o600)
    service.node.systemctl("start", "--no-block", UNIT)  # for some seconds it waits for Redis before it is ready
    service.until("it says what is missing", lambda: "the unit has no LoadCredential=redis:FILE" in service.status)

    service.node.write(f"/etc/systemd/system/{UNIT}.d/override.conf", DROP_IN)
    service.node.systemctl("daemon-reload")
    service.node.systemctl("restart", UNIT)
    service.until_whole()

    def place_told(pid: int) -> str:
        words = service.node.read(f"/proc/{pid}/environ").split("\0")
        return next((word.partition("=")[2] for word in words if word.startswith("CREDENTIALS_DIRECTORY=")), "")

    service.until("all run", lambda: all(service.pids().values()))
    told = {name: place_told(pid) for name, pid in service.pids().items()}
    assert told == {"orchestrator": PLACE, "worker": PLACE, "site": ""}
    assert service.until_ended(service.submit("told")) == "succeeded"
    assert service.notes() == ["nothing"]
