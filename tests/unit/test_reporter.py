"""What attempts say, as it is gathered: whole lines, together, within bounds."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chargehand.store.reports import Report
from chargehand.worker.reporter import Reports


def reports() -> Reports:
    return Reports("p/3/2", lambda _: None)


def payloads(report: Report | None) -> list[tuple[str, Any]]:
    entries = [msgspec.json.decode(entry) for entry in report.entries] if report is not None else []
    assert all(entry[:2] == [3, 2] for entry in entries)
    return [(kind, payload) for _, _, _, kind, payload in entries]


def test_nothing_said_is_nothing_to_send() -> None:
    made = reports()
    assert made.take() is None
    made.write("out", "no end yet")
    assert made.take() is None
    assert payloads(made.take(last=True)) == [("out", "no end yet")]


def test_lines_of_one_kind_go_together_and_what_is_said_by_itself() -> None:
    made = reports()
    made.write("out", "a\nb\nc")
    made.write("out", "c\n")
    made.write("err", "x\n")
    made.say("say", "one")
    made.say("say", "two")
    assert payloads(made.take()) == [("out", "a\nb\ncc"), ("err", "x"), ("say", "one"), ("say", "two")]


def test_progress_is_the_latest() -> None:
    made = reports()
    made.progress(0.1, "a")
    made.progress(0.2, "b")
    taken = made.take()
    assert payloads(taken) == [("progress", [0.2, "b"])]
    assert taken is not None
    assert msgspec.json.decode(taken.progress)[:2] == [0.2, "b"]
    assert made.take() is None


def test_what_could_not_be_sent_comes_first_the_next_time() -> None:
    made = reports()
    made.say("say", "first")
    taken = made.take()
    assert taken is not None
    made.say("say", "second")
    made.put_back(taken)
    assert payloads(made.take()) == [("say", "first"), ("say", "second")]


def test_what_is_left_out_is_said() -> None:
    made = reports()
    for _ in range(300):
        made.say("say", "x" * 1_000)
    found = payloads(made.take())
    assert len(found) == 262, "256 KiB wait at most"
    made.say("say", "more")
    assert payloads(made.take()) == [("say", "(38,000 characters were left out here)"), ("say", "more")]


def test_at_most_a_mebibyte_in_all() -> None:
    made = reports()
    sent = 0
    for _ in range(2_000):
        made.say("say", "x" * 1_000)
        sent += len(payloads(made.take()))
    assert sent == 1_048
    assert payloads(made.take(last=True)) == [("say", "(952,000 characters were left out here)")]


@given(st.lists(st.tuples(st.sampled_from(["out", "err"]), st.text("ab\n", max_size=50)), max_size=30))
def test_pieces_make_the_same_text(pieces: list[tuple[str, str]]) -> None:
    """However it is cut, each output's text comes whole, but for its last line's end."""
    made = reports()
    found = []
    for number, (kind, text) in enumerate(pieces):
        made.write(kind, text)
        if number % 3 == 0:
            found += payloads(made.take())
    found += payloads(made.take(last=True))
    for kind in ("out", "err"):
        written = "".join(text for one, text in pieces if one == kind)
        assert "\n".join(text for one, text in found if one == kind) == written.removesuffix("\n")


@given(st.lists(st.tuples(st.text("ab\n", max_size=20), st.integers(0, 3_000)), max_size=10))
def test_entries_are_small(parts: list[tuple[str, int]]) -> None:
    made = reports()
    text = "".join(part * times for part, times in parts)[:200_000]
    made.write("out", text)
    found = [payload for _, payload in payloads(made.take(last=True))]
    assert max(map(len, found), default=0) <= 16 * 1024 + 1
    assert "".join(found).replace("\n", "") == text.replace("\n", "")
