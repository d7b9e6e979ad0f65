"""One reign: the time that one epoch is active on one connection, with the director's memory of it.

A turn: gather events (or let time pass), load the plans that they name, decide, commit. The commit and the
next read travel together, so an event costs two round trips from its arrival to the step on its queue.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from chargehand.config.settings import RetentionSettings
from chargehand.orchestrator.health import Hearing
from chargehand.orchestrator.load import Load
from chargehand.orchestrator.publishing import Publisher
from chargehand.orchestrator.tally import Tally
from chargehand.plan.commit import Commit, Corpse
from chargehand.plan.director import Director, named
from chargehand.plan.life import PlanState
from chargehand.plan.limits import Limit
from chargehand.plan.repeat import Repeat
from chargehand.plan.run import Unreadable
from chargehand.plan.timers import check_timer
from chargehand.store.committing import commit_command
from chargehand.store.connection import Full, Line, Unavailable, boottime
from chargehand.store.keys import Keys
from chargehand.store.lease import Held
from chargehand.store.ledger import BATCH, PURGE, Ledger, Owned
from chargehand.store.load import PUBLISH_EVERY
from chargehand.store.membership import BEAT_EVERY, SILENT_MS
from chargehand.store.scripts import RENEW
from chargehand.wire import FORMAT, Died, Event, Finished, Submitted

__all__ = ["Deposed", "Forget", "Newer", "Reign"]

log = logging.getLogger("chargehand.orchestrator")

_PURGE_EVERY = 5.0  # seconds between two looks for plans that are to go
_READ = 1.0  # seconds that a read of the inbox waits for events


class Deposed(Exception):
    """The lease is no longer ours. The message says how we know."""


class Newer(Exception):
    """The data was written by a later version, in a format that this one cannot read. The message says so."""


class Forget(Exception):
    """Memory and Redis may differ: drop the memory, read again. The lease may still be ours.

    `careful`: a plan that should have been new was not; look before accepting the next ones.
    """

    def __init__(self, why: str, *, careful: bool = False) -> None:
        super().__init__(why)
        self.careful = careful


class Reign:
    """Raises `Deposed`, `Forget`, `Newer` (at its opening), and whatever the line raises."""

    def __init__(
        self,
        line: Line,
        ears: Line,
        keys: Keys,
        held: Held,
        *,
        ttl: float,
        renew_every: float,
        retention: RetentionSettings,
        limits: Mapping[str, Limit],
        careful: bool,
        wait: Callable[[float, Line | None], bool],
        tend: Callable[[Line, int | None], None],
    ) -> None:
        self._line = line
        self._ears = ears  # where the inbox is read: a read that waits keeps nothing else from being done
        self._keys = keys
        self._held = held
        self._retention = retention
        self._ages_ms = {
            chr(PlanState.SUCCEEDED): round(retention.succeeded * 1000),
            chr(PlanState.FAILED): round(retention.failed * 1000),
            chr(PlanState.CANCELLED): round(retention.cancelled * 1000),
            chr(PlanState.REVERTED): round(retention.cancelled * 1000),
            chr(PlanState.HALTED): round(retention.cancelled * 1000),
            chr(PlanState.REJECTED): round(retention.rejected * 1000),
        }
        self._purge_at = 0.0
        self._publish_at = 0.0
        self.load = Load(boottime())
        self._tally = Tally(boottime())
        self._publisher = Publisher(line, keys, held.token, self._tally)
        self.behind_ms = 0  # how long the oldest event had waited when it was read, at most since it was told last
        self._ttl = ttl
        self._renew_every = renew_every
        self._careful = careful
        self._wait = wait
        self._tend = tend
        self._ledger = Ledger(line, keys)
        self._limits = limits
        self._director = Director()
        self._looks: list[Owned] = []  # at plans that are being ended; told once all events up to then are handled
        self._hearing = Hearing(boottime(), held.now_ms)
        self._backlog: deque[tuple[str, Event | None]] = deque()
        self._seq = 0
        self._position = "0-0"
        self._next_timer: int | None = 0  # ms of Redis' TIME; 0: look at once
        self._renewed = boottime()
        self.full = False  # Redis takes nothing new
        self.missing = ""  # of the replicas that should have had the last renewal or commit: `0 of 1 replicas`
        self._round_at = 0.0
        self._reading: float | None = None  # a read is under way, and answers by then
        self._caught_up = False  # what was asked before we came is known: only then what is due since begins

    def open(self) -> None:
        """Read where the last commit of anybody left off."""
        self._seq, self._position, written = self._ledger.head()
        if written > FORMAT:
            raise Newer(f"the data is of format {written} and this version reads up to {FORMAT}: update this node")
        self._director = Director(locks=self._ledger.locks(), limits=self._ledger.limits(self._limits))
        self._renew(force=True)

    def turn(self) -> None:
        if not self._backlog:
            self._gather()
        if boottime() >= self._held.deadline:
            raise Deposed(f"not renewed in time{f': {self.missing}' if self.missing else ''}")
        self._tend(self._line, None)
        self._renew()
        self._purge()
        self._publish()
        self.load.turned(boottime())
        events = list(self._backlog)
        due = self._due()
        corpses = self._corpses(events)
        owned, due = self._look(due)
        unreadable, repeats = self._load(events, due, corpses)
        commit, covered = self._director.decide(
            events,
            now_ms=self._hearing.redis_ms(boottime()),
            due=due,
            corpses=corpses,
            unreadable=unreadable,
            owned=owned,
            repeats=repeats,
        )
        for _ in range(covered):
            self._backlog.popleft()
        if not commit.empty:
            self._commit(commit)
            _log([event for _, event in events[:covered]], commit.announced)

    def _purge(self) -> None:
        """Let a few ended plans go that are past their age or count; look again soon only while there are more."""
        now = boottime()
        if now < self._purge_at:
            return
        now_ms = self._hearing.redis_ms(now)
        gone, kept = self._ledger.expired(self._ages_ms, self._retention.most, now_ms)
        self._purge_at = now if len(gone) + len(kept) == PURGE else now + _PURGE_EVERY
        if gone or kept:
            commit = Commit(purged=gone)
            for one in kept:  # as if they had ended now
                commit.move(one.plan, one.state, one.state, now_ms)
            self._commit(commit)
            log.debug("purged %d plans", len(gone))

    def _publish(self) -> None:
        """Tell clients that choose among executors how busy this one is, and everybody what was counted."""
        now = boottime()
        if now < self._publish_at:
            return
        self._publish_at = now + PUBLISH_EVERY
        try:
            self._publisher.publish(now, self._hearing.redis_ms(now), busy=self.load.percent or 0)
        except Full:  # it gets nothing new then, which is right: what is there drains
            full = True
        else:
            full = False
        if full != self.full:
            self.full = full
            self._round_at = 0.0  # it is told with the rest

    # -- gathering --------------------------------------------------------------------------------

    def _gather(self) -> None:
        if self._reading is None:
            self._read()
        assert self._reading is not None
        began = boottime()
        until = min(self._reading, self._busy_at(began)) if self._caught_up else self._reading
        answered = self._wait(until, self._ears)
        self.load.waited(boottime() - began)
        if not answered:
            if boottime() >= self._reading:
                raise Unavailable("no answer in time")
            return  # something else is due; the read goes on
        self._reading = None
        events, strange = self._ledger.events(self._ears.read())
        if strange:
            log.error(
                "%d events of the inbox cannot be read by this version; kept in %s",
                len(strange),
                self._keys.strange,
            )
            self._ledger.put_aside(strange)
        self._backlog.extend(events)
        self._caught_up = self._caught_up or len(events) < BATCH
        if events:
            behind_ms = self._hearing.redis_ms(boottime()) - int(events[0][0].partition("-")[0])
            self.behind_ms = max(self.behind_ms, behind_ms)
            self._tally.waited(behind_ms)

    def _read(self) -> None:
        """Ask for the next events. The answer comes when there are some, or late: nothing waits for that."""
        self._reading = boottime() + _READ + 1.0
        self._ears.send(self._ledger.read_command(self._position, round(_READ * 1000) if self._caught_up else None))

    def _busy_at(self, now: float) -> float:
        """When there is something to do besides events."""
        if self._director.eager:
            return now
        until = min(self._renewed + self._renew_every, self._round_at, self._publish_at, self._purge_at)
        if self._next_timer is not None:
            until = min(until, now + (self._next_timer - self._hearing.redis_ms(now)) / 1000)
        return max(now, until)

    def _due(self) -> list[str]:
        now_ms = self._hearing.redis_ms(boottime())
        if not self._caught_up or self._next_timer is None or self._next_timer > now_ms:
            return []
        due, self._next_timer = self._ledger.due(now_ms)
        return due

    def _corpses(self, events: list[tuple[str, Event | None]]) -> list[Corpse]:
        reported = {event.incarnation for _, event in events if isinstance(event, Died)}
        corpses = self._ledger.dead(reported) if reported else []
        now = boottime()
        if now >= self._round_at:
            self._round_at = now + BEAT_EVERY
            self._tend(self._line, self._ledger.queued())
            if self._hearing.may_bury(now):
                known = {corpse.incarnation for corpse in corpses}
                silent = self._ledger.silent(self._hearing.redis_ms(now) - SILENT_MS)
                corpses += [corpse for corpse in silent if corpse.incarnation not in known]
        for corpse in corpses:
            why = "reported dead" if corpse.beat_ms is None else "silent for too long"
            log.warning("reaping %s: %s, it owned %d steps", corpse.incarnation, why, len(corpse.owned))
        return corpses

    def _look(self, due: list[str]) -> tuple[dict[str, set[int]], list[str]]:
        """What workers own of the plans whose check is due, and the timers that may ring now.

        What was finished before the look must be known before it is told: its events come first.
        """
        plans = {timer[2:] for timer in due if timer == check_timer(timer[2:])}
        looked = {plan for look in self._looks for plan in look.steps}
        if plans - looked:
            self._looks.append(self._ledger.owned(plans - looked))
        ripe = [look for look in self._looks if _order(look.last) <= _order(self._position)]
        self._looks = [look for look in self._looks if look not in ripe]
        owned = {plan: steps for look in ripe for plan, steps in look.steps.items()}
        waiting = {check_timer(plan) for plan in plans if plan not in owned}
        if waiting:
            self._next_timer = 0  # they are due still: the next turn looks again
        return owned, [timer for timer in due if timer not in waiting]

    def _load(
        self, events: list[tuple[str, Event | None]], due: list[str], corpses: list[Corpse]
    ) -> tuple[dict[str, Unreadable], dict[str, Repeat]]:
        found = named((event for _, event in events if event is not None), due, corpses)
        wanted, repeats = found.plans | self._director.wanted(), self._ledger.repeats(found.repeats)
        if self._careful:
            wanted.update(event.plan for _, event in events if isinstance(event, Submitted))
        wanted = {plan for plan in wanted if plan not in self._director.plans}  # not the other way: those are many
        if not wanted:
            return {}, repeats
        loaded = self._ledger.load(sorted(wanted), self._between)
        for run in loaded.runs:
            self._director.adopt(run)
        return loaded.unreadable, repeats

    def _between(self) -> None:
        """While a large plan is loaded, the lease and the watchdog go on."""
        self._tend(self._line, None)
        self._renew()

    # -- writing ----------------------------------------------------------------------------------

    def _renew(self, *, force: bool = False) -> None:
        before = boottime()
        if not force and before - self._renewed < self._renew_every:
            return
        command = RENEW([self._keys.lease, self._keys.head], self._held.token, round(self._ttl * 1000))
        self._line.send(command, *self._line.confirmation)
        answer = self._line.read()
        self._miss(self._line.missing())
        self._hearing.heard(boottime(), answer[1])
        if answer[0] != b"OK":
            raise Deposed("the lease ran out or is another's")
        self._extend(before)
        if answer[2] != self._seq:
            raise Forget(_not_at(answer[2], self._seq))

    def _miss(self, missing: str) -> None:
        if missing != self.missing:
            self.missing = missing
            self._round_at = 0.0  # it is told with the rest

    def _extend(self, before: float) -> None:
        """Redis has it; it is ours for longer if the replicas have it too."""
        if not self.missing:
            self._held.extend(before, self._ttl)
        self._renewed = before

    def _commit(self, commit: Commit) -> None:
        command = commit_command(
            self._keys, commit, token=self._held.token, seq=self._seq, ttl_ms=round(self._ttl * 1000)
        )
        if commit.timers:
            first = min(commit.timers.values())
            self._next_timer = first if self._next_timer is None else min(self._next_timer, first)
        if commit.position is not None:
            self._position = commit.position
        before = boottime()
        self._line.send(command, *self._line.confirmation)
        if not self._backlog and self._reading is None:
            self._read()  # the next batch gathers while this one is written
        try:
            answer = self._line.read()
        except Full as full:
            raise Forget(str(full)) from full
        self._miss(self._line.missing())
        self._judge(answer)
        self._tally.add(commit)
        self._seq += 1
        self._extend(before)
        self._hearing.heard(boottime(), answer[1])

    def _judge(self, answer: list[Any]) -> None:
        """Anything but OK ends this memory. No commit is ever sent twice: who got no answer reads Redis again."""
        word = answer[0].decode()
        if word == "OK":
            return
        detail = answer[1].decode() if len(answer) > 1 else ""
        if word == "FENCED":
            raise Deposed(f"a commit was fenced: the last token is {detail or 'gone'}")
        if word == "LAPSED":
            raise Deposed("the lease ran out before a commit")
        if word == "DIVERGED":
            raise Forget(_not_at(int(detail), self._seq))
        raise Forget(f"{detail} changed while it was decided on", careful=True)


def _not_at(found: int, expected: int) -> str:
    why = "it went back in time" if found < expected else "a client has withdrawn a plan, or it went back in time"
    return f"the data is at commit {found}, not at {expected}: {why}"


def _order(position: str) -> tuple[int, int]:
    """Positions in the inbox in their order."""
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)


def _log(events: list[Event | None], announced: dict[str, str]) -> None:
    """What a commit made true: a line a plan and a failed step, in one write."""
    lines = [f"plan_{PlanState(ord(letter)).name.lower()} plan={plan}" for plan, letter in announced.items()]
    for event in events:
        if isinstance(event, Finished) and event.failure is not None:
            why = event.failure
            error = f"{why.kind}: {why.message}".partition("\n")[0][:300]
            lines.append(
                f"step_failed plan={event.plan} step={event.step} attempt={event.attempt} node={why.node} error={error}"
            )
    if lines:
        log.info("\n".join(lines))
    if log.isEnabledFor(logging.DEBUG):
        for event in events:
            if isinstance(event, Finished) and event.failure is None:
                log.debug("step_succeeded plan=%s step=%d attempt=%d", event.plan, event.step, event.attempt)
