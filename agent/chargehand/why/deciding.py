"""Is there an orchestrator that decides, and does it keep up?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chargehand.plan.routing import SATURATED, STALE
from chargehand.store.census import Seen
from chargehand.store.evidence import NAMED, Evidence
from chargehand.why.answer import Cause
from chargehand.why.words import counted, cut, length, moment, orchestrator_line

__all__ = ["inbox_line", "not_accepted", "nothing_decides"]

_IDLE = 3 * STALE  # seconds: an active one says once a second that it works; a slow machine is not a dead one
_LATE = 2.0  # seconds that an event waits before it is worth a word
_HANDOVER = 15.0  # seconds after which a passive one should have taken over, whatever the lease


def nothing_decides(evidence: Evidence) -> Iterator[Cause]:
    """What keeps decisions from being made; nothing when they are."""
    census = evidence.census
    there = [one for one in census.members if one.member.kind == "orchestrator"]
    age = evidence.load_age
    told = [f"an orchestrator last said that it works {length(age)} ago"] if age is not None else []
    who = [orchestrator_line(one, holds=one is census.active) for one in there[:NAMED]]
    seen = [*who, *told, *inbox_line(evidence)] or ["no orchestrator is known here"]
    short = evidence.replicas is not None and evidence.replicas < evidence.min_replicas
    if short:
        have = f"{evidence.replicas} of the {counted(evidence.min_replicas, 'replica')}"
        text = f"Redis has {have} that redis.min_replicas asks for, so nothing is decided"
        advice = ["start the replicas, or set redis.min_replicas to what there is: docs/high-availability.md"]
        yield Cause("replicas", text, seen, advice, stuck=True)
    if evidence.full:
        text = "Redis is full: it takes no new plans, and what is there may stand still"
        advice = ["give it memory (maxmemory), or let ended plans go sooner ([retention])", "chargehand doctor"]
        yield Cause("full", text, seen, advice, stuck=True)
    active = census.active
    if short or (evidence.full and active is not None):
        return
    if active is None or active.silent:
        yield _nobody(evidence, there, active, seen)
    else:
        yield from _slow(evidence, active, seen)


def _nobody(evidence: Evidence, there: Sequence[Seen], active: Seen | None, seen: list[str]) -> Cause:
    census = evidence.census
    if census.lease_token:
        heard = f"silent for {length(active.beat_age)}" if active is not None else "not there any more"
        left = f"for {length(census.lease_left)} yet"
        seen = [f"the lease is held by {census.holder or 'somebody'}, {heard}, {left}", *seen]
    passive = [one for one in there if not one.silent and one.member.role == "passive"]
    if passive and (census.lease_token or (evidence.load_age or 0.0) < _HANDOVER):
        names = ", ".join(one.member.node for one in passive[:NAMED])
        when = "when the lease ends" if census.lease_token else "now"
        return Cause("takeover", f"no orchestrator is active: one of {names} takes over {when}", seen)
    if passive:
        text = "no orchestrator is active: passive ones are there, and do not take the lease"
        advice = [f"on {one.member.node}: chargehand logs {one.member.child}" for one in passive[:NAMED]]
        return Cause("no-active", text, seen, [*advice, "chargehand doctor"], stuck=True)
    nodes = sorted({one.member.node for one in there})
    advice = [f"on {', '.join(nodes[:NAMED])}: systemctl status chargehand"] if nodes else []
    advice.append("on a node with an orchestrator: systemctl start chargehand")
    return Cause("no-active", "no orchestrator is active, so nothing is decided", seen, advice, stuck=True)


def _slow(evidence: Evidence, active: Seen, seen: list[str]) -> Iterator[Cause]:
    age = evidence.load_age
    idle = age is not None and age >= _IDLE
    if not idle and evidence.census.inbox_age < _LATE:
        return
    if idle:
        text = f"the active orchestrator has decided nothing for {length(age or 0.0)}"
    else:
        text = (
            f"the orchestrator is behind: what happened {length(evidence.census.inbox_age)} ago is not decided on yet"
        )
    if active.member.share > SATURATED:
        advice = ["spread the plans over more executors: docs/executors.md", "chargehand status"]
        yield Cause("saturated", f"{text}; it is {active.member.share} % busy", seen, advice)
        return
    node, child = active.member.node, active.member.child
    advice = [f"on {node}: chargehand logs {child}", f"on {node}: chargehand step-down   (another one takes over)"]
    yield Cause("behind", text, seen, advice, stuck=idle)


def not_accepted(evidence: Evidence) -> Cause:
    view = evidence.view
    seen = [
        f"submitted at {moment(view.submitted_ms)}{f' by {cut(view.by)}' if view.by else ''}",
        *inbox_line(evidence),
    ]
    return Cause("inbox", "it is not accepted yet: it waits in the inbox for the orchestrator", seen)


def inbox_line(evidence: Evidence) -> list[str]:
    census = evidence.census
    if not census.inbox:
        return []
    age = f", the oldest {length(census.inbox_age)} old" if census.inbox_age else ""
    return [
        f"the inbox holds {counted(census.inbox, 'event')}{age}; {counted(census.pending, 'plan')} not accepted yet"
    ]
