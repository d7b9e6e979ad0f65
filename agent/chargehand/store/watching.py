"""What happens to one plan, as it happens: its states, its steps' states, what they say, how far they are.

A `Follower` only knows where its reader stands: `questions` are commands, `answers` what Redis said to them. So it
serves a client that blocks, one with an event loop and a page alike, and goes on where it was on any connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from chargehand.decoding import decode
from chargehand.plan.life import DONE, ENDED, PlanState, StepState
from chargehand.store.connection import Command
from chargehand.store.keys import Keys
from chargehand.store.plans import PLAN_WORDS, STEP_WORDS

__all__ = ["LOOK", "SAID", "Change", "Follower"]

LOOK = 1.0  # seconds: how often a follower asks when it hears nothing, for what no message tells of (steps' states)
SAID = b"+"  # on a plan's channel: something was said. Anything else is the plan's new state

_PAGE = 500  # reports read at once


class Change(Struct, omit_defaults=True):
    """Something that has happened to a plan."""

    kind: str  # "plan" and "step": a new state; "out", "err": a command's output; "say"; "progress"
    text: str = ""  # the state's word, lines, a message
    step: int | None = None
    attempt: int = 0  # of what a step said
    ms: int = 0  # of what a step said: the worker's wall clock
    fraction: float | None = None  # of progress: 0 to 1
    done: int | None = None  # of a new state: how many of the plan's steps are done with


class _Said(Struct, array_like=True):
    step: int
    attempt: int
    ms: int
    kind: str
    payload: Raw


class Follower:
    """Where a reader of a plan's news stands.

    past: how much of what was said before to begin with; None: all that is kept.
    """

    def __init__(self, keys: Keys, plan: str, *, past: int | None = None) -> None:
        self.plan = plan
        self.exists = True
        self.state: PlanState | None = None  # None: not accepted yet
        self.behind = True  # more was said than one answer holds: ask again at once
        self._keys = keys
        self._states = b""
        self._position = b"0-0"
        self._past = past

    @property
    def over(self) -> bool:
        """Nothing more happens by itself: the plan has ended or is paused."""
        return self.state in ENDED or self.state is PlanState.PAUSED

    def questions(self) -> list[Command]:
        said = self._keys.said(self.plan)
        news: Command = ("XREAD", "COUNT", _PAGE, "STREAMS", said, self._position)
        if self._past is not None:
            news = ("XREVRANGE", said, "+", "-", "COUNT", max(self._past, 1))
        # The state first: a plan that was seen to have ended says no more.
        return [("EXISTS", self._keys.plan(self.plan)), ("GET", self._keys.states(self.plan)), news]

    def changes(self, answers: Sequence[Any]) -> Iterator[Change]:
        """What has happened since the last time."""
        exists, states, news = answers
        if self._past is not None:
            entries = news[::-1]
            skipped, self._past = (len(entries) if not self._past else 0), None
        else:
            entries, skipped = (news[0][1] if news else []), 0
        if entries:
            self._position = entries[-1][0]
        self.behind = len(entries) == _PAGE
        for _, fields in entries[skipped:]:
            yield from _said(fields)
        if not self.behind:  # in order: what was said before it ended comes before its end
            self.exists = bool(exists)
            yield from self._moved(states or b"")

    def _moved(self, states: bytes) -> Iterator[Change]:
        before, self._states = self._states, states
        if states == before:
            return
        done = sum(states.count(state, 1) for state in DONE)
        if before:  # a reader that comes later does not want to hear of each step that has moved by then
            for step, (old, new) in enumerate(zip(before[1:], states[1:], strict=False)):
                if old != new:
                    yield Change("step", STEP_WORDS[StepState(new)], step, done=done)
        self.state = PlanState(states[0]) if states else None
        if states and states[:1] != before[:1]:
            yield Change("plan", PLAN_WORDS[PlanState(states[0])], done=done)


def _said(fields: Sequence[bytes]) -> Iterator[Change]:
    """What cannot be read was written by a later version: it is passed over."""
    try:
        said = decode(fields[1], _Said)
        if said.kind == "progress":
            fraction, text = decode(said.payload, tuple[float, str])
            yield Change("progress", text, said.step, said.attempt, said.ms, fraction)
        else:
            text = decode(said.payload, str)
            yield Change(said.kind, text, said.step, said.attempt, said.ms)
    except msgspec.MsgspecError:
        return
