"""How many steps a worker takes beyond those that start at once."""

from __future__ import annotations

from chargehand.worker.pace import DEEP, Paces

THREADS = 5


def after(*runs: tuple[str, float]) -> Paces:
    paces = Paces()
    for action, seconds in runs:
        paces.ran(action, seconds, now=10.0)
    return paces


def test_nothing_while_nothing_is_known() -> None:
    paces = Paces()
    assert paces.depth(10.0, THREADS) == 0
    assert not paces.may_wait(["any"], 10.0)


def test_many_while_all_are_short() -> None:
    paces = after(("one", 0.0001), ("another", 0.0005))
    assert paces.depth(10.0, THREADS) == DEEP
    assert paces.may_wait(["one"], 10.0)
    assert paces.may_wait(["another"], 10.0)
    assert paces.may_wait(["one", "another"], 10.0)
    assert not paces.may_wait(["one", "a third"], 10.0)
    assert paces.depth(10.0, THREADS) == DEEP, "one that is not known yet is soon"


def test_as_many_as_need_not_wait_for_long() -> None:
    """Five threads that need 2 ms a step have begun 25 in 10 ms."""
    assert after(("one", 0.0001), ("another", 0.002)).depth(10.0, THREADS) == 25
    assert after(("one", 0.004)).depth(10.0, 1) == 2


def test_a_step_that_was_held_up_makes_no_slow_action() -> None:
    """A thread may wait for 5 ms for no other reason than that another one runs."""
    paces = after(*[("short", 0.0001)] * 50, ("short", 0.020), ("short", 0.0001), ("short", 0.006))
    assert paces.may_wait(["short"], 10.0)
    assert paces.depth(10.0, THREADS) > 10


def test_slow_ones_end_it_and_it_begins_again_a_second_after_the_last() -> None:
    paces = after(*[("short", 0.0001)] * 50, ("slow", 3.0))
    assert paces.may_wait(["short"], 10.0)
    assert not paces.may_wait(["slow"], 10.0)
    assert paces.depth(10.9, THREADS) == 0
    assert not paces.may_wait(["short", "slow"], 10.9), "more of them stand on a queue"
    assert paces.depth(11.8, THREADS) == 0
    assert paces.depth(11.9, THREADS) > 0


def test_an_action_that_has_become_short_is_short_soon() -> None:
    paces = after(("any", 1.0), *[("any", 0.001)] * 60)
    assert paces.may_wait(["any"], 10.0)
    paces = after(*[("any", 0.001)] * 60, ("any", 0.5))
    assert not paces.may_wait(["any"], 10.0)
