"""`chargehand doctor` on real nodes: silent when all is well; each planted fault of nodes and executor is found."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.membership import Member, register
from chargehand.store.profile import Code, Profile
from chargehand.wire import encode
from support.commands import chargehand
from support.doctors import ACTIONS, Diagnosis, diagnose, diagnose_by_command, write_node
from support.nodes import Node
from support.programs import freeze, thaw, until
from support.server import Server

KEYS = Keys("default")

StartNode: TypeAlias = Callable[..., Node]


@pytest.fixture
def start(place: Path, server: Server) -> Iterator[StartNode]:
    """Start the agent of a node in which nothing is wrong, but for what `write_node` is told."""
    nodes: list[Node] = []

    def begin(name: str, *, workers: str = "workers 1/1", **given: str) -> Node:
        nodes.append(Node(place, write_node(place, server.url, name, **given)))
        nodes[-1].until_whole(workers)
        return nodes[-1]

    yield begin
    for node in nodes:
        node.stop()


def kinds(found: Diagnosis) -> dict[str, str]:
    """Check -> the worst severity."""
    return {check: ones[0].severity for check, ones in found.wrong.items()}


def until_found(config: Path, expected: dict[str, str]) -> Diagnosis:
    """Members tell of themselves when they begin, and every 2 s: wait until what they told is this."""
    latest = [diagnose(config)]

    def as_expected() -> bool:
        latest[0] = diagnose(config)
        return kinds(latest[0]) == expected

    if kinds(latest[0]) != expected:
        try:
            until(f"found: {expected}", as_expected)
        except AssertionError as error:
            raise AssertionError(f"{error}; found {latest[0].wrong}") from None
    return latest[0]


def client_of(config: Path) -> Client:
    settings = load(config).settings
    return Client(settings, load_actions(settings).actions)


def test_two_sound_nodes_and_what_is_planted_there(place: Path, server: Server, line: Line, start: StartNode) -> None:
    one, two = start("node-a"), start("node-b")
    config = one.config
    found = until_found(config, {})
    assert found.code == 0
    said = chargehand("doctor", config=config)
    assert said.returncode == 0
    assert said.stdout == f"all {len(found.checks)} checks passed\n"
    assert len(found.checks) > 30
    assert "ok      nodes-clocks: clocks agree" in chargehand("doctor", "--all", config=config).stdout
    assert KEYS.profile(one.child("worker")["incarnation"]).encode() in line.call("KEYS", "*profile*")

    # What stands in Redis and should not.
    line.call("XADD", KEYS.inbox, "*", "e", '["from another world"]')
    until("it is put aside", lambda: line.call("LLEN", KEYS.strange))
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "doctored.py").write_text(ACTIONS.replace("@action", "@action(queue='nowhere')"))
    with client_of(write_node(place, server.url, "client", actions="elsewhere")) as client:
        plan = client.plan("lost")
        plan.add("hello")
        plan.add("hello", node="node-z")
        lost = client.submit(plan)
        until("it runs", lambda: client.read(lost) and line.call("LLEN", KEYS.queue("nowhere")))
    line.call("HSET", KEYS.head, "format", 9)
    found = until_found(config, {"data-readable": "warning", "queues-stranded": "error", "data-format": "error"})
    assert found.code == 2
    assert '["from another world"]' in found["data-readable"]
    texts = [finding.text for finding in found.wrong["queues-stranded"]]
    assert texts == [
        "1 step waits for node node-z, where no worker takes steps",
        '1 step stands in queue "nowhere", which no worker serves',
    ]
    assert f"plans: {lost}" in found.wrong["queues-stranded"][1].evidence
    assert "queues that are served: default" in found.wrong["queues-stranded"][1].evidence
    line.call("DEL", KEYS.strange)
    line.call("HDEL", KEYS.head, "format")
    assert chargehand("plan", "halt", lost, config=config).returncode == 0
    until("it is over", lambda: line.call("GETRANGE", KEYS.states(lost), 0, 0) == b"H")
    for queue in ("nowhere", "@node-z"):
        line.call("DEL", KEYS.queue(queue))

    # A file that is edited, and what the other node then differs in.
    config.write_text(config.read_text() + '[retention]\nfailed = "7d"\n[[queue]]\nname = "default"\nlimit = 20\n')
    found = until_found(config, {"node-reloaded": "warning"})
    assert "retention.failed: 365d in orchestrator, 7d in the files" in found["node-reloaded"]
    assert chargehand("reload", config=config).returncode == 0
    found = until_found(config, {"nodes-configuration": "warning"})
    assert found.code == 1
    assert "retention.failed is 365d on node-b; 7d on node-a" in found["nodes-configuration"]
    assert "queue.default is limit 20 on node-a; not set on node-b" in found["nodes-configuration"]
    assert "chargehand reload" in found["nodes-configuration"]
    two.config.write_text(two.config.read_text() + '[retention]\nfailed = "7d"\n')
    config.write_text(config.read_text().partition("[[queue]]")[0])
    for node in (one, two):
        assert chargehand("reload", config=node.config).returncode == 0
    until_found(config, {})

    # The socket of the agent, and a file that is refused.
    (one.runtime_dir / "agent.sock").chmod(0o666)
    assert "every user may command" in until_found(config, {"node-socket": "error"})["node-socket"]
    (one.runtime_dir / "agent.sock").chmod(0o660)
    sound = config.read_text()
    config.write_text(sound.replace("[actions]", "[actions]\nmodule = 1"))
    found = diagnose_by_command(config)
    assert kinds(found) == {"node-configuration": "error"}
    assert "unknown key" in found["node-configuration"]
    assert "node-state" in found.checks, "the agent is found and asked all the same"
    config.write_text(sound)

    # A node that is drained serves nothing: the queue has one node, and nobody else takes over.
    assert chargehand("drain", "--wait", "--reason", "new disk", config=two.config).returncode == 0
    found = until_found(two.config, {"node-drained": "note", "orchestrator-failover": "warning"})
    assert "reason: new disk" in found["node-drained"]
    until("what its members told is gone with them", lambda: len(line.call("KEYS", "*profile*")) == 2)
    assert "start the agent on a second node" in found["orchestrator-failover"]


def test_actions_that_differ(place: Path, line: Line, start: StartNode) -> None:
    """One module that a node lacks, one that it has in another version, a queue that nobody serves."""
    for where in ("here", "there"):
        (place / where).mkdir()
        (place / where / "doctored.py").write_text(ACTIONS + f"# as it is {where}\n")
    (place / "there" / "doctored.py").write_text(
        ACTIONS + "\n@action\ndef further() -> None: ...\n\n@action(queue='reports')\ndef report() -> None: ...\n"
    )
    declared = '[[action]]\nname = "disk"\nargv = ["/usr/bin/df"]\ntimeout = "{}"\n'
    one = start("node-a", actions="here", extra=declared.format("10s"))
    start("node-b", actions="there", extra=declared.format("20s"))
    broken = start(
        "node-c", actions="there", extra=declared.format("20s") + '[[worker]]\nname = "worker"\nthreads = 3\n'
    )
    broken.config.write_text(broken.config.read_text().replace('["doctored"]', '["doctored", "not_there"]'))
    assert chargehand("reload", config=broken.config).returncode == 0

    expected = {
        "actions-known": "error",
        "actions-loaded": "warning",
        "actions-code": "warning",
        "queues-served": "warning",
    }
    found = until_found(one.config, expected)
    assert 'action "further" is unknown to workers that serve its queue "default"' in found["actions-known"]
    assert "without it: node-a/worker\nwith it: node-b, node-c" in found["actions-known"]
    assert [each.text for each in found.wrong["actions-known"]][1:] == [], "no worker serves the queue of `report`"
    said = found["actions-loaded"]
    assert "node-c/worker: cannot import module \"not_there\": ModuleNotFoundError: No module named 'not_there'" in said
    assert "different code of 2 actions" in found["actions-code"]
    assert "disk is " in found["actions-code"]
    assert " on node-b/worker, node-c/worker" in found["actions-code"]
    assert 'no worker serves queue "reports": steps of report would wait there' in found["queues-served"]
    assert "is degraded: worker: cannot import module" in diagnose(broken.config)["node-state"]


def test_clocks_and_versions_of_another_node(line: Line, start: StartNode) -> None:
    """The records of a node whose clock is wrong and whose package is old: written by hand, as no test sets a clock."""
    one = start("node-a")
    member = Member("worker", "node-old", "worker", 1, 0, "0.0.9", role="working", queues=["default"], format=2)
    register(line, KEYS, "old", member, "another-machine")
    code = Code("default", "")
    hello = {"hello": until_profile(line, one).actions["hello"]}
    profile = Profile("node-old", "worker", "worker", "0.0.9", skew_ms=-90_000, actions=hello)
    line.call("SET", KEYS.profile("old"), encode(profile))
    found = diagnose(one.config)
    assert kinds(found) == {
        "nodes-clocks": "error",
        "nodes-versions": "warning",
        "data-format": "error",
        "orchestrator-failover": "warning",
    }
    assert "node-old: 90.0 s behind" in found["nodes-clocks"]
    assert "chronyc tracking" in found["nodes-clocks"]
    assert "0.0.9: node-old" in found["nodes-versions"]
    profile.skew_ms, profile.median_ms, profile.worst_ms = 1_500, 300.0, 800.0
    profile.actions = {"hello": code}
    line.call("SET", KEYS.profile("old"), encode(profile))
    found = diagnose(one.config)
    assert found["nodes-clocks"].startswith("warning: ")
    assert "node-old/worker, in the last minute: median 300.0 ms, worst 800.0 ms" in found["redis-latency"]
    assert "node-a/worker" in found["actions-code"]


def until_profile(line: Line, node: Node) -> Profile:
    key = KEYS.profile(node.child("worker")["incarnation"])
    until("it tells of itself", lambda: line.call("EXISTS", key))
    return msgspec.json.decode(line.call("GET", key), type=Profile)


def test_members_fall_silent_and_nobody_leads(line: Line, start: StartNode) -> None:
    """A frozen agent and its children: they are told of as long as nobody is there to bury them."""
    one = start("node-a")
    line.call("ZADD", KEYS.index(chr(PlanState.PAUSED)), int((time.time() - 2 * 86_400) * 1000), "forgotten")
    frozen = [one.agent.pid, one.child("orchestrator")["pid"]]
    for pid in frozen:
        freeze(pid)
    try:
        until("the lease is over", lambda: line.call("EXISTS", KEYS.lease) == 0)
        until("it is silent", lambda: "members-heard" in diagnose(one.config).wrong)
        found = diagnose(one.config)
        assert kinds(found) == {
            "orchestrator-active": "error",
            "members-heard": "warning",
            "plans-paused": "warning",
            "node-agent": "error",
        }
        assert "no orchestrator of executor default is active: nothing is decided" in found["orchestrator-active"]
        assert "node-a/orchestrator has not been heard for" in found["orchestrator-active"]
        assert "forgotten since " in found["plans-paused"]
        assert "does not answer" in found["node-agent"]
        assert found.findings[0].severity == "error", "the worst comes first"
    finally:
        for pid in frozen:
            thaw(pid)


def test_settings_that_are_likely_mistakes(place: Path, server: Server) -> None:
    config = write_node(
        place,
        server.url,
        "node-a",
        timeout="1s",
        lease='ttl = "1500ms", renew = "100ms"',
        extra="""
[retention]
succeeded = "0s"
[[worker]]
name = "wide"
threads = 500
processes = 100
[[action]]
name = "endless"
argv = ["/usr/bin/sleep", "1d"]
[[executors]]
name = "default"
[[executors]]
name = "other"
""",
    )
    found = diagnose(config)
    expected = {
        "settings-lease": "warning",
        "settings-retention": "warning",
        "settings-threads": "note",
        "settings-timeouts": "note",
        "executors-others": "warning",
        "orchestrator-active": "error",
        "queues-served": "warning",
        "node-agent": "error",
    }
    assert expected.items() <= kinds(found).items()
    assert "other: its orchestrators have never said anything" in found["executors-others"]
    assert "no orchestrator is registered" in found["orchestrator-active"]
    assert "no agent runs on this node" in found["node-agent"]
    assert "retention.succeeded = 0s" in found["settings-retention"]


def test_an_embedded_server(place: Path) -> None:
    """One node by itself is what it is meant to be; a second executor of its name is not."""
    config = write_node(place, "", "node-a", timeout="2s")
    config.write_text(config.read_text().replace('url = ""\n', ""))
    node = Node(place, config)
    try:
        node.until_whole()
        found = until_found(config, {})
        assert "orchestrator-failover" in found.checks
        config.write_text(config.read_text() + '[[executors]]\nname = "default"\nurl = "redis://elsewhere.invalid"\n')
        found = until_found(config, {"executor-name": "warning"})
        assert "the one of [[executors]], at redis://elsewhere.invalid" in found["executor-name"]
        node.kill_child("redis", signal.SIGSTOP)
        found = until_found(config, {"redis-reachable": "error", "node-state": "error", "executor-name": "warning"})
        assert "this node's agent says: waiting (Redis" in found["redis-reachable"]
    finally:
        node.kill_child("redis", signal.SIGCONT)
        node.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be root's")
def test_privileged_groups(place: Path, start: StartNode) -> None:
    root = '[[worker]]\nname = "worker"\n[[worker]]\nname = "root"\nqueues = ["root"]\nunit = true\n'
    one = start("node-a", extra=root)
    found = until_found(one.config, {"node-privileged": "warning", "orchestrator-failover": "warning"})
    assert "systemctl enable --now chargehand-worker@root.service" in found["node-privileged"]
    (place / "site" / "doctored.py").chmod(0o666)
    found = diagnose(one.config)
    assert "doctored.py: is writable by others (mode 0666)" in found["node-trusted"]


def test_what_people_read(place: Path, start: StartNode) -> None:
    """Text for a terminal, JSON for programs, the same code."""
    one = start("node-a")
    until_found(one.config, {"orchestrator-failover": "warning"})
    said = chargehand("doctor", config=one.config)
    assert said.returncode == 1
    first, evidence, advice, check, gap, summary = said.stdout.splitlines()
    assert first.startswith("warning only node node-a runs an orchestrator")
    assert evidence == "        node-a/orchestrator is active"
    assert advice.startswith("        to do: start the agent on a second node")
    assert (check, gap) == ("        check: orchestrator-failover", "")
    assert summary.endswith("checks passed; 1 warning")
    assert json.loads(chargehand("doctor", "--json", config=one.config).stdout)["code"] == 1
