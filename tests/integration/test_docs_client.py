"""docs/client.md, run from top to bottom as one program."""

from __future__ import annotations

import types
from functools import partial
from pathlib import Path

import pytest

from support.documents import DOCS, blocks, run
from support.programs import StartProgram, until, write_config
from support.server import Server

PAGE = DOCS / "client.md"


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
    module = types.ModuleType("page")
    printed = []
    for code in blocks(PAGE, "python"):
        set_it, _, rest = code.partition("\n\n") if "pause_recurring" in code else ("", "", code)
        if set_it:
            run(set_it, PAGE, module)
            until("it is set", partial(module.client.recurring, "nightly"))
        run(rest, PAGE, module)
        printed.append(capsys.readouterr().out)
    _, submitting, watching, reading, asking, recurring, counted, _ = printed
    assert submitting == "SUCCEEDED\nhello Grace\n"
    assert watching.splitlines() == ["plan None succeeded"]
    lines = reading.splitlines()
    assert lines[0] == "succeeded {'succeeded': 2} []"
    assert [line.split()[1] for line in lines[1:5]] == ["submitted", "succeeded", "succeeded", "plan"]
    assert lines[5].startswith(module.run)
    assert asking == f"plan {module.run} is succeeded: only a plan that is under way can be cancelled\n"
    assert recurring.startswith("nightly ")
    assert [line.split()[-1] for line in counted.splitlines()] == [
        "minute",
        *["second"] * (len(counted.splitlines()) - 1),
    ]
    assert "\ndefault 0 wait for 5 threads; " in counted
    module.client.close()
