"""What counting costs the orchestrator: one process, no Redis, its whole way from an event to the packed commit.

The same with counting taken out, in turn; CPU time, so that what else the machine does matters little.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from unittest.mock import patch

import hiredis
import pytest
from msgspec import Raw

from bench.figures import Figures, print_columns
from chargehand.orchestrator.tally import Tally
from chargehand.plan import director
from chargehand.plan.books import Books
from chargehand.plan.director import Director, named
from chargehand.store.committing import commit_command
from chargehand.store.counting import Kept, MinuteRecord
from chargehand.store.keys import Keys
from chargehand.wire import Definition, Finished, Policy, Step, Submitted, decode_event, encode, read_entry, read_key

KEYS = Keys("default")
TURNS = 24  # of each kind, with and without
BATCH = 400  # events a turn
A_SECOND = 20  # turns between two pages


def work(plans: int, length: int) -> float:
    """Run so many chains to their end. CPU seconds a step."""
    steps = [Step(0, Raw(b'{"n":1}'), [number - 1] if number else []) for number in range(length)]
    definition = Raw(encode(Definition(label="bench", policies=[Policy("nothing")], total=length, steps=steps)))
    inbox = [encode(Submitted(f"p{number:010d}", definition)) for number in range(plans)]
    directs, tally = Director(), Tally(0.0)
    tally.begin(0, Kept(MinuteRecord(), {}, []))
    spent, seq, succeeded = 0.0, 0, 0
    while inbox:
        began = time.process_time()
        events = [(f"{seq}-{at}", decode_event(data)) for at, data in enumerate(inbox[:BATCH])]
        named((event for _, event in events), [], [])
        commit, covered = directs.decide([*events], now_ms=1_000 + seq)
        hiredis.pack_command(commit_command(KEYS, commit, token="1:x", seq=seq, ttl_ms=5_000))
        tally.add(commit)
        if seq % A_SECOND == 0:
            tally.written(tally.page(seq / A_SECOND, 1_000 + seq, busy=0, submitted={}, held={}))
        spent += time.process_time() - began
        del inbox[:covered]
        seq += 1
        succeeded += sum(letter == "S" for letter in commit.announced.values())
        inbox += [encode(Finished(*_key(entry))) for entries in commit.pushed.values() for entry in entries]
    assert succeeded == plans
    return spent / (plans * length)


def _key(entry: bytes) -> tuple[str, int, int]:
    return read_key(read_entry(entry).key)


def uncounted(run: Callable[[], float]) -> float:
    """The same without what is there for counting."""
    none = patch.object(Books, "count_done", lambda *_: None), patch.object(Tally, "add", lambda *_: None)
    with none[0], none[1], patch.object(director, "CLOSED", 0):
        return run()


@pytest.mark.parametrize(("what", "plans", "length"), [("one-step plans", 4_000, 1), ("chains of 10", 400, 10)])
def test_what_counting_costs(what: str, plans: int, length: int) -> None:
    counted, without = [], []
    gc.disable()
    try:
        for turn in range(TURNS):
            for counts in (False, True) if turn % 2 else (True, False):
                gc.collect()
                if counts:
                    counted.append(work(plans, length) * 1e6)
                else:
                    without.append(uncounted(lambda: work(plans, length)) * 1e6)
    finally:
        gc.enable()
    calm = [Figures(sorted(times)[: TURNS // 3]) for times in (counted, without)]  # while nothing else ran, mostly
    more = Figures([(calm[0].median / calm[1].median - 1) * 100])
    print_columns(
        f"counting, {what}",
        ["WITH", "WITHOUT", "WITH, CALM", "WITHOUT, CALM", "MORE, %"],
        [("orchestrator's CPU", "us a step", [Figures(counted), Figures(without), *calm, more])],
    )
