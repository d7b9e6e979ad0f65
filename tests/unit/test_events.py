"""What the agent tells of itself: every event is known, explained, and a line that a person can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from chargehand.supervisor.events import EVENTS, Events

ROOT = Path(__file__).parents[2]


def said_in_code() -> set[str]:
    code = "".join(path.read_text() for path in (ROOT / "agent/chargehand/supervisor").glob("*.py"))
    return set(re.findall(r'events\.say\(\s*"(\w+)"', code)) | set(re.findall(r'event = "(\w+)" if', code))


def test_every_event_that_is_said_is_in_the_table_and_every_one_in_it_is_said() -> None:
    said = said_in_code() | {"child_ended"}  # the other half of a choice
    assert said == set(EVENTS)


def test_ids_are_ids_and_differ() -> None:
    ids = [kind.message_id for kind in EVENTS.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)


def test_the_catalog_explains_each() -> None:
    catalog = (ROOT / "units/chargehand.catalog").read_text()
    assert re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.MULTILINE) == [kind.message_id for kind in EVENTS.values()]
    entries = catalog.split("\n-- ")[1:]
    for entry in entries:
        assert re.search(r"^Subject: \w", entry, re.MULTILINE)
        assert entry.partition("\n\n")[2].strip(), entry


def test_a_line_and_what_a_follower_hears() -> None:
    lines: list[str] = []
    heard: list[dict[str, Any]] = []
    events = Events(lines.append, journal=False)
    events.node = "node-a"
    events.listeners.append(heard.append)
    events.say("child_ended", child="worker", pid=12, how='exit 1 "two\nlines"')
    assert lines == ['WARNING child_ended child=worker pid=12 how=exit 1 "two lines"']
    ((event),) = heard
    assert (event["event"], event["node"], event["child"], event["pid"]) == ("child_ended", "node-a", "worker", "12")
