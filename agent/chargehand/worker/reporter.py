"""Telling what attempts say while they run: gathered, and sent a few times a second, never on the attempt's thread.

While Redis is away what was said is kept, up to a bound. What an attempt says last goes with its result.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.reports import Report, report
from chargehand.wire import encode, read_key

__all__ = ["Reporter", "Reports"]

log = logging.getLogger("chargehand.worker")

_EVERY = 0.25  # seconds between two sendings
_TOGETHER = 100  # attempts reported on at once
_WAITING = 256 * 1024  # characters of one attempt that wait to be sent; what comes beyond is left out
_IN_ALL = 1024 * 1024  # characters that one attempt may say: as much as its output may hold
_ENTRY = 16 * 1024  # characters of an entry, about; a plan keeps ten thousand of them


class Reports:
    """What one attempt has said and Redis does not know yet. Thread-safe."""

    def __init__(self, key: str, changed: Callable[[Reports], None]) -> None:
        self.key = key
        _, self._step, self._attempt = read_key(key)
        self._changed = changed
        self._lock = threading.Lock()
        self.sending = threading.Lock()  # held while a part of it is on its way
        self._entries: list[tuple[int, str, list[str]]] = []  # (ms, kind, lines)
        self._encoded: list[bytes] = []  # taken before, and not sent
        self._begun: dict[str, str] = {}  # kind -> a line that is not whole yet
        self._progress: tuple[float, str, int] | None = None
        self._last = 0  # characters of the last entry
        self._waiting = 0
        self._said = 0
        self._left_out = 0

    def say(self, kind: str, text: str) -> None:
        """Whole lines."""
        with self._lock:
            self._add(kind, text)
        self._changed(self)

    def write(self, kind: str, text: str) -> None:
        """A piece of what a command writes; it is told line by line."""
        with self._lock:
            whole, end, rest = (self._begun.get(kind, "") + text).rpartition("\n")
            if len(rest) > _ENTRY:  # a line without an end
                whole, end, rest = (whole + end + rest, "\n", "")
            self._begun[kind] = rest
            if end:
                self._add(kind, whole)
        if end:
            self._changed(self)

    def progress(self, fraction: float, message: str) -> None:
        with self._lock:
            self._progress = (fraction, message, _now_ms())
        self._changed(self)

    def take(self, *, last: bool = False) -> Report | None:
        """What is to be sent now; None when there is nothing. `last`: nothing more will be said."""
        with self._lock:
            if last:
                for kind, rest in self._begun.items():
                    if rest:
                        self._add(kind, rest)
                if self._left_out:
                    self._tell_left_out("say")
            entries = self._encoded
            entries += (self._encode(ms, kind, "\n".join(lines)) for ms, kind, lines in self._entries)
            progress = b""
            if self._progress is not None:
                fraction, message, ms = self._progress
                progress = encode(self._progress)
                entries.append(self._encode(ms, "progress", [fraction, message]))
            self._entries, self._encoded, self._progress, self._waiting = [], [], None, 0
        return Report(self.key, progress, entries) if entries else None

    def put_back(self, left: Report) -> None:
        """It could not be sent. How far the attempt was then will be told by how far it is later."""
        with self._lock:
            self._encoded = left.entries
            self._waiting += sum(map(len, left.entries))

    def _add(self, kind: str, text: str) -> None:
        if kind != "say":
            while len(text) > _ENTRY:
                end = text.rfind("\n", 0, _ENTRY)
                self._add_one(kind, text[: end if end > 0 else _ENTRY])
                text = text[end + 1 if end > 0 else _ENTRY :]
        self._add_one(kind, text)

    def _add_one(self, kind: str, text: str) -> None:
        size = len(text)
        if self._waiting + size > _WAITING or self._said + size > _IN_ALL:
            self._left_out += size
            return
        if self._left_out:
            self._tell_left_out(kind)
        self._waiting += size
        self._said += size
        if kind != "say" and self._entries:
            _, before, lines = self._entries[-1]
            if before == kind and self._last + size <= _ENTRY:
                lines.append(text)
                self._last += size
                return
        self._entries.append((_now_ms(), kind, [text]))
        self._last = size

    def _tell_left_out(self, kind: str) -> None:
        self._entries.append((_now_ms(), kind, [f"({self._left_out:,} characters were left out here)"]))
        self._left_out = 0

    def _encode(self, ms: int, kind: str, payload: object) -> bytes:
        return encode([self._step, self._attempt, ms, kind, payload])


class Reporter:
    """Sends them. Its thread starts with the first one."""

    def __init__(self, dialer: Dialer, keys: Keys, incarnation: Callable[[], str]) -> None:
        self._dialer = dialer
        self._keys = keys
        self._incarnation = incarnation
        self._lock = threading.Lock()
        self._due: dict[Reports, None] = {}
        self._wake = threading.Event()
        self._line: Line | None = None
        self._running = False

    def reports(self, key: str) -> Reports:
        """For an attempt that begins to say something."""
        return Reports(key, self._changed)

    def close(self, reports: Reports) -> Report | None:
        """Its attempt has ended: what is left goes with the result."""
        with reports.sending:  # what is on its way arrives before the result
            with self._lock:
                self._due.pop(reports, None)
            return reports.take(last=True)

    def _changed(self, reports: Reports) -> None:
        with self._lock:
            self._due[reports] = None
            if not self._running:
                self._running = True
                threading.Thread(target=self._send_on, name="reports", daemon=True).start()
        self._wake.set()

    def _send_on(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                due = list(self._due)
                self._due.clear()
            for at in range(0, len(due), _TOGETHER):
                self._send(due[at : at + _TOGETHER])
            time.sleep(_EVERY)

    def _send(self, some: list[Reports]) -> None:
        for one in some:
            one.sending.acquire()
        taken = [(one, found) for one in some if (found := one.take()) is not None]
        try:
            if taken:
                if self._line is None:
                    self._line = self._dialer.line()
                report(self._line, self._keys, self._incarnation(), [found for _, found in taken])
        except (Unavailable, Full, Refused) as error:
            log.debug("reports wait: %s", error)
            if self._line is not None:
                self._line.close()
                self._line = None
            for one, found in taken:
                one.put_back(found)
                self._changed(one)
        finally:
            for one in some:
                one.sending.release()


def _now_ms() -> int:
    return int(time.time() * 1000)
