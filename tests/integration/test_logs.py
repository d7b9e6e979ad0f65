"""What an orchestrator logs: one line a plan and a failed step, with its fields; steps that succeed only when asked."""

from __future__ import annotations

import re

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.programs import StartProgram


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_line_a_plan(
    start_program: StartProgram, client: Client, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("CHARGEHAND_LOG", level)
    orchestrator = start_program("orchestrator").ready()
    start_program("worker").ready()
    good = client.plan("good")
    good.add("echo", value=1)
    good.add("echo", value=2)
    bad = client.plan("bad")
    bad.add("fails_until", path="no disk\nand more")
    names = client.submit(good), client.submit(bad)
    assert client.wait(names[0], 20) is PlanState.SUCCEEDED
    assert client.wait(names[1], 20) is PlanState.PAUSED
    orchestrator.stop()
    log = orchestrator.log.read_text()
    assert re.findall(rf"^INFO orchestrator@node-a: plan_\w+ plan={names[0]}$", log, re.MULTILINE) == [
        f"INFO orchestrator@node-a: plan_succeeded plan={names[0]}"
    ]
    assert f"INFO orchestrator@node-a: plan_paused plan={names[1]}\n" in log
    failed = re.search(
        rf"^INFO .* step_failed plan={names[1]} step=0 attempt=1 node=node-a error=(.*)$", log, re.MULTILINE
    )
    assert failed is not None
    assert failed[1] == "FileNotFoundError: no disk"
    assert len(re.findall(rf"^DEBUG .* step_succeeded plan={names[0]} ", log, re.MULTILINE)) == 2 * (level == "DEBUG")


def test_for_the_journal_each_line_has_its_priority(
    start_program: StartProgram, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_OUTPUT", "journal")
    orchestrator = start_program("orchestrator").ready()
    orchestrator.stop()
    lines = orchestrator.log.read_text().splitlines()
    assert "<6>active: epoch 1" in lines
    assert all(re.match(r"<[2-7]>", line) for line in lines)
