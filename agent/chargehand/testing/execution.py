"""What has become of a plan in the in-process executor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from chargehand.plan.asking import word
from chargehand.testing.memory import Memory
from chargehand.testing.shop import first_failure
from chargehand.wire import Failure
from chargehand.worker.inputs import output_of

__all__ = ["Attempt", "Execution", "Failed", "StepResult"]


class Failed(AssertionError):
    """A plan was to succeed and did not. The message names the step, its error, and where in its code that was."""


class Attempt(NamedTuple):
    """One call of an action's code."""

    plan: str
    step: int
    action: str  # with its phase: "deploy", "deploy:revert"
    number: int  # 1 is the first attempt of its step
    at: datetime  # by the executor's clock
    event: str | None  # with which it went on
    outcome: str  # "succeeded", "failed", "cancelled" or "suspended"
    error: str = ""


class StepResult(NamedTuple):
    """Of one step, as it stands."""

    step: int
    action: str
    state: str  # "waiting", "queued", "suspended", "succeeded", ...
    output: Any  # None where there is none
    error: str
    node: str | None  # that it is aimed at


@dataclass(frozen=True, eq=False)
class Execution:
    """A plan that was submitted; it shows how things stand whenever it is asked."""

    id: str
    _memory: Memory
    _attempts: list[Attempt]  # of all plans

    def __repr__(self) -> str:
        failure = first_failure(self._memory, self.id) if self.state != "succeeded" else None
        return f"<plan {self.id} ({self._label}): {self.state}{f', {_said(failure)}' if failure is not None else ''}>"

    @property
    def _label(self) -> str:
        return self._memory.definitions[self.id].label

    @property
    def state(self) -> str:
        """ "succeeded", "failed", "paused", "running", "scheduled", "waiting", "cancelled", ..."""
        return word(self._memory.plan_state(self.id))

    @property
    def error(self) -> str:
        """Why it is not well: of the plan, or of its first step that failed. Empty: nothing is wrong."""
        failure = first_failure(self._memory, self.id)
        return _said(failure) if failure is not None else ""

    @property
    def output(self) -> Any:
        """Of its last step; None where there is none."""
        return self.steps[-1].output if self.steps else None

    @property
    def outputs(self) -> list[Any]:
        """Of each step; None where there is none."""
        return [step.output for step in self.steps]

    @property
    def steps(self) -> list[StepResult]:
        definition, memory = self._memory.definitions[self.id], self._memory
        found = []
        for number, step in enumerate(definition.steps):
            failure = memory.failure(self.id, number)
            found.append(
                StepResult(
                    number,
                    definition.policies[step.policy].action,
                    word(memory.step_state(self.id, number)),
                    output_of(memory.fetch(self.id, [number])[0]),
                    _said(failure) if failure is not None else "",
                    step.node,
                )
            )
        return found

    @property
    def attempts(self) -> list[Attempt]:
        """In the order in which they ran."""
        return [one for one in self._attempts if one.plan == self.id]

    @property
    def said(self) -> list[str]:
        """What its steps said with `step.say(...)`, in order."""
        return [text for _, _, text in self._memory.said.get(self.id, [])]

    @property
    def progress(self) -> dict[int, list[tuple[float, str]]]:
        """By step: all that it told of how far it is, in order."""
        return {step: list(told) for step, told in self._memory.progress.get(self.id, {}).items()}

    @property
    def children(self) -> list[Execution]:
        """The sub-plans that its steps started, in order."""
        found = self._memory.definitions.items()
        own = [plan for plan, one in found if one.parent is not None and one.parent[0] == self.id]
        return [Execution(plan, self._memory, self._attempts) for plan in own]

    def result(self) -> Any:
        """Its output. Raises `Failed` when it has not succeeded."""
        if self.state == "succeeded":
            return self.output
        failure = first_failure(self._memory, self.id)
        trace = f"\n{failure.trace}" if failure is not None and failure.trace else ""
        raise Failed(f"{self!r}{trace}")


def _said(failure: Failure) -> str:
    return f"{failure.kind}: {failure.message}"
