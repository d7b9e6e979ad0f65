"""Actions that note their start and their end in one file, so that a test can count who ran beside whom.

A line is appended whole: `+TEXT SECONDS` when the code starts, `-TEXT SECONDS` before it ends (Unix time). Their order
in the file is the order in which it happened.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from chargehand import Lock, Plan, Retry, StepContext, action, shared


def stay(path: str, text: str, gate: str = "") -> str:
    """Be there until the file `gate` is (at once when there is none)."""
    with Path(path).open("a") as file:
        file.write(f"+{text} {time.time()}\n")
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    with Path(path).open("a") as file:
        file.write(f"-{text} {time.time()}\n")
    return text


@action
def stays(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action
def waits_its_turn(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


# -- one after another ----------------------------------------------------------------------------


@action(singleton=True)
def single(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(singleton="reject")
def single_or_not(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(locks=["disk"])
def writes(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(locks=[shared("disk")])
def reads(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(locks=[Lock("port", 2)])
def one_of_two(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


# -- so many at once, so many in a time -----------------------------------------------------------


@action(limit=3)
def three_at_once(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(queue="narrow")
def through_the_narrow(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(queue="narrow", limit=1)
def one_through_the_narrow(path: str, text: str, gate: str = "") -> str:
    return stay(path, text, gate)


@action(rate="4/s")
def four_a_second(path: str, text: str) -> str:
    return stay(path, text)


@action(queue="slow")
def through_the_slow(path: str, text: str) -> str:
    return stay(path, text)


# -- planning on a worker -------------------------------------------------------------------------


@action
def plans_what_it_finds(plan: Plan, path: str, directory: str, gate: str = "") -> None:
    """A step for each file of a directory."""
    for found in sorted(Path(directory).iterdir()):
        plan.add(stays, path=path, text=found.name, gate=gate)


# -- phases ---------------------------------------------------------------------------------------


@action(retry=Retry(3, backoff="50ms"))
class Builds:
    """A file a name, one after another; published at the end; torn down when it is undone."""

    step: StepContext

    def plan(self, plan: Plan, path: str, names: list[str], gates: str) -> None:
        with plan.sequence():
            for name in names:
                plan.run(path=path, name=name, gates=gates)

    def run(self, path: str, name: str, gates: str) -> dict[str, str]:
        stay(path, f"run:{name}", f"{gates}/run")
        made = Path(f"{path}.{name}")
        made.touch()
        return {"made": str(made)}

    def finalize(self, path: str, name: str, gates: str, output: Any) -> list[str]:
        stay(path, f"finalize:{name}", f"{gates}/finalize")
        return [name, output["made"]]

    def revert(self, path: str, name: str, gates: str, output: Any) -> None:
        if not self.step.tries and name == "slips":
            raise ConnectionError("not at the first try")
        stay(path, f"revert:{name}", f"{gates}/revert")
        Path(output["made"]).unlink()


@action
class Asks:
    """Waits until somebody says how it is to go on."""

    step: StepContext

    def run(self, path: str, name: str) -> Any:
        stay(path, f"asks:{name}")
        return self.step.suspend({"path": path, "name": name})

    def event(self, name: str, data: Any) -> Any:
        return {"answer": data}

    def cancel(self) -> str:
        stay(self.step.saved["path"], f"cancel:{self.step.saved['name']}")
        return "said goodbye"

    def revert(self, path: str, name: str, output: Any) -> None:
        stay(path, f"revert:{name}:{output['answer']}")


@action(locks=[shared("hall")])
class Sticks:
    """It cannot be undone."""

    def run(self) -> str:
        return "done"

    def revert(self) -> None:
        raise PermissionError("glued")


@action(rescue="revert")
def undoes_its_plan(path: str, gate: str) -> None:
    stay(path, "fails", gate)
    raise ValueError("no good")


@action(retry=Retry(2, backoff="1h", max_backoff="1h"))
def tries_in_an_hour(path: str, flag: str) -> None:
    stay(path, "try")
    if not Path(flag).exists():
        raise FileNotFoundError(f"{flag} is not there yet")


# -- hooks ----------------------------------------------------------------------------------------


@action
def called(plan: str, state: str, path: str, gate: str = "") -> str:
    """A hook: which state of which plan it was called for."""
    return stay(path, f"{state}:{plan}", gate)


@action
def noticed(plan: str, state: str) -> list[str]:
    return [plan, state]


@action(hooks={"paused": noticed, "ended": "noticed"})
def hooked(flag: str) -> str:
    if not Path(flag).exists():
        raise FileNotFoundError(f"{flag} is not there yet")
    return flag
