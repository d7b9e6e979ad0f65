"""Rules of privileged work: groups that a unit of their own runs, and the actions that only those run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from chargehand.config.problems import Problem, problem
from chargehand.config.settings import Settings, WorkerSettings

__all__ = ["privileged_faults"]

_THE_UNITS = ("user", "group", "nice", "memory_max", "limits", "env")  # keys that the agent would act on


def privileged_faults(settings: Settings) -> Iterator[Problem]:
    for worker in settings.worker:
        if worker.unit:
            yield from _unit(worker)
    for action in settings.action:
        if not action.privileged:
            continue
        where = ("action", action.name)
        if not action.argv[0].startswith("/"):
            found = f'"{action.argv[0]}" as the program of a privileged action'
            yield problem(*where, "argv", found=found, expected="its absolute path", advice="root looks nothing up")
        for worker in settings.worker:
            if action.queue in worker.queues and not worker.unit:
                yield problem(
                    *where,
                    "queue",
                    found=f'"{action.queue}", which worker "{worker.name}" serves too',
                    expected="a queue that only groups with unit = true serve",
                    advice="an unprivileged worker would take its steps, and fail them",
                )


def _unit(worker: WorkerSettings) -> Iterator[Problem]:
    where = ("worker", worker.name)
    unit = f"chargehand-worker@{worker.name}.service"
    if worker.processes != 1:
        expected = "1, or more groups"
        yield problem(*where, "processes", found=f"{worker.processes} with unit = true", expected=expected)
    defaults = msgspec.structs.asdict(WorkerSettings(name=worker.name))
    for key in _THE_UNITS:
        if getattr(worker, key) != defaults[key]:
            yield problem(*where, key, found="set with unit = true", expected="nothing", advice=f"set it in {unit}")
