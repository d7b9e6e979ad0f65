"""Locks: who holds what is who came first, as far as the lock allows."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.locks import Locks, lock_member, read_member
from chargehand.wire import Definition, Lock


def _definition(*locks: Lock, parent: tuple[str, int] | None = None) -> Definition:
    return Definition("x", [], 0, locks=[*locks], parent=parent)


def test_a_member_is_read_as_it_was_written() -> None:
    lock = Lock("data base of site 7", 3)
    assert read_member(lock_member("p", lock)) == ("p", lock)


def test_holders_are_those_who_came_first() -> None:
    locks = Locks()
    for plan in "abc":
        locks.ask(plan, [Lock("x", 2)])
    assert [locks.holds(plan) for plan in "abc"] == [True, True, False]
    assert locks.leave("a") == ([Lock("x", 2)], ["c"])


def test_nobody_passes_one_who_waits() -> None:
    locks = Locks()
    locks.ask("reader", [Lock("x", 0)])
    locks.ask("writer", [Lock("x", 1)])
    locks.ask("late reader", [Lock("x", 0)])
    assert not locks.holds("late reader")
    assert not locks.free([Lock("x", 0)])
    assert locks.leave("reader")[1] == ["writer"]
    assert locks.leave("writer")[1] == ["late reader"]


def test_one_who_gives_up_waiting_lets_the_next_pass() -> None:
    locks = Locks()
    locks.ask("reader", [Lock("x", 0)])
    locks.ask("writer", [Lock("x", 1)])
    locks.ask("other", [Lock("x", 0)])
    assert locks.leave("writer") == ([Lock("x", 1)], ["other"])
    assert "writer" not in locks


def test_the_strictest_figure_counts() -> None:
    locks = Locks()
    locks.ask("a", [Lock("x", 3)])
    locks.ask("b", [Lock("x", 3)])
    locks.ask("c", [Lock("x", 2)])
    assert not locks.holds("c")
    locks.leave("a")
    assert locks.holds("c")
    locks.ask("d", [Lock("x", 3)])
    assert not locks.holds("d")


def test_a_plan_asks_for_each_lock_once_and_for_none_that_it_has_from_above() -> None:
    locks = Locks()
    locks.ask("p", [Lock("x"), Lock("y")])
    found = locks.beyond("p.0.3.1.2", _definition(Lock("x"), Lock("z", 0), Lock("z", 1), parent=("p.0.3", 1)))
    assert found == [Lock("z", 0)]


def test_a_lock_for_which_the_plan_above_waits_is_not_held_yet() -> None:
    locks = Locks()
    locks.ask("other", [Lock("x")])
    locks.ask("p", [Lock("x")])
    assert locks.beyond("p.0.0", _definition(Lock("x"), parent=("p", 0))) == [Lock("x")]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_holders_follow_from_who_asked_when(seed: int) -> None:
    """At any time: read again from what stands in Redis, the same plans hold the same; none who could hold waits."""
    draw = Random(seed)
    locks = Locks()
    members: dict[str, int] = {}
    asked: list[str] = []
    for number in range(60):
        if asked and draw.random() < 0.45:
            plan = asked.pop(draw.randrange(len(asked)))
            held_before = {other for other in asked if locks.holds(other)}
            left, entered = locks.leave(plan)
            for lock in left:
                del members[lock_member(plan, lock)]
            held = {other for other in asked if locks.holds(other)}
            assert held_before <= held
            assert sorted(entered) == sorted(held - held_before)
        else:
            plan = f"p{number}"
            wanted = [Lock(name, draw.randint(0, 3)) for name in "abc" if draw.random() < 0.6]
            at_once = locks.free(wanted)
            ticket = locks.ask(plan, wanted)
            members.update({lock_member(plan, lock): ticket for lock in wanted})
            asked.append(plan)
            assert locks.holds(plan) == at_once
        again = Locks(sorted(members.items(), key=lambda pair: (pair[1], pair[0])))
        assert [locks.holds(plan) for plan in asked] == [again.holds(plan) for plan in asked]
        assert not asked or locks.holds(asked[0]), "who asked first of all waits for nobody"
