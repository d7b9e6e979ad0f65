"""What must hold after every commit, whatever happened: looked at in what Redis would hold, never in the director."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from chargehand.plan.commit import Commit
from chargehand.plan.life import DONE, ENDED, PlanState, StepState
from chargehand.plan.locks import read_member
from chargehand.plan.run import StepRecord
from chargehand.wire import HALTED, Entry, Finished, Policy, read_entry, read_key

if TYPE_CHECKING:
    from support.world import World

__all__ = ["attempt", "check", "check_started", "holders", "rates_kept"]

_STANDS = {StepState.STANDING, StepState.UNDOING}
_HAS_SLOT = {StepState.STANDING, StepState.SUSPENDED}


def check(world: World, commit: Commit) -> None:
    """After this commit. Looks at the plans that it is about, and at what all of them share."""
    plans = {*commit.created, *(write.plan for write in commit.states)}
    for plan in plans:
        assert world.index[plan] == chr(world.states[plan][0]), f"{plan} is not indexed as what it is"
        if len(world.states[plan]) > 1:
            _places(world, plan)
            _slots(world, plan)
    _entries(world)
    _limits(world)
    _locks(world)
    _nothing_is_left(world, plans)


def attempt(world: World, plan: str, step: int) -> int:
    """The attempt of a step that counts."""
    record = world.records.get(plan, {}).get(step)
    return msgspec.json.decode(record, type=StepRecord).attempt if record else 1


def check_started(world: World, entry: Entry) -> None:
    """What a worker takes is what stands; it is done only after all it depends on, and undone before that."""
    plan, step, number = read_key(entry.key)
    steps, states = world.definitions[plan].steps, world.states[plan]
    undoing = entry.action.endswith(":revert")
    assert states[step + 1] == (StepState.UNDOING if undoing else StepState.STANDING), entry.key
    assert number == attempt(world, plan, step), f"{entry.key} is not the attempt that counts"
    if undoing:
        assert states[0] == PlanState.REVERTING
        for user in _users(world, plan, step):
            stays = states[user + 1] == StepState.SUCCEEDED and _policy(world, plan, user).revert
            assert not stays, f"step {step} of {plan} is undone, and step {user} was built upon it"
            assert states[user + 1] not in {StepState.UNDOING, StepState.UNDO_RETRYING, StepState.SPOILED}
        return
    for source in _sources(steps[step].after):
        assert states[source + 1] in DONE, f"step {step} of {plan} starts, and step {source} is not done"


def holders(world: World, name: str) -> list[str]:
    """Who may hold a lock: who came first, as far as the lock allows."""
    asked = sorted((ticket, member) for member, ticket in world.locked.items())
    admitted: dict[str, int] = {}
    for plan, lock in (read_member(member) for _, member in asked):
        if lock.name == name:
            figures = [lock.most, *admitted.values()]
            if len(figures) > 1 and any(figures) and (not all(figures) or len(figures) > min(figures)):
                break
            admitted[plan] = lock.most
    return list(admitted)


def rates_kept(world: World) -> None:
    """In no span of time begins more than the rate gives, and once what it allows after a rest."""
    for name, began in world.begun.items():
        times, per_ms = world.figures[name][1]
        for first, start in enumerate(began if times else []):
            for last, end in enumerate(began[first:], first):
                assert last - first + 1 <= times + (end - start) * times / per_ms + 1e-6, f"{name}: {began}"


# -------------------------------------------------------------------------------------------------


def _sources(after: list[int | tuple[int, int]]) -> set[int]:
    return {source for edge in after for source in ((edge,) if isinstance(edge, int) else range(*edge))}


def _users(world: World, plan: str, step: int) -> set[int]:
    """All that was built upon a step, directly or not."""
    found = {step}
    for index, other in enumerate(world.definitions[plan].steps):
        if found & _sources(other.after):
            found.add(index)
    return found - {step}


def _policy(world: World, plan: str, step: int) -> Policy:
    definition = world.definitions[plan]
    return definition.policies[definition.steps[step].policy]


def _places(world: World, plan: str) -> None:
    """A step that stands is in exactly one place: a queue, an owner, or the unread inbox."""
    places: Counter[str] = Counter()
    for entries in world.queues.values():
        places.update(key for key in (read_entry(raw).key for raw in entries) if read_key(key)[0] == plan)
    for owned in world.owned.values():
        places.update(key for key in owned if read_key(key)[0] == plan)
    finished = {f"{event.plan}/{event.step}/{event.attempt}" for _, event in world.inbox if isinstance(event, Finished)}
    places.update(key for key in finished if read_key(key)[0] == plan)
    for step, state in enumerate(world.states[plan][1:]):
        if state in _STANDS:
            key = f"{plan}/{step}/{attempt(world, plan, step)}"
            dropped = plan in world.dropped and state == StepState.STANDING  # and not yet given up
            assert places[key] == 1 or (dropped and not places[key]), f"{key} is in {places[key]} places"


def _entries(world: World) -> None:
    """What waits on a queue stands, or is dropped when it is taken."""
    for entries in world.queues.values():
        for entry in map(read_entry, entries):
            plan, step, number = read_key(entry.key)
            grace = world.stopped.get(plan)
            if grace is not None and (grace == HALTED or not entry.despite):
                continue
            stands = world.states[plan][step + 1] in _STANDS
            assert stands, f"{entry.key} is queued, and does not stand"
            assert number == attempt(world, plan, step)


def _names(world: World, plan: str, step: int) -> set[str]:
    """The limits that a step is under."""
    policy = _policy(world, plan, step)
    names = {f"action:{policy.action}"} if policy.limit or policy.rate[0] else set()
    if f"queue:{policy.queue}" in world.fixed and world.definitions[plan].steps[step].node is None:
        names.add(f"queue:{policy.queue}")
    return names


def _slots(world: World, plan: str) -> None:
    """Slots are had by the steps that stand or are suspended, and by no others; a plan's own limit holds."""
    has = [step for step, state in enumerate(world.states[plan][1:]) if state in _HAS_SLOT]
    expected = {f"{name} {plan}/{step}" for step in has for name in _names(world, plan, step)}
    assert {slot for slot in world.slots if slot.rpartition(" ")[2].rpartition("/")[0] == plan} == expected
    limit = world.definitions[plan].limit
    assert not limit or len(has) <= limit, f"{len(has)} steps of {plan} stand"


def _limits(world: World) -> None:
    for name, count in Counter(slot.rpartition(" ")[0] for slot in world.slots).items():
        most, _ = world.figures[name]
        assert not most or count <= most, f"{count} stand under {name}"


def _locks(world: World) -> None:
    """A plan that has begun holds all that it asked for, in the order of asking."""
    members = [read_member(member) for member in world.locked]
    held = {name: holders(world, name) for name in {lock.name for _, lock in members}}
    for plan, lock in members:
        begun = world.states[plan][0] not in {PlanState.SCHEDULED, PlanState.WAITING}
        assert not begun or plan in held[lock.name], f"{plan} has begun without {lock}"


def _nothing_is_left(world: World, plans: set[str]) -> None:
    """Of a plan that has ended nothing is held, and it waits for nothing."""
    ended = {plan for plan in plans if world.states[plan][0] in ENDED}
    if ended:
        assert not any(read_member(member)[0] in ended for member in world.locked)
        assert not any(member.rpartition(" ")[2] in ended for member in world.limited)
