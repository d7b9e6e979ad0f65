"""What the unit's sandbox hides from an action, and one path opened, as docs/operations.md says."""

from __future__ import annotations

from collections.abc import Callable

from lab.node import Node
from lab.service import CONFIG, UNIT, Service
from support.documents import DOCS, blocks

DROP_IN = blocks(DOCS / "operations.md", "ini")[0]

#: Notes what it may; everything that it tries is open to its user by the modes of the files.
_LOOK = """#!/bin/sh
may() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$name: yes"; else echo "$name: no"; fi
}
{
    may "write the state directory" touch /var/lib/chargehand/seen
    may "write the runtime directory" touch /run/chargehand/seen
    may "write /tmp" touch /tmp/seen
    may "write /srv/reports" touch /srv/reports/seen
    may "read /srv/reports" cat /srv/reports/given
    may "read the node's /tmp" cat /tmp/given
    may "read a home" cat /home/ada/given
    may "see PID 1" test -d /proc/1
    may "get new privileges" grep -q "^NoNewPrivs:.*0$" /proc/self/status
    may "make a namespace" unshare --user true
    echo "umask: $(umask)"
} >/var/lib/chargehand/notes
"""

_ACTION = '[[action]]\nname = "look"\nargv = ["/usr/local/bin/look"]\n'


def look(service: Service) -> dict[str, str]:
    service.until_whole()
    assert service.until_ended(service.submit("look")) == "succeeded"
    return dict(line.split(": ", 1) for line in service.notes())


def test_what_an_action_may_and_one_path_opened(node: Callable[..., Node]) -> None:
    service = Service(node(CONFIG + _ACTION))
    service.node.write("/usr/local/bin/look", _LOOK, mode=0o755)
    for given in ("/srv/reports/given", "/home/ada/given"):
        service.node.write(given, "given\n", mode=0o644)
    service.node.run("sh", "-c", "echo given >/tmp/given")
    service.node.run("chown", "chargehand:chargehand", "/srv/reports")
    service.start()
    hidden = {
        "write the state directory": "yes",
        "write the runtime directory": "yes",
        "write /tmp": "yes",
        "write /srv/reports": "no",
        "read /srv/reports": "yes",
        "read the node's /tmp": "no",
        "read a home": "no",
        "see PID 1": "no",
        "get new privileges": "no",
        "make a namespace": "no",
        "umask": "0027",
    }
    assert look(service) == hidden

    service.node.write(f"/etc/systemd/system/{UNIT}.d/override.conf", DROP_IN)
    service.node.systemctl("daemon-reload")
    service.node.systemctl("restart", UNIT)
    assert look(service) == {**hidden, "write /srv/reports": "yes"}
