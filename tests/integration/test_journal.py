"""The journal's protocols, with a real socket as its end: streams for output, datagrams with fields for events."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.linux import journal
from chargehand.linux.journal import Journal, open_stream, prefixes, writes_to_journal
from chargehand.supervisor.events import EVENTS, Events
from chargehand.supervisor.output import Outlet, Output


@pytest.fixture
def datagrams(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place / "socket"))
        listening.settimeout(10)
        yield listening


@pytest.fixture
def streams(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place / "stdout"))
        listening.listen(8)
        listening.settimeout(10)
        monkeypatch.setattr(journal, "_STREAM", str(place / "stdout"))
        yield listening


def fields(data: bytes) -> dict[str, bytes]:
    """An entry as the journal reads it: `NAME=value`, or the name, eight bytes of length, and the value."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, end, data = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert (len(value), end) == (size, b"\n")
        found[name.decode()] = value
    return found


# -- entries with fields --------------------------------------------------------------------------


def sent(datagrams: socket.socket, entry: dict[str, str]) -> dict[str, bytes]:
    out = Journal(datagrams.getsockname())
    try:
        out.send(entry)
    finally:
        out.close()
    return fields(datagrams.recv(1 << 20))


def test_entry(datagrams: socket.socket) -> None:
    entry = {"MESSAGE": "one\ntwo\n", "PRIORITY": "6", "EMPTY": "", "CHARGEHAND_CHILD": "a=b", "ODD": "ü\udcff"}
    assert sent(datagrams, entry) == {
        "MESSAGE": b"one\ntwo\n",
        "PRIORITY": b"6",
        "EMPTY": b"",
        "CHARGEHAND_CHILD": b"a=b",
        "ODD": "ü?".encode(),
    }


@given(st.dictionaries(st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z"), st.text(max_size=200), max_size=6))
def test_every_value_arrives(entry: dict[str, str]) -> None:
    name = f"\0chargehand-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.settimeout(10)
        out = Journal(name)
        out.send(entry)
        out.close()
        assert fields(listening.recv(65536)) == {key: value.encode(errors="replace") for key, value in entry.items()}


def test_journal_that_is_away_or_full_costs_the_entry(place: Path) -> None:
    """Nothing is raised, and nobody waits."""
    out = Journal(str(place / "socket"))
    out.send({"MESSAGE": "to nobody"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place / "socket"))
        for number in range(10_000):
            out.send({"MESSAGE": f"{number} " + "x" * 1000})
        listening.setblocking(False)
        kept = 0
        while True:
            try:
                fields(listening.recv(1 << 20))
            except BlockingIOError:
                break
            kept += 1
        assert 0 < kept < 10_000, "it was full"
        out.send({"MESSAGE": "again"})
        assert fields(listening.recv(1 << 20)) == {"MESSAGE": b"again"}
    out.send({"MESSAGE": "it has gone"})
    out.close()


def test_entry_larger_than_a_datagram(place: Path) -> None:
    out = Journal(str(place / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place / "socket"))
        out.send({"MESSAGE": "x" * (8 << 20)})
        out.send({"MESSAGE": "the next"})
        listening.settimeout(10)
        assert fields(listening.recv(1 << 24)) == {"MESSAGE": b"the next"}
    out.close()


def test_event(datagrams: socket.socket) -> None:
    lines: list[str] = []
    events = Events(lines.append, journal=True)
    assert events._journal is not None
    events._journal._path = datagrams.getsockname()
    events.node, events.executor = "node-a", "default"
    events.say("child_ended", child="web", pid=17, how='exit 3 "two\nlines"')
    assert fields(datagrams.recv(65536)) == {
        "MESSAGE": b'child_ended child=web pid=17 how=exit 3 "two lines"',
        "MESSAGE_ID": EVENTS["child_ended"].message_id.encode(),
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"chargehand",
        "CHARGEHAND_EVENT": b"child_ended",
        "CHARGEHAND_NODE": b"node-a",
        "CHARGEHAND_EXECUTOR": b"default",
        "CHARGEHAND_CHILD": b"web",
        "CHARGEHAND_PID": b"17",
        "CHARGEHAND_HOW": b'exit 3 "two\nlines"',
    }
    assert lines == [], "told once"
    events._journal.close()


# -- streams of lines -----------------------------------------------------------------------------


def test_stream(streams: socket.socket) -> None:
    """Its header, in the journal's order; then lines. Reading is the journal's side alone."""
    stream = open_stream("chargehand-web")
    assert stream is not None
    accepted, _ = streams.accept()
    with accepted, stream, accepted.makefile("rb") as lines:
        stream.sendall(f"{prefixes(3)}trouble\n".encode())
        identifier, unit, priority, takes_prefixes, syslog, kmsg, console = (next(lines) for _ in range(7))
        assert identifier == b"chargehand-web\n"
        assert unit == b"\n"
        assert priority == b"6\n"
        assert takes_prefixes == b"1\n"
        assert (syslog, kmsg, console) == (b"0\n", b"0\n", b"0\n")
        assert next(lines) == b"<3>trouble\n"
        with pytest.raises(BrokenPipeError):
            accepted.sendall(b"x")
        assert not os.get_inheritable(stream.fileno())


def test_no_stream_without_a_journal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_STREAM", str(place / "none"))
    assert open_stream("chargehand-web") is None


def test_whether_standard_error_is_the_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        found = os.fstat(one.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert writes_to_journal(one.fileno())
        assert not writes_to_journal(other.fileno())
        for wrong in ("", ":", "1", "x:y", f"{found.st_dev}:{found.st_ino}0"):
            monkeypatch.setenv("JOURNAL_STREAM", wrong)
            assert not writes_to_journal(one.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not writes_to_journal(one.fileno())
    assert not writes_to_journal(one.fileno()), "closed"


# -- a child's output -----------------------------------------------------------------------------


@pytest.fixture
def outlet(monkeypatch: pytest.MonkeyPatch) -> Outlet:
    """As under systemd: standard error is the journal's."""
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    one = Outlet()
    assert one.journal
    return one


def test_output_goes_to_the_journal_by_itself(streams: socket.socket, outlet: Outlet) -> None:
    """The child's descriptor is the stream: nothing of ours stands between."""
    output = Output("web", outlet, deque(), read=False)
    accepted, _ = streams.accept()
    with accepted, accepted.makefile("rb") as lines:
        assert output.fileno() == -1
        os.write(output.theirs, b"hello\n")
        output.close()
        assert list(lines)[7:] == [b"hello\n"]
    assert output.receive() == []


def test_output_that_is_read_is_passed_on(streams: socket.socket, outlet: Outlet) -> None:
    """Where last words or a pattern are asked for: byte for byte, and the lines match."""
    output = Output("web", outlet, deque(), read=True, patterns=("^ready$",))
    accepted, _ = streams.accept()
    with accepted, accepted.makefile("rb") as lines:
        os.write(output.theirs, b"<4>half a ")
        assert output.receive() == []
        os.write(output.theirs, b"line\nready\n\xff")
        assert output.receive() == [(0, "ready")]
        output.started()
        output.receive()
        output.close()
        assert b"".join(list(lines)[7:]) == b"<4>half a line\nready\n\xff"
    assert output.dropped == 0


def test_journal_that_does_not_read_holds_nobody_up(streams: socket.socket, outlet: Outlet) -> None:
    """What has arrived and what was dropped are all that was printed."""
    output = Output("web", outlet, deque(), read=True)
    printed = 0
    accepted, _ = streams.accept()
    with accepted:
        while output.dropped < 1 << 20:
            printed += os.write(output.theirs, b"x" * 49_999 + b"\n")
            output.receive()
        output.close()
        arrived = 0
        while part := accepted.recv(1 << 20):
            arrived += len(part)
    header = len(b"chargehand-web\n\n6\n1\n0\n0\n0\n")
    assert arrived - header + output.dropped == printed


def test_output_without_a_journal_after_all(place: Path, monkeypatch: pytest.MonkeyPatch, outlet: Outlet) -> None:
    """journald is away for a moment: the child starts all the same, and is read."""
    monkeypatch.setattr(journal, "_STREAM", str(place / "none"))
    output = Output("web", outlet, deque(), read=False)
    try:
        assert output.fileno() >= 0
        os.write(output.theirs, b"hello\n")
        assert output.receive() == []
        assert output.last_line() == "hello"
    finally:
        output.close()
