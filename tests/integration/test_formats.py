"""Data of a later version: left alone, and said."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.wire import FORMAT, Definition, Policy, Step, Submitted, encode
from support.programs import StartProgram, until

KEYS = Keys("default")


def test_an_older_orchestrator_leaves_the_lease_to_newer_ones(start_program: StartProgram, line: Line) -> None:
    line.call("HSET", KEYS.head, "format", FORMAT + 1)
    old = start_program("orchestrator").ready()
    old.role("passive")
    old.until("degraded", lambda fields: f"format {FORMAT + 1}" in fields.get("X_CHARGEHAND_DEGRADED", ""))
    until("the lease is free", lambda: line.call("EXISTS", KEYS.lease) == 0)
    assert line.call("HGET", KEYS.head, "format") == b"%d" % (FORMAT + 1)


def test_a_newer_definition_is_kept_and_others_go_on(start_program: StartProgram, client: Client, line: Line) -> None:
    newer = encode(Definition("note", [Policy("note")], 1, [Step(0)], format=FORMAT + 1))
    line.call("XADD", KEYS.inbox, "*", "e", encode(Submitted("later", Raw(newer))))
    start_program("orchestrator")
    assert client.wait(client.submit(client.plan("empty")), 30) is PlanState.SUCCEEDED
    (kept,) = line.call("LRANGE", KEYS.strange, 0, -1)
    assert msgspec.json.decode(kept)[2]["format"] == FORMAT + 1
    assert line.call("EXISTS", KEYS.states("later")) == 0
