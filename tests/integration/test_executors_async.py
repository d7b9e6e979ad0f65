"""Several executors and a program with an event loop: its tasks wait wherever their plans are, and hold nothing up."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from chargehand import AsyncExecutors, Executors
from chargehand.client import NotPossible, WaitTimeout
from chargehand.config.load import load
from chargehand.config.settings import Settings
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.registry import load_actions
from support.faults import lines_of
from support.groups import StartGroup, knowing
from support.programs import Program, freeze, thaw, write_config, written
from support.server import Server

T = TypeVar("T")


def use(
    settings: Settings,
    program: Callable[[AsyncExecutors], Awaitable[T]],
    tell: Callable[[str], None] = lambda _: None,
) -> T:
    async def main() -> T:
        async with AsyncExecutors(settings, load_actions(settings).actions, tell=tell) as executors:
            async with asyncio.timeout(90):
                return await program(executors)

    return asyncio.run(main(), debug=True)


def planned(executors: AsyncExecutors, action: str, **inputs: Any) -> Plan:
    plan = executors.plan(action)
    plan.add(action, **inputs)
    return plan


def held(executors: AsyncExecutors, place: Path, text: str) -> Plan:
    return planned(executors, "held", path=str(place / "lines"), text=text, gate=str(place / "gate"))


async def until(what: str, condition: Callable[[], object]) -> None:
    """Wait for something that no event tells of, and let others go on."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in 30 s: {what}"
        await asyncio.sleep(0.01)


def listened_to(*servers: Server) -> int:
    """Channels of plans that somebody listens to."""
    found = 0
    for server in servers:
        line = server.line()
        found += len([one for one in line.call("PUBSUB", "CHANNELS") if b"news:" in one])
        line.close()
    return found


def connections(server: Server) -> int:
    """Of this process to a server."""
    found = psutil.Process().net_connections("tcp")
    return len([one for one in found if one.raddr and one.raddr.port == server.port and one.status == "ESTABLISHED"])


def test_it_has_the_methods_of_the_other_one() -> None:
    """With the same parameters; what serves both to wait and to submit in steps is left out."""
    apart = {"prepare", "place", "stand", "settled", "time_left"}
    at_once = {"plan", "client"}
    for name, method in inspect.getmembers(Executors, inspect.isfunction):
        if name.startswith("_") or name in apart:
            continue
        other = getattr(AsyncExecutors, name)
        assert inspect.signature(other).parameters == inspect.signature(method).parameters, name
        asynchronous = inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)
        assert asynchronous is (name not in at_once), name
    assert isinstance(AsyncExecutors.names, property)


def test_submit_wait_read_and_ask(place: Path, start_group: StartGroup) -> None:
    groups = [start_group(name).known() for name in "ab"]

    async def program(executors: AsyncExecutors) -> None:
        names = await executors.submit_all([planned(executors, "echo", value=number) for number in range(30)])
        assert set(await asyncio.gather(*map(executors.wait, names))) == {PlanState.SUCCEEDED}
        assert {await executors.where(name) for name in names} == {"a", "b"}
        assert [await (await executors.at(name)).output(name) for name in names] == list(range(30))
        view = await executors.read(names[0])
        assert view is not None
        assert (view.state, view.executor) == ("succeeded", await executors.where(names[0]))
        assert (await executors.why(names[0])).state == "succeeded"
        assert {one.plan for one in await executors.search(action="echo")} == set(names)
        assert {one.plan async for one in executors.export([PlanState.SUCCEEDED])} == set(names)
        assert [(one.name, one.problem) for one in await executors.views()] == [("a", ""), ("b", "")]

        pinned = await executors.submit(held(executors, place, "pinned"), executor="b")
        assert await executors.where(pinned) == "b"
        waiting = asyncio.create_task(executors.wait(pinned))
        await until("it runs", lambda: written(place / "lines"))
        client = await executors.at(pinned)
        await client.cancel(pinned, grace=0.1)
        assert await client.decided(pinned, 30)
        assert await waiting is PlanState.CANCELLED
        with pytest.raises(NotPossible, match="cancelled: only a plan that is under way can be cancelled"):
            await client.cancel(pinned)

        keyed = [await executors.submit(planned(executors, "echo", value=1), key="once") for _ in range(2)]
        assert keyed[0] == keyed[1]
        with pytest.raises(NotPossible, match="there is no executor 'z' here"):
            await executors.submit(planned(executors, "nothing"), executor="z")
        with pytest.raises(NotPossible, match="plan 'nope' is in no executor"):
            await executors.at("nope")
        assert await executors.read("nope") is None
        later = executors.plan("later", start_at="1h")
        later.add("nothing")
        with pytest.raises(WaitTimeout, match="has not ended in the time given; it goes on"):
            await executors.wait(await executors.submit(later), 0.1)

    use(knowing(place, groups), program)


def test_a_program_without_a_list_of_executors(place: Path, server: Server, running: Program, worker: Program) -> None:
    """There is one, the node's own."""

    async def program(executors: AsyncExecutors) -> None:
        name = await executors.submit(planned(executors, "echo", value=1))
        assert await executors.wait(name) is PlanState.SUCCEEDED
        assert [change.text async for change in executors.watch(name)] == ["succeeded"]
        assert await (await executors.at(name)).output(name) == 1
        assert (await executors.census()).active is not None

    use(load(write_config(place, server.url, node="client")).settings, program)


def test_no_task_waits_for_a_dead_one(place: Path, start_group: StartGroup) -> None:
    """Its orchestrator is killed for good. What it has not accepted goes elsewhere, and those who wait are answered."""
    groups = [start_group(name).known() for name in "ab"]

    async def program(executors: AsyncExecutors) -> None:
        warm = await executors.submit_all([planned(executors, "nothing") for _ in range(10)])
        await asyncio.gather(*map(executors.wait, warm))
        groups[1].orchestrator.kill()
        plans = [planned(executors, "note", path=str(place / "lines"), text=str(number)) for number in range(60)]
        names = await executors.submit_all(plans)
        left_behind = [name for name in names if await executors.where(name) == "b"]
        assert left_behind, "nobody knows yet that it is dead"
        watching = asyncio.create_task(watched(executors, left_behind[0]))
        assert set(await asyncio.gather(*map(executors.wait, names))) == {PlanState.SUCCEEDED}
        assert (await watching)[-1] == "succeeded"
        assert {await executors.where(name) for name in names} == {"a"}
        assert executors.waits == {}

    use(knowing(place, groups), program)
    assert lines_of(place / "lines") == Counter(str(number) for number in range(60))


async def watched(executors: AsyncExecutors, name: str) -> list[str]:
    return [change.text async for change in executors.watch(name) if change.kind == "plan"]


def test_hundreds_wait_at_once(place: Path, start_group: StartGroup, server: Server, second: Server) -> None:
    """On one thread, and with two connections to each Redis."""
    groups = [start_group("a").known(), start_group("b", second).known()]
    before = set(threading.enumerate())

    async def program(executors: AsyncExecutors) -> None:
        for group in groups:
            for number in range(group.threads):
                await executors.submit(held(executors, place, f"{group.name}{number}"), executor=group.name)
        await until("all threads are taken", lambda: len(written(place / "lines")) == 4)
        names = await executors.submit_all([planned(executors, "nothing") for _ in range(400)])
        waiting = [asyncio.create_task(executors.wait(name)) for name in names]
        watching = [asyncio.create_task(watched(executors, name)) for name in names[:100]]
        await until("all are listened to", lambda: listened_to(server, second) == 400)
        new = {thread.name for thread in set(threading.enumerate()) - before}
        assert [name for name in new if not name.startswith("Dummy-")] == ["chargehand-client_0"]
        assert [connections(one) for one in (server, second)] == [2, 2]
        (place / "gate").touch()
        assert set(await asyncio.gather(*waiting)) == {PlanState.SUCCEEDED}
        assert {states[-1] for states in await asyncio.gather(*watching)} == {"succeeded"}
        await until("nothing is listened to", lambda: listened_to(server, second) == 0)

    use(knowing(place, groups), program)


def test_a_frozen_redis_keeps_its_plans_and_holds_up_no_others(
    place: Path, start_group: StartGroup, second: Server
) -> None:
    groups = [start_group("a", second).known(), start_group("b").known()]
    told: list[tuple[str, bool]] = []

    def tell(text: str) -> None:
        told.append((text, threading.current_thread() is threading.main_thread()))

    async def program(executors: AsyncExecutors) -> None:
        kept = await executors.submit(held(executors, place, "kept"), executor="a")
        waiting = asyncio.create_task(executors.wait(kept))
        watching = asyncio.create_task(watched(executors, kept))
        await until("it runs", lambda: written(place / "lines"))
        freeze(second.pid)
        try:
            await until("it says so", lambda: kept in executors.waits)
            assert "executor a: its Redis does not answer" in executors.waits[kept]
            pinned = asyncio.create_task(executors.submit(planned(executors, "nothing"), executor="a"))
            new = await executors.submit_all([planned(executors, "nothing") for _ in range(20)])
            assert {await executors.where(name) for name in new} == {"b"}
            assert set(await asyncio.gather(*map(executors.wait, new))) == {PlanState.SUCCEEDED}
            assert not any(one.done() for one in (waiting, watching, pinned))
        finally:
            thaw(second.pid)
        (place / "gate").touch()
        assert await waiting is PlanState.SUCCEEDED
        assert (await watching)[-1] == "succeeded"
        assert await executors.wait(await pinned) is PlanState.SUCCEEDED
        assert {await executors.where(name) for name in (kept, await pinned)} == {"a"}
        assert executors.waits == {}

    use(knowing(place, groups), program, tell)
    assert told
    assert all(on_the_loop for _, on_the_loop in told)


def test_what_a_redis_has_lost_is_sent_again(place: Path, start_group: StartGroup, second: Server) -> None:
    """To whichever executor takes it, and whoever waits for it hears of that one."""
    groups = [start_group("a", second).known(), start_group("b").known()]

    async def program(executors: AsyncExecutors) -> None:
        names = await executors.submit_all([held(executors, place, str(number)) for number in range(20)])
        waiting = [asyncio.create_task(executors.wait(name)) for name in names]
        await until("all threads are taken", lambda: len(written(place / "lines")) == 4)
        second.kill()
        second.wipe()
        second.start()
        (place / "gate").touch()
        assert set(await asyncio.gather(*waiting)) == {PlanState.SUCCEEDED}
        assert executors.waits == {}

    use(knowing(place, groups), program)


def test_what_is_said_is_heard_and_who_stops_listening_leaves_nothing(
    place: Path, start_group: StartGroup, server: Server
) -> None:
    groups = [start_group(name).known() for name in "ab"]

    async def program(executors: AsyncExecutors) -> None:
        name = await executors.submit(planned(executors, "tells", gate=str(place / "gate"), lines=2))
        waiting = [asyncio.create_task(executors.wait(name)) for _ in range(3)]
        async with aclosing(executors.watch(name)) as changes:
            async for change in changes:
                if change.text == "half way":
                    break
        await until("it is listened to", lambda: listened_to(server) == 1)
        waiting[0].cancel()
        assert isinstance((await asyncio.gather(waiting[0], return_exceptions=True))[0], asyncio.CancelledError)
        assert listened_to(server) == 1, "two wait on"
        for one in waiting[1:]:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until("nothing is listened to", lambda: listened_to(server) == 0)
        (place / "gate").touch()
        assert [change.text async for change in executors.watch(name) if change.kind == "plan"][-1] == "succeeded"
        with pytest.raises(NotPossible, match="plan 'nope' is in no executor"):
            await watched(executors, "nope")
        later = executors.plan("later", start_at="1h")
        later.add("nothing")
        with pytest.raises(WaitTimeout):
            async for _ in executors.watch(await executors.submit(later), timeout=0.3):
                pass
        await until("nothing is listened to", lambda: listened_to(server) == 0)

    use(knowing(place, groups), program)


def test_closing_wakes_those_who_wait_and_leaves_nothing(
    place: Path, start_group: StartGroup, server: Server, second: Server
) -> None:
    groups = [start_group("a").known(), start_group("b", second).known()]

    async def program(executors: AsyncExecutors) -> None:
        names = [await executors.submit(held(executors, place, name), executor=name) for name in "ab"]
        waiting = [asyncio.create_task(executors.wait(name)) for name in names]
        watching = [asyncio.create_task(watched(executors, name)) for name in names]
        await until("all are listened to", lambda: listened_to(server, second) == 2)
        async with await executors.at(names[0]) as one:  # for now only: the others go on
            assert await one.read(names[0]) is not None
        assert await executors.read(names[0]) is not None
        await executors.close()
        for ended in await asyncio.gather(*waiting, *watching, return_exceptions=True):
            assert isinstance(ended, RuntimeError), ended
            assert "this client is closed" in str(ended)
        assert [connections(one) for one in (server, second)] == [0, 0]

    use(knowing(place, groups), program)
    assert not any(thread.name.startswith("chargehand-client") for thread in threading.enumerate())
    (place / "gate").touch()
