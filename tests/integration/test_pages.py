"""The console's pages in a real browser: finding a stuck plan, reading why, acting, seeing it happen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.browser import Console, chromium, visit
from support.plans import submit, view_of
from support.programs import Program, StartProgram, until, written
from support.server import Server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def console(place: Path, server: Server) -> Iterator[Console]:
    made = Console(place, server.url)
    yield made
    made.stop()


def test_a_stuck_plan_is_found_understood_and_resumed(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    plan = client.plan("patch the hosts", labels=["site=berlin"])
    with plan.sequence():
        plan.add("echo", value="first")
        plan.add("fails_until", path=str(place / "flag"))
        plan.add("held", path=str(place / "lines"), text="last", gate=str(place / "gate"))
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.PAUSED
    with visit(browser, console, "ada") as ada:
        page = ada.page
        page.get_by_role("link", name="Plans", exact=True).click()
        page.get_by_label("State", exact=True).select_option("paused")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="patch the hosts").click()
        why = page.get_by_role("region", name="Why it stands still")
        expect(why).to_contain_text("step 1 (fails_until) failed, and somebody is to decide")
        expect(why).to_contain_text("flag is not there yet")
        expect(page.get_by_role("link", name=re.compile("1 fails_until: failed"))).to_be_visible()
        (place / "flag").touch()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("It is being resumed.")).to_be_visible()
        until("the last step runs", lambda: written(place / "lines"), 60)
        expect(page.locator("#live_graph .busy")).to_have_count(1)  # the page is not loaded again
        (place / "gate").touch()
        expect(page.locator("#live_badge .badge")).to_have_text("succeeded")
        expect(page.locator("#live_line tbody tr")).to_have_count(3)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        expect(page.locator("#live_history")).to_contain_text("resume asked for by ada")


def test_roles_change_when_the_active_orchestrator_is_killed(
    start_program: StartProgram, worker: Program, console: Console, browser: Browser
) -> None:
    first = start_program("orchestrator", node="node-a")
    first.role("active")
    second = start_program("orchestrator", node="node-b")
    second.role("passive")
    with visit(browser, console) as anybody:
        page = anybody.go("/")
        row = page.locator("tr", has=page.get_by_role("rowheader", name="node-b"))
        expect(row).to_contain_text("passive")
        first.kill()
        second.role("active")
        expect(row).to_contain_text("active epoch 2")
        expect(page.locator("#live_state")).to_contain_text("node-b")
        second.kill()
        expect(page.locator("#live_alarms")).to_contain_text("No orchestrator is active")


def test_who_only_reads_has_no_buttons_and_is_refused(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    name = submit(client, "fails_until", path=str(place / "flag"))
    assert client.wait(name, 60) is PlanState.PAUSED
    with visit(browser, console, "rita") as rita:
        page = rita.go(f"/plans/{name}")
        rita.heading("Why it stands still")
        assert page.locator("main button").count() == 0
        answer = page.request.post(f"{console.url}/plans/{name}/resume", form={})
        assert answer.status == 403
        page = rita.go("/plans")
        assert page.get_by_role("checkbox").count() == 0
    assert view_of(client, name).state == "paused"


def test_signing_in_and_out(console: Console, browser: Browser) -> None:
    with visit(browser, console) as ada:
        page = ada.go("/plans")
        expect(page.get_by_role("link", name="Submit one")).to_have_count(0)
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill("none of them")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert").filter(has_text="none of the tokens")).to_be_visible()
        page.get_by_label("Token").fill(console.tokens["ada"])
        page.get_by_role("button", name="Sign in").click()
        ada.heading("Plans")  # where it began
        expect(page.get_by_role("link", name="Submit one")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        ada.heading("Overview")
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_what_actions_and_people_write_stays_text(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    plan = client.plan(evil, labels=[evil])
    with plan.sequence():
        plan.add("echo", value=evil)
        plan.add("fails_until", path=f"/{evil}")
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.PAUSED
    with visit(browser, console, "ada") as ada:
        for path in ("/", "/plans", "/failures", f"/plans/{name}", f"/plans/{name}/steps/0", f"/plans/{name}/steps/1"):
            page = ada.go(path)
            expect(page.locator("#pulse")).to_have_text("live")
            assert page.locator("main script, main img").count() == 0, path
        expect(ada.page.get_by_text(evil).first).to_be_visible()
        page = ada.go(f"/plans?q={evil}&done=%3Cscript%3E")
        expect(page.get_by_role("link", name=evil).first).to_be_visible()


def test_pages_read_and_act_without_scripts(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    name = submit(client, "fails_until", path=str(place / "flag"))
    assert client.wait(name, 60) is PlanState.PAUSED
    with visit(browser, console, "ada", scripts=False) as ada:
        page = ada.go("/")
        expect(page.get_by_role("rowheader", name="node-w", exact=True)).to_be_visible()
        page.get_by_role("searchbox", name="Find a plan").fill(name)
        page.get_by_role("button", name="Find").click()
        ada.heading("fails_until")
        (place / "flag").touch()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("It is being resumed.")).to_be_visible()
        assert client.wait(name, 60) is PlanState.SUCCEEDED
        page = ada.go(f"/plans/{name}")
        expect(page.locator("#live_badge .badge")).to_have_text("succeeded")


def test_a_plan_of_very_many_steps(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    """Its states are counted; what its steps have left is read only of those that are listed."""
    plan = client.plan("patch the hosts")
    plan.add("fails_until", path=str(place / "flag"))
    for number in range(2_500):
        plan.add("echo", value=f"host {number}")
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.PAUSED
    with visit(browser, console) as anybody:
        page = anybody.go(f"/plans/{name}?page=3")
        tabs = page.get_by_role("navigation", name="Steps by state")
        expect(tabs).to_contain_text("failed 1")
        expect(tabs).to_contain_text("succeeded 2,500")
        expect(page.locator("#live_why")).to_contain_text("step 0 (fails_until) failed")
        expect(page.locator("#live_steps tbody tr")).to_have_count(50)
        expect(page.locator("#live_steps tbody tr").first).to_contain_text("node-w")
        expect(page.locator("#live_line tbody tr").first).to_contain_text("0 fails_until")
        expect(page.locator("#live_line")).to_contain_text("Of so large a plan it shows")
        expect(page.locator("#live_graph")).to_contain_text("2,500 x echo")
        page.get_by_role("link", name="149", exact=True).click()
        expect(page.get_by_role("region", name="Output")).to_contain_text("host 148")


def test_what_does_not_fit_is_refused_with_the_reason(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    name = submit(client, "held", path=str(place / "lines"), text="x", gate=str(place / "gate"))
    until("it runs", lambda: written(place / "lines"), 60)
    with visit(browser, console, "ada", scripts=False) as ada:
        page = ada.go(f"/plans/{name}")
        (place / "gate").touch()
        assert client.wait(name, 60) is PlanState.SUCCEEDED
        page.locator("summary", has_text="Cancel").click()
        page.get_by_role("button", name="Cancel").click()
        alert = page.get_by_role("alert").filter(has_text="only a plan that is under way can be cancelled")
        expect(alert).to_be_visible()


def test_several_plans_at_once_by_their_count(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    names = [submit(client, "fails_until", path=str(place / "flag")) for _ in range(3)]
    other = submit(client, "nothing")
    for name in names:
        assert client.wait(name, 60) is PlanState.PAUSED
    client.wait(other, 60)
    with visit(browser, console, "ada") as ada:
        page = ada.go("/plans?action=fails_until")
        page.get_by_role("checkbox", name=names[0]).check()
        page.get_by_role("combobox", name="Act").select_option("cancel")
        page.get_by_role("button", name="those chosen above").click()
        ada.heading("Cancel 1 plan?")
        page.get_by_label("Type 1 to cancel").fill("1")
        page.get_by_role("button", name="Cancel 1 plan").click()
        ada.heading("Cancel: asked of 1 plan")
        assert client.wait(names[0], 60) is PlanState.CANCELLED
        (place / "flag").touch()
        page = ada.go("/plans")
        page.get_by_role("combobox", name="Act").select_option("resume")
        page.get_by_role("button", name="all that the filters find").click()
        ada.heading("Resume 2 plans?")
        expect(page.locator(".lead")).to_contain_text("2 further plans")
        client.resume(names[1])
        assert client.wait(names[1], 60) is PlanState.SUCCEEDED
        another = submit(client, "fails_until", path=str(place / "nowhere"))
        assert client.wait(another, 60) is PlanState.PAUSED
        page.get_by_label("Type 2 to resume").fill("2")
        page.get_by_role("button", name="Resume 2 plans").click()
        alert = page.get_by_role("alert").filter(has_text="As many, but not the same plans any more")
        expect(alert).to_be_visible()
        expect(page.locator(".names-list")).to_contain_text(another)
        page.get_by_label("Type 2 to resume").fill("2")
        page.get_by_role("button", name="Resume 2 plans").click()
        ada.heading("Resume: asked of 2 plans")
    assert client.wait(names[2], 60) is PlanState.SUCCEEDED


def test_a_plan_is_submitted_and_sent_an_event(
    running: Program, client: Client, console: Console, browser: Browser, place: Path
) -> None:
    with visit(browser, console, "ada") as ada:
        page = ada.go("/plans")
        page.get_by_role("link", name="Submit one").click()
        ada.heading("Submit a plan")
        page.get_by_label("Action", exact=True).select_option("waits")
        page.get_by_label("Inputs").fill('{"path": 3}')
        page.get_by_role("button", name="Submit").click()
        expect(page.get_by_role("alert").filter(has_text="parameter 'path'")).to_be_visible()
        page.get_by_label("Inputs").fill(f'{{"path": "{place}/lines"}}')
        page.get_by_label("Labels").fill("by hand, once")
        page.get_by_role("button", name="Submit").click()
        ada.heading("waits")
        expect(page.locator("#live_facts")).to_contain_text("by ada")
        page.locator("summary", has_text="Send event").click()
        page.get_by_label("Event", exact=True).fill("go")
        page.get_by_label("Data").fill('{"speed": 3}')
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#live_badge .badge")).to_have_text("succeeded")
        (found,) = client.search(labels=["by hand"])
        assert client.output(found.plan)["data"] == {"speed": 3}


def test_redis_goes_and_comes_back(running: Program, console: Console, browser: Browser, server: Server) -> None:
    with visit(browser, console) as anybody:
        page = anybody.go("/")
        expect(page.locator("#pulse")).to_have_text("live")
        server.stop()
        expect(page.locator("#lost")).to_contain_text("Redis cannot be reached")
        expect(page.get_by_role("rowheader", name="node-a", exact=True)).to_be_visible()  # what was known last
        answer = page.request.get(f"{console.url}/plans")
        assert answer.status == 503
        assert "Redis cannot be reached" in answer.text()
        server.start()
        expect(page.locator("#pulse")).to_have_text("live")
        expect(page.locator("#lost")).to_be_hidden()


def test_a_recurring_plan_is_paused_and_resumed(
    running: Program, place: Path, server: Server, client: Client, console: Console, browser: Browser
) -> None:
    plan = client.plan("nothing")
    plan.add("nothing")
    client.set_recurring("nightly", plan, cron="0 3 * * *")
    until("it is set", lambda: client.recurring("nightly"), 60)
    with visit(browser, console, "ada") as ada:
        page = ada.go("/recurring")
        row = page.get_by_role("row").filter(has_text="nightly")
        expect(row.locator(".run")).to_have_count(5)
        row.get_by_role("button", name="Pause").click()
        expect(row.locator(".badge")).to_have_text("paused")
        row.get_by_role("button", name="Resume").click()
        expect(row.locator(".badge")).to_have_text("ready")
