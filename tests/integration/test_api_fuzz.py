"""REST under what nobody would send: every operation of the document, against a real console and a real executor.

Nothing that is sent may bring a server error, and every answer is one that the document has.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.console.api import ENDPOINTS
from chargehand.console.openapi import document
from chargehand.registry import load_actions
from support.consoles import Console
from support.programs import Program, write_config
from support.server import Server

schema = schemathesis.openapi.from_dict(document(ENDPOINTS))

#: The same requests each time: a failure is one that can be looked at again.
fuzzed = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Setting:
    """An executor with a plan that is paused, a recurring one, and a console."""

    def __init__(self, place: Path, server: Server) -> None:
        self.programs: list[Program] = []
        self._place, self._server = place, server

    def fill(self) -> None:
        place, server = self._place, self._server
        for kind in ("orchestrator", "worker"):
            self.start(kind).ready()
        self.console = Console(place, self.start)
        settings = load(write_config(place, server.url, node="client")).settings
        with Client(settings, load_actions(settings).actions) as client:
            plan = client.plan("fuzzed")
            plan.add("echo", value=1)
            plan.add("fails_until", path="/nowhere")
            self.paused = client.submit(plan)
            client.wait(self.paused)
            calm = client.plan("calm")
            calm.add("nothing")
            client.set_recurring("calm", calm, cron="@yearly")

    def start(self, *argv: str, node: str = "node-a", name: str = "", extra: str = "", url: str = "") -> Program:
        config = write_config(self._place, url or self._server.url, node=node, extra=extra)
        self.programs.append(Program(self._place, config, *argv, name=name))
        return self.programs[-1]

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.stop()


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    place = Path(tempfile.mkdtemp(prefix="ch-"))
    server = Server(place / "redis")
    made = Setting(place, server)
    try:
        made.fill()
        yield made
    finally:
        made.stop()
        server.stop()
        shutil.rmtree(place)


def sent(setting: Setting, case: Any) -> None:
    # A wrong token is tried in test_console_access. A body that is well-formed can still be refused: no such action.
    excluded = [ignored_auth, *([positive_data_acceptance] if case.body else [])]
    case.call_and_validate(
        base_url=f"{setting.console.url}/api/v1", headers=setting.console.auth("actor"), excluded_checks=excluded
    )


@schema.parametrize()
@fuzzed
def test_whatever_is_sent_is_answered_as_the_document_says(setting: Setting, case: Any) -> None:
    sent(setting, case)


@schema.include(path_regex=r"\{(plan|name)\}").parametrize()
@fuzzed
def test_whatever_is_asked_of_what_is_there_is_answered_as_the_document_says(setting: Setting, case: Any) -> None:
    there = {"plan": setting.paused, "step": 1, "name": "calm"}
    case.path_parameters.update({name: there[name] for name in case.path_parameters})
    if isinstance(case.body, dict) and "action" in case.body:
        case.body |= {"action": "echo", "inputs": {"value": case.body.get("inputs")}}
    sent(setting, case)
