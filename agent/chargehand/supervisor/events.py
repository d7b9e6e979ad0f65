"""What the agent tells of itself: one event name, its fields, one line that a person can read.

Under systemd each is a native journal entry with the fields `CHARGEHAND_NODE`, `_EXECUTOR`, `_CHILD`, `_ROLE`,
`_EPOCH` and a `MESSAGE_ID`, which `units/chargehand.catalog` explains (`journalctl -x`); elsewhere a line on
standard error. Whoever follows events on the control socket gets them too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from chargehand.linux.journal import Journal
from chargehand.notify import clean

__all__ = ["EVENTS", "Events", "Kind"]


class Kind(NamedTuple):
    message_id: str  # never changed: catalogs and people's filters name it
    priority: int  # of syslog: 2 critical, 3 error, 4 warning, 5 notice, 6 informational


EVENTS = {
    "agent_ready": Kind("2dff54eb7ef14c7e9b08e05260f6046a", 5),
    "agent_stopping": Kind("94760747aa0e44f2aa620457734edf0a", 5),
    "agent_stopped": Kind("798a53c556224713811fdd75aaabd2de", 5),
    "agent_broken": Kind("1c3bf443148a4c1ea63576ddbc9507ea", 2),
    "config_adopted": Kind("89d223e8e1a74dbc8a87cb98108f55fb", 5),
    "config_rejected": Kind("3f2060f9f682477f93b2ccdeefdf9942", 3),
    "request": Kind("158dc2752cdb482fa400d7a689556e04", 5),
    "request_refused": Kind("183f057c1f2b4b18bcc2b6b58e1cac48", 4),
    "drain_begun": Kind("070abec1989042e49edfd2f136d25e2f", 5),
    "drained": Kind("3231fa62f0084710ab0ab9d9e3c4760e", 5),
    "undrained": Kind("c81b6d6c06d74507966116c4921d0b3d", 5),
    "child_started": Kind("a94534dd5417423c8b6238a01f137368", 6),
    "child_ready": Kind("a3990c19073c4b3b83e26966b3ce9f58", 6),
    "child_role": Kind("9fcd5f74a7914359872cab3d18a8da00", 5),
    "child_ended": Kind("29f1b6ee77dc412bad1395fffec0f4b7", 4),
    "child_stopped": Kind("9e776d653e7048198cb995e41f57d036", 6),
    "child_restart": Kind("a1975c5fe5e041369425c7ff8e568280", 6),
    "child_hung": Kind("27fdcc301c0645be86295a19d2046b12", 3),
    "child_late": Kind("ef498e26bf2e4536b3820d9ebdf3c206", 3),
    "child_unstartable": Kind("8e6e321caca34dee9efe41097c594b79", 3),
    "child_draining": Kind("1ed449f1741349b49b671c03d6833c55", 6),
    "child_over_memory": Kind("7f2ae5c76891427bb721334763dfffbf", 4),
    "child_limits": Kind("8de663cbf9c54da59dfb1a7a9ae033aa", 3),
    "death_delivered": Kind("a299f2ab3a92499194a4054276598fda", 6),
    "previous_gone": Kind("648f9d3e0d6d4cf1b9d148727be700a7", 6),
    "notify_from_stranger": Kind("7f9bdb3c09f842b199618d4f968f5a68", 4),
    "link_broken": Kind("088630e4783e47c3b3975b953afd37c2", 3),
    "memory_unwritable": Kind("ebb44c23e7b14ee3a2454f18f82a8f85", 3),
    "memory_unreadable": Kind("dbbad09a45e4435fa1b467f05814becc", 4),
    "output_dropped": Kind("e881b7c22efc4186926e8a924268e828", 4),
    "cgroup_failed": Kind("bb0c6eb6a62847b3b4b13ed617878795", 4),
}

_WORDS = {2: "CRITICAL", 3: "ERROR", 4: "WARNING", 5: "NOTICE", 6: "INFO"}
_QUIET = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "WARN": 4, "NOTICE": 5}  # of CHARGEHAND_LOG: what is left out


class Events:
    """`say` an event; `listeners` hear each, as JSON can hold it."""

    def __init__(self, write: Callable[[str], None], *, journal: bool) -> None:
        """`write`: where a line goes when there is no journal."""
        self._write = write
        self._journal = Journal() if journal else None
        self._most = _QUIET.get(os.environ.get("CHARGEHAND_LOG", "").upper(), 7)
        self.node = self.executor = ""
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    def say(self, event: str, **fields: object) -> None:
        """`fields` stand in the line in their order; `child`, `role`, `epoch` are journal fields too."""
        kind = EVENTS[event]
        plain = {name: str(value) for name, value in fields.items()}
        for listener in list(self.listeners):
            listener({"event": event, "time": round(time.time(), 3), "node": self.node, **plain})
        if kind.priority > self._most:
            return
        line = " ".join([event, *(f"{name}={clean(value, 500)}" for name, value in plain.items())])
        if self._journal is None:
            self._write(f"{_WORDS[kind.priority]} {line}")
            return
        entry = {
            "MESSAGE": line,
            "MESSAGE_ID": kind.message_id,
            "PRIORITY": str(kind.priority),
            "SYSLOG_IDENTIFIER": "chargehand",
            "CHARGEHAND_EVENT": event,
            "CHARGEHAND_NODE": self.node,
            "CHARGEHAND_EXECUTOR": self.executor,
        }
        entry |= {f"CHARGEHAND_{name.upper()}": value for name, value in plain.items()}
        self._journal.send(entry)
