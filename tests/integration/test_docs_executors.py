"""The programs of docs/executors.md, run against two executors."""

from __future__ import annotations

import asyncio
import types
from pathlib import Path

import pytest

from support.documents import DOCS, blocks, run
from support.groups import StartGroup, client_config

PAGE = DOCS / "executors.md"
HOSTS = [f"db-{number}" for number in range(20)]


@pytest.fixture
def page(place: Path, start_group: StartGroup, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    groups = [start_group(name).known() for name in ("east", "west")]
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(client_config(place, groups)))
    module = types.ModuleType("page")
    for code in blocks(PAGE, "python"):
        run(code, PAGE, module)
    return module


def test_one_after_another(page: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    page.patch_everything(HOSTS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {executor for _, executor, _ in lines} == {"east", "west"}
    assert {state for _, _, state in lines} == {"SUCCEEDED"}
    assert len({plan for plan, _, _ in lines}) == len(HOSTS)


def test_at_once(page: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(page.patch_at_once(HOSTS))
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines[::2]} == {"east", "west"}
    assert {line.split()[2] for line in lines[::2]} == {"SUCCEEDED"}
    assert lines[1::2] == [f"patched {host}" for host in HOSTS]
