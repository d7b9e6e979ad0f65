"""The link between agent and child, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from chargehand.link import Link, LinkError, pair


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    ours, theirs = pair()
    other = Link(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.send({"method": "first"})
    ours.send({"method": "second", "parameters": {"text": "a\0b"}})
    assert theirs.receive() == ([{"method": "first"}, {"method": "second", "parameters": {"text": "a\0b"}}], False)
    assert theirs.receive() == ([], False)


def test_the_first_message_leaves_the_next_ones(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.send({"number": 1})
    ours.send({"number": 2})
    assert theirs.receive_first(timeout=1.0) == {"number": 1}
    assert theirs.receive() == ([{"number": 2}], False)


def test_no_first_message() -> None:
    ours, theirs = pair()
    other = Link(theirs)
    with pytest.raises(LinkError, match="sent nothing"):
        other.receive_first(timeout=0.0)
    ours.close()
    with pytest.raises(LinkError, match="sent nothing"):
        other.receive_first(timeout=5.0)
    other.close()


def test_what_was_sent_before_the_end_is_heard(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.reply({"x": 1})
    ours.close()
    assert theirs.receive() == ([{"parameters": {"x": 1}}], True)
    theirs.send({"nobody": "hears"})  # no error: the end is what `ended` says
    assert theirs.ended


def test_more_than_the_socket_takes(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    large = {"settings": "x" * 1_000_000}
    ours.send(large)
    assert ours.sending
    found: list[dict[str, Any]] = []
    while not found:
        found, _ = theirs.receive()
        ours.flush()
    assert found == [large]
    assert not ours.sending


@pytest.mark.parametrize("data", [b"no json\0", b"[1]\0", b"\0", b'"text"\0', b"\xff\xfe\0"])
def test_what_is_no_message(data: bytes) -> None:
    left, right = socket.socketpair()
    with left:
        link = Link(right)
        left.sendall(data)
        with pytest.raises(LinkError, match="not a message"):
            link.receive()
        link.close()


def test_a_flood_is_no_message() -> None:
    left, right = socket.socketpair()
    with left:
        link = Link(right, largest=1000)
        left.sendall(b"x" * 2000)
        with pytest.raises(LinkError, match="more than 1000 bytes"):
            link.receive()
        link.close()
