"""What is made of evidence: always one sentence, whatever there is; the kinds are those of docs/troubleshooting.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from chargehand.cli.why import answer_lines
from chargehand.plan.asking import word
from chargehand.plan.calendar import Recurrence
from chargehand.plan.life import PlanState, StepState
from chargehand.store.census import Census, Seen
from chargehand.store.evidence import Evidence, LimitWait, LockWait, Nowhere, Other, Owner, Place
from chargehand.store.membership import Member
from chargehand.store.plans import ChildCounts, PlanView, Progress, StepView
from chargehand.store.recurring import RecurringView
from chargehand.why import KINDS, Answer, explain, needs_somebody, nowhere, reasons, several, unreachable
from chargehand.wire import Definition, Failure, Lock, Policy, Step
from support.documents import DOCS

INTEGRATION = Path(__file__).parents[1] / "integration"
NAMES = st.sampled_from(["p", "p.0.1", "rnightly-1764000000000", "other"])
QUEUES = st.sampled_from(["default", "urgent", "@node-a", "@node-z"])
ACTIONS = st.sampled_from(["work", "work:plan", "child"])
TIMES = st.sampled_from([0, 1_764_000_000_000, 1_764_000_060_000, 2**60])
AGES = st.sampled_from([0.0, 0.4, 3.0, 12.0, 90_000.0])
TEXTS = st.sampled_from(["", "no good", "two\nlines", "x" * 1_000])
PLAN_STATES = ["submitted", *(word(state) for state in PlanState)]
STEP_STATES = ["running", *(word(state) for state in StepState)]
FAILURES = st.none() | st.builds(Failure, st.sampled_from(["ValueError", "lost", "timeout", "unknown action"]), TEXTS)

members = st.builds(
    Member,
    kind=st.sampled_from(["worker", "orchestrator"]),
    node=st.sampled_from(["node-a", "node-b"]),
    child=st.sampled_from(["worker", "orchestrator"]),
    pid=st.just(1),
    started_ms=TIMES,
    version=st.just("1"),
    role=st.sampled_from(["", "active", "passive", "working", "draining"]),
    threads=st.integers(1, 3),
    busy=st.integers(0, 3),
    share=st.sampled_from([0, 50, 99]),
    queues=st.lists(QUEUES, max_size=3),
    degraded=TEXTS,
    running=st.lists(st.sampled_from(["p/0/1", "other/3/2"]), max_size=2),
    for_ms=st.lists(st.integers(0, 10**9), max_size=3),
)
seen = st.builds(Seen, incarnation=st.sampled_from(["a", "b"]), member=members, beat_age=AGES, silent=st.booleans())
censuses = st.builds(
    Census,
    now_ms=TIMES,
    executor=st.just(""),
    lease_token=st.sampled_from([None, "1:a", "2:gone"]),
    lease_left=AGES,
    holder=st.sampled_from(["", "node-a"]),
    holder_since_ms=TIMES,
    inbox=st.integers(0, 2),
    pending=st.integers(0, 2),
    plans=st.just({}),
    queues=st.dictionaries(QUEUES, st.integers(0, 20_000)),
    members=st.lists(seen, max_size=4),
    inbox_age=AGES,
)
others = st.builds(Other, NAMES, st.sampled_from(["", *PLAN_STATES]), ACTIONS, TIMES)


@st.composite
def views(draw: st.DrawFn) -> PlanView:
    total = draw(st.integers(0, 7))
    steps = [
        StepView(
            index=index,
            action=draw(ACTIONS),
            queue=draw(QUEUES),
            state=draw(st.sampled_from(STEP_STATES)),
            attempt=draw(st.integers(1, 4)),
            after=draw(st.lists(st.integers(0, index - 1), max_size=2)) if index else [],
            losses=draw(st.integers(0, 3)),
            error=draw(FAILURES),
            progress=draw(st.none() | st.builds(Progress, st.floats(0, 1), TEXTS, TIMES)),
            children=draw(st.none() | st.builds(ChildCounts, st.integers(3, 9), st.integers(0, 2), st.integers(0, 1))),
        )
        for index in range(total)
    ]
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.state] = counts.get(step.state, 0) + 1
    return PlanView(
        plan=draw(NAMES),
        label="work",
        state=draw(st.sampled_from(PLAN_STATES)),
        total=total,
        counts=counts,
        by=draw(TEXTS),
        submitted_ms=draw(TIMES),
        error=draw(FAILURES),
        steps=steps,
        since_ms=draw(TIMES),
        parent=draw(st.none() | st.tuples(NAMES, st.integers(0, 3))),
    )


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    view = draw(views())
    numbers = st.integers(0, max(0, view.total - 1))
    some = st.frozensets(numbers) if view.total else st.just(frozenset[int]())
    known = draw(some)
    policy = Policy(
        "work", limit=draw(st.integers(0, 2)), rate=draw(st.sampled_from([(0, 0), (2, 1_000)])), revert=True
    )
    return Evidence(
        view=view,
        definition=Definition(
            label="work",
            policies=[policy],
            total=view.total,
            start_at_ms=draw(TIMES),
            start_before_ms=draw(TIMES),
            limit=draw(st.integers(0, 3)),
            locks=[Lock("db")],
        ),
        census=draw(censuses),
        load_age=draw(st.none() | AGES),
        full=draw(st.booleans()),
        replicas=draw(st.none() | st.integers(0, 2)),
        min_replicas=draw(st.integers(0, 2)),
        awaits=draw(st.lists(others, max_size=6)),
        awaited=draw(st.integers(0, 9)),
        locks=draw(
            st.lists(
                st.builds(
                    LockWait,
                    st.just("db"),
                    st.lists(others, min_size=1, max_size=6),
                    st.integers(1, 9),
                    st.lists(NAMES, max_size=7),
                ),
                max_size=2,
            )
        ),
        limits=draw(
            st.lists(
                st.builds(
                    LimitWait,
                    st.sampled_from(["action:work", "queue:default"]),
                    st.lists(st.just("p/0"), max_size=7),
                    TIMES,
                ),
                max_size=2,
            )
        ),
        owners={
            step: draw(
                st.builds(
                    Owner,
                    st.just("a"),
                    st.just("node-a"),
                    st.just("worker"),
                    AGES,
                    st.booleans(),
                    st.integers(1, 3),
                    st.none() | st.integers(0, 10**9),
                    st.sampled_from([0, 1_000]),
                    TEXTS,
                )
            )
            for step in known
        },
        places={step: draw(st.builds(Place, st.integers(0, 20_000), st.booleans())) for step in draw(some)},
        looked=draw(st.dictionaries(QUEUES, st.integers(0, 10_000))),
        whole=draw(st.frozensets(QUEUES)),
        unseen=draw(some),
        moved=draw(some),
        due={step: draw(TIMES) for step in draw(some)},
        said={step: draw(TEXTS) for step in draw(some)},
        grace_ms=draw(st.none() | st.integers(-1, 10_000)),
        children={step: draw(st.lists(others, max_size=2)) for step in draw(some)},
        parent=draw(st.none() | others),
        actions=draw(st.dictionaries(st.sampled_from(["a", "b"]), st.frozensets(ACTIONS))),
        units=draw(st.lists(st.tuples(st.just("chargehand-worker@root.service"), st.lists(QUEUES)), max_size=1)),
    )


def is_sound(answer: Answer) -> None:
    """One sentence, kinds of the table, lines that are lines, and printed within 80 columns where words allow it."""
    assert answer.text
    assert answer.causes
    assert answer.text.startswith(answer.causes[0].text)
    stuck = [cause.stuck for cause in answer.causes]
    assert stuck == sorted(stuck, reverse=True), "what somebody must see to comes first"
    for cause in answer.causes:
        assert cause.kind in KINDS
        for line in (cause.text, *cause.evidence, *cause.advice):
            assert line.strip()
            assert "\n" not in line
        assert not cause.text.endswith((".", " ", ":"))
    for line in answer_lines(answer, width=80):
        assert len(line) <= 80 or len(max(line.split(), key=len)) > 40, line


@given(evidences())
@settings(max_examples=100, deadline=None)
def test_there_is_always_one_answer(evidence: Evidence) -> None:
    is_sound(explain(evidence))
    for reason in reasons(evidence):
        assert reason.strip()


@given(
    NAMES,
    st.builds(
        Nowhere,
        TIMES,
        st.sampled_from(["", "other"]),
        st.booleans(),
        st.integers(0, 2),
        AGES,
        st.none()
        | st.builds(
            RecurringView,
            st.just("nightly"),
            st.just("work"),
            st.just(Recurrence("@daily")),
            paused=st.booleans(),
            next_ms=TIMES,
            last_plan=st.sampled_from(["", "rnightly-1"]),
            problem=st.sampled_from(["", "no zone"]),
        ),
    ),
)
def test_of_what_is_no_plan_here(plan: str, found: Nowhere) -> None:
    is_sound(nowhere(plan, found, "default"))


def test_of_redis_away_and_of_beginnings() -> None:
    is_sound(unreachable("p", "127.0.0.1:6379: Connection refused"))
    is_sound(several("p", ["p1", "p2"]))


def test_the_kinds_are_those_of_the_document() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("\n## Causes that why names\n")
    section = rest.partition("\n## ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    told = [kind for cell in cells for kind in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(told) == sorted(KINDS)
    assert len(set(KINDS)) == len(KINDS)


def test_every_kind_is_brought_about_by_real_processes() -> None:
    """What evidence is made of here is one thing, that an executor ever comes into that state another."""
    produced = set()
    for path in INTEGRATION.glob("test_why*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            produced.update(_expected_kinds(node))
    assert sorted(set(KINDS) - produced) == []


def _expected_kinds(node: ast.AST) -> list[str]:
    """Of `until_why(client, plan, "kind", ...)`, `cause_of(...)` alike, and `kinds_of(...) == ["kind", ...]`."""
    match node:
        case ast.Call(func=ast.Name("until_why" | "cause_of"), args=[_, _, *told]):
            pass
        case ast.Compare(comparators=told) if "kinds_of" in ast.unparse(node.left):
            pass
        case _:
            return []
    return [
        one.value for each in told for one in ast.walk(each) if isinstance(one, ast.Constant) and one.value in KINDS
    ]


# -- examples -------------------------------------------------------------------------------------


def evidence_of(*states: str, plan_state: str = "running", workers: list[Seen] | None = None, **facts: Any) -> Evidence:
    """A plan of steps in these states, one orchestrator that is well, and these workers."""
    steps = [StepView(index, "work", "default", state, 1) for index, state in enumerate(states)]
    view = PlanView("p", "work", plan_state, len(steps), {}, steps=steps, submitted_ms=1, since_ms=1)
    active = Member("orchestrator", "node-a", "orchestrator", 1, 1, "1", role="active")
    census = Census(
        now_ms=1_764_000_000_000,
        executor="default",
        lease_token="1:o",
        lease_left=4.0,
        holder="node-a",
        holder_since_ms=1,
        inbox=0,
        pending=0,
        plans={},
        queues={"default": len(steps)},
        members=[Seen("o", active, 0.1, silent=False), *(workers or [])],
    )
    policies = [Policy("work")]
    definition = Definition("work", policies, len(steps), [Step(0, Raw(b"{}"))] * len(steps))
    return Evidence(view, definition, census, load_age=0.5)._replace(**facts)


def worker(role: str = "working", *, busy: int = 0, silent: bool = False, queues: str = "default") -> Seen:
    member = Member("worker", "node-a", "worker", 2, 1, "1", role=role, threads=1, busy=busy, queues=queues.split())
    return Seen("w", member, 20.0 if silent else 0.2, silent=silent)


def kinds(evidence: Evidence) -> list[str]:
    return [cause.kind for cause in explain(evidence).causes]


def test_a_step_without_a_worker_comes_before_one_that_runs() -> None:
    owner = Owner("w", "node-a", "worker", 0.2, silent=False, attempt=1, for_ms=5_000)
    evidence = evidence_of("running", "queued", owners={0: owner}, workers=[worker(queues="urgent")])
    answer = explain(evidence)
    assert [cause.kind for cause in answer.causes] == ["no-worker", "running"]
    assert answer.text == "step 1 waits for a worker: none serves 'default' (and 1 more)"
    assert answer.causes[0].evidence[-1] == "worker on node-a: urgent"
    assert needs_somebody(answer)


def test_who_serves_a_queue_decides_what_a_queued_step_waits_for() -> None:
    assert kinds(evidence_of("queued", workers=[worker()])) == ["queued"]
    assert kinds(evidence_of("queued", workers=[worker(busy=1)])) == ["busy"]
    assert kinds(evidence_of("queued", workers=[worker("draining")])) == ["draining"]
    assert kinds(evidence_of("queued", workers=[worker(silent=True)])) == ["workers-silent"]
    assert kinds(evidence_of("queued", units=[("chargehand-worker@root.service", ["default"])])) == ["unit"]
    assert kinds(evidence_of("queued", workers=[worker()], actions={"w": frozenset({"other"})})) == ["no-action"]
    assert kinds(evidence_of("queued", workers=[worker(busy=1)], places={0: Place(0, alone=True)})) == ["alone"]


def test_a_step_that_is_nowhere_has_ended() -> None:
    """Only where the queue was looked through to its end."""
    assert kinds(evidence_of("queued", workers=[worker()], whole=frozenset({"default"}))) == ["unseen"]
    assert kinds(evidence_of("queued", workers=[worker()], looked={"default": 10_000})) == ["queued"]
    assert kinds(evidence_of("queued", workers=[worker()], moved=frozenset({0}))) == ["moves"]


def test_steps_that_are_ready_wait_for_limits_and_the_others_for_them() -> None:
    limit = LimitWait("action:work", ["other/0"])
    evidence = evidence_of("waiting", "waiting", limits=[limit])
    evidence.view.steps[1].after = [0]
    (cause,) = explain(evidence).causes
    assert (cause.kind, cause.steps) == ("limit", [0])
    assert cause.advice == ["chargehand why other"]
    assert kinds(evidence_of("waiting", limits=[limit._replace(opens_ms=1_764_000_001_000)])) == ["rate"]
    own = evidence_of("suspended", "waiting")
    assert kinds(own._replace(definition=Definition("work", [Policy("work")], 2, limit=1))) == ["plan-limit", "event"]


def test_an_orchestrator_that_does_not_decide() -> None:
    evidence = evidence_of("queued", workers=[worker()])
    assert kinds(evidence._replace(load_age=60.0)) == ["behind", "queued"]
    evidence.census.inbox, evidence.census.inbox_age = 500, 30.0
    assert kinds(evidence) == ["behind", "queued"]
    evidence.census.members[0].member.share = 95
    assert kinds(evidence) == ["saturated", "queued"]
    evidence.census.lease_token = None
    assert kinds(evidence) == ["no-active", "queued"]
    evidence.census.members[0].member.role = "passive"
    assert kinds(evidence) == ["takeover", "queued"], "it is about to take the lease"
    assert kinds(evidence._replace(load_age=60.0)) == ["no-active", "queued"], "it should have taken it long ago"
    evidence.census.members[0].silent = True
    assert kinds(evidence) == ["no-active", "queued"]
    assert kinds(evidence._replace(replicas=0, min_replicas=1)) == ["replicas", "queued"]


def test_over_its_time_out_and_silent() -> None:
    owner = Owner("w", "node-a", "worker", 0.2, silent=False, attempt=1, for_ms=9_000, timeout_ms=2_000)
    assert kinds(evidence_of("running", owners={0: owner})) == ["overtime"]
    assert kinds(evidence_of("running", owners={0: owner._replace(for_ms=3_000)})) == ["running"]
    assert kinds(evidence_of("running", owners={0: owner._replace(silent=True)})) == ["owner-silent"]


def test_what_a_plan_belongs_to_is_told_with_the_first_cause() -> None:
    evidence = evidence_of("waiting", plan_state="scheduled", parent=Other("above", "running"))
    evidence.view.parent = ("above", 3)
    assert explain(evidence).causes[0].evidence[-1] == "it is a sub-plan of step 3 of plan above, which is running"
    evidence.view.parent, evidence.view.plan = None, "rnightly-1764000000000"
    assert explain(evidence).causes[0].evidence[-1] == "it is a run of the recurring plan 'nightly'"


def test_exit_by_what_has_become_of_it() -> None:
    for state in ("succeeded", "cancelled", "reverted", "halted"):
        assert not needs_somebody(explain(evidence_of(plan_state=state)))
    for state in ("failed", "rejected"):
        assert needs_somebody(explain(evidence_of(plan_state=state)))
