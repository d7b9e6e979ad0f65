"""The heartbeat, on a thread of its own: a worker whose threads are all busy is alive.

Each beat brings back what Redis says this worker owns. What is in hand and not owned is ended; what is owned
and not in hand is run; what belongs to a plan that is being ended is cancelled. That a plan is being ended is heard
at once, on a channel, and makes it beat: so a beat every two seconds finds what was not heard.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

from chargehand.child import Child
from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.membership import BEAT_EVERY, Gone, Member, NodeNameTaken, beat, leave, register
from chargehand.store.profile import Publisher
from chargehand.store.rights import check_rights
from chargehand.store.work import owned_entries
from chargehand.wire import HALTED, read_key
from chargehand.worker.crew import Standing
from chargehand.worker.finisher import Finisher
from chargehand.worker.hand import Hand, Held
from chargehand.worker.running import cancelled_before_start

__all__ = ["Heart"]

log = logging.getLogger("chargehand.worker")

_CUT_OFF = 6.0  # seconds without a beat: steps that must never overlap end before anybody may run them again (8 s)
_LAST_GRACE = 10_000  # ms: what undoes a step, or cancels it, may go on so long even when all is halted
_RETRY = 0.3  # seconds between tries while Redis is away


class Heart:
    def __init__(
        self,
        *,
        child: Child,
        dialer: Dialer,
        keys: Keys,
        hand: Hand,
        standing: Standing,
        finisher: Finisher,
        member: Callable[[], Member],
        publisher: Publisher,
    ) -> None:
        self._child = child
        self._dialer = dialer
        self._keys = keys
        self._hand = hand
        self._standing = standing
        self._finisher = finisher
        self._member = member
        self._publisher = publisher
        self._line: Line | None = None
        self._ears: Line | None = None
        self._now = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._anew = threading.Lock()
        self._beaten = time.monotonic()
        self._owned_compare: threading.Event | None = None
        self.outage = ""  # why Redis cannot be reached; empty while it can
        self.refused = ""  # why this worker must not serve
        self.registered = False
        self._checked = False  # the rights of our user in Redis: once is enough

    def start(self, compare_due: threading.Event) -> None:
        self._owned_compare = compare_due
        threading.Thread(target=self._beat_on, name="heart", daemon=True).start()

    def beat_now(self) -> None:
        os.eventfd_write(self._now, 1)

    def _beat_on(self) -> None:
        while True:
            try:
                if self._line is None:
                    self._line = self._dialer.line()
                if self._ears is None:  # before a beat, which then finds what was said before
                    self._ears = self._dialer.line()
                    self._ears.call("SUBSCRIBE", self._keys.stop_channel)
                self._once(self._line)
                self.outage = ""
                wait = BEAT_EVERY
            except NodeNameTaken as taken:
                self._standing.serving.clear()
                self.refused = f"node name {self._child.node} in use by machine {taken}"
                self.outage = ""
                wait = BEAT_EVERY
            except (Unavailable, Full, Refused) as error:
                self.outage = str(error)
                self._hang_up()
                wait = _RETRY
            if time.monotonic() - self._beaten > _CUT_OFF:
                for held in self._hand.all():
                    if held.entry.extra.exclusive:
                        held.end("ended", "cut off from Redis: it must not run twice at once")
            self._finisher.flush()
            self._child.wake()
            self._wait(_RETRY if self._finisher.left else wait)

    def _hang_up(self) -> None:
        """Both lines: after a fail-over the server that the other one hears says nothing any more."""
        for line in (self._line, self._ears):
            if line is not None:
                line.close()
        self._line = self._ears = None

    def _wait(self, seconds: float) -> None:
        """Until the next beat is due, or is asked for, or a plan of ours is being ended."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._now, select.POLLIN)
        try:
            if self._ears is not None:
                poll.register(self._ears.fileno(), select.POLLIN)
            while (left := until - time.monotonic()) > 0:
                ready = poll.poll(left * 1000)
                if any(fd == self._now for fd, _ in ready):
                    os.eventfd_read(self._now)
                    return
                if ready and self._ears is not None and self._hears_of_ours(self._ears):
                    return
        except Unavailable:
            self._hang_up()

    def _hears_of_ours(self, ears: Line) -> bool:
        ended = set()
        while ears.ready():
            ended.add(ears.read()[2].decode())
        return any(read_key(held.entry.key)[0] in ended for held in self._hand.all())

    def _once(self, line: Line) -> None:
        standing = self._standing
        if not self.registered:
            if not self._checked:
                check_rights(line, self._keys)
                self._checked = True
            sent = time.monotonic()
            first = register(line, self._keys, standing.incarnation, self._member(), self._child.machine)
            self.registered = True
            self._beaten = time.monotonic()
            self._publisher.note(sent, first.now_ms)
            self.refused = ""
            standing.serve()
            self._publisher.tell(line, standing.incarnation)
            return
        in_hand = self._hand.all()
        incarnation = standing.incarnation
        sent = time.monotonic()
        try:
            answer = beat(line, self._keys, incarnation, self._member(), self._child.machine)
        except Gone:
            self.start_anew(incarnation)  # unless the thread that takes was told first
            self.beat_now()
            return
        self._beaten = time.monotonic()
        self._publisher.note(sent, answer.now_ms)
        self.refused = ""
        standing.serve()
        known = {held.entry.key for held in in_hand}
        if any(key not in known for key in answer.owned) and self._owned_compare is not None:
            self._owned_compare.set()  # perhaps just taken: the thread that has the lead looks
        for held in in_hand:
            key = held.entry.key
            if key not in answer.owned and not held.finishing:
                self._drop(held)
            elif key in answer.stopped:
                self._cancel(held, answer.stopped[key])
        self._publisher.tell(line, incarnation)

    def _drop(self, held: Held) -> None:
        """It was in hand before we asked, Redis says it is not ours, and its result is not on the way."""
        if self._hand.lose(held):
            log.warning("no longer ours, ended: %s", held.entry.key)
            held.end("ended", "it is no longer this worker's")

    def _cancel(self, held: Held, grace_ms: int) -> None:
        """Its plan is being ended."""
        if held.entry.despite and grace_ms != HALTED:
            return
        if grace_ms == HALTED:
            grace_ms = _LAST_GRACE if held.entry.despite else 0
        if held.cancel(grace_ms):
            log.info("cancelled: %s has %g s to end", held.entry.key, grace_ms / 1000)
            if self._hand.withdraw(held):
                incarnation = self._standing.incarnation
                self._finisher.put(incarnation, cancelled_before_start(held, self._child.node, incarnation))

    def compare(self, line: Line) -> None:
        """Run what Redis says is ours and we do not know. Called with the lead, so no take is under way."""
        incarnation = self._standing.incarnation
        owned = [key.decode() for key in line.call("HKEYS", self._keys.own(incarnation))]
        known = {held.entry.key for held in self._hand.all()}
        unknown = [key for key in owned if key not in known]
        entries = owned_entries(line, self._keys, incarnation, unknown)
        for entry in entries:
            log.warning("ours without our knowing, runs now: %s", entry.key)
        self._hand.add([(None, entry) for entry in entries])

    def start_anew(self, incarnation: str) -> None:
        """This incarnation was reaped: end what runs and register as a new one."""
        with self._anew:
            if incarnation != self._standing.incarnation:
                return
            log.warning("gone: %s was reaped; ending %d steps, starting anew", incarnation, len(self._hand))
            self._standing.renew()
            self.registered = False
        for held in self._hand.all():
            self._drop(held)
        self.beat_now()

    def leave(self) -> None:
        """Nothing is in hand any more: be gone without a trace."""
        line = self._dialer.line()
        leave(line, self._keys, self._standing.incarnation)
