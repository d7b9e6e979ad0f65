"""What `status` and `top` show, as lines: nothing wraps, nothing that matters is left out, whatever the size."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.cli import overview
from chargehand.cli.columns import Said
from chargehand.cli.lease import lease_lines
from chargehand.cli.queue import queue_lines, queue_list_lines
from chargehand.cli.screen import Snapshot, screen, share_out
from chargehand.store.census import Census, Seen
from chargehand.store.membership import Member
from chargehand.store.queues import LimitView, QueueView, Serving, Waiting
from chargehand.store.stats import ActionStats, Minute, Stats, Trouble

NOW_MS = 1_795_512_071_530
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


def text_of(lines: Iterable[Said]) -> list[str]:
    return ["".join(piece if isinstance(piece, str) else piece[0] for piece in line).rstrip() for line in lines]


def seen(node: str, child: str, kind: str = "worker", *, silent: bool = False, **more: object) -> Seen:
    member = Member(kind=kind, node=node, child=child, pid=1, started_ms=NOW_MS - 90_000, version="1.0", **more)  # type: ignore[arg-type]
    return Seen(f"{node}-{child}", member, 60.0 if silent else 0.5, silent)


def orchestrator(node: str, role: str = "passive", **more: object) -> Seen:
    return seen(node, "orchestrator", "orchestrator", role=role, since_ms=NOW_MS - 60_000, **more)  # type: ignore[arg-type]


def census(*members: Seen, token: str | None = "7:a-orchestrator", **more: object) -> Census:
    fields: dict[str, object] = {
        "inbox": 0,
        "pending": 0,
        "plans": {"running": 2, "paused": 1, "succeeded": 1_204},
        "queues": {},
        "fence": token or "",
    }
    return Census(
        now_ms=NOW_MS,
        executor="default",
        lease_token=token,
        lease_left=4.2,
        holder="a",
        holder_since_ms=NOW_MS - 3_600_000,
        members=sorted(members, key=lambda one: (one.member.node, one.member.kind, one.member.child)),
        **{**fields, **more},  # type: ignore[arg-type]
    )


SOUND = (
    orchestrator("a", "active", share=35),
    orchestrator("b"),
    seen("a", "worker", role="working", threads=5, busy=2, queues=["default", "@a"]),
    seen("b", "worker", role="working", threads=5, busy=0, queues=["default", "@b"]),
)


# -- the head ----------------------------------------------------------------------------------------


def test_a_sound_executor_in_a_few_lines() -> None:
    found = census(*SOUND)
    (line,) = text_of(overview.lease_line(found, 80))
    assert line.startswith("lease    held by a, epoch 7, since ")
    assert line.endswith("(1 h), 4.2 s left")
    assert text_of(overview.passive_line(found, 80)) == ["         1 passive: b"]
    assert text_of(overview.plans_line(found, 80)) == ["plans    2 running, 1 paused, 1,204 succeeded"]
    assert text_of(overview.inbox_line(found, 80)) == ["inbox    empty, orchestrator 35 % busy"]
    assert text_of(overview.degraded_lines(found, 80)) == []


def test_nobody_is_active_and_nobody_waits() -> None:
    assert text_of(overview.lease_line(census(token=None), 80)) == ["lease    free: no orchestrator is active"]
    assert "is one running?" in text_of(overview.passive_line(census(token=None), 80))[0]
    alone = census(orchestrator("a", "active"))
    assert "no other takes over" in text_of(overview.passive_line(alone, 80))[0]


def test_a_silent_passive_one_does_not_take_over() -> None:
    found = census(orchestrator("a", "active"), orchestrator("b", silent=True))
    assert "no other takes over" in text_of(overview.passive_line(found, 80))[0]


def test_events_that_wait() -> None:
    found = census(*SOUND, inbox=1, inbox_age=3.0, pending=1)
    (line,) = text_of(overview.inbox_line(found, 80))
    assert line == "inbox    1 event waits, the oldest for 3.00 s, orchestrator 35 % busy"
    assert text_of(overview.plans_line(found, 80))[0].endswith("1 not accepted yet")


def test_what_is_degraded() -> None:
    found = census(
        orchestrator("a", "active", degraded="Redis is full: new plans are refused"),
        seen("b", "worker", silent=True),
        queues={"default": 0, "gpu": 1, "many": 1_200, "@c": 3},
    )
    assert text_of(overview.degraded_lines(found, 80)) == [
        "degraded b worker: not heard for 60 s",
        "degraded a orchestrator: Redis is full: new plans are refused",
        "degraded 1 step waits in queue gpu, which no worker serves",
        "degraded 1,200 steps wait in queue many, which no worker serves",
        "degraded 3 steps wait for node c, which has no worker now",
    ]


def test_many_names_are_counted() -> None:
    nodes = [f"n{number:02}" for number in range(50)]
    found = census(*(orchestrator(node) for node in nodes))
    assert text_of(overview.passive_line(found, 80)) == ["         50 passive: n00, n01, n02, n03, and 46 more"]
    found = census(*(seen(node, "worker", silent=True) for node in nodes))
    assert text_of(overview.degraded_lines(found, 80)) == [
        "degraded 50 nodes have members that are not heard: n00, n01, n02, and 47 more"
    ]
    found = census(*(orchestrator(node, degraded="x") for node in nodes))
    lines = text_of(overview.degraded_lines(found, 80))
    assert len(lines) == 13
    assert lines[-1] == "degraded and 38 more of this kind (--json shows all)"


def test_a_line_that_goes_on_below_fits_too() -> None:
    items = ["a" * 33, "b" * 35, "c"]
    lines = overview.folded("label", items, 80)
    assert text_of(lines) == [f"label    {'a' * 33}, {'b' * 35},", "         c"]
    assert sum(len(piece if isinstance(piece, str) else piece[0]) for piece in lines[0]) == 80, "no space at its end"


# -- tables ------------------------------------------------------------------------------------------


def test_a_node_is_named_once_on_a_terminal_and_on_each_line_elsewhere() -> None:
    found = census(*SOUND)
    names = [line[:1].strip() for line in text_of(overview.member_rows(found, 80))[1:]]
    assert names == ["a", "", "b", ""]
    assert [line.split()[0] for line in text_of(overview.member_rows(found, None))[1:]] == ["a", "a", "b", "b"]


def test_one_domain_is_not_repeated() -> None:
    domain = "prod.example.com"
    found = census(orchestrator(f"sat-1.{domain}", "active"), orchestrator(f"sat-2.{domain}"))
    assert domain not in "".join(text_of(overview.member_rows(found, 80)))
    assert domain in "".join(text_of(overview.member_rows(found, None)))
    found = census(orchestrator("a.one"), orchestrator("a.two"))
    assert "a.two" in "".join(text_of(overview.member_rows(found, 80))), "these would look the same"


def test_versions_only_where_they_differ() -> None:
    assert "VERSION" not in text_of(overview.member_rows(census(*SOUND), 160))[0]
    other = seen("c", "worker", role="working")
    other.member.version = "2.0"
    assert "VERSION" in text_of(overview.member_rows(census(*SOUND, other), 160))[0]


def test_queues_of_nodes_only_where_something_waits() -> None:
    found = census(*SOUND, queues={"default": 0, "@a": 0, "@b": 2}, rates={"default": (12.4, 0.04)})
    rows = text_of(overview.queue_rows(found, 80))
    assert [row.split() for row in rows[1:]] == [
        ["default", "0", "2", "2/10", "12", "<0.1"],
        ["@b", "2", "1", "0/5", "0", "0"],
    ]


NAMES = st.text("abcdefgh-.", min_size=1, max_size=16)
MEMBERS = st.lists(
    st.builds(
        seen,
        NAMES,
        NAMES,
        st.sampled_from(["worker", "orchestrator"]),
        silent=st.booleans(),
        role=st.sampled_from(["active", "passive", "working"]),
        degraded=st.sampled_from(["", "x" * 100, "word " * 40]),
        queues=st.lists(NAMES, max_size=4),
    ),
    max_size=12,
)
TROUBLES = st.lists(
    st.builds(Trouble, st.text(max_size=200), NAMES, st.integers(1, 10**6), st.just(NOW_MS), st.just(["p"]), st.text()),
    max_size=8,
)


def stats_of(names: Iterable[str]) -> Stats:
    minute = Minute(NOW_MS, 10**6, 10**4, 3, 9, 9, 9, 4, 10**7)
    return Stats(NOW_MS, [minute], [], [ActionStats(name, 1, 2, 3) for name in names])


@given(MEMBERS, TROUBLES, st.lists(NAMES, unique=True, max_size=8), st.integers(40, 200), st.integers(1, 80))
def test_a_screen_is_never_too_high_and_from_80_columns_on_never_too_wide(
    members: list[Seen], troubles: list[Trouble], names: list[str], width: int, height: int
) -> None:
    found = census(*members, queues=dict.fromkeys(names, 7))
    lines = text_of(screen("default", Snapshot(found, stats_of(names), troubles), NOW, width=width, height=height))
    assert len(lines) <= height
    one_long_word = any("x" * 100 in one.member.degraded for one in members)
    assert width < 80 or one_long_word or max(map(len, lines)) <= width
    whole = text_of(screen("default", Snapshot(found, stats_of(names), troubles), NOW, width=None, height=None))
    for one in members:
        assert any(one.member.child in line for line in whole)
    for name in names:
        assert any(line.startswith(name) for line in whole)


@given(st.integers(0, 100), st.lists(st.integers(0, 60), min_size=4, max_size=4))
def test_room_is_used_and_shared(room: int, wanted: list[int]) -> None:
    shares = share_out(room, wanted)
    assert sum(shares) == min(room, sum(wanted))
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    assert all(share >= min(want, 4) for share, want in zip(shares, wanted, strict=True)) or room < 19


def test_who_is_in_trouble_comes_first() -> None:
    found = census(*SOUND, seen("z", "worker", silent=True), queues={"a": 0, "default": 3, "zz": 9})
    lines = text_of(screen("default", Snapshot(found, stats_of(["x"]), []), NOW, width=80, height=40))
    rows = lines[next(at for at, line in enumerate(lines) if line.startswith("NODE")) + 1 :]
    assert rows[0].startswith("z "), "the silent one"
    assert rows[1].startswith("a "), "then the active one"
    queues = lines[next(at for at, line in enumerate(lines) if line.startswith("QUEUE")) + 1 :]
    assert [row.split()[0] for row in queues[:3]] == ["zz", "a", "default"]


def test_redis_is_away() -> None:
    early = Snapshot(silence="127.0.0.1:6379: Connection refused", since=NOW_MS / 1000 - 5)
    lines = text_of(screen("default", early, NOW, width=80, height=24))
    assert len(lines) <= 3
    assert "does not answer since " in lines[1]
    late = Snapshot(census(*SOUND), stats_of([]), [], NOW_MS / 1000, early.silence, early.since)
    text = " ".join(" ".join(text_of(screen("default", late, NOW, width=80, height=24))).split())
    assert "what follows was known before" in text
    assert "held by a" in text


# -- lease and queue ---------------------------------------------------------------------------------


def test_a_lease_whose_fence_is_anothers() -> None:
    lines = text_of(lease_lines(census(*SOUND, fence="9:x"), 5.0, 80))
    assert any(line.startswith("fence    9:x, another one: what the holder writes does not count") for line in lines)
    assert any(line.startswith("holder   a: orchestrator, PID 1, heard 0.5 s ago") for line in lines)


def test_a_lease_whose_holder_is_not_there() -> None:
    lines = text_of(lease_lines(census(orchestrator("b"), token="8:gone"), 5.0, 80))
    assert "holder   a: not registered now: it may be starting, or gone" in lines


@pytest.mark.parametrize(
    ("limit", "brief", "words"),
    [
        (LimitView(3, 0, 0, 2, ["p/0", "q/0"], 0, []), "2/3", "3 at once, of which 2 stand"),
        (LimitView(0, 10, 1_000, 0, [], 0, []), "10/s", "10 begin a second"),
        (LimitView(0, 10, 90_000, 0, [], 1, ["p"]), "10/90s, 1 wait", "10 begin in 90 s; 1 plan waits for room"),
        (
            LimitView(0, 0, 0, 4, ["p/0"], 2, ["p", "q"]),
            "4 stand, 2 wait",
            "none in this node's configuration, but 4 stand under one; 2 plans wait for room",
        ),
    ],
)
def test_limits_in_words(limit: LimitView, brief: str, words: str) -> None:
    view = QueueView("q", 1, [Serving("a", "worker", 1, 5)], 0.5, 0.0, [], limit)
    assert brief in text_of(queue_list_lines([view], NOW, None))[1]
    assert f"limit    {words}" in text_of(queue_lines(view, NOW, None))


def test_first_steps_of_a_queue() -> None:
    entries = [
        Waiting(1, "plan-a", 0, 3, "patch", alone=True, since_ms=NOW_MS - 240_000),
        Waiting(2, "plan-b", 12, 1, "patch", alone=False, since_ms=0),
    ]
    lines = text_of(queue_lines(QueueView("q", 2, [], 0.0, 0.0, entries, None), NOW, 80))
    assert "workers  none serves it" in lines
    assert [line.split() for line in lines[-2:]] == [
        ["1", "plan-a", "0", "3", "patch", "4", "min", "runs", "alone"],
        ["2", "plan-b", "12", "1", "patch", "?"],
    ]
