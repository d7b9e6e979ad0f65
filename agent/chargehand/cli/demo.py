"""`chargehand demo`: the main job, live, on this machine."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import click

from chargehand.cli.errors import CliError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from chargehand.client import Client
    from chargehand.demo.stage import Stage
    from chargehand.store.plans import PlanView

__all__ = ["demo"]

_LOOK = 0.02  # seconds between looks at the plan
_PATIENCE = 55.0  # seconds for all of it


@click.command()
@click.option("--seed", type=int, help="Repeat the moments of the kills of an earlier run.")
def demo(seed: int | None) -> int:
    """Two nodes, one executor, real work, two failovers, and a verdict.

    Hashes every file of the Python standard library, a step a file. While it runs, the active orchestrator is
    killed, and then the whole agent that is active after it is stopped. Exit code 0 only if every file was
    hashed, each result counted once, order kept, and no process left behind.
    """
    from chargehand.demo.stage import Stage, StageError
    from chargehand.supervisor.server import ServerError

    seed = random.randrange(1_000_000) if seed is None else seed
    print(f"seed {seed} (SEED={seed} repeats it)")
    try:
        with Stage() as stage:
            return _play(stage, random.Random(seed))
    except (StageError, ServerError) as error:
        raise CliError(str(error)) from error


def _play(stage: Stage, draw: random.Random) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from chargehand.client import Client
    from chargehand.demo.actions import library_files
    from chargehand.demo.verdict import judge
    from chargehand.registry import load_actions

    stage.wait_until_ready()
    settings = stage.settings
    files = len(library_files())
    with Client(settings, load_actions(settings).actions) as client:
        _say_roles(stage)
        plan = client.plan("survey")
        plan.add("survey")
        name = client.submit(plan)
        print(f"plan {name}: {len(plan)} steps for {files} files")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=False) as progress:
            task = progress.add_task("steps", total=len(plan))
            _Director(stage, client, name, progress, task, draw).run()
        view = client.read(name)
        assert view is not None
    stage.stop_nodes()
    findings = judge(view, files, stage.left_over())
    for finding in findings:
        print(f"{'ok ' if finding.holds else 'NOT'}  {finding.text}")
    holds = all(finding.holds for finding in findings)
    print("verdict: true" if holds else "verdict: FALSE")
    if not holds:
        for node in stage.nodes:
            print(f"--- {node.name}\n{node.log.read_text(errors='replace')[-2000:]}")
    return 0 if holds else 1


def _say_roles(stage: Stage) -> None:
    for node in stage.nodes:
        described = node.describe()
        print(f"{node.name}: {described['status'] if described else 'stopped'}")


class _Director:
    """Watches the plan, and makes trouble at two moments of its progress."""

    def __init__(
        self, stage: Stage, client: Client, plan: str, progress: Progress, task: TaskID, draw: random.Random
    ) -> None:
        from chargehand.store.connection import Dialer
        from chargehand.store.keys import Keys

        self._stage = stage
        self._client = client
        self._plan = plan
        self._progress = progress
        self._task = task
        self._kill_at = draw.uniform(0.1, 0.45)
        self._stop_at = draw.uniform(0.5, 0.85)
        self._keys = Keys(stage.settings.executor.name)
        self._line = Dialer(stage.settings.redis).line()

    def run(self) -> None:
        """Until the plan has ended. Raises `CliError` when it does not in time."""
        deadline = time.monotonic() + _PATIENCE
        self._until(self._kill_at, deadline)
        holder, epoch = self._lease()
        self._progress.console.print(f"at {self._share():.0%}: kill -9 of the active orchestrator, on {holder}")
        killed = time.monotonic()
        if not self._stage.node(holder).kill_orchestrator():
            raise CliError(f"{holder} holds the lock and has no orchestrator")
        self._say_takeover(killed, epoch)

        self._until(self._stop_at, deadline)
        holder, epoch = self._lease()
        self._progress.console.print(f"at {self._share():.0%}: the whole agent of {holder} is stopped")
        stopped = time.monotonic()
        self._stage.node(holder).stop()
        self._say_takeover(stopped, epoch)
        self._until(1.0, deadline)

    def _view(self) -> PlanView:
        view = self._client.read(self._plan, steps=False)
        if view is None:
            raise CliError(f"plan {self._plan} is gone")
        done = view.counts.get("succeeded", 0)
        self._progress.update(self._task, completed=done)
        return view

    def _share(self) -> float:
        view = self._view()
        return view.counts.get("succeeded", 0) / view.total

    def _until(self, share: float, deadline: float) -> None:
        while True:
            view = self._view()
            if view.counts.get("succeeded", 0) >= share * view.total or view.state in {"paused", "rejected"}:
                return
            if time.monotonic() > deadline:
                raise CliError(f"the plan did not end in {_PATIENCE:g} s: {view.counts}")
            time.sleep(_LOOK)

    def _lease(self) -> tuple[str, int]:
        """Who holds the lease, and its epoch; waits for one to be held."""
        deadline = time.monotonic() + 10
        while True:
            token, node = self._line.batch([("GET", self._keys.lease), ("HGET", self._keys.holder, "node")])
            if token:
                return node.decode(), int(token.partition(b":")[0])
            if time.monotonic() > deadline:
                raise CliError("nobody holds the lock after 10 s")
            time.sleep(0.001)

    def _say_takeover(self, since: float, before: int) -> None:
        while True:
            holder, epoch = self._lease()
            if epoch > before:
                break
            if time.monotonic() - since > 15:
                raise CliError("nobody took over in 15 s")
            time.sleep(0.001)
        took = (time.monotonic() - since) * 1000
        self._progress.console.print(f"        {holder} took over in {took:.0f} ms, epoch {epoch}")
