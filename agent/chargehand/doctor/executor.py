"""Checks of the executor: its members, what they compare, its queues, what stands in Redis. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from urllib.parse import urlsplit

import chargehand
from chargehand.doctor.facts import LONG_MS, Facts, Found, error, note, warning
from chargehand.store.census import Census
from chargehand.store.checkup import Checkup
from chargehand.wire import FORMAT

__all__ = [
    "active",
    "clocks",
    "code",
    "configuration",
    "failover",
    "format_of_data",
    "imports",
    "inbox",
    "missing",
    "name",
    "others",
    "paused",
    "saturated",
    "silent",
    "single_node",
    "stranded",
    "unreadable",
    "unserved",
    "versions",
]

_SKEW_MS = 1_000  # start times that people ask for, and log lines beside each other, are off by so much
_FAR_MS = 60_000  # certificates and tickets are refused
_BUSY = 80  # percent of the last minute
_BEHIND = 1.0  # seconds that an event waits
_FILLED = 50  # percent of max_inbox
_SHOWN = 5  # of a list


# -- members --------------------------------------------------------------------------------------


def active(facts: Facts) -> Iterator[Found]:
    census = _census(facts)
    if census.lease_token:
        return
    passive = [f"{one.member.node}/{one.member.child} is {one.member.role}" for one in facts.orchestrators]
    away = [
        f"{one.member.node}/{one.member.child} has not been heard for {_span(one.beat_age)}"
        for one in census.members
        if one.silent and one.member.kind == "orchestrator"
    ]
    evidence = [*passive, *away] or ["no orchestrator is registered"]
    if facts.orchestrators:
        advice = "one of them takes the lease within a ttl; if not: chargehand logs orchestrator on its node"
    else:
        advice = "start the agent on a node with an orchestrator: systemctl start chargehand"
    yield error(f"no orchestrator of executor {census.executor} is active: nothing is decided", evidence, advice)


def failover(facts: Facts) -> Iterator[Found]:
    nodes = sorted({one.member.node for one in facts.orchestrators})
    if len(nodes) == 1 and not facts.embedded:
        yield warning(
            f"only node {nodes[0]} runs an orchestrator: when it is away, nothing is decided",
            [f"{one.member.node}/{one.member.child} is {one.member.role}" for one in facts.orchestrators],
            "start the agent on a second node, with the same [redis] and [executor]",
        )


def silent(facts: Facts) -> Iterator[Found]:
    away = [one for one in _census(facts).members if one.silent]
    if away:
        evidence = [
            f"{one.member.node}/{one.member.child} ({one.member.kind}): last heard {_span(one.beat_age)} ago"
            for one in away[:_SHOWN]
        ]
        yield warning(
            f"{_count(len(away), 'member has', 'members have')} not been heard for more than 8 s",
            evidence,
            "on its node: systemctl status chargehand",
            "the active orchestrator removes it and gives its steps back",
        )


def name(facts: Facts) -> Iterator[Found]:
    settings = facts.settings
    assert settings is not None
    if not facts.embedded:
        return
    own = f"{settings.agent.runtime_dir}/redis.sock"
    for one in settings.executors:
        if one.name == settings.executor.name and one.url is not None and urlsplit(one.url).path != own:
            yield warning(
                f'two executors are called "{one.name}"',
                ["this node's, on its embedded server", f"the one of [[executors]], at {one.url}"],
                "give each executor its own name: [executor] name, and the same in [[executors]]",
            )


def others(facts: Facts) -> Iterator[Found]:
    bad = {who: trouble for who, trouble in facts.others.items() if trouble}
    if bad:
        text = (
            f"{_count(len(bad), 'executor of [[executors]] gets', 'executors of [[executors]] get')} no plans from here"
        )
        evidence = [f"{who}: {trouble}" for who, trouble in bad.items()]
        yield warning(text, evidence, "chargehand executors list; chargehand doctor on a node of it")


# -- what nodes must have in common ---------------------------------------------------------------


def clocks(facts: Facts) -> Iterator[Found]:
    skews = {facts.node: facts.server.skew_ms} if facts.server is not None else {}
    skews |= {profile.node: profile.skew_ms for _, profile in facts.profiles}
    off = {node: skew for node, skew in sorted(skews.items()) if abs(skew) > _SKEW_MS}
    if not off:
        return
    evidence = [f"{node}: {abs(skew) / 1000:.1f} s {'ahead' if skew > 0 else 'behind'}" for node, skew in off.items()]
    spread = max(off.values()) - min(off.values())
    say = error if max(abs(skew) for skew in off.values()) > _FAR_MS else warning
    mend = "chronyc tracking (timedatectl) on each: is it synchronised?"
    if len(skews) > 1 and len(off) == len(skews) and spread < _SKEW_MS:
        yield say("the clock of the Redis server differs from all nodes'", evidence, f"on the server: {mend}")
    else:
        yield say("clocks differ from that of Redis by more than a second", evidence, mend)


def versions(facts: Facts) -> Iterator[Found]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in facts.heard:
        found[one.member.version].add(one.member.node)
    found[chargehand.__version__].add(facts.node)
    if len(found) > 1:
        evidence = [f"{version}: {', '.join(sorted(nodes))}" for version, nodes in sorted(found.items())]
        advice = "finish the upgrade: the package on each node, then systemctl restart chargehand"
        yield warning("nodes run different versions", evidence, advice)


def configuration(facts: Facts) -> Iterator[Found]:
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    keys = {key for _, profile in facts.profiles for key in profile.config}
    for _, profile in facts.profiles:
        for key in keys if profile.kind == "orchestrator" else profile.config:
            values[key][profile.config.get(key, "not set")].add(profile.node)
    different = {key: said for key, said in sorted(values.items()) if len(said) > 1}
    if different:
        yield warning(
            f"nodes differ in what must be the same on all: {', '.join(different)}",
            [f"{key} is {_each(said)}" for key, said in different.items()],
            "make it the same in each node's files, then on each: chargehand config check && chargehand reload",
        )


def _each(said: Mapping[str, Iterable[str]]) -> str:
    return "; ".join(f"{value} on {', '.join(sorted(nodes))}" for value, nodes in sorted(said.items()))


# -- actions --------------------------------------------------------------------------------------


def imports(facts: Facts) -> Iterator[Found]:
    broken: dict[str, set[str]] = defaultdict(set)
    for one, profile in facts.profiles:
        for problem in profile.problems:
            broken[problem].add(f"{one.member.node}/{one.member.child}")
    if broken:
        evidence = [f"{', '.join(sorted(where))}: {problem}" for problem, where in sorted(broken.items())]
        yield warning(
            "workers could not load all their actions: steps of those fail there",
            evidence,
            "on that node: chargehand config check; when it is mended: chargehand reload --workers",
        )


def missing(facts: Facts) -> Iterator[Found]:
    workers = [(one, profile) for one, profile in facts.profiles if profile.kind == "worker"]
    known = {(action, code.queue) for _, profile in workers for action, code in profile.actions.items()}
    for action, queue in sorted(known):
        serving = [(one, profile) for one, profile in workers if queue in one.member.queues]
        without = [one for one, profile in serving if action not in profile.actions]
        if without:
            have = sorted({one.member.node for one, profile in workers if action in profile.actions})
            yield error(
                f'action "{action}" is unknown to workers that serve its queue "{queue}": its steps fail there',
                [
                    f"without it: {', '.join(sorted({f'{one.member.node}/{one.member.child}' for one in without}))}",
                    f"with it: {', '.join(have)}",
                ],
                "install its module there and name it in actions.modules (or declare it), then: "
                "chargehand reload --workers",
            )


def code(facts: Facts) -> Iterator[Found]:
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one, profile in facts.profiles:
        for action, has in profile.actions.items():
            found[action][has.digest].add(f"{one.member.node}/{one.member.child}")
    different = {action: has for action, has in sorted(found.items()) if len(has) > 1}
    if different:
        shown = list(different.items())[:_SHOWN]
        evidence = [f"{action} is {_each(has)}" for action, has in shown]
        if len(different) > _SHOWN:
            evidence.append(f"and {len(different) - _SHOWN} more")
        yield warning(
            f"workers run different code of {_count(len(different), 'action', 'actions')}",
            evidence,
            "the same files on each node, then on each: chargehand reload --workers, for they keep what they imported",
        )


# -- queues ---------------------------------------------------------------------------------------


def stranded(facts: Facts) -> Iterator[Found]:
    checkup = _checkup(facts)
    for queue, depth in checkup.depths.items():
        if not depth or facts.serving(queue):
            continue
        plans = checkup.wanted.get(queue, [])
        evidence = [f"plans: {', '.join(plans)}"] if plans else []
        if queue.startswith("@"):
            text = f"{_count(depth, 'step waits', 'steps wait')} for node {queue[1:]}, where no worker takes steps"
            yield error(text, evidence, f"start the agent on {queue[1:]}, or end the plan: chargehand plan cancel PLAN")
            continue
        serves = sorted({one for worker in facts.workers for one in worker.member.queues if not one.startswith("@")})
        yield error(
            f'{_count(depth, "step stands", "steps stand")} in queue "{queue}", which no worker serves',
            [*evidence, f"queues that are served: {', '.join(serves) or 'none'}"],
            f'add "{queue}" to the queues of a [[worker]] and reload, or start the node that has it',
        )


def unserved(facts: Facts) -> Iterator[Found]:
    checkup = _checkup(facts)
    named: dict[str, set[str]] = defaultdict(set)
    for _, profile in facts.profiles:
        for action, has in profile.actions.items():
            named[has.queue].add(action)
    if facts.settings is not None:
        for one in facts.settings.action:
            named[one.queue].add(one.name)
    for queue, actions in sorted(named.items()):
        if not facts.serving(queue) and not checkup.depths.get(queue):
            shown = sorted(actions)
            yield warning(
                f'no worker serves queue "{queue}": steps of {", ".join(shown[:_SHOWN])} would wait there',
                [f"{len(shown)} actions name it"] if len(shown) > _SHOWN else [],
                f'add "{queue}" to the queues of a [[worker]] and reload, or start the node that has it',
            )


def single_node(facts: Facts) -> Iterator[Found]:
    nodes = {one.member.node for one in facts.workers}
    served: dict[str, set[str]] = defaultdict(set)
    for one in facts.workers:
        for queue in one.member.queues:
            if not queue.startswith("@"):
                served[queue].add(one.member.node)
    single = {queue: where for queue, where in sorted(served.items()) if len(where) == 1}
    if len(nodes) > 1 and single:
        yield note(
            f"{_count(len(single), 'queue is', 'queues are')} served by one node only: steps wait while that is away",
            [f"{queue}: {next(iter(where))}" for queue, where in single.items()],
            "add it to a [[worker]] of a second node, unless it is meant so",
        )


# -- what stands in Redis -------------------------------------------------------------------------


def unreadable(facts: Facts) -> Iterator[Found]:
    checkup, census = _checkup(facts), _census(facts)
    if checkup.strange:
        key = f"'chargehand:{{{census.executor}}}:strange'"
        yield warning(
            f"{_count(checkup.strange, 'event', 'events')} could not be read, and had no effect",
            [f"the last one: {checkup.strange_last}"],
            "a later version wrote them, or a program that does not keep to docs/wire-format.md: find it by the event",
            f"when it is dealt with: redis-cli DEL {key}",
        )


def format_of_data(facts: Facts) -> Iterator[Found]:
    checkup = _checkup(facts)
    later = sorted({one.member.node for one in facts.heard if one.member.format > FORMAT})
    if checkup.format > FORMAT:
        text = f"the data is of format {checkup.format}, and this version reads up to {FORMAT}: it cannot lead here"
        yield error(text, [f"{chargehand.__version__} runs here"], "upgrade this node, or restore a backup from before")
    elif later:
        text = "members of a later version write what this one cannot read"
        yield error(text, [f"on {', '.join(later)}"], "upgrade this node")


def saturated(facts: Facts) -> Iterator[Found]:
    for one in facts.orchestrators:
        member = one.member
        if member.role == "active" and (member.share > _BUSY or member.behind > _BEHIND):
            yield warning(
                f"the active orchestrator cannot keep up: {member.share} % busy, {member.behind:g} s behind",
                [f"{member.node}/{member.child}; {_census(facts).inbox:,} events in the inbox"],
                "add an executor and spread the plans over both: docs/executors.md",
                "fewer, longer steps cost less than many short ones",
            )


def inbox(facts: Facts) -> Iterator[Found]:
    assert facts.settings is not None
    census, most = _census(facts), facts.settings.orchestrator.max_inbox
    if 100 * census.inbox >= _FILLED * most:
        say = error if census.inbox >= most else warning
        yield say(
            f"{census.inbox:,} events wait in the inbox, and submissions are refused above {most:,}",
            [f"{census.pending:,} plans are not accepted yet"],
            "is an orchestrator active, and does it keep up? chargehand status",
        )


def paused(facts: Facts) -> Iterator[Found]:
    checkup = _checkup(facts)
    if checkup.paused_long:
        evidence = [f"{plan} since {_moment(since)}" for plan, since in checkup.paused]
        long = [line for line, (_, since) in zip(evidence, checkup.paused, strict=True) if _old(facts, since)]
        yield warning(
            f"{_count(checkup.paused_long, 'plan has', 'plans have')} been paused for more than a day",
            long,
            "chargehand why PLAN; then chargehand plan resume, skip or cancel PLAN",
        )


def _old(facts: Facts, since_ms: int) -> bool:
    return _census(facts).now_ms - since_ms >= LONG_MS


# -- words ----------------------------------------------------------------------------------------


def _census(facts: Facts) -> Census:
    assert facts.census is not None
    return facts.census


def _checkup(facts: Facts) -> Checkup:
    assert facts.checkup is not None
    return facts.checkup


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _span(seconds: float) -> str:
    if seconds > 10 * 365 * 86_400:
        return "ever"  # it has no heartbeat at all
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
