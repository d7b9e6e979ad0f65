"""The console where several executors are known: each has its overview, and plans are found wherever they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from chargehand.executors import Executors
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from support.browser import Console, chromium, visit
from support.groups import Group, knowing
from support.server import Server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def groups(place: Path, server: Server) -> Iterator[list[Group]]:
    made = [Group(place, server, name) for name in ("red", "blue")]
    yield [one.known() for one in made]
    for one in made:
        one.end()


def test_each_executor_has_its_overview(place: Path, server: Server, groups: list[Group], browser: Browser) -> None:
    settings = knowing(place, groups)
    with Executors(settings, load_actions(settings).actions) as executors:
        plans = {}
        for name in ("red", "blue"):
            plan = executors.plan(f"a plan of {name}")
            plan.add("echo", value=name)
            plans[name] = executors.submit(plan, executor=name)
            assert executors.wait(plans[name], 60) is PlanState.SUCCEEDED
    tables = "".join(f'[[executors]]\nname = "{one.name}"\nurl = "{one.server.url}"\n' for one in groups)
    console = Console(place, server.url, extra=tables)
    try:
        with visit(browser, console) as anybody:
            page = anybody.go("/executors")
            for name in ("red", "blue"):
                row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))
                expect(row).to_contain_text("active")
            page.get_by_role("link", name="blue").click()
            anybody.heading("Executor blue")
            expect(page.get_by_role("rowheader", name="node-blue", exact=True)).to_be_visible()
            expect(page.get_by_role("rowheader", name="node-red", exact=True)).to_have_count(0)
            page.get_by_role("link", name="red", exact=True).click()
            anybody.heading("Executor red")
            page = anybody.go("/plans")
            for name in ("red", "blue"):
                row = page.get_by_role("row").filter(has=page.get_by_role("link", name=f"a plan of {name}"))
                expect(row).to_contain_text(f"in {name}")
            page.get_by_role("link", name="a plan of blue").click()
            expect(page.locator("#live_facts")).to_contain_text("blue")
    finally:
        console.stop()
