"""REST as programs use it: submit, read, act, follow, against a real executor."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import pytest

from chargehand.client import Client
from chargehand.console.api import ENDPOINTS, StateWord
from chargehand.console.openapi import document
from chargehand.store.plans import PLAN_WORDS
from support.consoles import Console
from support.plans import is_in, submit
from support.programs import Program, StartProgram, until


@pytest.fixture
def api(running: Program, console: Console) -> Any:
    with console.http("actor") as made:
        made.base_url = httpx.URL(f"{console.url}/api/v1/")
        yield made


@pytest.fixture
def console(place: Any, start_program: StartProgram) -> Console:
    return Console(place, start_program)


def ended(api: httpx.Client, plan: str) -> dict[str, Any]:
    """The plan once it has ended or is paused: its news say when."""
    with api.stream("GET", f"plans/{plan}/events") as stream:
        assert stream.status_code == 200
        list(stream.iter_lines())
    found: dict[str, Any] = api.get(f"plans/{plan}").json()
    return found


def test_a_plan_is_submitted_followed_and_read(api: httpx.Client) -> None:
    answer = api.post("plans", json={"action": "add", "inputs": {"numbers": [1, 2]}, "labels": ["nightly"]})
    assert answer.status_code == 201
    plan = answer.json()["plan"]
    view = ended(api, plan)
    assert (view["state"], view["label"], view["by"]) == ("succeeded", "add", "actor (console of node-c)")
    assert api.get(f"plans/{plan}/output").json() == 3
    assert api.get(f"plans/{plan}/steps/0/output").json() == 3
    assert api.get(f"plans/{plan}/steps/1/output").status_code == 404
    assert "steps" not in api.get(f"plans/{plan}?steps=false").json()
    assert [one["what"] for one in api.get(f"plans/{plan}/history").json()] == ["submitted", "succeeded", "plan"]
    assert api.get(f"plans/{plan}/why").json()["state"] == "succeeded"


def test_the_same_key_is_the_same_plan(api: httpx.Client) -> None:
    body = {"action": "echo", "inputs": {"value": 1}, "key": "once"}
    first, again = (api.post("plans", json=body).json()["plan"] for _ in range(2))
    assert first == again
    answer = api.post("plans", json=body | {"inputs": {"value": 2}})
    assert (answer.status_code, "exists with other content" in answer.json()["detail"]) == (409, True)


def test_what_cannot_be_is_refused_with_what_could(api: httpx.Client) -> None:
    for body, status, words in (
        ({"action": "nobody"}, 422, "there is no action 'nobody' (known: "),
        ({"action": "add", "inputs": {"number": 1}}, 422, "it takes: numbers"),
        ({"action": "add", "inputs": {"numbers": "1"}}, 422, "numbers"),
        ({"action": "nothing", "executor": "east"}, 409, "there is no executor 'east' here"),
        ({"action": "nothing", "start_at": "tomorrow"}, 400, "$.start_at"),
        ({"action": "nothing", "start_at": "2026-11-24T10:00:00"}, 400, "$.start_at"),
        ({"action": "nothing", "colour": "red"}, 400, "colour"),
        ({"inputs": {}}, 400, "action"),
        ([], 400, "object"),
    ):
        answer = api.post("plans", json=body)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), (body, answer.text)
    assert api.get("plans?children=perhaps").status_code == 400
    assert api.get("plans?most=1&most=2").status_code == 400
    assert api.get("plans?since=1").status_code == 400


def test_a_plan_waits_for_its_time_and_goes_to_its_nodes(api: httpx.Client) -> None:
    plan = api.post("plans", json={"action": "nothing", "start_in_ms": 3_600_000}).json()["plan"]
    until("it is scheduled", lambda: api.get(f"plans/{plan}").json()["state"] == "scheduled")
    aimed = api.post("plans", json={"action": "where", "nodes": ["node-w"]}).json()["plan"]
    assert ended(api, aimed)["steps"][0]["queue"] == "@node-w"
    assert api.get(f"plans/{aimed}/output").json() == "node-w"


def test_lists_meet_every_filter(api: httpx.Client, client: Client) -> None:
    plain = submit(client, "nothing")
    made = [
        api.post("plans", json={"action": "echo", "inputs": {"value": one}, "labels": ["a", one]}).json()["plan"]
        for one in ("b", "c")
    ]
    for plan in (plain, *made):
        ended(api, plan)

    def found(query: str) -> list[str]:
        return [one["plan"] for one in api.get(f"plans?{query}").json()]

    assert found("label=a") == made[::-1]
    assert found("label=a&label=b") == made[:1]
    assert found("action=nothing&state=succeeded") == [plain]
    assert found("state=failed") == []
    assert len(found("most=2")) == 2
    assert found("since=2100-01-01T00:00:00Z") == []


def test_what_fails_is_retried_skipped_and_resumed(api: httpx.Client, place: Any) -> None:
    body = {"action": "fails_until", "inputs": {"path": str(place / "there")}}
    plans = [api.post("plans", json=body).json()["plan"] for _ in range(3)]
    for plan in plans:
        assert ended(api, plan)["state"] == "paused"
    (trouble,) = api.get("troubles").json()
    assert (trouble["action"], trouble["count"]) == ("fails_until", 3)
    early = api.post(f"plans/{plans[0]}/send", json={"step": 0, "name": "go"})
    assert early.status_code in {202, 409}
    (place / "there").touch()
    assert api.post(f"plans/{plans[0]}/retry", json={"steps": [0]}).status_code == 202
    assert api.post(f"plans/{plans[1]}/resume").status_code == 202
    assert api.post(f"plans/{plans[2]}/skip", json={"steps": [0]}).status_code == 202
    until("all succeed", lambda: {api.get(f"plans/{plan}").json()["state"] for plan in plans} == {"succeeded"})
    answer = api.post(f"plans/{plans[0]}/resume")
    assert (answer.status_code, answer.json()["title"]) == (409, "It is not possible now")
    assert api.post("plans/nowhere/resume").status_code == 404


def test_several_are_acted_on_at_once_each_for_itself(api: httpx.Client, client: Client) -> None:
    later = [api.post("plans", json={"action": "nothing", "start_in_ms": 3_600_000}).json()["plan"] for _ in range(2)]
    over = submit(client, "nothing")
    ended(api, over)
    until("they are accepted", lambda: all(is_in(client, plan, "scheduled") for plan in later))
    answer = api.post("bulk", json={"act": "cancel", "plans": [*later, over, "nowhere"]})
    assert answer.status_code == 202
    assert answer.json()["asked"] == later
    assert answer.json()["refused"].keys() == {over, "nowhere"}
    until("they are cancelled", lambda: all(is_in(client, plan, "cancelled") for plan in later))


def test_recurring_plans_are_set_paused_and_removed(api: httpx.Client) -> None:
    def now() -> dict[str, Any]:
        answer = api.get("recurring/nightly")
        return answer.json() if answer.status_code == 200 else {}

    body = {"action": "echo", "inputs": {"value": 1}, "cron": "0 3 * * *", "zone": "Europe/Berlin", "labels": ["night"]}
    assert api.put("recurring/nightly", json=body).status_code == 202
    until("it is set", lambda: now().get("next_ms"))
    assert now()["recurrence"] == {"cron": "0 3 * * *", "zone": "Europe/Berlin"}
    assert [one["name"] for one in api.get("recurring").json()] == ["nightly"]
    assert api.post("recurring/nightly/pause").status_code == 202
    until("it is paused", lambda: now().get("paused"))
    assert api.post("recurring/nightly/resume").status_code == 202
    until("it goes on", lambda: now() and not now().get("paused"))
    assert api.delete("recurring/nightly").status_code == 202
    until("it is gone", lambda: not now())
    assert api.delete("recurring/nightly").status_code == 404
    answer = api.put("recurring/nightly", json=body | {"cron": "whenever"})
    assert (answer.status_code, "nightly" in answer.json()["detail"]) == (409, True)


def test_the_whole_is_read(api: httpx.Client) -> None:
    (executor,) = api.get("status").json()["executors"]
    assert {one["member"]["kind"] for one in executor["members"]} == {"orchestrator", "worker"}
    assert executor["holder"] == "node-a"
    assert {one["name"] for one in api.get("queues").json()} >= {"default", "@node-w"}
    assert len(api.get("stats").json()["minutes"]) == 60
    (one,) = api.get("executors").json()
    assert (one["name"], one["problem"]) == ("default", "")
    assert all(finding["check"] for finding in api.get("doctor").json())
    assert api.get("status?executor=east").status_code == 404


def test_the_document_is_the_one_that_is_made_from_the_code(api: httpx.Client) -> None:
    assert api.get("openapi.json").json() == json.loads(json.dumps(document(ENDPOINTS)))


def test_the_states_that_can_be_asked_for_are_those_that_plans_have() -> None:
    assert set(get_args(StateWord)) == {*PLAN_WORDS.values(), "submitted"}
