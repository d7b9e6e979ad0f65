"""Which descriptors the agent listens on, and who hears them. One selector; owners name what they need whole."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["Ear", "Watch"]


class Ear(NamedTuple):
    hear: Callable[[float], object]  # called with the monotonic time
    reading: bool = True
    writing: bool = False


class Watch:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._owned: dict[object, dict[int, Ear]] = {}

    def set(self, owner: object, ears: Mapping[int, Ear]) -> None:
        """Listen on exactly these descriptors of an owner; none: it is forgotten."""
        have = self._owned.pop(owner, {})
        for fd in have.keys() - ears.keys():
            # Closed descriptors have left the kernel's set by themselves, but not the selector's.
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
        for fd, ear in ears.items():
            mask = (selectors.EVENT_READ if ear.reading else 0) | (selectors.EVENT_WRITE if ear.writing else 0)
            if fd in have and fd in self._selector.get_map():
                self._selector.modify(fd, mask, ear)
            else:
                self._selector.register(fd, mask, ear)
        if ears:
            self._owned[owner] = dict(ears)

    def hears(self, fd: int) -> bool:
        return fd in self._selector.get_map()

    def turn(self, timeout: float) -> None:
        """Wait until one speaks, or `timeout` seconds; and let each be heard."""
        for key, _ in self._selector.select(timeout):
            if self._selector.get_map().get(key.fd) is key:  # not closed by one before it
                key.data.hear(time.monotonic())
