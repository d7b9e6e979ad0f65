"""Privileged work: a worker that systemd runs; only marked actions, only from files that root alone can write."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.worker.trust import distrusted
from support.commands import chargehand
from support.nodes import Node, StartNode
from support.plans import view_of
from support.programs import Program, until, write_config, written
from support.server import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be root's")

ROOT = """
[[worker]]
name = "worker"
[[worker]]
name = "root"
queues = ["root", "mixed"]
threads = 1
unit = true
[[action]]
name = "who"
argv = ["/usr/bin/id", "-u"]
queue = "root"
privileged = true
[[action]]
name = "plain"
argv = ["/usr/bin/id", "-u"]
queue = "mixed"
[[action]]
name = "slow"
argv = ["/bin/sh", "-c", "echo started >> {path}; sleep 2"]
params.path = { type = "string" }
queue = "root"
privileged = true
"""


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    """Actions in a directory that root alone can write."""
    path = write_config(place, server.url, node="node-a", extra=ROOT)
    (place / "actions").mkdir()
    (place / "actions" / "root_site.py").write_text(
        "from chargehand import action\n@action\ndef nothing_as_root() -> None: ...\n"
    )
    text = path.read_text()
    start = text.index("[actions]")
    path.write_text(
        text[:start]
        + f'[actions]\npath = ["{place}/actions"]\nmodules = ["root_site"]\n'
        + text[text.index("[agent]") :]
    )
    return path


def submitted(config: Path, action: str, queue: str = "", **inputs: str) -> tuple[Client, str]:
    settings = load(config).settings
    client = Client(settings, load_actions(settings).actions)
    plan = client.plan(action)
    plan.add(action, **inputs, **({"queue": queue} if queue else {}))
    return client, client.submit(plan)


def test_it_runs_what_is_marked_and_nothing_else(place: Path, config: Path, start_node: StartNode) -> None:
    node = Node(place, config)
    try:
        node.until_whole("workers 1/1")
        said = chargehand("status", config=config).stdout
        assert "absent   chargehand-worker@root.service does not run on this node: systemctl enable --now" in said
        root = Program(place, config, "worker", "--group", "root", name="root").ready()
        client, plan = submitted(config, "who")
        with client:
            assert client.wait(plan, 20) is PlanState.SUCCEEDED
            view = view_of(client, plan)
            assert view.steps[0].result is not None
            assert view.steps[0].result.worker == root.incarnation
            assert json.loads(bytes(view.steps[0].result.output))["stdout"] == "0\n"
        client, plan = submitted(config, "plain")
        with client:
            assert client.wait(plan, 20) is PlanState.PAUSED
            view = view_of(client, plan)
            assert "'plain' is not marked privileged = true, and this group (unit = true) runs nothing else" in str(
                view.steps[0].error
            )
        said = chargehand("status", config=config).stdout
        assert "absent" not in said
        assert root.stop() == 0
    finally:
        assert node.stop() == 0


def test_a_stop_lets_it_finish(place: Path, config: Path) -> None:
    node = Node(place, config)
    try:
        node.until_whole("workers 1/1")
        root = Program(place, config, "worker", "--group", "root", name="root").ready()
        client, plan = submitted(config, "slow", path=str(place / "started"))
        with client:
            until("it runs", lambda: written(place / "started"))
            root.signal(signal.SIGTERM)
            root.until("it says so", lambda fields: "STOPPING" in fields and "EXTEND_TIMEOUT_USEC" in fields)
            assert root.wait() == 0, "without a second signal, which would end its patience"
            assert client.wait(plan, 20) is PlanState.SUCCEEDED
            view = view_of(client, plan)
            assert view.steps[0].attempt == 1
    finally:
        node.stop()


@pytest.mark.parametrize("what", ["action file", "its directory", "configuration", "owner"])
def test_it_refuses_to_start_on_files_that_others_can_write(place: Path, config: Path, what: str) -> None:
    guilty = {
        "action file": place / "actions" / "root_site.py",
        "its directory": place / "actions",
        "configuration": config,
        "owner": place / "actions" / "root_site.py",
    }[what]
    if what == "owner":
        os.chown(guilty, 65534, 65534)
    else:
        guilty.chmod(0o775 if guilty.is_dir() else 0o664)
    done = chargehand("worker", "--group", "root", "--config", config)
    assert done.returncode == 78
    reason = "belongs to uid 65534, expected root" if what == "owner" else "is writable by others (mode 0"
    assert f"chargehand: {guilty}: {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    guilty.chmod(0o755 if guilty.is_dir() else 0o644)
    os.chown(guilty, 0, 0)
    found = load(config)
    assert distrusted(found.settings, found.files) == []


def test_a_program_that_others_can_write(place: Path, config: Path) -> None:
    program = place / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o757)
    config.write_text(config.read_text().replace("/usr/bin/id", str(program), 1))
    found = load(config)
    (line,) = distrusted(found.settings, found.files)
    assert line.startswith(f"{program}: is writable by others (mode 0757)")
