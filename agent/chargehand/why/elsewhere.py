"""What can be said where there is no plan to look at: Redis is away, or no plan has this id."""

from __future__ import annotations

from collections.abc import Sequence

from chargehand.store.evidence import Nowhere
from chargehand.why.answer import Answer, Cause
from chargehand.why.words import counted, length, moment

__all__ = ["nowhere", "several", "unreachable"]


def unreachable(plan: str, why: str) -> Answer:
    """Redis does not answer. why: as in `Unavailable`."""
    cause = Cause(
        "no-redis",
        f"Redis cannot be reached, so nobody knows where the plan is ({why})",
        evidence=[
            "while Redis is away nothing new starts, no result is recorded and nobody is active",
            "steps that run go on; their results are recorded when it is back, and the plan goes on from there",
        ],
        advice=[
            "chargehand doctor   (what is wrong between here and Redis)",
            "on its server: is the service up, does its port answer, does the firewall let this node through?",
        ],
        stuck=True,
    )
    return Answer(plan, "unknown", cause.text, [cause])


def several(plan: str, found: Sequence[str]) -> Answer:
    """The beginning of more than one plan id: some of those."""
    cause = Cause(
        "several",
        f"there is no plan {plan!r}, and several begin like this",
        evidence=[f"plan {one}" for one in found],
        advice=["write more of the id"],
        stuck=True,
    )
    return Answer(plan, "none", cause.text, [cause])


def nowhere(plan: str, found: Nowhere, executor: str = "") -> Answer:
    """There is no plan of this id. executor: the one that was looked at."""
    cause = _elsewhere(plan, found, executor)
    return Answer(plan, "none", cause.text, [cause])


def _elsewhere(plan: str, found: Nowhere, executor: str) -> Cause:
    if found.moving_to:
        to = found.moving_to
        text = f"it has moved to executor {to!r}" if found.arrived else f"it is on its way to executor {to!r}"
        seen = f"it was withdrawn from executor {executor!r}, which had not accepted it"
        advice = f"chargehand why {plan}   (where [[executors]] names both: whoever asks there brings it over)"
        return Cause("other-executor", text, [seen], [advice], stuck=True)
    if found.recurring is not None:
        return _recurring(plan, found)
    if found.parts:
        return Cause(
            "parts",
            "it has not been submitted whole: parts of it are here, and the submission itself is not",
            evidence=[f"{counted(found.parts, 'part')} came; they go in {length(found.parts_left)}"],
            advice=["wait for the client that sends it, or submit it again (with the same --key it is one plan)"],
            stuck=True,
        )
    return Cause(
        "no-plan",
        f"there is no plan {plan!r}",
        evidence=["it was never submitted here, or it ended so long ago that it was let go ([retention])"],
        advice=["chargehand plan list"],
        stuck=True,
    )


def _recurring(name: str, found: Nowhere) -> Cause:
    repeat = found.recurring
    assert repeat is not None
    advice = [f"chargehand recurring show {name}"]
    if repeat.problem:
        text = f"it is a recurring plan that cannot run: {repeat.problem}"
    elif repeat.paused:
        text = "it is a recurring plan, and is paused"
        advice = [f"chargehand recurring resume {name}"]
    elif repeat.next_ms:
        text = f"it is a recurring plan, and runs next at {moment(repeat.next_ms)}"
    else:
        text = "it is a recurring plan, and has no further run"
    seen = "it has not run yet"
    if repeat.last_plan:
        seen = f"its last run is plan {repeat.last_plan}"
        advice.append(f"chargehand why {repeat.last_plan}")
    return Cause("recurring", text, [seen], advice, stuck=bool(repeat.problem or repeat.paused))
