"""Following all plans by the indexes of their states: each move is told once, whatever the pages are."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.store.moves import Move, Moves
from chargehand.store.plans import PLAN_WORDS

KEYS = Keys("default")


def answer(index: dict[str, int], command: tuple[Any, ...]) -> list[bytes]:
    """As Redis does: by score, then by name."""
    _, _, low, _, _, _, _, count, _ = command
    found = sorted((ms, plan) for plan, ms in index.items() if ms >= low)[:count]
    return [word for ms, plan in found for word in (plan.encode(), str(ms).encode())]


def look(moves: Moves, indexes: dict[PlanState, dict[str, int]]) -> list[Move]:
    commands = moves.questions(KEYS)
    return moves.moves([answer(indexes[state], one) for state, one in zip(PlanState, commands, strict=True)])


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(PlanState), st.integers(0, 2)), max_size=12),
        max_size=8,
    )
)
@settings(deadline=None)
def test_each_latest_move_is_told_once(turns: list[list[tuple[str, PlanState, int]]]) -> None:
    """Plans move, now and then at the same millisecond; somebody looks after each turn."""
    now = 1_000
    moves = Moves(now)
    indexes: dict[PlanState, dict[str, int]] = {state: {} for state in PlanState}
    told: list[Move] = []
    for turn in turns:
        now += 1
        expected: dict[str, Move] = {}
        for plan, state, later in turn:
            now += later
            for index in indexes.values():
                index.pop(plan, None)
            indexes[state][plan] = now
            expected[plan] = Move(plan, PLAN_WORDS[state], now)
        found = look(moves, indexes)
        assert {move.plan: move for move in found} == expected
        assert [move.ms for move in found] == sorted(move.ms for move in found)
        told += found
    assert len(told) == len(set(told))
    assert look(moves, indexes) == [], "nothing has moved"


def test_what_was_before_is_not_told_and_pages_follow_each_other() -> None:
    moves = Moves(1_000)
    indexes: dict[PlanState, dict[str, int]] = {state: {} for state in PlanState}
    indexes[PlanState.RUNNING] = {"before": 999} | {f"p{number:04}": 2_000 + number // 7 for number in range(1_700)}
    found = [move for _ in range(4) for move in look(moves, indexes)]
    assert [move.plan for move in found] == [f"p{number:04}" for number in range(1_700)]
    assert {move.state for move in found} == {"running"}
