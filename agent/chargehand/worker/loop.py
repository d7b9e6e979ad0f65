"""The worker's main thread: hears the agent, starts commands, watches time-outs, pings."""

from __future__ import annotations

import logging
import math
import os
import select
import time

import chargehand
from chargehand.child import Child, Ending, Request
from chargehand.config.fingerprint import worker_values
from chargehand.linux.boot import boot_id
from chargehand.registry import load_actions
from chargehand.store import lease
from chargehand.store.connection import Dialer, Full, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.membership import Member
from chargehand.store.profile import Profile, Publisher
from chargehand.worker.command import Runner
from chargehand.worker.crew import Crew, Standing
from chargehand.worker.finisher import Finisher
from chargehand.worker.hand import Hand, Held
from chargehand.worker.heart import Heart
from chargehand.worker.portrait import code_of
from chargehand.worker.reporter import Reporter
from chargehand.worker.workshop import Workshop

__all__ = ["Worker"]

log = logging.getLogger("chargehand.worker")

_TELL_EVERY = 1.0  # seconds at least between two reports of the load to the agent
_HOARD = 0.02  # seconds that a taken step may wait for a thread here; then another worker may have it
_TOLD = 50  # running steps that a beat tells of
_OVERDUE = 5.0  # seconds past its time-out after which a step that cannot be interrupted is reported


class Worker:
    def __init__(self, child: Child, dialer: Dialer, group: str) -> None:
        self._child = child
        self._dialer = dialer
        self._keys = Keys(child.settings.executor.name)
        groups = child.settings.worker
        mine = next(one for one in groups if one.name == group)
        self._threads = mine.threads
        self._queues = mine.queues
        self._stop_timeout = float(child.settings.agent.stop_timeout)
        # Somebody on each node must serve the steps that are aimed at it. Its agent says who; without one: the first.
        first = next((one for one in groups if not one.unit), None)
        if os.environ.get("CHARGEHAND_NODE_QUEUE", "1" if mine is first else ""):
            own = f"@{child.node}"
            self._queues = {own: 1_000, **mine.queues} if isinstance(mine.queues, dict) else [own, *mine.queues]
        self._registry = load_actions(child.settings)
        for problem in self._registry.problems:
            log.error("%s", problem)
        self._hand = Hand()
        self._standing = Standing(child.incarnation)
        self._finisher = Finisher(dialer, self._keys, self._hand)
        self._runner = Runner(child.wake)
        self._heart = Heart(
            child=child,
            dialer=dialer,
            keys=self._keys,
            hand=self._hand,
            standing=self._standing,
            finisher=self._finisher,
            member=self._member,
            publisher=Publisher(
                self._keys,
                Profile(
                    kind="worker",
                    node=child.node,
                    child=child.name,
                    version=chargehand.__version__,
                    config=worker_values(child.settings),
                    actions=code_of(self._registry.actions, child.settings),
                    problems=self._registry.problems,
                ),
            ),
        )
        self._shop = Workshop(
            dialer=dialer,
            keys=self._keys,
            actions=self._registry.actions,
            runner=self._runner,
            reporter=Reporter(dialer, self._keys, lambda: self._standing.incarnation),
            node=child.node,
            privileged=mine.unit,
            max_inbox=child.settings.orchestrator.max_inbox,
        )
        self._crew = Crew(
            dialer=dialer,
            keys=self._keys,
            hand=self._hand,
            finisher=self._finisher,
            standing=self._standing,
            shop=self._shop,
            queues=self._queues,
            threads=self._threads,
            compare=self._heart.compare,
            gone=self._heart.start_anew,
            watch=self._watch,
        )
        self._started_ms = int(time.time() * 1000)
        self._drains: list[Request] = []
        self._alone = False  # draining, with no agent that waits for it
        self._told_at = 0.0  # when the load was told last
        self._told_busy = 0
        self._turns_at = 0.0  # when the main thread turns next by itself

    def run(self) -> int:
        """Until the agent ends us. Returns the exit code."""
        self._crew.start()
        self._heart.start(self._crew.compare_due)
        try:
            while True:
                self._turn()
        except Ending:
            if self._child.link is None:
                self._drain_alone()
            self._end()
            return 0

    def _member(self) -> Member:
        now = time.monotonic()
        runs = [(held.started, held.entry.key) for held in self._hand.all() if held.started is not None]
        runs = sorted(runs)[:_TOLD]
        return Member(
            kind="worker",
            node=self._child.node,
            child=self._child.name,
            pid=os.getpid(),
            started_ms=self._started_ms,
            version=chargehand.__version__,
            role="draining" if self._standing.draining else "working",
            since_ms=self._started_ms,
            threads=self._threads,
            busy=self._crew.busy,
            queues=list(self._queues),
            degraded=self._cause(),
            running=[key for _, key in runs],
            for_ms=[round((now - started) * 1000) for started, _ in runs],
            boot=boot_id(),
        )

    def _cause(self) -> str:
        if self._registry.problems:
            return "; ".join(self._registry.problems)
        return self._overdue() or ""

    # -- one turn ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._report()
        poll = select.poll()
        for fd in self._child.watched:
            poll.register(fd, select.POLLIN)
        patience = self._patience()
        self._turns_at = time.monotonic() + patience
        poll.poll(max(0, math.ceil(patience * 1000)))
        for request in self._child.requests():
            self._serve(request)
        self._runner.serve()
        self._end_overdue()
        self._spread()
        self._answer_drains()

    def _patience(self) -> float:
        """Seconds until there is something to do without being woken."""
        patience = self._child.ping_in()
        if self._crew.busy or self._told_busy:
            patience = min(patience, _TELL_EVERY)
        if self._hand.waiting or self._drains or self._alone:
            patience = min(patience, _HOARD)
        now = time.monotonic()
        return min([patience, *(due - now for due, _ in self._timed())])

    def _report(self) -> None:
        load = f"{self._crew.busy}/{self._threads}"
        if self._heart.outage:
            self._child.waiting(self._heart.outage)
            # Its threads serve as soon as Redis does: that is all a worker can be ready for.
            self._child.tell(ready=True, load=load, degraded=self._cause())
        elif self._heart.registered or self._heart.refused:
            self._child.reached()
            self._child.barred(self._heart.refused)
            self._child.tell(
                ready=True,
                status=f"working ({self._threads} threads)",
                role="working",
                redis="",
                degraded=self._cause(),
            )
        if self._drains or time.monotonic() - self._told_at >= _TELL_EVERY:
            self._told_at, self._told_busy = time.monotonic(), self._crew.busy
            self._child.tell(load=load)
        self._child.ping()

    def _serve(self, request: Request) -> None:
        if request.method == "Death":
            try:
                line = self._dialer.line()
                lease.report_death(line, self._keys, request.parameters["incarnation"])
                line.close()
            except (Unavailable, Full, Refused) as error:
                request.fail("NotConnected", str(error))
            else:
                request.answer()
        elif request.method == "Drain":
            self._standing.drain()
            self._give_back()
            self._heart.beat_now()
            self._drains.append(request)
        else:
            request.fail("UnknownRequest", request.method)

    # -- time -------------------------------------------------------------------------------------

    def _watch(self, held: Held) -> None:
        """A step starts (called on its thread): the main thread sees to its time-out, and to what the agent is told."""
        now = time.monotonic()
        timeout = held.entry.extra.timeout_ms / 1000 or math.inf
        if min(now + timeout, self._told_at + _TELL_EVERY) < self._turns_at:
            self._turns_at = now  # once is enough
            self._child.wake()

    def _timed(self) -> list[tuple[float, Held]]:
        """Steps that run with a time-out, or were cancelled, and when they are ended by force."""
        return [
            (min(_over_at(held, held.started), held.force_at), held)
            for held in self._hand.all()
            if held.started is not None
            and (held.entry.extra.timeout_ms or held.cancelled)
            and not held.finishing
            and not held.ended
        ]

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for due, held in self._timed():
            if due > now or held.ending is None:
                continue
            held.ended = True
            if held.force_at <= now:
                held.end("cancelled", "cancelled: it did not end by itself in time, and was ended")
            else:
                held.end("timeout", f"timeout after {held.entry.extra.timeout_ms / 1000:g} s")

    def _overdue(self) -> str | None:
        """A step that was ended, and goes on."""
        for held in self._hand.all():
            if held.started is None or held.finishing:
                continue
            if time.monotonic() - min(_over_at(held, held.started), held.force_at) > _OVERDUE:
                why = "cancelled" if held.cancelled else "over its time-out"
                return f"step {held.entry.key} is {why} and cannot be interrupted"
        return None

    def _spread(self) -> None:
        """Give back what waits here for a thread too long: another worker may be idle."""
        now = time.monotonic()
        if not self._hand.waiting or not any(
            held.started is None and now - held.taken > _HOARD for held in self._hand.all()
        ):
            return
        self._give_back()

    def _give_back(self) -> None:
        try:
            line = self._dialer.line()
            self._crew.give_back(line)
            line.close()
        except (Unavailable, Full, Refused) as error:
            log.debug("giving back waits: %s", error)
            self._crew.compare_due.set()

    # -- ending -----------------------------------------------------------------------------------

    def _answer_drains(self) -> None:
        if self._drains and self._drained:
            for request in self._drains:
                request.answer()
            self._drains.clear()

    @property
    def _drained(self) -> bool:
        """Nothing is left that could end here."""
        return max(len(self._hand), self._crew.busy) == self._hand.resting

    def _drain_alone(self) -> None:
        """A unit of its own was stopped: no agent has told it to drain before. A second signal ends the patience."""
        self._child.ending()
        self._standing.drain()
        self._give_back()
        self._heart.beat_now()
        self._alone = True
        until = time.monotonic() + self._stop_timeout
        try:
            while not self._drained and time.monotonic() < until:
                self._child.extend()
                self._turn()
        except Ending:
            return

    def _end(self) -> None:
        """Give back what has not started; what runs ends with us and goes back by the death notice."""
        self._child.ending()
        self._standing.drain()
        self._give_back()
        self._runner.kill_all()
        if self._finisher.flush() and not len(self._hand):
            try:
                self._heart.leave()
            except (Unavailable, Full, Refused) as error:
                log.info("left without saying so: %s", error)


def _over_at(held: Held, started: float) -> float:
    """When its time is over (monotonic)."""
    timeout_ms = held.entry.extra.timeout_ms
    return started + timeout_ms / 1000 if timeout_ms else math.inf
