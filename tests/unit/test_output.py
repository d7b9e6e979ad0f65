"""What children print: passed on line by line, matched, kept within bounds, and never waited for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.supervisor.output import Outlet, Output

KEPT = 4096


@contextmanager
def replaced(writes: int) -> Iterator[None]:
    """Standard error is this descriptor. Not a fixture: between setup and test, pytest puts its own there."""
    before = os.dup(2)
    os.dup2(writes, 2)
    os.close(writes)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


class Printing:
    """An output with the child's end in our hands, and the agent's standard error, which nobody reads but the test."""

    def __init__(self, reads: int, patterns: tuple[str, ...]) -> None:
        self._reads = reads
        self.outlet = Outlet()
        self.output = Output("web", self.outlet, deque(maxlen=200), read=True, patterns=patterns)
        self.child = os.dup(self.output.theirs)
        self.output.started()

    def say(self, data: bytes) -> list[tuple[int, str]]:
        os.write(self.child, data)
        return self.output.receive()

    def end(self) -> None:
        if self.child >= 0:
            os.close(self.child)
            self.child = -1

    def arrived(self) -> bytes:
        data = b""
        with suppress(BlockingIOError):
            while part := os.read(self._reads, 65536):
                data += part
        return data


@contextmanager
def printing(*patterns: str) -> Iterator[Printing]:
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    with replaced(writes):
        one = Printing(reads, patterns)
        try:
            yield one
        finally:
            one.end()
            one.output.close()
            os.close(reads)


def test_lines_are_passed_on_under_its_name() -> None:
    with printing() as web:
        web.say(b"one\ntwo\r\n\nun")
        assert web.arrived() == b"web: one\nweb: two\nweb: \n"
        web.say("fürs Ende".encode())
        assert web.arrived() == b""
        web.end()
        assert web.output.receive() == []
        assert web.arrived() == "web: unfürs Ende\n".encode()
        assert web.output.fileno() == -1, "nothing is left to look at"
        assert web.output.receive() == []
        assert list(web.output.lines) == ["one", "two", "", "unfürs Ende"]


def test_patterns_match_lines_however_they_arrive() -> None:
    with printing("^ready$", "role: (active|master)", "role: passive") as web:
        assert web.say(b"not ready\nrea") == []
        assert web.say(b"dy\nrole: pas") == [(0, "ready")]
        assert web.say(b"sive\nrole: master\nready\r\n") == [(2, "role: passive"), (1, "role: master"), (0, "ready")]


def test_a_pattern_matches_a_last_line_without_its_end() -> None:
    with printing("^ready$") as web:
        assert web.say(b"ready") == []
        web.end()
        assert web.output.receive() == [(0, "ready")]


def test_last_line_is_one_that_says_something() -> None:
    with printing() as web:
        assert web.output.last_line() == ""
        web.say(b"first\nno licence: \xff\xfe\n \n\n")
        assert web.output.last_line() == "no licence: \ufffd\ufffd"


def test_what_was_left_in_the_pipe_is_taken_at_the_end() -> None:
    with printing() as web:
        os.write(web.child, b"x\n" * 30_000)
        web.output.drain()
        os.write(web.child, b"last words\n")
        web.output.drain()
        assert web.output.last_line() == "last words"
        assert web.arrived(), "and passed on"
        web.output.drain()  # nothing more: does not wait


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_whatever_is_printed_little_is_kept(pieces: list[bytes]) -> None:
    with printing() as web:
        for piece in pieces:
            if piece:
                web.say(piece + b"\n" * (len(piece) % 2))
            assert len(web.output.tail) <= KEPT
            assert all(len(line) <= KEPT for line in web.output.lines)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_long_line_is_kept_in_part(end: bytes) -> None:
    """Two hundred lines of every child are kept: each must be small."""
    with printing() as web:
        web.say(b"x" * 60_000 + end)
        web.arrived()
        web.say(b"y\n")
        assert max(len(line) for line in web.output.lines) <= KEPT
        assert web.output.lines[-1].endswith("y")


def test_what_nobody_reads_is_counted() -> None:
    """What has arrived and what was dropped are all that was printed."""
    line = b"x" * 199 + b"\n"
    with printing() as web:
        for _ in range(1000):
            web.say(line * 10)
        assert web.outlet.dropped > 0
        found = web.arrived()
        assert set(found.splitlines(keepends=True)) == {b"web: " + line}, "whole lines only"
        assert len(found) + web.outlet.dropped == 10_000 * len(b"web: " + line)


def test_whose_reader_has_gone() -> None:
    """As when a log's collector was stopped: nothing is raised."""
    with printing() as web:
        reads, writes = os.pipe()
        os.close(reads)
        with replaced(writes):
            web.say(b"to nobody\n")
        assert list(web.output.lines) == ["to nobody"]
