"""What `why` names, waited for."""

from __future__ import annotations

from chargehand.client import Client
from chargehand.why import Answer, Cause
from support.programs import until

__all__ = ["cause_of", "kinds_of", "until_why"]


def kinds_of(answer: Answer) -> list[str]:
    return [cause.kind for cause in answer.causes]


def until_why(client: Client, plan: str, *kinds: str, timeout: float = 30.0) -> list[Cause]:
    """The causes of these kinds, once `why` names exactly these, in this order."""
    answers: list[Answer] = []

    def named() -> bool:
        answers.append(client.why(plan))
        return kinds_of(answers[-1]) == list(kinds)

    try:
        until(f"why names {kinds}", named, timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}: {answers[-1]}") from error
    return answers[-1].causes


def cause_of(client: Client, plan: str, kind: str) -> Cause:
    """The one cause, once it is of this kind."""
    (cause,) = until_why(client, plan, kind)
    return cause
