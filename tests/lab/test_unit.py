"""chargehand.service as it stands in units/: its own user, delegated control groups, a real systemd."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest

from lab.host import CommandFailed
from lab.node import Node, Process
from lab.service import CONFIG, UNIT, Service


@pytest.fixture
def service(node: Callable[..., Node]) -> Service:
    return Service(node(CONFIG))


def _names(processes: list[Process]) -> Counter[str]:
    """How many processes are in the group of each child; `agent` is the agent's own."""
    return Counter(process.group.partition(".")[0] for process in processes)


# -- start --------------------------------------------------------------------------------------------


def test_active_means_ready_and_says_what_it_is(service: Service) -> None:
    service.start()
    assert service.node.systemctl("is-active", UNIT) == "active"
    assert service["StatusText"].startswith("active (epoch 1, embedded Redis, this node only); workers 1/1")
    assert (service["Type"], service["NotifyAccess"], service["Result"]) == ("notify", "main", "success")
    assert service.node.run("ps", "-o", "user:20=", "-p", str(service.main_pid)).strip() == "chargehand"


def test_each_child_has_a_control_group_of_its_own(service: Service) -> None:
    service.start()
    processes = service.processes()
    assert _names(processes) == {"agent": 1, "redis": 1, "orchestrator": 1, "worker": 1}
    assert len({process.group for process in processes}) == 4
    places = {process.group.partition(".")[0]: process.pid for process in processes}
    assert places == {"agent": service.main_pid, **service.pids()}


def test_children_know_nothing_of_what_systemd_told_the_agent(service: Service) -> None:
    service.start()
    for name, pid in service.pids().items():
        words = service.node.read(f"/proc/{pid}/environ").split("\0")
        names = {word.partition("=")[0] for word in words}
        assert not names & {"INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID"}, name
        assert "NOTIFY_SOCKET=/run/systemd/notify" not in words, name


def test_a_refused_configuration_is_not_tried_again(service: Service) -> None:
    service.node.write("/etc/chargehand/conf.d/50-site.toml", '[agent]\nstop_timeout = "soon"\n')
    with pytest.raises(CommandFailed):
        service.node.systemctl("start", UNIT)
    assert (service["ActiveState"], service["Result"]) == ("failed", "exit-code")
    assert (service["ExecMainStatus"], service["NRestarts"]) == ("78", "0")
    assert "/etc/chargehand/conf.d/50-site.toml:2: " in service.status
    assert "agent.stop_timeout" in service.status
    assert service.processes() == []


# -- what dies and comes back ---------------------------------------------------------------------------


def test_a_tree_that_hides_is_gone_before_its_step_runs_again(service: Service) -> None:
    service.start()
    plan = service.submit("tree")
    service.until_noted("found 0", "grown")
    hidden = [process for process in service.processes() if "hidden-tree" in process.command]
    assert len(hidden) == 4
    assert _names(hidden) == {"worker": 4}

    service.node.kill(service.pids()["worker"])
    service.until_noted("found 0", "grown", "found 0", "grown")
    assert not any(service.node.lives(process) for process in hidden)

    service.let_go()
    assert service.until_ended(plan) == "succeeded"
    service.until_whole()
    assert service["NRestarts"] == "0"


def test_a_program_of_the_site_dies_with_its_tree(node: Callable[..., Node]) -> None:
    service = Service(node(CONFIG + '[[child]]\nname = "site"\nargv = ["/usr/local/bin/scatter"]\n'))

    def hidden() -> list[Process]:
        return [process for process in service.processes() if "hidden-tree" in process.command]

    service.start()
    service.until("scattered", lambda: len(hidden()) == 2)
    first, program = hidden(), service.pids()["site"]
    assert _names(first) == {"site": 2}
    service.node.kill(program)
    service.until("another", lambda: service.pids()["site"] not in {0, program})
    assert not any(service.node.lives(process) for process in first)
    service.until("scattered again", lambda: len(hidden()) == 2)
    service.node.systemctl("stop", UNIT)
    assert service.processes() == []


def test_nothing_outlives_an_agent_that_is_killed(service: Service) -> None:
    service.start()
    plan = service.submit("tree")
    service.until_noted("found 0", "grown")
    before = service.processes()
    assert len(before) > 8
    killed = service.main_pid

    service.node.kill(killed)
    service.until("a new agent", lambda: service.main_pid not in {0, killed})
    assert [process for process in before if service.node.lives(process)] == []

    service.until_noted("found 0", "grown", "found 0", "grown")
    service.until_whole()
    assert service["NRestarts"] == "1"
    service.let_go()
    assert service.until_ended(plan) == "succeeded"


def test_a_hung_orchestrator_is_replaced_alone(service: Service) -> None:
    service.start()
    before = service.pids()
    agent = service.main_pid
    service.node.freeze(before["orchestrator"])
    service.until("hung, and it says so", lambda: "degraded: orchestrator " in service.status)
    assert "hung" in service.status or "silent" in service.status
    service.until_whole()
    after = service.pids()
    assert after.pop("orchestrator") != before.pop("orchestrator")
    assert after == before
    assert service.main_pid == agent
    assert service["NRestarts"] == "0"
    (event,) = service.events("child_hung")
    assert event["CHARGEHAND_CHILD"] == "orchestrator"


def test_a_frozen_agent_is_replaced_by_systemd(service: Service) -> None:
    # The unit's own times, 30 s and 10 s, mean the same and take longer.
    service.node.write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n")
    service.node.systemctl("daemon-reload")
    service.start()
    plan = service.submit("tree")
    service.until_noted("found 0", "grown")
    before, frozen = service.processes(), service.main_pid
    service.node.freeze(frozen)
    service.until("a new agent", lambda: service.main_pid not in {0, frozen})
    assert [process for process in before if service.node.lives(process)] == []
    service.until_noted("found 0", "grown", "found 0", "grown")
    service.until_whole()
    assert service["NRestarts"] == "1"
    service.let_go()
    assert service.until_ended(plan) == "succeeded"


def test_a_power_cut_loses_no_plan(service: Service) -> None:
    service.node.systemctl("enable", UNIT)
    service.start()
    plan = service.submit("hold")
    service.until_noted("begun")
    service.node.pull_the_plug()
    service.node.boot()
    service.until_whole()
    service.until_noted("begun", "begun")
    service.let_go()
    assert service.until_ended(plan) == "succeeded"


# -- stop ---------------------------------------------------------------------------------------------


def test_a_stop_lets_a_running_step_finish(service: Service) -> None:
    service.start()
    plan = service.submit("hold")
    service.until_noted("begun")
    service.node.systemctl("stop", "--no-block", UNIT)
    service.until("stopping", lambda: service.status == "stopping (1 step still runs)")
    assert service["ActiveState"] == "deactivating"
    service.let_go()
    service.until("stopped", lambda: service["ActiveState"] == "inactive")
    assert (service["Result"], service["ExecMainStatus"], service["NRestarts"]) == ("success", "0", "0")
    assert service.processes() == []

    service.start()
    assert service.until_ended(plan) == "succeeded"
    assert service.notes() == ["begun", "ended"]


def test_a_shutdown_of_the_system_has_its_own_limit(node: Callable[..., Node]) -> None:
    # With the limit of a stop, the node would not be off in time, and what the lab waits for would not come.
    service = Service(node(CONFIG + '[agent]\nstop_timeout = "1h"\nshutdown_timeout = "1s"\n'))
    service.node.systemctl("enable", UNIT)
    service.start()
    plan = service.submit("tree")
    service.until_noted("found 0", "grown")
    service.node.power_off(timeout=45)
    messages = [event["MESSAGE"] for event in service.events("agent_stopping")]
    assert any("shutdown" in message for message in messages), messages
    (stopped,) = [event["MESSAGE"] for event in service.events("agent_stopped")]
    assert stopped.startswith("agent_stopped")

    service.node.boot()
    service.until_noted("found 0", "grown", "found 0", "grown")
    service.let_go()
    assert service.until_ended(plan) == "succeeded"


# -- journal ------------------------------------------------------------------------------------------


def test_the_journal_tells_children_apart(service: Service) -> None:
    service.start()
    plan = service.submit("fail")
    assert service.until_ended(plan) == "paused"
    worker = service.pids()["worker"]
    entries = service.node.journal(identifier="chargehand-worker")
    assert {entry["_PID"] for entry in entries} == {str(worker)}
    assert {entry["_SYSTEMD_UNIT"] for entry in entries} == {UNIT}
    assert any(plan in entry["MESSAGE"] for entry in entries)
    assert service.node.journal(identifier="chargehand-orchestrator")
    assert service.node.journal(identifier="chargehand-redis")


def test_each_event_of_the_agent_has_fields_and_an_explanation(service: Service) -> None:
    service.start()
    service.node.kill(service.pids()["worker"])
    service.until("the death", lambda: service.events("child_ended"))
    service.until_whole()
    service.node.systemctl("stop", UNIT)
    # Only this unit's own processes may say so: anybody may write such fields.
    events = [entry for entry in service.node.journal(unit=UNIT) if "CHARGEHAND_EVENT" in entry]
    assert {"child_started", "agent_ready", "child_ended", "agent_stopping"} <= {
        event["CHARGEHAND_EVENT"] for event in events
    }
    for event in events:
        assert event["CHARGEHAND_NODE"] == "node-a"
        assert event["CHARGEHAND_EXECUTOR"] == "default"
        assert event["SYSLOG_IDENTIFIER"] == "chargehand"
    (death,) = [event for event in events if event["CHARGEHAND_EVENT"] == "child_ended"]
    assert death["CHARGEHAND_CHILD"] == "worker"
    assert "SIGKILL" in death["MESSAGE"]
    for identity in {event["MESSAGE_ID"] for event in events}:
        explained = service.node.run("journalctl", "--no-pager", "--dump-catalog", identity)
        assert "Subject: " in explained


# -- reload -------------------------------------------------------------------------------------------

_MORE = '[[worker]]\nname = "worker"\n\n[[worker]]\nname = "hosts"\nqueues = ["hosts"]\n'


def test_a_reload_changes_only_what_changed(service: Service) -> None:
    service.start()
    before, agent = service.pids(), service.main_pid
    service.node.write("/etc/chargehand/conf.d/50-workers.toml", _MORE)
    service.node.systemctl("reload", UNIT)
    service.until_whole("workers 2/2")
    after = service.pids()
    assert after.pop("hosts") > 0
    assert after == before
    assert (service.main_pid, service["NRestarts"]) == (agent, "0")
    assert _names(service.processes())["hosts"] == 1


def test_a_reload_that_is_refused_changes_nothing(service: Service) -> None:
    service.start()
    before, agent = set(service.processes()), service.main_pid
    file = "/etc/chargehand/conf.d/50-workers.toml"
    service.node.write(file, "[[worker]]\nname = \n")
    with pytest.raises(CommandFailed):
        service.node.systemctl("reload", UNIT)
    service.until("the reason", lambda: "degraded: reload rejected: " in service.status)
    assert f"{file}:2" in service.status
    assert service.node.systemctl("is-active", UNIT) == "active"
    assert (set(service.processes()), service.main_pid) == (before, agent)

    service.node.write(file, _MORE)
    service.node.systemctl("reload", UNIT)
    service.until_whole("workers 2/2")
    assert "degraded" not in service.status


def test_a_hangup_is_a_reload(service: Service) -> None:
    service.start()
    service.node.write("/etc/chargehand/conf.d/50-workers.toml", _MORE)
    service.node.kill(service.main_pid, signal.SIGHUP)
    service.until_whole("workers 2/2")
