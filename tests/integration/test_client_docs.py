"""docs/client.md, run from top to bottom as one program."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

from chargehand.client import Client
from support.programs import StartProgram, until, write_config
from support.server import Server

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_example_does_what_it_says(
    start_program: StartProgram,
    place: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(write_config(place, server.url, node="program")))
    start_program("orchestrator").ready()
    start_program("worker").ready()
    module = types.ModuleType("documented")
    printed = []
    for code in BLOCKS:
        if "pause_recurring" in code:
            set_it, rest = code.split("\n\n", 1)
            exec(compile(set_it, "docs/client.md", "exec", dont_inherit=True), module.__dict__)
            client = module.client
            assert isinstance(client, Client)
            until("it is set", lambda client=client: client.recurring("nightly"))  # type: ignore[misc]
            code = rest
        exec(compile(code, "docs/client.md", "exec", dont_inherit=True), module.__dict__)
        printed.append(capsys.readouterr().out)
    _, submitting, watching, reading, asking, recurring, _ = printed
    assert submitting == "SUCCEEDED\nhello Grace\n"
    assert watching.splitlines() == ["plan None succeeded"]
    lines = reading.splitlines()
    assert lines[0] == "succeeded {'succeeded': 2} []"
    assert [line.split()[1] for line in lines[1:5]] == ["submitted", "succeeded", "succeeded", "plan"]
    assert lines[5].startswith(module.run)
    assert asking == f"plan {module.run} is succeeded: only a plan that is under way can be cancelled\n"
    assert recurring.startswith("nightly ")
    module.client.close()
