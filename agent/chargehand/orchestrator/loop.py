"""The orchestrator: passive until it gets the lease, then one turn after another.

    passive   subscribe, try, sleep until a release is published or the lease has run out
    active    read events, load what they name, let the director decide, commit once; and again

Memory lives as long as one reign on one connection. On any answer to a commit but OK, and on none, it is
thrown away and Redis is read again. One thread, one blocking point: `_wait`.
"""

from __future__ import annotations

import logging
import math
import os
import select
import time
from typing import NoReturn

import chargehand
from chargehand.child import Child, Ending, Request
from chargehand.config.fingerprint import orchestrator_values
from chargehand.config.quantities import parse_rate
from chargehand.config.settings import Settings
from chargehand.orchestrator.reign import Deposed, Forget, Newer, Reign
from chargehand.plan.limits import Limit
from chargehand.store import lease
from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable, boottime
from chargehand.store.keys import Keys
from chargehand.store.lease import Held
from chargehand.store.membership import BEAT_EVERY, Gone, Member, NodeNameTaken, beat, leave, register
from chargehand.store.profile import Profile, Publisher
from chargehand.store.rights import check_rights, eviction_policy

__all__ = ["Orchestrator"]

log = logging.getLogger("chargehand.orchestrator")

#: After a failed connection: try again soon, then calmly. Redis coming back is noticed within the last one.
_RECONNECT = (0.05, 0.1, 0.2, 0.4, 0.5)
_ANEW = 0.01  # seconds before memory that was dropped is made again


class Orchestrator:
    def __init__(self, child: Child, dialer: Dialer) -> None:
        self._child = child
        settings = child.settings
        self._dialer = dialer
        self._keys = Keys(settings.executor.name)
        self._ttl = float(settings.orchestrator.lease.ttl)
        self._renew_every = float(settings.orchestrator.lease.renew)
        self._seen = 0  # the highest epoch we ever saw
        self._held: Held | None = None
        self._line: Line | None = None  # what `_wait` may find busy
        self._aside: Line | None = None  # for requests of the agent while `_line` is blocked in a read
        self._reluctant_until = 0.0
        self._retired = False  # stepped down for good: waits for its end
        self._beat_at = 0.0
        self._careful = False
        self._checked = False  # the rights of our user in Redis: once is enough
        self._evicts = ""  # what is wrong with how Redis makes room
        self._reigning = False
        self._reign: Reign | None = None
        self._member = Member(
            kind="orchestrator",
            node=child.node,
            child=child.name,
            pid=os.getpid(),
            started_ms=int(time.time() * 1000),
            version=chargehand.__version__,
            role="passive",
        )
        self._publisher = Publisher(
            self._keys,
            Profile(
                kind="orchestrator",
                node=child.node,
                child=child.name,
                version=chargehand.__version__,
                config=orchestrator_values(settings),
            ),
        )

    # -- the whole life ---------------------------------------------------------------------------

    def run(self) -> int:
        """Until the agent ends us. Returns the exit code."""
        failures = 0
        try:
            while True:
                try:
                    self._connected()
                except (Unavailable, Full, Refused) as error:
                    reached = self._line is not None
                    self._disconnect()
                    failures = 1 if reached else failures + 1
                    self._child.waiting(str(error))
                    self._wait(boottime() + _RECONNECT[min(failures, len(_RECONNECT)) - 1])
                except Forget as why:
                    log.warning("memory dropped: %s", why)
                    self._disconnect()
                    self._wait(boottime() + _ANEW)  # whatever it was, not in a tight circle
        except Ending:
            self._resign()
            return 0

    def _connected(self) -> NoReturn:
        """One connection's life. Ends by an exception."""
        self._line = line = self._dialer.line()
        self._register(line)
        while True:
            if self._held is None or boottime() >= self._held.deadline:
                self._passive(line)
            try:
                self._active(line)
            except Newer as why:
                self._outdated(line, str(why))
            except Deposed as why:
                # Asked to step down, it has let go already.
                level = logging.WARNING if self._held is not None else logging.INFO
                log.log(level, "deposed: epoch %d: %s", self._seen, why)
                self._held = None
                line.close()
                self._line = line = self._dialer.line()

    def _resign(self) -> None:
        """Hand over and leave; what cannot be told to Redis now, time and the agent's death notice will."""
        self._child.ending()
        try:
            line = self._aside or self._dialer.line()
            if self._held is not None:
                lease.release(line, self._keys, self._held.token)
                log.info("lease released: epoch %d", self._held.epoch)
            leave(line, self._keys, self._child.incarnation)
        except (Unavailable, Full, Refused) as error:
            log.warning("lease not released: %s", error)

    def _disconnect(self) -> None:
        """Drop the connections, and the lease too once it may have run out."""
        for line in (self._line, self._aside):
            if line is not None:
                line.close()
        self._line = self._aside = None
        if self._held is not None and boottime() >= self._held.deadline:
            log.warning("lease given up: epoch %d: not renewed in time", self._held.epoch)
            self._held = None

    # -- being known ------------------------------------------------------------------------------

    def _register(self, line: Line) -> None:
        if not self._checked:
            check_rights(line, self._keys)
            self._checked = True
        policy = eviction_policy(line)
        self._evicts = policy and f"Redis evicts keys (maxmemory-policy {policy}), the lease first: set noeviction"
        self._child.degraded(self._evicts)
        while True:
            sent = time.monotonic()
            try:
                first = register(line, self._keys, self._child.incarnation, self._member, self._child.machine)
            except NodeNameTaken as taken:
                self._child.barred(f"node name {self._child.node} in use by machine {taken}")
                self._wait(boottime() + BEAT_EVERY)
            else:
                self._child.barred("")
                self._beat_at = boottime() + BEAT_EVERY
                self._publisher.note(sent, first.now_ms)
                self._publisher.tell(line, self._child.incarnation)
                return

    def _beat(self, line: Line) -> None:
        if boottime() < self._beat_at:
            return
        self._beat_at = boottime() + BEAT_EVERY
        sent = time.monotonic()
        try:
            answer = beat(line, self._keys, self._child.incarnation, self._member, self._child.machine)
        except (Gone, NodeNameTaken):
            self._register(line)
        else:
            self._publisher.note(sent, answer.now_ms)
            self._publisher.tell(line, self._child.incarnation)

    def _role(self, role: str, *, epoch: int, since_ms: int) -> None:
        self._member.role, self._member.epoch, self._member.since_ms = role, epoch, since_ms
        self._beat_at = 0.0  # tell the others at once

    # -- passive ----------------------------------------------------------------------------------

    def _passive(self, line: Line) -> None:
        """Return when the lease is ours. Subscribes first, so that no release is missed."""
        ears = self._dialer.line()
        try:
            ears.call("SUBSCRIBE", self._keys.lease_channel)
            holder = ""
            while True:
                if boottime() < self._reluctant_until and (self._retired or lease.is_free(line, self._keys)):
                    self._listen(line, ears, min(self._reluctant_until, boottime() + 0.2))
                    continue
                found = lease.acquire(
                    line,
                    self._keys,
                    incarnation=self._child.incarnation,
                    node=self._child.node,
                    ttl=self._ttl,
                    seen=self._seen,
                )
                if isinstance(found, Held):
                    self._held, self._seen = found, found.epoch
                    return
                self._seen = max(self._seen, lease.epoch_of(found.token))
                if found.token != holder:
                    holder = found.token
                    self._role("passive", epoch=self._seen, since_ms=found.since_ms)
                    self._child.reached()
                    self._child.tell(
                        ready=True,
                        status=f"passive (waiting on lock, held by {found.node}, epoch {self._seen})",
                        role="passive",
                        holder=found.node,
                        epoch=str(self._seen),
                        redis="",
                        queued="",
                    )
                    log.info("passive: lock held by %s, epoch %d", found.node, self._seen)
                # A millisecond past the expiry it is free; the holder's renewals move it, so look again then.
                self._listen(line, ears, boottime() + found.left + 0.002)
        finally:
            ears.close()

    def _listen(self, line: Line, ears: Line, until: float) -> None:
        """Wait for a release or the lease's end; go on beating meanwhile."""
        while boottime() < until:
            self._beat(line)
            if self._wait(min(until, self._beat_at), ears):
                ears.read()
                return

    # -- active -----------------------------------------------------------------------------------

    def _active(self, line: Line) -> NoReturn:
        """Reign. Ends by an exception only."""
        assert self._held is not None
        ears = self._dialer.line()
        reign = Reign(
            line,
            ears,
            self._keys,
            self._held,
            ttl=self._ttl,
            renew_every=self._renew_every,
            retention=self._child.settings.retention,
            limits=_limits(self._child.settings),
            careful=self._careful,
            wait=self._wait,
            tend=self._tend,
        )
        self._careful = False
        self._reign = reign
        try:
            reign.open()
            self._role("active", epoch=self._held.epoch, since_ms=self._held.now_ms)
            self._child.reached()
            self._tell_active(self._held.epoch, 0)
            log.info("active: epoch %d", self._held.epoch)
            self._reigning = True
            while True:
                reign.turn()
        except Forget as why:
            self._careful = why.careful
            raise
        finally:
            self._reigning = False
            self._reign = None
            ears.close()
            self._child.degraded(self._evicts)

    def _outdated(self, line: Line, why: str) -> None:
        """Leave the lease to those who can read what stands there."""
        log.error("passive for good: %s", why)
        assert self._held is not None
        lease.release(line, self._keys, self._held.token)
        self._held = None
        self._retired, self._reluctant_until = True, math.inf
        self._role("passive", epoch=self._seen, since_ms=0)
        self._child.reached()
        self._child.tell(
            ready=True, status="passive (the data is of a later version)", role="passive", redis="", degraded=why
        )

    def _tend(self, line: Line, queued: int | None) -> None:
        """Between turns, when the line is free: hear the agent, ping, beat, report."""
        for request in self._child.requests():  # under load there is always an answer, and `_wait` never waits
            self._serve(request)
        self._child.ping()
        self._beat(line)
        if queued is not None:
            assert self._held is not None
            self._tell_active(self._held.epoch, queued)

    def _tell_active(self, epoch: int, queued: int) -> None:
        busy, behind, cause = None, 0.0, self._evicts
        if self._reign is not None:
            busy = self._reign.load.percent
            behind, self._reign.behind_ms = self._reign.behind_ms / 1000, 0
            if self._reign.missing:
                cause = f"{self._reign.missing}: plans are not acknowledged, the lease runs out"
            elif self._reign.full:
                cause = "Redis is full: new plans are refused, what is there goes on"
            elif self._reign.load.saturated:
                cause = f"saturated ({busy} % busy for a minute): add an executor"
        self._member.share, self._member.behind = busy or 0, round(behind, 1)
        self._child.degraded(cause)
        self._child.tell(
            ready=True,
            share=str(busy) if busy else "",
            behind=f"{behind:.0f}" if behind >= 1 else "",
            status=f"active (epoch {epoch}); {queued} steps queued",
            role="active",
            epoch=str(epoch),
            holder=self._child.node,
            redis="",
            queued=str(queued),
        )

    # -- waiting and the agent --------------------------------------------------------------------

    def _wait(self, until: float, line: Line | None = None) -> bool:
        """Wait for an answer on `line` (True), or until then (False). Serves the agent and pings it meanwhile.

        Raises `Ending` when the agent ends us.
        """
        while True:
            self._child.ping()
            if line is not None and line.ready():
                return True
            left = min(until - boottime(), self._child.ping_in())
            poll = select.poll()
            for fd in self._child.watched:
                poll.register(fd, select.POLLIN)
            if line is not None:
                poll.register(line.fileno(), select.POLLIN)
            # Rounded up: a wait that ends a fraction early would turn the loop for nothing.
            poll.poll(max(0, math.ceil(left * 1000)))
            for request in self._child.requests():
                self._serve(request)
            if boottime() >= until and (line is None or not line.ready()):
                return False

    def _serve(self, request: Request) -> None:
        if request.method == "Death":
            try:
                if self._aside is None:
                    self._aside = self._dialer.line()
                freed = lease.report_death(self._aside, self._keys, request.parameters["incarnation"])
            except (Unavailable, Full, Refused) as error:
                self._aside = None
                request.fail("NotConnected", str(error))
            else:
                log.info(
                    "death reported: %s%s",
                    request.parameters["incarnation"],
                    ", lease freed" if freed else "",
                )
                request.answer()
        elif request.method == "StepDown":
            self._step_down(request)
        else:
            request.fail("UnknownRequest", request.method)

    def _step_down(self, request: Request) -> None:
        self._retired = bool(request.parameters.get("for_good"))
        # Another takes it while there is another; else it is ours again after a ttl.
        self._reluctant_until = math.inf if self._retired else boottime() + self._ttl
        held, self._held = self._held, None
        if held is None:
            request.answer()
            return
        try:
            if self._aside is None:
                self._aside = self._dialer.line()
            lease.release(self._aside, self._keys, held.token)
        except (Unavailable, Full, Refused) as error:
            self._aside = None
            log.warning("lease not released: %s", error)  # it runs out by itself: nobody renews it any more
        request.answer()
        if self._reigning:
            raise Deposed("stepped down as asked")


def _limits(settings: Settings) -> dict[str, Limit]:
    """Those of queues; those of actions come with the plans."""
    return {
        f"queue:{queue.name}": Limit(queue.limit or 0, *(parse_rate(queue.rate) if queue.rate else (0, 0)))
        for queue in settings.queue
    }
