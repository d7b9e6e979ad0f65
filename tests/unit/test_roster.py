"""Which children a node has, and that the moves always lead from what runs to what is wanted, in the right order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chargehand.config.settings import (
    ConsoleSettings,
    ExecutorSettings,
    Limits,
    LogPattern,
    ProgramSettings,
    RedisSettings,
    RolePatterns,
    Settings,
    WorkerSettings,
)
from chargehand.supervisor.life import LIFE, RUNNING, SWEEPING, Event, State
from chargehand.supervisor.roster import (
    Do,
    Move,
    Present,
    answers_to,
    next_moves,
    roster,
    starts_after,
    unsettled,
    wanted_while_drained,
)
from chargehand.supervisor.spec import Spec

AFTER = {"web": (), "feed": ("web",), "late": ("w",), "last": ("orchestrator", "feed")}


def spec(name: str, variant: int = 0) -> Spec:
    """A child of the model's node; another variant has other settings."""
    settings_ = str(variant).encode()
    if name == "orchestrator":
        return Spec(name=name, kind="orchestrator", settings=settings_)
    if name == "redis":
        return Spec(name=name, kind="redis", ready="probe")
    if name == "console":
        return Spec(name=name, kind="console", settings=settings_)
    if name in AFTER:
        return Spec(name=name, kind="program", ready="running", settings=settings_, after=AFTER[name])
    return Spec(name=name, kind="worker", crew="w", settings=settings_)


NAMES = ("redis", "orchestrator", "w", "w-1", "w-2", "w-3", "console", *AFTER)


class Child:
    def __init__(self, key: int, its: Spec) -> None:
        self.key, self.spec = key, its
        self.state = State.IDLE
        self.stale = self.drained = self.ended_before = False

    @property
    def present(self) -> Present:
        return Present(self.key, self.spec, self.state, self.stale, self.drained)

    @property
    def alive(self) -> bool:
        """Something of it may run."""
        return self.state in RUNNING | SWEEPING

    @property
    def handing_over(self) -> bool:
        return self.state is State.READY or (self.state is State.DRAINING and not self.drained)

    def handle(self, event: Event) -> bool:
        move = LIFE[self.state][event]
        if move is None:
            return False
        self.ended_before |= event in {Event.UNSTARTABLE, Event.SWEPT}
        self.state = move.next
        return True


class Node(RuleBasedStateMachine):
    """A node whose children live by their table. After whatever happens, the moves are made until there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Child] = []
        self.specs: list[Spec] = []
        self.wanted: list[Spec] = []
        self.stopping = False
        self.keys = 0

    # -- what may happen --------------------------------------------------------------------------

    @initialize(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
    def start(self, chosen: set[str]) -> None:
        self._want(dict.fromkeys(chosen, 0))

    @precondition(lambda self: not self.stopping)
    @rule(chosen=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), min_size=1))
    def reload(self, chosen: dict[str, int]) -> None:
        self._want(chosen)

    @precondition(lambda self: not self.stopping)
    @rule(chosen=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), min_size=1))
    def change_some(self, chosen: dict[str, int]) -> None:
        self._want({one.name: int(one.settings or b"0") for one in self.specs} | chosen)

    @precondition(lambda self: not self.stopping)
    @rule()
    def drain(self) -> None:
        self.wanted = wanted_while_drained(self.specs)
        self._settle()

    @precondition(lambda self: not self.stopping)
    @rule()
    def undrain(self) -> None:
        self.wanted = self.specs
        self._settle()

    @precondition(lambda self: not self.stopping and self.children)
    @rule(number=st.integers(0))
    def replace(self, number: int) -> None:
        self.children[number % len(self.children)].stale = True
        self._settle()

    @precondition(lambda self: self.children)
    @rule(number=st.integers(0), event=st.sampled_from([one for one in Event if one not in {Event.DRAIN, Event.STOP}]))
    def happen(self, number: int, event: Event) -> None:
        child = self.children[number % len(self.children)]
        if event is not Event.DUE or self._may_start(child):
            child.handle(event)
        self._settle()

    @precondition(lambda self: self.children)
    @rule(number=st.integers(0))
    def has_drained(self, number: int) -> None:
        child = self.children[number % len(self.children)]
        child.drained |= child.state is State.DRAINING
        self._settle()

    @rule()
    def everything_goes_well(self) -> None:
        self._go_well()

    @precondition(lambda self: not self.stopping)
    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.wanted = []
        self._settle()

    def teardown(self) -> None:
        self._go_well()

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_runs_beside_itself_that_cannot(self) -> None:
        names = [child.spec.name for child in self.children if child.alive and not child.spec.overlaps]
        assert len(names) == len(set(names))

    def _in_replacement(self) -> set[str]:
        """Names of which one serves, and another that is to take its place is not READY yet."""
        found = set()
        for one in self.wanted:
            here = [child for child in self.children if child.spec.name == one.name]
            fresh = [child for child in here if child.spec == one and not child.stale]
            serves = any(child.state is State.READY for child in here if child not in fresh)
            if serves and fresh and not any(child.state is State.READY for child in fresh):
                found.add(one.name)
        return found

    def _check(self, move: Move) -> None:
        """Before it is made."""
        child = next((one for one in self.children if one.key == move.key), None)
        if child is None:
            assert move.do is Do.START
            assert move.spec in self.wanted
            serves = any(one.spec.name == move.spec.name and one.state is State.READY for one in self.children)
            if serves and move.spec.overlaps:
                # A second may have been on its way before, unwanted meanwhile and wanted again: but none is started.
                assert self._in_replacement() == set(), "one at a time"
            return
        others = [one for one in self.children if one is not child and one.state is not State.STOPPED]
        if child.spec.member and child.state is State.READY:
            assert move.do is Do.DRAIN, "one of the executor that serves is never just ended"
            target = next((one for one in self.wanted if one.name == child.spec.name), None)
            wants_its_group = [one for one in self.wanted if one.crew and one.crew == child.spec.crew]
            if target is None and wants_its_group:
                serving = [one for one in others if one.state is State.READY and not one.stale]
                assert any(one.spec in wants_its_group for one in serving), "its group goes on serving"
            if target is not None:
                assert any(one.spec == target and not one.stale and one.state is State.READY for one in others), (
                    "its successor serves"
                )
        if self.stopping:
            self._check_order(child, move, others)

    def _check_order(self, child: Child, move: Move, others: list[Child]) -> None:
        kind = child.spec.kind
        if kind == "worker" and move.do is Do.DRAIN:
            assert not any(one.spec.kind == "orchestrator" and one.handing_over for one in others)
        if move.do is Do.END:
            assert not any(answers_to(child.spec, name) for one in others for name in one.spec.after)
            if kind == "orchestrator":
                assert not any(one.spec.kind == "worker" for one in others), "it hands on their death notices"
            if kind == "program" and not child.spec.after:
                assert not any(one.spec.own for one in others), "their steps may need it"
            if kind == "redis":
                assert others == []

    # -- how it moves -----------------------------------------------------------------------------

    def _want(self, chosen: dict[str, int]) -> None:
        self.specs = [spec(name, chosen[name]) for name in NAMES if name in chosen]
        self.wanted = self.specs
        self._settle()

    def _may_start(self, child: Child) -> bool:
        past = {one.spec.name for one in self.children if one.state is State.READY or one.ended_before}
        return not starts_after(child.spec, {one.name: one for one in self.wanted}) - past

    def _settle(self) -> None:
        """As the agent does: ask and move until there is nothing to do."""
        for _ in range(20):
            self.children = [one for one in self.children if one.state is not State.STOPPED]
            moves = next_moves(self.wanted, [one.present for one in self.children])
            if not moves:
                return
            for move in moves:
                self._check(move)
                if move.do is Do.START:
                    assert move.spec is not None
                    self.keys += 1
                    self.children.append(Child(self.keys, move.spec))
                else:
                    child = next(one for one in self.children if one.key == move.key)
                    changed = child.handle(Event.DRAIN if move.do is Do.DRAIN else Event.STOP)
                    assert changed, f"{move.do} means nothing to one that is {child.state}"
        pytest.fail(f"never settles: {moves}")

    def _go_well(self) -> None:
        """Nothing goes wrong any more: in the end exactly what is wanted is READY."""
        for _ in range(1000):
            for child in self.children:
                if self._step(child):
                    self._settle()
                    self.nothing_runs_beside_itself_that_cannot()
                    break
            else:
                break
        assert sorted((one.spec.name, one.state.value) for one in self.children) == sorted(
            (one.name, "ready") for one in self.wanted
        )
        assert not any(one.stale for one in self.children)
        assert {one.spec.name: one.spec for one in self.children} == {one.name: one for one in self.wanted}

    def _step(self, child: Child) -> bool:
        """The next thing that happens to a healthy child, if there is one."""
        if child.state is State.DRAINING and not child.drained:
            child.drained = True
            return True
        if child.state is State.IDLE:
            return self._may_start(child) and child.handle(Event.DUE)
        if child.state is State.STARTING:
            return child.handle(Event.NOTIFIED_READY)
        if child.state in {State.HUNG, State.STOPPING}:
            return child.handle(Event.EXITED)
        return child.state in SWEEPING and child.handle(Event.SWEPT)


TestNode = Node.TestCase
TestNode.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- examples, for the reader ---------------------------------------------------------------------


def present(*children: tuple[Spec, State], stale: tuple[str, ...] = (), drained: tuple[str, ...] = ()) -> list[Present]:
    return [
        Present(key, its, state, its.name in stale, its.name in drained) for key, (its, state) in enumerate(children)
    ]


def moved(wanted: list[Spec], here: list[Present], *, notices_settled: bool = True) -> list[tuple[Do, str]]:
    names = {one.key: one.spec.name for one in here}
    return [
        (move.do, move.spec.name if move.spec is not None else names[move.key])
        for move in next_moves(wanted, here, notices_settled=notices_settled)
    ]


ORCH, W1, W2, WEB, FEED, REDIS = (spec(name) for name in ("orchestrator", "w-1", "w-2", "web", "feed", "redis"))


def test_a_start_is_everything_at_once() -> None:
    """Who waits for whom is `starts_after`'s matter: a child that waits is shown from the start."""
    assert moved([ORCH, W1, WEB], []) == [(Do.START, "orchestrator"), (Do.START, "w-1"), (Do.START, "web")]


def test_one_of_ours_is_replaced_by_one_that_is_ready() -> None:
    fresh = spec("w-1", 1)
    assert moved([fresh], present((W1, State.READY))) == [(Do.START, "w-1")]
    assert moved([fresh], present((W1, State.READY), (fresh, State.STARTING))) == []
    assert moved([fresh], present((W1, State.READY), (fresh, State.READY))) == [(Do.DRAIN, "w-1")]
    assert moved([fresh], present((W1, State.DRAINING), (fresh, State.READY))) == []
    here = [Present(0, W1, State.DRAINING, drained=True), Present(1, fresh, State.READY)]
    assert moved([fresh], here) == [(Do.END, "w-1")]


def test_another_program_ends_before_its_successor_starts() -> None:
    fresh = spec("web", 1)
    assert moved([fresh], present((WEB, State.READY))) == [(Do.END, "web")]
    for state in (State.STOPPING, State.CLOSING):
        assert moved([fresh], present((WEB, state))) == []
    assert moved([fresh], present((WEB, State.STOPPED))) == [(Do.START, "web")]


def test_a_console_does_the_same_for_its_port_and_serves_a_drained_node() -> None:
    console, fresh = spec("console"), spec("console", 1)
    assert moved([fresh], present((console, State.READY))) == [(Do.END, "console")]
    assert moved([fresh], present((console, State.STOPPED))) == [(Do.START, "console")]
    assert wanted_while_drained([ORCH, W1, console]) == [console]
    assert console.own
    assert not console.member


def test_a_console_is_given_all_settings_and_is_replaced_when_any_changes() -> None:
    settings_ = msgspec.structs.replace(two_groups(), console=ConsoleSettings(enabled=True, nice=5))
    found = by_name(settings_)["console"]
    assert (found.kind, found.argv[-1], found.nice, found.after) == ("console", "console", 5, ())
    given = msgspec.json.decode(found.settings)
    assert given.keys() == set(Settings.__struct_fields__)
    other = by_name(msgspec.structs.replace(settings_, executor=ExecutorSettings("east")))["console"]
    assert other != found


def test_workers_are_replaced_one_at_a_time() -> None:
    both = present((W1, State.READY), (W2, State.READY), stale=("w-1", "w-2"))
    assert moved([W1, W2], both) == [(Do.START, "w-1")]


def test_a_later_one_in_replacement_keeps_an_earlier_one_waiting() -> None:
    """The order of requests is not the order of the roster: `restart w-2`, then `restart w-1`."""
    here = [
        Present(0, W1, State.READY, stale=True),
        Present(1, W2, State.READY, stale=True),
        Present(2, W2, State.STARTING),
    ]
    assert moved([W1, W2], here) == []


def test_group_of_another_size_goes_on_serving() -> None:
    """Processes of a larger group have other names: the old one drains when the first of them is READY."""
    alone = spec("w")
    assert moved([W1, W2], present((alone, State.READY))) == [(Do.START, "w-1"), (Do.START, "w-2")]
    assert moved([W1, W2], present((alone, State.READY), (W1, State.STARTING), (W2, State.IDLE))) == []
    assert moved([W1, W2], present((alone, State.READY), (W1, State.READY), (W2, State.IDLE))) == [(Do.DRAIN, "w")]
    assert moved([], present((alone, State.READY))) == [(Do.DRAIN, "w")]


def test_what_serves_no_more_is_replaced_without_waiting() -> None:
    fresh = spec("w-1", 1)
    for state in (State.IDLE, State.STARTING, State.HUNG, State.SWEEPING):
        assert moved([fresh], present((W1, state))) == [(Do.START, "w-1"), (Do.END, "w-1")], state


def test_a_stop_hands_the_lease_over_first_and_ends_in_reverse() -> None:
    everyone = [REDIS, ORCH, W1, WEB, FEED]
    states = dict.fromkeys(("redis", "orchestrator", "w-1", "web", "feed"), State.READY)
    drained: tuple[str, ...] = ()

    def left() -> list[Present]:
        return present(*((one, states[one.name]) for one in everyone), drained=drained)

    assert moved([], left()) == [(Do.DRAIN, "orchestrator")]
    states["orchestrator"] = State.DRAINING
    assert moved([], left()) == []
    drained = ("orchestrator",)
    assert moved([], left()) == [(Do.DRAIN, "w-1")]
    states["w-1"] = State.DRAINING
    assert moved([], left()) == []
    drained = ("orchestrator", "w-1")
    assert moved([], left()) == [(Do.END, "w-1")]
    states["w-1"] = State.STOPPED
    assert moved([], left(), notices_settled=False) == []
    for name in ("orchestrator", "feed", "web", "redis"):
        assert moved([], left()) == [(Do.END, name)]
        states[name] = State.STOPPED
    assert moved([], left()) == []


def test_drained_node_keeps_its_server_and_other_programs() -> None:
    assert wanted_while_drained([REDIS, ORCH, W1, WEB]) == [REDIS, WEB]


def test_who_waits_for_whom() -> None:
    by_name = {one.name: one for one in (ORCH, W1, W2, WEB, FEED, spec("late"), spec("last"))}
    assert starts_after(by_name["feed"], by_name) == {"web"}
    assert starts_after(by_name["late"], by_name) == {"w-1", "w-2"}, "a group's name means all of it"
    assert starts_after(by_name["last"], by_name) == {"orchestrator", "feed"}
    assert starts_after(W1, by_name) == set()
    assert starts_after(W1, by_name | {"redis": REDIS}) == starts_after(ORCH, by_name | {"redis": REDIS}) == {"redis"}
    assert starts_after(by_name["feed"], {"feed": FEED}) == set(), "what is not wanted is not waited for"


# -- from settings --------------------------------------------------------------------------------

ELSEWHERE = RedisSettings(url="redis://127.0.0.1:6379/0")


def by_name(settings_: Settings) -> dict[str, Spec]:
    return {one.name: one for one in roster(settings_, "unix:///run/x.sock")}


def two_groups(**more: object) -> Settings:
    groups = [WorkerSettings("hosts", processes=2), WorkerSettings("slow")]
    return Settings(redis=ELSEWHERE, worker=groups, child=[ProgramSettings("web", ["/bin/web"])], **more)  # type: ignore[arg-type]


def test_names_and_order() -> None:
    assert list(by_name(two_groups())) == ["orchestrator", "hosts-1", "hosts-2", "slow", "web"]
    assert list(by_name(Settings(redis=RedisSettings(embedded=True)))) == ["redis", "orchestrator", "worker"]


def test_a_program_as_it_was_declared() -> None:
    program = ProgramSettings(
        "web",
        ["/bin/web", "-v"],
        ready=LogPattern("listening"),
        role=RolePatterns(active="master"),
        after=["slow"],
        stop_signal="SIGINT",
        env={"A": "1"},
        limits=Limits(nofile=64),
    )
    found = by_name(msgspec.structs.replace(two_groups(), child=[program]))["web"]
    assert (found.ready, found.ready_pattern, found.role_active, found.role_passive) == (
        "log",
        "listening",
        "master",
        "",
    )
    assert found.argv == ("/bin/web", "-v")
    assert (found.after, found.stop_signal, found.env) == (("slow",), 2, (("A", "1"),))
    assert found.limits == (("nofile", 64),)
    assert not found.overlaps
    assert found.has_role


@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"child": [ProgramSettings("web", ["/bin/web", "-v"])]}, {"web"}, id="a program"),
        pytest.param(
            {"worker": [WorkerSettings("hosts", processes=2), WorkerSettings("slow", threads=1)]},
            {"slow"},
            id="a group",
        ),
        pytest.param(
            {"worker": [WorkerSettings("hosts", processes=3), WorkerSettings("slow")]}, {"hosts-3"}, id="a larger group"
        ),
        pytest.param(
            {"worker": [WorkerSettings("hosts", processes=2), WorkerSettings("slow"), WorkerSettings("new")]},
            {"new"},
            id="one more group",
        ),
    ],
)
def test_a_change_concerns_nobody_else(change: dict[str, object], concerned: set[str]) -> None:
    """A reload replaces those whose spec differs: the orchestrator is not among them for a worker's sake."""
    before, after = by_name(two_groups()), by_name(msgspec.structs.replace(two_groups(), **change))
    assert {name for name in {**before, **after} if before.get(name) != after.get(name)} == concerned


@pytest.mark.parametrize(
    ("present", "left"),
    [
        ([], ["w"]),
        ([Present(1, spec("w"), State.READY)], []),
        ([Present(1, spec("w"), State.STARTING)], ["w"]),
        ([Present(1, spec("w"), State.READY, stale=True)], ["w"]),
        ([Present(1, spec("w", 1), State.READY)], ["w"]),
        ([Present(1, spec("w"), State.DRAINING), Present(2, spec("w"), State.READY)], ["w"]),
        ([Present(1, spec("w"), State.STOPPED), Present(2, spec("w"), State.READY)], []),
        ([Present(1, spec("w"), State.READY), Present(2, spec("w-1"), State.DRAINING)], ["w-1"]),
    ],
)
def test_what_is_not_yet_what_is_wanted(present: list[Present], left: list[str]) -> None:
    assert unsettled(["w", "w-1"], [spec("w")], present) == left
