"""Which plans come into which state, of all plans: by the indexes, so that it costs no more than what has moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chargehand.plan.life import PlanState
from chargehand.store.connection import Command
from chargehand.store.keys import Keys
from chargehand.store.plans import PLAN_WORDS

__all__ = ["Move", "Moves"]

_PAGE = 500  # plans of a state that are told at once


class Move(NamedTuple):
    plan: str
    state: str  # a word of PLAN_WORDS
    ms: int  # Redis' TIME


class Moves:
    """Where a reader stands who follows all plans. What lasts shorter than the time between two looks is missed."""

    def __init__(self, since_ms: int) -> None:
        """`since_ms`: of Redis' TIME; what came before is not told."""
        #: Of each state: the time of the latest that was told, and those of that time.
        self._told: dict[PlanState, tuple[int, frozenset[bytes]]] = dict.fromkeys(PlanState, (since_ms, frozenset()))

    def questions(self, keys: Keys) -> list[Command]:
        return [
            ("ZRANGE", keys.index(chr(state)), ms, "+inf", "BYSCORE", "LIMIT", 0, _PAGE + len(seen), "WITHSCORES")
            for state, (ms, seen) in self._told.items()
        ]

    def moves(self, answers: Sequence[Any]) -> list[Move]:
        """What has moved since the last time, in its order."""
        found = []
        for (state, (last, seen)), answer in zip(list(self._told.items()), answers, strict=True):
            moved = [(plan, int(float(score))) for plan, score in zip(answer[::2], answer[1::2], strict=True)]
            fresh = [(plan, ms) for plan, ms in moved if ms > last or plan not in seen]
            if fresh:
                latest = fresh[-1][1]
                same = {plan for plan, ms in fresh if ms == latest}
                self._told[state] = (latest, frozenset(same | seen if latest == last else same))
            found += [Move(plan.decode(), PLAN_WORDS[state], ms) for plan, ms in fresh]
        return sorted(found, key=lambda move: move.ms)
