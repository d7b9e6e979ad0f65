"""Every page for everybody: by axe-core's rules, in light and dark, in a narrow window, with what is large."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from support.browser import Console, chromium, visit
from support.plans import submit, view_of
from support.programs import Program, until, write_config, written
from support.server import Server

_WRONG = {"serious", "critical"}


class House(NamedTuple):
    console: Console
    pages: dict[str, str]  # name -> path


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """An executor that has seen something of everything."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-")))
        server = Server(place / "redis")
        stack.callback(server.stop)
        config = write_config(place, server.url, node="node-a")
        for kind in ("orchestrator", "worker"):
            program = Program(place, config, kind)
            stack.callback(program.stop)
            program.ready()
        stack.callback((place / "gate").touch)
        console = Console(place, server.url)
        stack.callback(console.stop)
        settings = load(config).settings
        client = stack.enter_context(Client(settings, load_actions(settings).actions))
        yield House(console, _pages(client, place))


def _pages(client: Client, place: Path) -> dict[str, str]:
    plan = client.plan("mixed", labels=["site=berlin"])
    with plan.sequence():
        plan.add("echo", value={"a": [1, 2, 3]})
        with plan.concurrence():
            plan.add("third_time", path=str(place / "third"))
        plan.add("fails_until", path=str(place / "never"))
        plan.add("nothing")
    mixed = client.submit(plan)
    big = client.plan("big")
    with big.sequence():
        big.add("nothing")
        with big.concurrence():
            for number in range(300):
                big.add("echo", value=number)
        big.add("held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    large = client.submit(big)
    waiting = submit(client, "waits", path=str(place / "waits"))
    nobody = submit(client, "through_the_narrow", path=str(place / "narrow"), text="x")
    bulk = submit(client, "bulk", path=str(place / "bulk"), count=3)
    once = client.plan("nothing")
    once.add("nothing")
    client.set_recurring("nightly", once, cron="0 3 * * *", zone="Europe/Berlin")
    assert client.wait(mixed, 60) is PlanState.PAUSED
    assert client.wait(bulk, 60) is PlanState.SUCCEEDED
    until("it is held", lambda: written(place / "lines"), 60)
    until("it waits", lambda: view_of(client, waiting).counts == {"suspended": 1}, 60)
    return {
        "overview": "/",
        "plans": "/plans",
        "no plans": "/plans?state=halted",
        "a bad filter": "/plans?since=yesterday",
        "paused": f"/plans/{mixed}",
        "large": f"/plans/{large}",
        "suspended": f"/plans/{waiting}",
        "no worker": f"/plans/{nobody}",
        "a failed step": f"/plans/{mixed}/steps/2",
        "a suspended step": f"/plans/{waiting}/steps/0",
        "sub-plans": f"/plans/{bulk}/steps/0",
        "recurring": "/recurring",
        "failures": "/failures",
        "queues": "/queues",
        "a queue": "/queues/narrow",
        "executors": "/executors",
        "doctor": "/doctor",
        "submitting": "/submit?action=echo",
        "login": "/login",
        "not there": "/plans/nope",
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(house: House, browser: Browser, tmp_path: Path, dark: bool) -> None:
    """Pictures of what was looked at stay in the test's folder, for a person."""
    axe = Axe()
    with visit(browser, house.console, "ada", dark=dark) as ada:
        for name, path in house.pages.items():
            page = ada.go(path)
            page.screenshot(path=tmp_path / f"{name}.png")
            for details in page.locator("details").all():
                details.evaluate("one => { one.open = true; }")
            found = axe.run(page).response["violations"]
            wrong = [one for one in found if one["impact"] in _WRONG]
            told = [(one["id"], one["help"], [node["html"][:200] for node in one["nodes"]]) for one in wrong]
            assert not wrong, f"{name}: {json.dumps(told, indent=1)}"


def test_no_address_is_too_odd(house: House) -> None:
    """Whatever stands in it: a page, or one that says what is wrong with it."""
    odd = ["", "x", "999999999999999d", "0001-01-01", "9999-12-31", "-5", "\0", "<b>", "%", "0", "٣", "a" * 3000]
    keys = ["q", "state", "action", "label", "by", "longer", "since", "until", "page", "show", "executor", "done"]
    more = ["/plans/%ff", "/plans/nope/steps/x", "/queues/%00", "/live/nope", "/live/plan", "/live/step?plan=x&step=y"]
    with httpx.Client(base_url=house.console.url, timeout=60) as browser:
        for path in [*house.pages.values(), *more]:
            assert browser.get(path).status_code < 500, path
        for page in ("/", "/plans", house.pages["paused"], house.pages["sub-plans"], "/failures", "/queues/default"):
            for number, key in enumerate(keys):
                for value in odd[number % 3 :: 3]:
                    assert browser.get(page, params={key: value}).status_code < 500, (page, key, value)


@pytest.mark.parametrize("width", [375, 1280])
def test_no_page_is_wider_than_its_window(house: House, browser: Browser, width: int) -> None:
    with visit(browser, house.console, "ada", width=width) as ada:
        for name, path in house.pages.items():
            page = ada.go(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_the_keyboard_reaches_what_there_is_to_do(house: House, browser: Browser) -> None:
    with visit(browser, house.console, "ada") as ada:
        page = ada.go(house.pages["paused"])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached = ""
        for _ in range(30):
            page.keyboard.press("Tab")
            reached = page.evaluate("document.activeElement.textContent")
            if reached == "Resume":
                break
        assert reached == "Resume"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made
