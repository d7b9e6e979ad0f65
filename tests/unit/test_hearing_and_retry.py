"""When silence means death, and when a failed attempt is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from chargehand.orchestrator.health import Hearing
from chargehand.plan.retry import backoff_ms
from chargehand.wire import Definition, Policy, Step, encode, is_newer, read_entry, write_entry


def test_nobody_is_buried_before_four_seconds_of_hearing() -> None:
    hearing = Hearing(100.0, 5_000_000)
    assert not hearing.may_bury(103.9)
    assert hearing.may_bury(104.0)


def test_a_jump_between_the_clocks_starts_the_four_seconds_again() -> None:
    hearing = Hearing(100.0, 5_000_000)
    hearing.heard(110.0, 5_010_000)
    assert hearing.may_bury(110.0)
    hearing.heard(111.0, 5_013_500)  # Redis' clock was set 2.5 s ahead
    assert not hearing.may_bury(114.9)
    assert hearing.may_bury(115.0)
    assert hearing.redis_ms(115.0) == 5_017_500


def test_slow_drift_is_followed() -> None:
    hearing = Hearing(0.0, 0)
    for second in range(1, 1_000):
        hearing.heard(float(second), second * 1000 + second * 10)
    assert hearing.may_bury(1_000.0)


@given(st.integers(1, 100), st.text(min_size=1, max_size=40))
def test_backoff_doubles_up_to_its_limit_with_jitter(failures: int, key: str) -> None:
    policy = Policy("a", backoff_ms=1_000, max_backoff_ms=60_000)
    full = min(60_000, 1_000 * 2 ** (failures - 1))
    assert full // 2 <= backoff_ms(policy, failures, key) <= full
    assert backoff_ms(policy, failures, key) == backoff_ms(policy, failures, key)


def test_steps_that_failed_together_do_not_come_back_together() -> None:
    policy = Policy("a", backoff_ms=10_000)
    waits = {backoff_ms(policy, 1, f"plan/{step}/1") for step in range(100)}
    assert len(waits) > 90


@given(st.text(alphabet="abc-._", min_size=1), st.integers(0, 10**6), st.booleans(), st.text())
def test_entries_survive_the_way(plan: str, step: int, suspect: bool, value: str) -> None:
    raw = write_entry(f"{plan}/{step}/1", "act", encode({"v": value}), None, suspect=suspect)
    entry = read_entry(raw)
    assert (entry.key, entry.action, entry.suspect) == (f"{plan}/{step}/1", "act", suspect)
    assert bytes(entry.input) == encode({"v": value})


def test_a_later_format_is_recognised() -> None:
    ours = encode(Definition(label="x", policies=[Policy("a")], total=1, steps=[Step(0)]))
    assert not is_newer(Raw(ours))
    assert not is_newer(Raw(b'{"label":"format","format":1}'))
    assert is_newer(Raw(b'{"label":"x","format":2,"unheard":[]}'))
    assert not is_newer(Raw(b'{"format":"x"}'))
