"""`why` when processes are dead, silent, busy or leaving: it names who that is, and what is held up by it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import msgspec

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.executors import Executors
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from chargehand.why import needs_somebody
from chargehand.wire import FORMAT
from support.commands import chargehand
from support.groups import Group, client_config, knowing
from support.orchestrators import Orchestrators
from support.plans import is_in, submit, view_of
from support.programs import Program, StartProgram, until, write_config, written
from support.proxy import LosingProxy
from support.reasons import cause_of, kinds_of, until_why
from support.server import Server

KEYS = Keys("default")
ONE_THREAD = '[[worker]]\nname = "worker"\nthreads = 1\n'
MYSTERY = '[[action]]\nname = "mystery"\nargv = ["/bin/true"]\n'
PRIVILEGED = (
    '[[worker]]\nname = "worker"\n[[worker]]\nname = "root"\nunit = true\nqueues = ["root"]\n'
    '[[action]]\nname = "as_root"\nargv = ["/bin/true"]\nqueue = "root"\nprivileged = true\n'
)


def reported(server: Server, program: Program) -> None:
    line = server.line()
    report_death(line, KEYS, program.incarnation)
    line.close()


def client_with(place: Path, server: Server, extra: str) -> Client:
    settings = load(write_config(place, server.url, node="other-client", extra=extra)).settings
    return Client(settings, load_actions(settings).actions)


def client_of(client: Client) -> Client:
    """Another one, for another thread."""
    return Client(client._settings, client._actions)


def held(client: Client, place: Path, name: str, node: str | None = None) -> str:
    """A plan whose step runs until the file `gate-NAME` is there; it runs when this returns."""
    plan = client.plan("held")
    plan.add("held", path=str(place / name), text="x", gate=str(place / f"gate-{name}"), node=node)
    run = client.submit(plan)
    until("it runs", lambda: written(place / name))
    return run


# -- orchestrators --------------------------------------------------------------------------------


def test_the_orchestrator_is_dead(
    running: Program, worker: Program, client: Client, server: Server, place: Path
) -> None:
    """What is submitted is not accepted, what ends is not seen, and nothing takes a silent worker's steps back."""
    ends, stays = held(client, place, "ends"), held(client, place, "stays")
    running.kill()
    reported(server, running)
    new = submit(client, "nothing")
    nobody, inbox = until_why(client, new, "no-active", "inbox")
    assert nobody.text == "no orchestrator is active, so nothing is decided"
    assert nobody.stuck
    assert nobody.advice[-1] == "on a node with an orchestrator: systemctl start chargehand"
    assert inbox.evidence[-1].endswith("; 1 plan not accepted yet")
    (place / "gate-ends").touch()
    unseen = until_why(client, ends, "no-active", "unseen")[1]
    assert unseen.text == "step 0 has ended, and the orchestrator has not seen it yet"
    assert unseen.evidence[0] == f"its result is written: chargehand plan show --output {ends}"
    until_why(client, stays, "no-active", "running")
    worker.freeze()
    silent = until_why(client, stays, "no-active", "owner-silent")[1]
    assert silent.text == "step 0 is with a worker that has fallen silent, on node-w (worker)"
    assert silent.evidence[-1] == "no orchestrator is active to take it back"
    assert silent.stuck
    (place / "gate-stays").touch()
    worker.thaw()


def test_one_takes_over(orchestrators: Orchestrators, client: Client) -> None:
    """A dead one that nobody reports: its lease has to end, and a passive one is there."""
    with orchestrators.nobody_active():
        name = submit(client, "nothing")
        takeover = until_why(client, name, "takeover", "inbox")[0]
        assert takeover.text == "no orchestrator is active: one of node-2 takes over when the lease ends"
        assert takeover.evidence[0].startswith("the lease is held by node-1, ")
        assert not needs_somebody(client.why(name))
    unserved = until_why(client, name, "no-worker")[0]
    assert unserved.evidence == ["step 0 is number 1 in the queue", "no worker is there at all"]


def test_none_takes_the_lease(start_program: StartProgram, client: Client, line: Line, place: Path) -> None:
    """The one that is there stands aside, as the data is of a later version: what has written it is gone again."""
    newer = start_program("orchestrator", node="node-new")
    newer.role("active")
    name = submit(client, "nothing")
    cause_of(client, name, "no-worker")
    newer.stop()
    line.call("HSET", KEYS.head, "format", FORMAT + 1)
    start_program("orchestrator", node="node-old").role("passive")
    kept = until_why(client, name, "no-active", "no-worker", timeout=60)[0]  # for 15 s it may be about to take over
    assert kept.text == "no orchestrator is active: passive ones are there, and do not take the lease"
    assert kept.stuck
    assert kept.evidence[0].startswith("orchestrator on node-old: passive")
    assert kept.advice == ["on node-old: chargehand logs orchestrator", "chargehand doctor"]
    done = chargehand("why", name, config=place / "node-old.toml")
    assert done.returncode == 1
    assert done.stdout.startswith("No orchestrator is active: passive ones are there, and do not take the lease (and 1")


def test_one_is_behind(start_program: StartProgram, client: Client) -> None:
    """It is there and holds the lease, and what comes is not decided on."""
    orchestrator = start_program("orchestrator", lease='ttl = "30s", renew = "1s"')
    orchestrator.role("active")
    orchestrator.freeze()
    name = submit(client, "nothing")
    behind = until_why(client, name, "behind", "inbox")[0]
    assert behind.text.startswith("the orchestrator is behind: what happened ")
    assert behind.advice == [
        "on node-a: chargehand logs orchestrator",
        "on node-a: chargehand step-down   (another one takes over)",
    ]
    orchestrator.thaw()
    until_why(client, name, "no-worker")


def test_one_is_slow_then_saturated(
    start_program: StartProgram, client: Client, proxy: LosingProxy, place: Path
) -> None:
    """Its Redis is slow: a plan that is accepted and not yet loaded moves; then more comes than it can deal with."""
    (place / "node-a.d").mkdir()
    (place / "node-a.d" / "redis.toml").write_text('[redis]\ntimeout = "10s"\n')  # it is slow, and not away
    orchestrator = start_program("orchestrator", url=proxy.url, lease='ttl = "30s", renew = "10s"')
    orchestrator.role("active")
    name = submit(client, "nothing")
    cause_of(client, name, "no-worker")
    proxy.delay = 0.5
    large = client.plan("large")
    for _ in range(5_000):  # in five parts
        large.add("echo", value="x" * 20)
    assert cause_of(client, client.submit(large), "moves").text == "it goes on: nothing holds it up at this moment"
    enough = threading.Event()

    def go_on() -> None:
        with client_of(client) as other:
            while not enough.wait(0.1):
                submit(other, "nothing")

    submitting = threading.Thread(target=go_on)
    submitting.start()
    try:
        saturated = until_why(client, name, "no-worker", "saturated", timeout=90)[1]
    finally:
        enough.set()
        submitting.join()
        proxy.delay = 0.0
    assert saturated.text.endswith(" % busy")
    assert saturated.advice[0] == "spread the plans over more executors: docs/executors.md"


def test_redis_is_full_or_lacks_replicas(running: Program, client: Client, place: Path, server: Server) -> None:
    name = submit(client, "waits", path=str(place / "waits"))
    cause_of(client, name, "event")
    line = server.line()
    line.call("CONFIG", "SET", "maxmemory", "100kb")
    full = until_why(client, name, "full", "event")[0]
    assert full.text == "Redis is full: it takes no new plans, and what is there may stand still"
    line.call("CONFIG", "SET", "maxmemory", "0")
    line.close()
    cause_of(client, name, "event")

    running.stop()
    config = write_config(place, server.url, node="strict", lease='ttl = "2s", renew = "400ms"')
    config.write_text(config.read_text().replace("[redis]", "[redis]\nmin_replicas = 1"))
    strict = Program(place, config, "orchestrator")
    try:
        strict.until("it waits", lambda fields: "0 of 1 replicas" in fields.get("X_CHARGEHAND_REDIS", ""))
        with Client(load(config).settings) as other:
            short = until_why(other, name, "replicas", "event")[0]
        assert short.text == "Redis has 0 of the 1 replica that redis.min_replicas asks for, so nothing is decided"
    finally:
        strict.stop()


# -- workers --------------------------------------------------------------------------------------


def test_busy_unable_draining_silent(
    orchestrator: Program, start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """The one worker is busy, cannot run it, leaves, and is not heard any more."""
    worker = start_program("worker", node="node-w", extra=ONE_THREAD).ready()
    first = held(client, place, "first")
    second = submit(client, "nothing")
    busy = cause_of(client, second, "busy")
    assert busy.text == "step 0 waits for a worker: 1 step in the queue 'default', 1 of its 1 threads busy"
    expected = f"worker on node-w has run step 0 of plan {first} for "
    until("told with what", lambda: any(one.startswith(expected) for one in client.why(second).causes[0].evidence))
    assert "step 0 is number 1 in the queue" in client.why(second).causes[0].evidence
    with client_with(place, server, MYSTERY) as other:
        unknown = submit(other, "mystery")
        assert cause_of(other, unknown, "no-action").text == (
            "step 0 waits for a worker: none that serves 'default' has 'mystery'"
        )
    worker.signal(signal.SIGTERM)
    leaving = cause_of(client, second, "draining")
    assert leaving.text == "step 0 waits for a worker: those that serve 'default' are draining"
    assert leaving.advice[0].startswith("on node-w: chargehand undrain")
    (place / "gate-first").touch()
    assert worker.wait() == 0
    cause_of(client, second, "no-worker")

    again = start_program("worker", node="node-v", extra=ONE_THREAD).ready()
    assert client.wait(unknown, 30) is PlanState.PAUSED
    paused = cause_of(client, unknown, "paused")
    assert "(unknown action: the worker on node-v has no action 'mystery')" in paused.text
    assert paused.advice[0].startswith("have the workers of its queue import it: ")

    until("it has said that it is idle", lambda: [one.member.busy for one in client.census().serving("@node-v")] == [0])
    again.freeze()
    third = submit(client, "nothing")
    cause_of(client, third, "queued")
    orchestrator.freeze()  # else the worker is taken for dead as soon as it is silent
    silent = until_why(client, third, "no-active", "workers-silent")[1]
    assert silent.text == "step 0 waits for a worker: those that serve 'default' are silent"
    assert silent.evidence[1].startswith("worker on node-v: working, 0 of 1 threads busy, silent for ")
    again.thaw()
    orchestrator.thaw()
    assert client.wait(third, 60) is PlanState.SUCCEEDED


def test_a_unit_that_does_not_run(orchestrator: Program, place: Path, server: Server) -> None:
    """The configuration of this node has a privileged group for the queue."""
    with client_with(place, server, PRIVILEGED) as client:
        cause = cause_of(client, submit(client, "as_root"), "unit")
    assert cause.text == "step 0 waits for a worker: chargehand-worker@root.service serves 'root', and does not run"
    assert cause.advice[0] == "systemctl enable --now chargehand-worker@root.service"


def test_a_step_that_kills_its_workers(
    orchestrator: Program, start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """After two it waits for a worker with nothing else in hand, after three its plan pauses."""
    name = submit(client, "kills_its_worker", path=str(place / "kills"))

    def dies(node: str) -> Program:
        worker = start_program("worker", node=node)
        until("it is killed", lambda: not worker.running)
        return worker

    reported(server, dies("node-1"))
    second = dies("node-2")
    third = start_program("worker", node="node-3").ready()
    other = held(client, place, "other", node="node-3")
    reported(server, second)
    alone = cause_of(client, name, "alone")
    assert alone.text == (
        "step 0 waits for a worker of 'default' that has nothing else in hand, as its worker died before"
    )
    assert alone.evidence[0] == "step 0 is number 1 in those of the queue that run alone"
    assert alone.evidence[1] == "the worker of step 0 died twice while it ran; after three times the plan pauses"
    (place / "gate-other").touch()
    assert client.wait(other, 30) is PlanState.SUCCEEDED
    until("the third is killed", lambda: not third.running)
    reported(server, third)
    assert client.wait(name, 30) is PlanState.PAUSED
    lost = cause_of(client, name, "lost")
    assert lost.text == (
        "it is paused: step 0 (kills_its_worker) was lost with its worker, and somebody is to decide "
        "(lost: its worker died 3 times)"
    )
    assert is_in(client, name, "paused")


def test_among_several_executors(place: Path, server: Server) -> None:
    """Whichever has it; of a plan that is in none that answers nobody knows."""
    another = Server(place / "another")
    one, two = Group(place, server, "one"), Group(place, another, "two")
    try:
        for group in (one, two):
            group.known()
        settings = knowing(place, [one, two])
        with Executors(settings, load_actions(settings).actions) as executors:
            plan = executors.plan("fails_until")
            plan.add("fails_until", path="/nowhere")
            name = executors.submit(plan, executor="two")
            assert executors.wait(name, 30) is PlanState.PAUSED
        with Executors(settings) as executors:
            answer = executors.why(name)
            assert (answer.executor, kinds_of(answer)) == ("two", ["paused"])
            answer = executors.why(name[:-1])
            assert (answer.executor, answer.plan, kinds_of(answer)) == ("two", name, ["paused"])
            assert kinds_of(executors.why("nope")) == ["no-plan"]
        another.kill()
        with Executors(settings) as executors:
            answer = executors.why(name)
            assert (answer.state, kinds_of(answer)) == ("unknown", ["no-redis"])
            assert "it is in no executor that answers; two does not answer: 127.0.0.1:" in answer.text
        done = chargehand("why", name, config=client_config(place, [one, two]))
        assert done.returncode == 2
    finally:
        for group in (one, two):
            group.end()
        another.stop()


def test_the_answer_as_it_travels(running: Program, client: Client) -> None:
    """As JSON and back, for programs."""
    name = submit(client, "nothing")
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    answer = client.why(name)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer
    assert kinds_of(answer) == ["ended"]
    assert view_of(client, name).waits == []
