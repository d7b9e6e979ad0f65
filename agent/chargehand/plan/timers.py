"""Timers: what one is called says what it is for. `due` in Redis is ms of its TIME."""

from __future__ import annotations

from chargehand.wire import step_key

__all__ = ["check_timer", "late_timer", "limit_timer", "more_timer", "repeat_timer", "retry_timer", "wake_timer"]


def retry_timer(plan: str, step: int, attempt: int) -> str:
    """The timer of a step's next attempt: `r PLAN/STEP/ATTEMPT`, the attempt that failed."""
    return f"r {step_key(plan, step, attempt)}"


def wake_timer(plan: str, step: int, attempt: int) -> str:
    """A suspended step goes on by itself: `s PLAN/STEP/ATTEMPT`, the attempt that was suspended."""
    return f"s {step_key(plan, step, attempt)}"


def more_timer(plan: str) -> str:
    """`m PLAN`: there is something to do about the plan (steps are ready, its time has come, it got its locks)."""
    return f"m {plan}"


def late_timer(plan: str) -> str:
    """`b PLAN`: it should have started before."""
    return f"b {plan}"


def check_timer(plan: str) -> str:
    """`x PLAN`: it is being ended; which of its steps does no worker own any more?"""
    return f"x {plan}"


def limit_timer(limit: str) -> str:
    """`g LIMIT`: its rate lets the next step begin."""
    return f"g {limit}"


def repeat_timer(name: str) -> str:
    """`c NAME`: a recurring plan is due."""
    return f"c {name}"
