"""Actions that the tests run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from chargehand import Plan, Retry, action, current_step


@action
def nothing() -> None:
    return None


@action
def echo(value: Any) -> Any:
    return value


@action
def add(numbers: list[int]) -> int:
    return sum(numbers)


@action
def note(path: str, text: str, seconds: float = 0.0) -> str:
    """Append a line to a file when it starts: what has really run, and how often."""
    with Path(path).open("a") as file:
        file.write(text + "\n")
    if seconds:
        time.sleep(seconds)
    return text


@action
def held(path: str, text: str, gate: str) -> str:
    """As `note`; then it runs until the test makes the file `gate`."""
    note(path, text)
    while not Path(gate).exists():
        time.sleep(0.01)
    return text


@action
async def held_async(path: str, text: str, gate: str) -> str:
    note(path, text)
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240, PTH110 - another process makes it
        await asyncio.sleep(0.01)
    return text


@action(queue="urgent")
def urgent(path: str, text: str, seconds: float = 0.0) -> str:
    return note(path, text, seconds)


@action
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@action(on_lost="pause")
def once(path: str, seconds: float) -> None:
    note(path, "once", seconds)


@action(timeout="500ms")
def too_long() -> None:
    while True:
        time.sleep(0.01)


@action(timeout="500ms")
async def too_long_async() -> None:
    await asyncio.sleep(60)


@action(timeout="4s")
def held_too_long(path: str) -> None:
    note(path, "thread")
    too_long()


@action(timeout="4s")
async def held_too_long_async(path: str) -> None:
    note(path, "async")
    await asyncio.sleep(60)


@action
async def soon(value: int) -> int:
    await asyncio.sleep(0.01)
    return value + current_step().step


@action(retry=Retry(attempts=3, backoff="50ms"))
def third_time(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("tried\n")
    tries = len(Path(path).read_text().splitlines())
    if tries < 3:
        raise RuntimeError(f"try {tries}")
    return tries


@action(retry=Retry(attempts=3, backoff="1500ms", max_backoff="1500ms"))
def third_time_slowly(path: str) -> int:
    return third_time(path)


@action(retry=Retry(attempts=3, backoff="1h", max_backoff="1h"))
def third_time_in_hours(path: str) -> int:
    return third_time(path)


@action(rescue="skip")
def skippable(path: str) -> str:
    return Path(path).read_text()


@action(rescue="fail")
def fatal(path: str) -> str:
    return Path(path).read_text()


@action
def fails_until(path: str) -> str:
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is not there yet")
    return "there"


@action
def kills_its_worker(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("killed\n")
    os.kill(os.getpid(), signal.SIGKILL)


@action
def patch(host: str) -> str:
    """What docs/executors.md submits."""
    return f"patched {host}"


@action
def where() -> str:
    return current_step().node


@action
def fan_out(plan: Plan, width: int) -> None:
    numbers = [plan.add(echo, value=n) for n in range(width)]
    plan.add(add, numbers=numbers)


@action
def chain(plan: Plan, length: int) -> None:
    with plan.sequence():
        for _ in range(length):
            plan.add(nothing)


@action
def huge() -> str:
    return "x" * (1024 * 1024 + 1)


@action
def not_json() -> object:
    return object()


@action
def exits() -> None:
    raise SystemExit(3)


@action
def in_order(plan: Plan, path: str) -> None:
    """a, then b and c at once, then d."""
    with plan.sequence():
        plan.add(note, path=path, text="a")
        with plan.concurrence():
            plan.add(note, path=path, text="b")
            plan.add(note, path=path, text="c")
        plan.add(note, path=path, text="d")


@action
def stamp() -> float:
    return time.time()


@action(exclusive=True)
def never_twice(path: str) -> None:
    """Runs until it is ended."""
    note(path, "started")
    try:
        while True:
            time.sleep(0.01)
    finally:
        note(path, "ended")
