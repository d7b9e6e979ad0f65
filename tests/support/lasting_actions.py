"""Actions that the tests run: they wait, start sub-plans, are cancelled, undo what they did, say how far they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chargehand import Cancelled, Plan, Retry, StepContext, action, current_step


def line(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


def until_there(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.01)


# -- trying again ---------------------------------------------------------------------------------


@action(retry=Retry(5, backoff="50ms", on=ConnectionError))
def picky(path: str) -> None:
    """Fails in a way that is worth another attempt, then in one that is not."""
    line(path, "tried")
    if len(Path(path).read_text().splitlines()) < 3:
        raise ConnectionRefusedError("not up yet")
    raise ValueError("wrong for ever")


@action(timeout="300ms", retry=Retry(5, backoff="50ms", unless=TimeoutError))
def too_long_once(path: str) -> None:
    line(path, "tried")
    while True:
        time.sleep(0.01)


# -- waiting --------------------------------------------------------------------------------------


@action
def waits(path: str) -> Any:
    """Until somebody sends an event."""
    step = current_step()
    line(path, f"{step.step} {step.event.name if step.event else 'started'}")
    if step.event is None:
        return step.suspend({"began": step.attempt})
    return {"event": step.event.name, "data": step.event.data, "saved": step.saved, "path": step.inputs["path"]}


@action
async def waits_async() -> Any:
    await asyncio.sleep(0.01)
    step = current_step()
    return step.event.data if step.event else step.suspend()


@action
class Polls:
    """Goes on `times` times by itself."""

    step: StepContext

    def run(self, path: str, times: int, seconds: float = 0.05) -> Any:
        line(path, f"{self.step.plan} {times}")
        return self.step.suspend(times - 1, wake=seconds, event="poll")

    def event(self, name: str, data: Any) -> Any:
        path, left = self.step.inputs["path"], self.step.saved
        line(path, f"{self.step.plan} {left}")
        seconds = self.step.inputs.get("seconds", 0.05)
        return self.step.suspend(left - 1, wake=seconds, event="poll") if left else name

    def cancel(self) -> None:
        line(self.step.inputs["path"], f"cancelled at {self.step.saved}")


@action(retry=Retry(3, backoff="50ms"))
class Slips:
    """Fails the first time that it goes on."""

    step: StepContext

    def run(self) -> Any:
        return self.step.suspend("kept")

    def event(self, name: str, data: Any) -> Any:
        if not self.step.tries:
            raise ConnectionError("not yet")
        return [name, data, self.step.saved]


@action
class Resumes:
    """What it does when it goes on takes until the file `gate` is there."""

    step: StepContext

    def run(self, path: str, gate: str) -> Any:
        return self.step.suspend({"gate": gate, "path": path})

    def event(self, name: str, data: Any) -> Any:
        line(self.step.saved["path"], f"{name} {data}")
        until_there(self.step.saved["gate"])
        return data


@action
def saves_too_much() -> Any:
    return current_step().suspend("x" * (1024 * 1024 + 1))


# -- sub-plans ------------------------------------------------------------------------------------


@action
def child(path: str, text: str, fails_without: str = "", seconds: float = 0.0) -> str:
    line(path, text)
    time.sleep(seconds)
    if fails_without and not Path(fails_without).exists():
        raise FileNotFoundError(f"{fails_without} is not there yet")
    return text


@action
def bulk(path: str, count: int, limit: int | None = None, rate: str | None = None, seconds: float = 0.0) -> Any:
    items = ((child, {"path": path, "text": str(number), "seconds": seconds}) for number in range(count))
    return current_step().spawn(items, limit=limit, rate=rate)


@action
def slow_bulk(path: str, count: int, gate: str) -> Any:
    """Stops half way through its items until the file `gate` is there."""

    def items() -> Iterator[Any]:
        for number in range(count):
            if number == count // 2:
                line(path, "half")
                until_there(gate)
            yield child, {"path": path, "text": str(number)}

    return current_step().spawn(items())


@action(retry=Retry(3, backoff="50ms"))
def some_fail(path: str, count: int, gate: str) -> Any:
    """Every third sub-plan fails until the file `gate` is there; nobody makes it before they have ended."""
    if current_step().tries:
        Path(gate).touch()
    return current_step().spawn(
        (child, {"path": path, "text": str(number), "fails_without": gate if number % 3 == 0 else ""})
        for number in range(count)
    )


@action
def all_fail(path: str) -> Any:
    return current_step().spawn([(child, {"path": path, "text": "a", "fails_without": "/nowhere"})] * 2)


@action
class Gathers:
    """Twice: the second time with what came of the first."""

    step: StepContext

    def run(self, path: str, count: int) -> Any:
        return self.step.spawn(
            [
                (child, {"path": path, "text": f"a{number}", "fails_without": "/nowhere" if number == 1 else ""})
                for number in range(count)
            ]
        )

    def event(self, name: str, data: Any) -> Any:
        found = [[one.number, one.state, one.output, one.error] for one in self.step.results()]
        if self.step.generation == 1:
            path = self.step.inputs["path"]
            return self.step.spawn([(child, {"path": path, "text": f"b{one[1]}"}) for one in found])
        return {"last": found, "failed": len(list(self.step.results(failed=True))), "counts": list(data)}


@action
def never_the_same(path: str, gate: str) -> Any:
    """Its items differ from attempt to attempt."""
    attempt = current_step().attempt

    def items() -> Iterator[Any]:
        for number in range(150):
            if number == 120:
                line(path, "stops")
                until_there(gate)
            yield child, {"path": path, "text": f"{attempt}/{number}"}

    return current_step().spawn(items())


@action
def plans_of_plans(path: str) -> Any:
    plans = []
    for number in range(3):
        plan = Plan("inner")
        with plan.sequence():
            plan.add(child, path=path, text=f"{number} first")
            plan.add(child, path=path, text=f"{number} last")
        plans.append(plan)
    return current_step().spawn(plans)


# -- being cancelled ------------------------------------------------------------------------------


@action
def stops_when_asked(path: str, finishes: bool = False) -> str:
    step = current_step()
    line(path, "started")
    while not step.cancelled:
        time.sleep(0.01)
    line(path, "asked")
    if finishes:
        return "all done"
    raise Cancelled("put away")


@action
def stops_by_force(path: str) -> None:
    line(path, "started")
    try:
        while True:
            time.sleep(0.01)
    finally:
        line(path, "ended")


@action
async def cancelled_async(path: str) -> None:
    line(path, "started")
    try:
        await asyncio.sleep(600)
    finally:
        line(path, "ended")


@action
async def stubborn_async(path: str) -> None:
    """Goes on when it is cancelled, once."""
    line(path, "started")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        line(path, "asked")
    try:
        await asyncio.sleep(600)
    finally:
        line(path, "ended")


# -- undoing --------------------------------------------------------------------------------------


@action
class Makes:
    def run(self, path: str) -> dict[str, str]:
        Path(path).touch()
        return {"made": path}

    def revert(self, path: str, output: Any) -> str:
        Path(output["made"]).unlink()
        line(f"{path}.log", f"removed {path == output['made']}")
        return "removed"


@action
class UndoSuspends:
    step: StepContext

    def run(self) -> None:
        return None

    def revert(self) -> Any:
        return self.step.suspend()


@action(rescue="revert")
def reverts_its_plan() -> None:
    raise ValueError("no good")


# -- telling --------------------------------------------------------------------------------------


@action
def tells(gate: str, lines: int = 1) -> str:
    step = current_step()
    step.say("begun")
    step.progress(0.5, "half way")
    until_there(gate)
    for number in range(lines):
        step.say(f"line {number}")
    step.progress(1.0, "done")
    return "told"


# -- rebooting ------------------------------------------------------------------------------------


@action(reboots=True)
def reboots(path: str, gate: str) -> str:
    line(path, f"attempt {current_step().attempt}")
    until_there(gate)
    return "did not reboot"


# -- not to be ended ------------------------------------------------------------------------------


@action(timeout="300ms")
def deaf(path: str, seconds: float) -> None:
    """Nothing can interrupt it."""
    line(path, "started")
    time.sleep(seconds)
