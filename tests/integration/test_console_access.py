"""A real console: who is let in, who may act, what is written down, and how it lives without Redis."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from chargehand.client import Client
from support.consoles import Console
from support.plans import is_in, submit
from support.programs import Program, StartProgram, until
from support.server import Server, free_port

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def console(place: Path, start_program: StartProgram) -> Console:
    return Console(place, start_program)


@pytest.fixture
def paused(running: Program, client: Client) -> str:
    plan = submit(client, "fails_until", path="/nowhere")
    client.wait(plan)
    return plan


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found = answer.json()
    assert found["status"] == answer.status_code
    return answer.status_code, found["detail"]


# -- rights ---------------------------------------------------------------------------------------


def test_reading_and_acting_are_separate_rights(console: Console, paused: str, client: Client) -> None:
    act = f"/api/v1/plans/{paused}/cancel"
    with console.http() as local, console.http("reader") as reader, console.http("actor") as actor:
        for one in (local, reader, actor):
            assert one.get(f"/api/v1/plans/{paused}").json()["state"] == "paused"
            assert one.get("/metrics").status_code == 200
        assert problem(local.post(act, json={}))[0] == 401
        status, detail = problem(reader.post(act, json={}))
        assert (status, detail) == (403, f"'reader' may read, and POST {act} acts")
        assert is_in(client, paused, "paused")
        assert actor.post(act, json={}).json() == {"plan": paused, "asked": "cancel"}
    until("it is cancelled", lambda: is_in(client, paused, "cancelled"))


def test_every_act_is_written_down_with_who_asked_from_where_and_what_came_of_it(
    console: Console, paused: str, client: Client
) -> None:
    with console.http("reader") as reader, console.http("actor") as actor, console.http(unix=True) as here:
        reader.post(f"/api/v1/plans/{paused}/halt", json={})
        actor.post(f"/api/v1/plans/{paused}/retry", json={"steps": [7]})
        here.post(f"/api/v1/plans/{paused}/skip", json={"steps": [0]})
    until("it has ended", lambda: is_in(client, paused, "succeeded"))
    lines = [line.partition(": ")[2] for line in console.log.splitlines() if " by '" in line]
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    no_step = f"plan {paused} has no step 7 (chargehand plan show {paused})"
    assert lines == [
        f"POST by 'reader' (token, 127.0.0.1): /api/v1/plans/{paused}/halt: refused: 403",
        f"retry_steps by 'actor' (token, 127.0.0.1): {paused}: refused: {no_step}",
        f"skip_steps by '{user}' (socket, unix:{user}): {paused}: asked",
    ]
    asked = [moment.by for moment in client.history(paused) if moment.what == "asked"]
    assert asked == [f"{user} (console of node-c)"]


def test_what_is_sent_makes_no_line_of_its_own(console: Console) -> None:
    with console.http("reader") as reader:
        assert reader.post("/api/v1/plans/a%0Aforged%0D%1B[2J/cancel", json={}).status_code == 403
    (line,) = [one for one in console.log.splitlines() if "forged" in one]
    assert line.endswith("POST by 'reader' (token, 127.0.0.1): /api/v1/plans/a forged  [2J/cancel: refused: 403")


# -- browsers -------------------------------------------------------------------------------------


def login(one: httpx.Client, token: str, *, then: str = "/plans") -> httpx.Response:
    body = urlencode({"token": token, "next": then})
    return one.post("/login", content=body, headers={"Content-Type": FORM})


def csrf(one: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', one.get("/plans").text)
    assert found is not None
    return found[1]


def test_a_browser_gives_its_token_once(console: Console, paused: str, client: Client) -> None:
    with console.http() as browser:
        answer = login(browser, console.tokens["actor"])
        assert (answer.status_code, answer.headers["location"]) == (303, "/plans")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        value = csrf(browser)
        path = f"/plans/{paused}/cancel"
        for body in ({}, {"csrf": "0" * 64}):
            refused = browser.post(path, content=urlencode(body), headers={"Content-Type": FORM})
            assert refused.status_code == 403
        other = {"Content-Type": FORM, "Sec-Fetch-Site": "cross-site"}
        assert browser.post(path, content=urlencode({"csrf": value}), headers=other).status_code == 403
        assert is_in(client, paused, "paused")
        done = browser.post(path, content=urlencode({"csrf": value}), headers={"Content-Type": FORM})
        assert done.status_code == 303
        until("it is cancelled", lambda: is_in(client, paused, "cancelled"))
        assert browser.post("/logout").status_code == 303
        assert 'name="csrf"' not in browser.get(f"/plans/{paused}").text or not browser.cookies


def test_rest_takes_no_form_of_whom_a_browser_makes_known(console: Console, paused: str, client: Client) -> None:
    with console.http() as browser:
        login(browser, console.tokens["actor"])
        path = f"/api/v1/plans/{paused}/cancel"
        assert problem(browser.post(path, content="a=b", headers={"Content-Type": FORM}))[0] == 415
        assert problem(browser.post(path, json={}, headers={"Origin": "http://evil.example"}))[0] == 403
        assert is_in(client, paused, "paused")
        assert browser.post(path, json={}, headers={"Origin": console.url}).status_code == 202


def test_who_gives_a_wrong_token_is_not_known_and_after_ten_waits(console: Console) -> None:
    with console.http() as browser:
        assert [login(browser, f"wrong {number}").status_code for number in range(11)] == [401] * 10 + [429]
        assert browser.cookies == httpx.Cookies()
        assert browser.get("/api/v1/status", headers={"Authorization": "Bearer wrong"}).status_code == 429
    with console.http("reader") as reader:  # from the same address: who has one is not kept out by others
        assert reader.get("/api/v1/executors").status_code == 200
    assert console.log.count("a login with a token that is none, from 127.0.0.1") == 10


def test_after_a_login_one_stays_within_the_console(console: Console) -> None:
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"):
        with console.http() as browser:
            assert login(browser, console.tokens["reader"], then=target).headers["location"] == "/"


def test_a_name_that_was_made_to_point_here_is_turned_away(console: Console) -> None:
    with console.http() as local:
        for host in ("evil.example", f"evil.example:{console.port}"):
            assert problem(local.get("/api/v1/status", headers={"Host": host}))[0] == 421
        assert local.get("/metrics", headers={"Host": f"localhost:{console.port}"}).status_code == 200


def test_a_host_that_holds_a_path_opens_nothing(console: Console, paused: str, client: Client) -> None:
    """What is asked for is what stands in the request's line, whatever the headers make of it."""
    for host in ("localhost/static/?", "localhost/login?", "localhost/login#"):
        with console.http() as local, console.http("reader") as reader:
            act = f"/api/v1/plans/{paused}/cancel"
            assert local.post(act, json={}, headers={"Host": host}).status_code in {401, 421}
            assert reader.post(act, json={}, headers={"Host": host}).status_code == 403
            assert reader.get("/api/v1/status", headers={"Host": host, "Authorization": "Bearer x"}).status_code == 401
    assert is_in(client, paused, "paused")


def test_every_answer_has_the_headers_that_a_browser_heeds(console: Console) -> None:
    with console.http() as local:
        for path in ("/", "/login", "/static/console.css", "/metrics", "/api/v1/nothing", "/nothing"):
            headers = local.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
            assert ("cache-control" in headers) is not path.startswith("/static/")


def test_a_body_that_is_too_large_is_refused(console: Console) -> None:
    with console.http("actor") as actor:
        answer = actor.post(
            "/api/v1/plans", content=b" " * ((4 << 20) + 1), headers={"Content-Type": "application/json"}
        )
        assert problem(answer)[0] == 413


def test_a_method_that_is_not_there_is_told_with_those_that_are(console: Console) -> None:
    with console.http("actor") as actor:
        answer = actor.put("/api/v1/plans", json={})
        assert problem(answer)[0] == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


# -- tokens ---------------------------------------------------------------------------------------


def token_command(console: Console, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "chargehand", "console", "token", *words, "--file", str(console.tokens_file)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_token_counts_from_when_it_is_made_until_it_is_removed(console: Console) -> None:
    def status(token: str) -> int:
        with console.http() as one:
            return one.post("/api/v1/bulk", json={}, headers={"Authorization": f"Bearer {token}"}).status_code

    first = token_command(console, "ada", "--rights", "act")
    assert (first.returncode, first.stderr) == (0, "")
    assert status(first.stdout.strip()) == 400  # known, may act; the body is empty
    again = token_command(console, "ada")
    assert again.returncode == 1
    assert "use --replace" in again.stderr
    second = token_command(console, "ada", "--replace")
    assert status(first.stdout.strip()) == 401
    assert status(second.stdout.strip()) == 403  # reading is the default
    assert token_command(console, "ada", "--remove").returncode == 0
    assert status(second.stdout.strip()) == 401
    assert token_command(console, "ada", "--remove").returncode == 1
    assert token_command(console, "a/b").returncode == 2
    assert stat.S_IMODE(console.tokens_file.stat().st_mode) == 0o600


def test_a_new_tokens_file_is_for_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    argv = [sys.executable, "-m", "chargehand", "console", "token", "ada", "--file", str(file)]
    made = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert made not in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


# -- its life -------------------------------------------------------------------------------------


def test_it_goes_on_without_redis_and_says_so(console: Console, server: Server) -> None:
    with console.http("actor") as actor:
        assert actor.get("/api/v1/status").status_code == 200
        server.stop()
        status, detail = problem(actor.get("/api/v1/plans"))
        assert status == 503
        assert str(server.port) in detail
        assert actor.get("/api/v1/status").headers["retry-after"] == "5"
        page = actor.get("/plans", headers={"Accept": "text/html"})
        assert (page.status_code, "Redis cannot be reached" in page.text) == (503, True)
        told = actor.get("/metrics")
        assert told.status_code == 200
        assert 'chargehand_up{executor="default"} 0.0' in told.text
        assert "chargehand_lease_held{" not in told.text
        server.start()
        assert actor.get("/api/v1/plans").status_code == 200
        assert 'chargehand_up{executor="default"} 1.0' in actor.get("/metrics").text
    assert console.program.running


def test_a_stream_of_news_ends_with_its_plan(console: Console, running: Program, client: Client, place: Path) -> None:
    plan = submit(client, "held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    changes = []
    with console.http() as local, local.stream("GET", f"/api/v1/plans/{plan}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                changes.append(json.loads(line.removeprefix("data: ")))
                (place / "gate").touch()
    assert changes[0]["kind"] == "plan"
    assert (changes[-1]["kind"], changes[-1]["text"]) == ("plan", "succeeded")
    assert running.running


def test_a_stop_ends_streams_and_leaves_no_socket(console: Console, paused: str, client: Client, place: Path) -> None:
    plan = submit(client, "held", path=str(place / "lines"), text="held", gate=str(place / "gate"))
    with console.http() as local, local.stream("GET", f"/api/v1/plans/{plan}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: change"
        console.program.signal(signal.SIGTERM)
        list(lines)  # to its end
    assert console.program.wait() == 0
    assert not console.socket.exists()
    assert "Traceback" not in console.log
    (place / "gate").touch()
    assert paused


def test_an_address_that_is_taken_is_named(place: Path, start_program: StartProgram, console: Console) -> None:
    extra = f'\n[console]\nlisten = ["127.0.0.1:{console.port}"]\n'
    second = start_program("console", node="node-d", extra=extra)
    assert second.wait() == 1
    expected = f"chargehand: console.listen: 127.0.0.1:{console.port}: Address already in use\n"
    assert second.log.read_text().endswith(expected)
    with console.http() as local:
        assert local.get("/metrics").status_code == 200


def test_a_unix_socket_is_for_its_user_and_group_and_takes_the_place_of_a_dead_ones(
    place: Path, start_program: StartProgram, console: Console
) -> None:
    assert stat.S_IMODE(console.socket.stat().st_mode) == 0o660
    console.program.kill()
    assert console.socket.exists()
    extra = f'\n[console]\nlisten = ["unix:{console.socket}"]\n'
    start_program("console", node="node-d", extra=extra).ready()
    with console.http(unix=True) as here:
        assert here.get("/api/v1/executors").status_code == 200
    third = start_program("console", node="node-e", extra=extra)
    assert third.wait() == 1  # of one that lives it does not
    assert console.socket.name in third.log.read_text()


def test_nothing_but_the_console_imports_what_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import chargehand.supervisor.main, chargehand.orchestrator.main, chargehand.worker.main, chargehand.cli.app\n"
        "print(sorted({'starlette', 'jinja2', 'uvicorn', 'prometheus_client', 'anyio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_where_its_packages_are_missing_it_says_which(place: Path) -> None:
    (place / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')")
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); from chargehand.console.main import main; sys.exit(main([]))"
    )
    config = place / "c.toml"
    config.write_text(f'[redis]\nurl = "redis://127.0.0.1:{free_port()}/0"\n')
    environment = {**os.environ, "CHARGEHAND_CONFIG": str(config)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "chargehand: the console needs packages that are not installed (uvicorn): pip install 'chargehand[console]'; "
        "the RPM has them\n"
    )
