"""sd_notify over real sockets: what a full queue did not take is not lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chargehand.notify import Notifier, Receiver

_MORE_THAN_ANY_QUEUE = 2_000  # of the kernel: net.unix.max_dgram_qlen messages


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    made = Receiver(path)
    yield made
    made.close()


@pytest.fixture
def notifier(receiver: Receiver) -> Iterator[Notifier]:
    made = Notifier.from_environment()
    yield made
    assert made._notifier is not None
    made._notifier.socket.close()


def test_what_found_the_queue_full_comes_with_the_next_message(receiver: Receiver, notifier: Notifier) -> None:
    for number in range(_MORE_THAN_ANY_QUEUE):
        notifier.send("WATCHDOG=1", f"X_CHARGEHAND_LOAD={number}")
    notifier.send("STATUS=waiting", "READY=1")
    heard = receiver.receive()
    assert len(heard) < _MORE_THAN_ANY_QUEUE, "the queue was full"
    assert all("STATUS" not in message.fields for message in heard)
    notifier.send("WATCHDOG=1")
    (last,) = receiver.receive()
    assert last.fields == {
        "WATCHDOG": "1",
        "X_CHARGEHAND_LOAD": str(_MORE_THAN_ANY_QUEUE - 1),
        "STATUS": "waiting",
        "READY": "1",
    }
    notifier.send("WATCHDOG=1")
    assert receiver.receive()[0].fields == {"WATCHDOG": "1"}, "nothing twice"


def test_a_receiver_that_is_gone_stops_nobody(receiver: Receiver, notifier: Notifier) -> None:
    receiver.close()
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
