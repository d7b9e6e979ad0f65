"""How busy the orchestrator is stands where people look: what it tells its agent, and what it tells everybody."""

from __future__ import annotations

import json
import threading

from chargehand.client import Client
from chargehand.store.keys import Keys
from support.programs import StartProgram, until
from support.server import Server


def share_in(server: Server) -> int:
    line = server.line()
    try:
        members = [json.loads(value) for value in line.call("HVALS", Keys("default").members)]
    finally:
        line.close()
    return max(int(one.get("share", 0)) for one in members)


def test_share_is_told(start_program: StartProgram, client: Client, server: Server) -> None:
    orchestrator = start_program("orchestrator").ready()
    start_program("worker").ready()
    enough = threading.Event()

    def go_on() -> None:
        while not enough.is_set():
            plans = []
            for _ in range(50):
                plan = client.plan("some")
                plan.add("nothing")
                plans.append(plan)
            for plan in plans:
                client.submit(plan)

    submitting = threading.Thread(target=go_on)
    submitting.start()
    try:
        orchestrator.until("busy", lambda fields: int(fields.get("X_CHARGEHAND_SHARE") or 0) >= 10)
        until("everybody can see it", lambda: share_in(server) >= 5)
    finally:
        enough.set()
        submitting.join()
    assert "X_CHARGEHAND_DEGRADED" not in orchestrator.fields or not orchestrator.fields["X_CHARGEHAND_DEGRADED"]
