"""The client for programs with an event loop: the same methods, and hundreds that wait without a thread each."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chargehand.aclient import AsyncClient
from chargehand.client import Client, NotPossible, WaitTimeout
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.registry import load_actions
from support.programs import Program, StartProgram, write_config
from support.server import Server

Use = Callable[[Callable[[AsyncClient], Awaitable[Any]]], Any]
T = TypeVar("T")


@pytest.fixture
def use(place: Path, server: Server) -> Use:
    settings = load(write_config(place, server.url, node="client")).settings
    actions = load_actions(settings).actions

    def run(program: Callable[[AsyncClient], Awaitable[T]]) -> T:
        async def main() -> T:
            async with AsyncClient(settings, actions) as client:
                async with asyncio.timeout(60):
                    return await program(client)

        return asyncio.run(main(), debug=True)

    return run


def planned(client: AsyncClient, action: str, **inputs: Any) -> Plan:
    plan = client.plan(action)
    plan.add(action, **inputs)
    return plan


def test_it_has_the_methods_of_the_other_one() -> None:
    """With the same parameters; `look`, `patience`, `news` and what is for those who wait by themselves left out."""
    apart = {"look", "patience", "news", "follower", "definition"}
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if name.startswith("_") or name in apart:
            continue
        other = getattr(AsyncClient, name)
        assert inspect.signature(other).parameters == inspect.signature(method).parameters, name
        asynchronous = inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)
        assert asynchronous is (name != "plan"), name


def test_submit_wait_read(running: Program, use: Use) -> None:
    async def program(client: AsyncClient) -> None:
        name = await client.submit(planned(client, "echo", value=[1, 2]))
        assert await client.wait(name) is PlanState.SUCCEEDED
        assert await client.output(name) == [1, 2]
        view = await client.read(name)
        assert view is not None
        assert view.state == "succeeded"
        assert [one.plan for one in await client.list()] == [name]
        assert [one.plan async for one in client.export([PlanState.SUCCEEDED])] == [name]
        assert [one.what for one in await client.history(name)] == ["submitted", "succeeded", "plan"]
        with pytest.raises(NotPossible, match="succeeded: only a plan that is under way can be cancelled"):
            await client.cancel(name)

    use(program)


def test_a_hundred_wait_and_watch_on_two_threads(
    running: Program, start_program: StartProgram, use: Use, place: Path
) -> None:
    """And all of them are answered, though the active orchestrator dies meanwhile."""

    before = set(threading.enumerate())

    async def watched(client: AsyncClient, name: str) -> list[str]:
        return [change.text async for change in client.watch(name) if change.kind == "plan"]

    async def program(client: AsyncClient) -> None:
        names = await client.submit_all([planned(client, "nap", seconds=1.5) for _ in range(20)])
        names += await client.submit_all([planned(client, "nothing") for _ in range(80)])
        waiting = [asyncio.create_task(client.wait(name)) for name in names]
        watching = [asyncio.create_task(watched(client, name)) for name in names]
        await client.wait(names[-1])
        # A "Dummy" is one that Python has not started: of the test runner.
        new = set(threading.enumerate()) - before
        others = {thread.name for thread in new if not thread.name.startswith("Dummy-")}
        assert {name.rpartition("_")[0] for name in others} == {"chargehand-client"}
        assert len(others) == 1
        running.kill()
        start_program("orchestrator", node="node-b").ready()
        assert set(await asyncio.gather(*waiting)) == {PlanState.SUCCEEDED}
        assert all(states[-1] == "succeeded" for states in await asyncio.gather(*watching))

    use(program)


def test_what_is_said_is_heard(running: Program, use: Use, place: Path) -> None:
    async def program(client: AsyncClient) -> None:
        name = await client.submit(planned(client, "tells", gate=str(place / "gate"), lines=2))
        seen = []
        async for change in client.watch(name):
            seen.append((change.kind, change.text))
            if seen[-1] == ("progress", "half way"):
                (place / "gate").touch()
        assert ("say", "begun") in seen
        assert "line 1" in "\n".join(text for kind, text in seen if kind == "say")
        assert seen[-1] == ("plan", "succeeded")

    use(program)


def test_through_an_outage(running: Program, use: Use, place: Path, server: Server) -> None:
    """Everything that was awaited before the server went away is answered after it is back."""

    async def program(client: AsyncClient) -> None:
        name = await client.submit(planned(client, "held", path=str(place / "l"), text="x", gate=str(place / "gate")))
        waiting = asyncio.create_task(client.wait(name))
        watching = asyncio.create_task(anext(client.watch(name)))
        await watching
        server.kill()
        server.start()
        (place / "gate").touch()
        assert await waiting is PlanState.SUCCEEDED

    use(program)


def test_time_outs(running: Program, use: Use) -> None:
    async def program(client: AsyncClient) -> None:
        plan = client.plan("later", start_at="1h")
        plan.add("nothing")
        name = await client.submit(plan)
        with pytest.raises(WaitTimeout, match="has not ended in the time given"):
            await client.wait(name, 0.3)
        with pytest.raises(WaitTimeout, match="has not ended in the time given"):
            async for _ in client.watch(name, timeout=0.3):
                pass
        with pytest.raises(NotPossible, match="there is no plan 'nope'"):
            async for _ in client.watch("nope"):
                pass
        await client.halt(name)
        assert await client.wait(name) is PlanState.HALTED

    use(program)
