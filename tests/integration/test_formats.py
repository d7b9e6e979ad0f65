"""Data of a later version: left alone, and said."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Raw

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.wire import FORMAT, Definition, Policy, Step, Submitted, encode
from support.programs import Program, until, write_config
from support.server import Server

KEYS = Keys("default")


def test_an_older_orchestrator_leaves_the_lease_to_newer_ones(tmp_path: Path, server: Server) -> None:
    line = server.line()
    line.call("HSET", KEYS.head, "format", FORMAT + 1)
    old = Program(tmp_path, write_config(tmp_path, server.url, node="old"), "orchestrator")
    try:
        old.ready().role("passive")
        old.until("degraded", lambda fields: f"format {FORMAT + 1}" in fields.get("X_CHARGEHAND_DEGRADED", ""))
        until("the lease is free", lambda: line.call("EXISTS", KEYS.lease) == 0)
        assert line.call("HGET", KEYS.head, "format") == b"%d" % (FORMAT + 1)
    finally:
        assert old.stop() == 0


def test_a_newer_definition_is_kept_and_others_go_on(tmp_path: Path, server: Server) -> None:
    config = write_config(tmp_path, server.url, node="a")
    line = server.line()
    newer = encode(Definition("note", [Policy("note")], 1, [Step(0)], format=FORMAT + 1))
    line.call("XADD", KEYS.inbox, "*", "e", encode(Submitted("later", Raw(newer))))
    orchestrator = Program(tmp_path, config, "orchestrator")
    try:
        with Client(load(config).settings) as client:
            assert client.wait(client.submit(client.plan("empty")), 30) is PlanState.SUCCEEDED
    finally:
        orchestrator.stop()
    (kept,) = line.call("LRANGE", KEYS.strange, 0, -1)
    assert msgspec.json.decode(kept)[2]["format"] == FORMAT + 1
    assert line.call("EXISTS", KEYS.states("later")) == 0
