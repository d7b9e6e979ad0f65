"""What the commands that ask an agent say, and where they look: the pure parts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chargehand.cli.agent import agent_socket, unit_name
from chargehand.cli.errors import CliError
from chargehand.cli.events import event_line
from chargehand.cli.logs import identifiers, journal_command
from chargehand.cli.node import node_lines
from chargehand.cli.reload import changes_told
from chargehand.config.load import ConfigError
from chargehand.health import ChildStatus, DrainStatus, NodeStatus

NOW = time.mktime((2026, 11, 24, 10, 30, 0, 0, 0, -1))
AT_10_04 = NOW - 26 * 60


# -- where the agent is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "runtime_dir"),
    [
        ('agent.runtime_dir = "/run/here"\n', "/run/here"),
        ("", "/run/chargehand"),
        ('agent.runtime_dir = "/run/here"\nworker = "refused"\n', "/run/here"),  # a rule is broken
        ('[agent]\nruntime_dir = "/run/here"\n[orchestrator\n', "/run/here"),  # no TOML at all
        ("agent = { state_dir = '/s', runtime_dir = '/run/here' }\n[redis\n", "/run/here"),
        ("[redis\n", "/run/chargehand"),
        ('[redis\n# runtime_dir = "/run/no"\n', "/run/chargehand"),
    ],
)
def test_socket_is_found_by_a_refused_configuration_too(
    text: str, runtime_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.toml").write_text(text)
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(tmp_path / "a.toml"))
    assert agent_socket() == Path(runtime_dir) / "agent.sock"


def test_the_last_file_that_says_where_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.toml").write_text('agent.runtime_dir = "/run/first"\n')
    (tmp_path / "a.d").mkdir()
    (tmp_path / "a.d/1.toml").write_text('agent.runtime_dir = "/run/second"\n')
    (tmp_path / "a.d/2.toml").write_text("broken\n")
    (tmp_path / "a.d/.3.toml").write_text('agent.runtime_dir = "/run/hidden"\n')
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(tmp_path / "a.toml"))
    assert agent_socket() == Path("/run/second/agent.sock")


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="no such file"):
        agent_socket()


@pytest.mark.parametrize(
    ("config", "unit"),
    [
        (None, "chargehand.service"),
        ("/etc/chargehand/chargehand.toml", "chargehand.service"),
        ("/etc/chargehand/big.toml", "chargehand@big.service"),
        ("/srv/big.toml", "chargehand.service"),
    ],
)
def test_unit(config: str | None, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARGEHAND_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("CHARGEHAND_CONFIG", config)
    assert unit_name() == unit


# -- the journal ----------------------------------------------------------------------------------

KNOWN = {"orchestrator": "", "hosts-1": "hosts", "hosts-2": "hosts", "exporter": ""}


@pytest.mark.parametrize(
    ("child", "names"),
    [
        (None, []),
        ("agent", ["chargehand"]),
        ("exporter", ["chargehand-exporter"]),
        ("hosts-2", ["chargehand-hosts-2"]),
        ("hosts", ["chargehand-hosts-1", "chargehand-hosts-2"]),
    ],
)
def test_identifiers(child: str | None, names: list[str]) -> None:
    assert identifiers(child, KNOWN) == names


@pytest.mark.parametrize("child", ["host", "chargehand"])
def test_an_unknown_child_is_told_with_those_that_there_are(child: str) -> None:
    with pytest.raises(CliError, match="there are: exporter, hosts-1, hosts-2, orchestrator, agent") as caught:
        identifiers(child, KNOWN)
    assert f"journalctl -t chargehand-{child}" in str(caught.value)


def test_journal_command() -> None:
    assert journal_command("a.service", [], 50, follow=False, as_json=False) == [
        "journalctl",
        "--unit=a.service",
        "--lines=50",
    ]
    assert journal_command("a.service", ["chargehand-x", "chargehand-y"], 0, follow=True, as_json=True) == [
        "journalctl",
        "--unit=a.service",
        "--identifier=chargehand-x",
        "--identifier=chargehand-y",
        "--lines=0",
        "--follow",
        "--output=json",
    ]


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "before", "wanted", "workers", "words"),
    [
        ([], {"a": "worker"}, {"a"}, False, "reloaded: nothing changed"),
        (["a", "b"], {"a": "worker"}, {"a", "b"}, False, "reloaded: a changed, b added"),
        (["a"], {"a": "worker"}, set(), False, "reloaded: a removed"),
        (["a", "o"], {"a": "worker", "o": "program"}, {"a", "o"}, True, "reloaded: a is being replaced, o changed"),
        (["a"], None, {"a"}, False, "reloaded: a changed"),  # a drained node has no workers
        (["a"], {}, None, False, "reloaded: a changed"),
    ],
)
def test_changes(
    changed: list[str], before: dict[str, str] | None, wanted: set[str] | None, workers: bool, words: str
) -> None:
    assert changes_told(changed, before, wanted, workers=workers) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"child": "worker", "pid": "7"}, "child_ended child=worker pid=7"),
        ({"how": 'exit 1 "no"'}, 'child_ended how="exit 1 \\"no\\""'),
        ({"what": ""}, 'child_ended what=""'),
        ({"text": "a\nb"}, 'child_ended text="a\\nb"'),
        ({}, "child_ended"),
    ],
)
def test_an_event_is_one_line(fields: dict[str, str], words: str) -> None:
    line = event_line({"event": "child_ended", "time": AT_10_04 + 0.0625, "node": "node-a", **fields})
    assert line == f"2026-11-24 10:04:00.062 {words}"


# -- what the agent knows -------------------------------------------------------------------------

NODE = NodeStatus(
    "node-a",
    "active",
    "active (epoch 8), degraded: worker-2 crashed 6 times since 10:04, last: exit 1; workers 1/2; 14 steps queued",
    version="1.0",
    pid=4711,
    started=AT_10_04,
    degraded=["worker-2 crashed 6 times since 10:04, last: exit 1", "worker-1: cannot import a module of that name"],
    children=[
        ChildStatus(
            "orchestrator", "orchestrator", state="ready", since=AT_10_04, role="active", epoch="8", memory=25 << 20
        ),
        ChildStatus("worker-1", "worker", state="draining", since=AT_10_04, load="1/5", replacing=True),
        ChildStatus("worker-1", "worker", state="ready", since=AT_10_04, load="0/5", degraded="no module"),
        ChildStatus(
            "worker-2", "worker", state="idle", load="3/5", restarts=7, crashes=6, crashed_since=AT_10_04,
            since=AT_10_04 - 86_400, last_words='exit 1 "ModuleNotFoundError: No module named x"',
        ),
    ],
)  # fmt: skip


def test_what_the_agent_knows() -> None:
    assert node_lines(NODE, now=NOW) == [
        f"agent    node-a: {NODE.status}",
        "         since 10:04:00, PID 4711, 1.0",
        "degraded worker-1: cannot import a module of that name",
        "  orchestrator  ready     since 10:04:00    25 MiB  active (epoch 8)",
        "  worker-1      draining  since 10:04:00            1/5 steps; its successor takes over",
        "  worker-1      ready     since 10:04:00            0/5 steps; degraded: no module",
        "  worker-2      idle      since 2026-11-23 10:04            7 restarts; crashed 6 times since 10:04:00; last: "
        + NODE.children[3].last_words,
    ]


@pytest.mark.parametrize("width", [60, 80, 132])
def test_lines_fit_the_terminal(width: int) -> None:
    wrapped = node_lines(NODE, now=NOW, width=width)
    assert max(len(line) for text in wrapped for line in text.splitlines()) <= width
    whole = node_lines(NODE, now=NOW)
    assert [" ".join(text.split()) for text in wrapped] == [" ".join(text.split()) for text in whole]


def test_who_drained_it_and_why() -> None:
    drain = DrainStatus("root", AT_10_04, "new kernel")
    lines = node_lines(NodeStatus("node-a", "draining", "draining (3 steps still run)", drain=drain), now=NOW)
    assert lines[1] == "drain    by root since 2026-11-24 10:04: new kernel"
    said = NodeStatus("node-a", "drained", "drained (by root since 2026-11-24 10:04: new kernel)", drain=drain)
    assert node_lines(said, now=NOW) == [f"agent    node-a: {said.status}"], "said once"


def test_many_children_are_cut_to_those_that_tell_something() -> None:
    children = [ChildStatus(f"w-{number}", "worker", state="ready", since=AT_10_04) for number in range(50)]
    children[40] = ChildStatus("bad", "worker", state="idle", since=AT_10_04, crashes=2, last_words="exit 9")
    lines = node_lines(NodeStatus("a", "active", "active", children=children), now=NOW, most=3)
    assert [line.split()[0] for line in lines] == ["agent", "w-0", "w-1", "bad", "and"]
    assert lines[-1].strip() == "and 47 more, 47 of them ready (--json shows all)"
