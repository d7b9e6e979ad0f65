"""REST: submit, read, act, events; described by an OpenAPI document (`openapi`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from chargehand.actions import ActionError
from chargehand.client import Client
from chargehand.console.desk import Desk
from chargehand.console.endpoints import Call, Endpoint, Gone, Nothing, Unfit, routes
from chargehand.console.errors import problem
from chargehand.console.openapi import document
from chargehand.console.submitting import Holding, Submission, Text, add, plan_of, submit
from chargehand.doctor import Finding
from chargehand.executors import Executors
from chargehand.requests import NotPossible, no_plan
from chargehand.store.census import Census
from chargehand.store.connection import Unavailable
from chargehand.store.history import Moment
from chargehand.store.plans import PlanView
from chargehand.store.queues import QueueView
from chargehand.store.recurring import RecurringView
from chargehand.store.stats import QueueStats, Stats, Trouble
from chargehand.store.subplans import ChildrenView
from chargehand.store.watching import LOOK, Change, Follower
from chargehand.why import Answer

__all__ = ["ENDPOINTS", "ROUTES"]

_HEAR = 0.3  # seconds between two questions for a plan's news; every LOOK in any case
_ALIVE = 15.0  # seconds: something is sent so often, so that a stream nobody reads is noticed
_STEPS = 1 << 31

Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=1, le=1000)]
Number = Annotated[int, Meta(ge=0, lt=_STEPS)]
#: Of a plan, as in a view.
StateWord = Literal[
    "submitted", "scheduled", "waiting", "running", "paused", "failing", "cancelling", "reverting",
    "succeeded", "failed", "cancelled", "reverted", "halted", "rejected"
]  # fmt: skip


# -- what is sent ---------------------------------------------------------------------------------


class Where(Struct):
    """Of several executors: which one."""

    executor: Text | None = None  # default: the node's own


class Search(Struct):
    """All of it is met. Of an action or a label, the latest submissions come first."""

    state: StateWord | None = None
    action: Annotated[str, Meta(max_length=255)] = ""  # what was asked for
    label: list[Text] = []  # all of them
    since: Time | None = None  # of the submission
    until: Time | None = None
    most: Count = 50
    children: bool = False  # sub-plans too


class Whole(Struct):
    steps: bool = True  # false: the plan without its steps


class Some(Struct):
    """Some of many."""

    state: StateWord | None = None  # of these alone
    first: Number = 0
    most: Count = 100


class Watch(Struct):
    past: Annotated[int, Meta(ge=0, le=10_000)] = 10_000  # how much of what was said before to begin with


class Most(Where):
    most: Annotated[int, Meta(ge=1, le=10_000)] = 200  # of the latest failures


class Grace(Struct, forbid_unknown_fields=True):
    grace_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 10_000  # what runs gets to end by itself


class Steps(Struct, forbid_unknown_fields=True):
    steps: Annotated[list[Number], Meta(min_length=1, max_length=10_000)]


class EventSent(Struct, forbid_unknown_fields=True):
    """An event for a step."""

    step: Number
    name: Text
    data: Any = None  # at most 64 KiB of JSON
    optional: bool = False  # dropped unless the step is suspended when it comes


class Bulk(Struct, forbid_unknown_fields=True):
    """The same for several plans."""

    act: Literal["cancel", "halt", "resume", "revert"]
    plans: Annotated[list[Text], Meta(min_length=1, max_length=1000)]
    grace_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 10_000  # of cancel


class RecurringSet(Holding, kw_only=True, forbid_unknown_fields=True):
    """A plan that runs again and again; it is planned anew for each run, on a worker."""

    cron: Text  # "minute hour day month weekday", or @daily and the like
    zone: Text = "UTC"
    until: Time | None = None  # no runs after that
    most: Annotated[int, Meta(ge=0, le=1 << 31)] = 0  # runs in all; 0: any number
    missed: Literal["skip", "once", "all"] = "once"  # runs that were due while no orchestrator was active
    executor: Text | None = None


# -- what is answered -----------------------------------------------------------------------------


class Submitted(Struct):
    plan: str


class Asked(Struct):
    """The orchestrator decides when it reads it: look at the plan's state for what came of it."""

    plan: str
    asked: str


class BulkAsked(Struct):
    asked: list[str]
    refused: dict[str, str]  # plan -> why


class RecurringAsked(Struct):
    name: str
    asked: str


class Status(Struct):
    """Each executor as Redis has it now."""

    executors: list[Census]
    away: dict[str, str] = {}  # those whose Redis does not answer -> why


class Executor(Struct):
    """An executor as a client sees it that chooses by load."""

    name: str
    age: float | None  # seconds since its orchestrator said how busy it is
    pending: int | None  # plans that it has not accepted; null: its Redis does not answer
    problem: str  # why it gets no plans; empty when it does


# -- plans ----------------------------------------------------------------------------------------


def submit_plan(call: Call) -> Submitted:
    try:
        plan = submit(call.executors, call.body, call.desk.actions.known())
    except (ActionError, ValueError) as error:
        raise Unfit(str(error)) from error
    return Submitted(plan)


def list_plans(call: Call) -> list[PlanView]:
    asked: Search = call.query
    return call.executors.search(
        state=asked.state,
        action=asked.action,
        labels=asked.label,
        since=asked.since,
        until=asked.until,
        most=asked.most,
        children=asked.children,
    )


def read_plan(call: Call) -> PlanView:
    view = call.executors.read(call.path["plan"], steps=call.query.steps)
    if view is None:
        raise Gone(no_plan(call.path["plan"]))
    return view


def plan_history(call: Call) -> list[Moment]:
    return list(_at(call).history(call.path["plan"]))


def plan_why(call: Call) -> Answer:
    answer = call.executors.why(call.path["plan"])
    if answer.state == "none":
        raise Gone(answer.text)
    return answer


def sub_plans(call: Call) -> ChildrenView:
    asked: Some = call.query
    return _at(call).children(call.path["plan"], _step(call), state=asked.state, first=asked.first, most=asked.most)


def step_output(call: Call) -> Raw:
    return _output(call, _step(call))


def plan_output(call: Call) -> Raw:
    return _output(call, -1)


def _output(call: Call, step: int) -> Raw:
    view = call.executors.read(call.path["plan"])
    if view is None:
        raise Gone(no_plan(call.path["plan"]))
    if not -1 <= step < len(view.steps) or not view.steps:
        raise Gone(f"plan {view.plan} has no step {step}: it has {len(view.steps)}")
    result = view.steps[step].result
    if result is None:
        raise Gone(f"step {view.steps[step].index} of plan {view.plan} has no output: it is {view.steps[step].state}")
    return result.output


def _step(call: Call) -> int:
    number: int = call.path["step"]
    if number >= _STEPS:
        raise Gone(f"plan {call.path['plan']} has no step {number}")
    return number


def _at(call: Call) -> Client:
    """The client of the executor that has the plan. Raises `Gone`."""
    return _there(call.executors, call.path["plan"])


def _there(executors: Executors, plan: str) -> Client:
    try:
        client = executors.at(plan)
    except NotPossible as error:
        raise Gone(str(error)) from error
    if client.read(plan, steps=False) is None:
        raise Gone(no_plan(plan))
    return client


# -- acting ---------------------------------------------------------------------------------------


def cancel_plan(call: Call) -> Asked:
    _at(call).cancel(call.path["plan"], grace=call.body.grace_ms / 1000)
    return Asked(call.path["plan"], "cancel")


def halt_plan(call: Call) -> Asked:
    _at(call).halt(call.path["plan"])
    return Asked(call.path["plan"], "halt")


def resume_plan(call: Call) -> Asked:
    _at(call).resume(call.path["plan"])
    return Asked(call.path["plan"], "resume")


def revert_plan(call: Call) -> Asked:
    _at(call).revert(call.path["plan"])
    return Asked(call.path["plan"], "revert")


def retry_steps(call: Call) -> Asked:
    _at(call).retry(call.path["plan"], call.body.steps)
    return Asked(call.path["plan"], "retry")


def skip_steps(call: Call) -> Asked:
    _at(call).skip(call.path["plan"], call.body.steps)
    return Asked(call.path["plan"], "skip")


def send_event(call: Call) -> Asked:
    asked: EventSent = call.body
    _at(call).send_event(call.path["plan"], asked.step, asked.name, asked.data, optional=asked.optional)
    return Asked(call.path["plan"], "send")


_BULK: dict[str, Callable[[Client, str, Bulk], None]] = {
    "cancel": lambda client, plan, asked: client.cancel(plan, grace=asked.grace_ms / 1000),
    "halt": lambda client, plan, asked: client.halt(plan),  # noqa: ARG005 - one of four
    "resume": lambda client, plan, asked: client.resume(plan),  # noqa: ARG005
    "revert": lambda client, plan, asked: client.revert(plan),  # noqa: ARG005
}


def act_in_bulk(call: Call) -> BulkAsked:
    asked: Bulk = call.body
    done = BulkAsked([], {})
    for plan in dict.fromkeys(asked.plans):
        try:
            _BULK[asked.act](call.executors.at(plan), plan, asked)
        except NotPossible as error:
            done.refused[plan] = str(error)
        else:
            done.asked.append(plan)
    return done


# -- recurring plans ------------------------------------------------------------------------------


def list_recurring(call: Call) -> list[RecurringView]:
    found = [view for name in call.executors.names for view in call.executors.client(name).all_recurring()]
    return sorted(found, key=lambda view: view.name)


def read_recurring(call: Call) -> RecurringView:
    return _recurring(call)[1]


def set_recurring(call: Call) -> RecurringAsked:
    asked: RecurringSet = call.body
    name, registry = call.path["name"], call.desk.actions.known()
    try:
        plan = plan_of(asked, registry)
        add(plan, asked, registry)
        call.executors.recurring_at(name, asked.executor).set_recurring(
            name, plan, cron=asked.cron, zone=asked.zone, until=asked.until, most=asked.most, missed=asked.missed
        )
    except (ActionError, ValueError) as error:
        raise Unfit(str(error)) from error
    return RecurringAsked(name, "set")


def pause_recurring(call: Call) -> RecurringAsked:
    _recurring(call)[0].pause_recurring(call.path["name"])
    return RecurringAsked(call.path["name"], "pause")


def resume_recurring(call: Call) -> RecurringAsked:
    _recurring(call)[0].resume_recurring(call.path["name"])
    return RecurringAsked(call.path["name"], "resume")


def remove_recurring(call: Call) -> RecurringAsked:
    _recurring(call)[0].remove_recurring(call.path["name"])
    return RecurringAsked(call.path["name"], "remove")


def _recurring(call: Call) -> tuple[Client, RecurringView]:
    name = call.path["name"]
    client = call.executors.recurring_at(name)
    view = client.recurring(name)
    if view is None:
        raise Gone(f"there is no recurring plan {name!r} (chargehand recurring list)")
    return client, view


# -- the whole ------------------------------------------------------------------------------------


def status(call: Call) -> Status:
    found, away = [], {}
    for name in [call.query.executor] if call.query.executor else call.executors.names:
        try:
            found.append(_client(call, name).census())
        except Unavailable as error:
            away[name] = str(error)
            if len(call.executors.names) == 1:
                raise
    return Status(found, away)


def queues(call: Call) -> list[QueueStats]:
    return _client(call, call.query.executor).stats().queues


def queue_now(call: Call) -> QueueView:
    found = _client(call, call.query.executor).queues(call.path["queue"], most=20)
    if not found:
        raise Gone(f"there is no queue {call.path['queue']!r}")
    return found[0]


def stats(call: Call) -> Stats:
    return _client(call, call.query.executor).stats()


def troubles(call: Call) -> list[Trouble]:
    return _client(call, call.query.executor).troubles(call.query.most)


def doctor(call: Call) -> list[Finding]:
    from chargehand.doctor.checks import examine  # noqa: PLC0415 - seldom, and it imports much

    return examine(call.desk.settings)


def executors(call: Call) -> list[Executor]:
    return [Executor(one.name, one.age, one.pending, one.problem) for one in call.executors.views()]


def _client(call: Call, name: str | None) -> Client:
    """Of one executor; of none: the node's own."""
    try:
        return call.executors.client(name or _own(call))
    except NotPossible as error:
        raise Gone(str(error)) from error


def _own(call: Call) -> str:
    own = call.desk.settings.executor.name
    return own if own in call.executors.names else call.executors.names[0]


# -- a plan's news --------------------------------------------------------------------------------


async def plan_events(call: Call) -> Response:
    desk: Desk = call.request.app.state.desk
    plan = call.path["plan"]
    try:
        follower, first = await run_in_threadpool(_follow, desk, plan, call.query.past)
    except Gone as error:
        return problem(404, str(error))
    return StreamingResponse(
        _news(call.request, desk, follower, first),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


def _follow(desk: Desk, plan: str, past: int) -> tuple[Follower, list[Change]]:
    with desk.executors() as executors:
        client = _there(executors, plan)
        follower = client.follower(plan, past=past)
        return follower, client.news(follower)


async def _news(request: Request, desk: Desk, follower: Follower, changes: list[Change]) -> AsyncIterator[bytes]:
    """Until the plan has ended or is paused, the console stops, or nobody reads any more."""
    stopping: asyncio.Event = request.app.state.stopping
    loop = asyncio.get_running_loop()
    told = loop.time()
    while True:
        for change in changes:
            yield _event(change)
            told = loop.time()
        if follower.over and not follower.behind:
            return
        if loop.time() - told > _ALIVE:
            yield b": still here\n\n"
            told = loop.time()
        if not follower.behind and await _stopped(stopping, _HEAR):
            return
        try:
            changes = await run_in_threadpool(_asked, desk, follower)
        except Unavailable as error:
            changes = []
            yield _event(Change("away", str(error)))
            if await _stopped(stopping, LOOK):
                return
        except NotPossible:  # its time to be kept is over
            return


def _asked(desk: Desk, follower: Follower) -> list[Change]:
    with desk.executors() as executors:
        return executors.at(follower.plan).news(follower)


async def _stopped(stopping: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _event(change: Change) -> bytes:
    return b"event: change\ndata: %s\n\n" % msgspec.json.encode(change)


# -- the table ------------------------------------------------------------------------------------

_KEPT = "What is asked of a plan is decided by the orchestrator when it reads it: 202 says that it was asked."

ENDPOINTS: list[Endpoint] = [
    Endpoint("GET", "/plans", "Find plans", list_plans, list[PlanView], query=Search),
    Endpoint("POST", "/plans", "Submit a plan", submit_plan, Submitted, body=Submission, status=201),
    Endpoint("POST", "/bulk", "Act on several plans", act_in_bulk, BulkAsked, body=Bulk, status=202, about=_KEPT),
    Endpoint("GET", "/plans/{plan}", "One plan, with its steps", read_plan, PlanView, query=Whole),
    Endpoint("GET", "/plans/{plan}/why", "Why it stands where it stands", plan_why, Answer),
    Endpoint("GET", "/plans/{plan}/history", "What happened to it", plan_history, list[Moment]),
    Endpoint("GET", "/plans/{plan}/output", "The output of its last step", plan_output, Raw),
    Endpoint("GET", "/plans/{plan}/steps/{step:int}/output", "The output of a step", step_output, Raw),
    Endpoint(
        "GET", "/plans/{plan}/steps/{step:int}/children", "The sub-plans of a step", sub_plans, ChildrenView, query=Some
    ),
    Endpoint(
        "GET",
        "/plans/{plan}/events",
        "Its news, as they happen",
        plan_events,
        Change,
        query=Watch,
        streams=True,
        about=(
            "Server-sent events until the plan has ended or is paused, each a `change` with a Change as its data. One "
            "of the kind `away` says why there are no news: Redis does not answer; they go on when it does."
        ),
    ),
    *(
        Endpoint(
            "POST", f"/plans/{{plan}}/{path}", summary, answer, Asked, body=body, status=202, target="plan", about=_KEPT
        )
        for path, summary, answer, body in (
            ("cancel", "Have it end; what runs is told", cancel_plan, Grace),
            ("halt", "End it at once, even while a step hangs", halt_plan, Nothing),
            ("resume", "Run its failed steps again", resume_plan, Nothing),
            ("revert", "Undo it, backwards", revert_plan, Nothing),
            ("retry", "Run some failed steps again", retry_steps, Steps),
            ("skip", "Let it go on without some failed steps", skip_steps, Steps),
            ("send", "Send an event to a step", send_event, EventSent),
        )
    ),
    Endpoint("GET", "/recurring", "Recurring plans", list_recurring, list[RecurringView]),
    Endpoint("GET", "/recurring/{name}", "One recurring plan", read_recurring, RecurringView),
    Endpoint(
        "PUT",
        "/recurring/{name}",
        "Set a recurring plan, in place of the one of this name",
        set_recurring,
        RecurringAsked,
        body=RecurringSet,
        status=202,
        target="name",
    ),
    Endpoint("DELETE", "/recurring/{name}", "Remove it", remove_recurring, RecurringAsked, status=202, target="name"),
    Endpoint(
        "POST", "/recurring/{name}/pause", "No further runs", pause_recurring, RecurringAsked, status=202, target="name"
    ),
    Endpoint("POST", "/recurring/{name}/resume", "Go on", resume_recurring, RecurringAsked, status=202, target="name"),
    Endpoint("GET", "/status", "Members, roles, leases, queues", status, Status, query=Where),
    Endpoint("GET", "/queues", "Queues, with rates", queues, list[QueueStats], query=Where),
    Endpoint("GET", "/queues/{queue}", "What waits on one, and who serves it", queue_now, QueueView, query=Where),
    Endpoint("GET", "/stats", "The last hour, queues and actions", stats, Stats, query=Where),
    Endpoint("GET", "/troubles", "Failures grouped by cause", troubles, list[Trouble], query=Most),
    Endpoint("GET", "/doctor", "What is wrong with this set-up", doctor, list[Finding]),
    Endpoint("GET", "/executors", "Those that plans are spread over", executors, list[Executor]),
]


@cache
def _document() -> bytes:
    return msgspec.json.encode(document(ENDPOINTS))


def _openapi(_: Request) -> Response:
    return Response(_document(), media_type="application/json")


ROUTES: list[BaseRoute] = [*routes(ENDPOINTS), Route("/openapi.json", _openapi)]
