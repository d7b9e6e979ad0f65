"""Rules over what runs on a node: names, order, commands, signals, environments and ceilings. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping

from chargehand.config.patterns import pattern_fault
from chargehand.config.problems import Problem, absolute, problem, shown
from chargehand.config.quantities import format_duration, format_size
from chargehand.config.settings import Duration, LogPattern, ProgramSettings, Settings, Size, WorkerSettings

__all__ = ["broken_children", "environment_faults", "given_faults", "memory_faults"]

#: What the agent calls its own: in the status, in `after`, in its sockets' names.
_OURS = {
    "agent": "the agent's own name",
    "console": "the console's name",
    "orchestrator": "the orchestrator's name",
    "redis": "the embedded server's name",
}

#: Why one of ours is not there to be waited for.
_ABSENT = {
    "orchestrator": "orchestrator.enabled is false",
    "redis": "the agent runs no server when there is a redis.url",
}

_SHORTEST = 0.1  # of a start or a silence: below, a busy machine looks like a broken child
_LONGEST_STOP = 3600
_LEAST_MEMORY = 16 << 20  # Python alone needs as much

#: What the agent sets for each child, and a child would be misled by.
_AGENTS = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def broken_children(settings: Settings) -> Iterator[Problem]:
    yield from _names(settings)
    orchestrator = settings.orchestrator
    yield from memory_faults("orchestrator", value=orchestrator.memory_max)
    yield from given_faults("orchestrator", env=orchestrator.env)
    for worker in settings.worker:
        yield from _worker(worker)
    for program in settings.child:
        yield from _program(program)
        yield from _after(program, settings)
    yield from _circles(settings.child)


# -- names ----------------------------------------------------------------------------------------


def _names(settings: Settings) -> Iterator[Problem]:
    """Whoever is named in a status, a log or a command is one child, or one group."""
    taken = dict(_OURS)
    for group in settings.worker:
        own = [group.name, *_processes(group)]
        if met := next((name for name in own if name in taken), None):
            found = f'"{met}" is {taken[met]}'
            if met != group.name:
                found = f"its process {found}"
            expected = "a name that meets no other child's"
            yield problem("worker", group.name, "name", found=found, expected=expected)
        for name in own:
            process = f'a process of worker group "{group.name}"'
            taken.setdefault(name, f"the name of {process if name != group.name else 'a worker group'}")
    for program in settings.child:
        if program.name in taken:
            advice = 'without a [[worker]] there is a group "worker"' if program.name == "worker" else ""
            found = f'"{program.name}" is {taken[program.name]}'
            expected = "a name that meets no other child's"
            yield problem("child", program.name, "name", found=found, expected=expected, advice=advice)


def _processes(group: WorkerSettings) -> list[str]:
    """Names of its processes, where they are not called as the group is."""
    return [f"{group.name}-{index}" for index in range(1, group.processes + 1)] if group.processes > 1 else []


# -- order ----------------------------------------------------------------------------------------


def _after(program: ProgramSettings, settings: Settings) -> Iterator[Problem]:
    known = [one.name for one in settings.child if one.name != program.name]
    known += [one.name for one in settings.worker]
    if settings.orchestrator.enabled:
        known.append("orchestrator")
    if settings.redis.embedded:
        known.append("redis")
    processes = {process: group.name for group in settings.worker for process in _processes(group)}
    for name in program.after:
        if name in known or name == program.name:  # itself: a circle
            continue
        found = f'"{name}", and no child of this name runs here'
        expected = f"one of {', '.join(dict.fromkeys(known))}" if known else "none: nothing else runs here"
        advice = _ABSENT.get(name, "")
        if name in processes:
            found, expected = f'"{name}", a process of a group', f'the group, "{processes[name]}"'
        yield problem("child", program.name, "after", found=found, expected=expected, advice=advice)


def _circles(programs: list[ProgramSettings]) -> Iterator[Problem]:
    """Each circle once, told at the first of its programs."""
    after = {program.name: program.after for program in programs}
    done: set[str] = set()
    for start in after:
        circle = _circle(start, after, done)
        if circle:
            found = " -> ".join(circle)
            expected, advice = "an order with a beginning", "each would wait for the next, for ever"
            yield problem("child", start, "after", found=f"a circle: {found}", expected=expected, advice=advice)
            done.update(circle)


def _circle(start: str, after: Mapping[str, list[str]], done: set[str]) -> list[str]:
    """The shortest way along `after` from a program to itself, past none that is done; empty when there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for name in after[way[-1]]:
            if name == start:
                return [*way, name]
            if name in after and name not in seen and name not in done:
                seen.add(name)
                ways.append([*way, name])
    return []


# -- one child ------------------------------------------------------------------------------------


def _worker(worker: WorkerSettings) -> Iterator[Problem]:
    where = ("worker", worker.name)
    if not worker.queues:
        yield problem(*where, "queues", found="none", expected="at least one queue")
    if isinstance(worker.queues, list):
        for queue in sorted({one for one in worker.queues if worker.queues.count(one) > 1}):
            yield problem(*where, "queues", found=f'"{queue}" twice', expected="each queue once")
    yield from _at_least(*where, "start_timeout", value=worker.start_timeout)
    yield from memory_faults(*where, value=worker.memory_max)
    yield from given_faults(*where, env=worker.env)


def _program(program: ProgramSettings) -> Iterator[Problem]:
    where = ("child", program.name)
    yield from _command(program)
    if isinstance(program.ready, LogPattern):
        yield from _pattern(*where, "ready", "log", value=program.ready.log)
    if program.role is not None:
        if program.role.active is None and program.role.passive is None:
            yield problem(*where, "role", found="no pattern", expected="active or passive, or both")
        for name, pattern in (("active", program.role.active), ("passive", program.role.passive)):
            if pattern is not None:
                yield from _pattern(*where, "role", name, value=pattern)
    yield from _signal(program)
    yield from _at_least(*where, "start_timeout", value=program.start_timeout)
    if program.stop_timeout > _LONGEST_STOP:
        found = format_duration(program.stop_timeout)
        yield problem(*where, "stop_timeout", found=found, expected="at most 1h")
    if program.watchdog is not None and program.ready != "notify":
        expected = 'it with ready = "notify" only'
        advice = "only a program that speaks sd_notify sends WATCHDOG=1"
        yield problem(*where, "watchdog", found="set, without pings", expected=expected, advice=advice)
    elif program.watchdog is not None:
        yield from _at_least(*where, "watchdog", value=program.watchdog)
    yield from absolute(*where, "directory", value=program.directory)
    yield from memory_faults(*where, value=program.memory_max)
    yield from given_faults(*where, env=program.env)


def _command(program: ProgramSettings) -> Iterator[Problem]:
    where = ("child", program.name, "argv")
    first = program.argv[0]
    if any("\0" in argument for argument in program.argv):
        yield problem(*where, found="a NUL character", expected="text")
    elif not first or ("/" in first and not first.startswith("/")):
        expected = "an absolute path, or the bare name of a program on PATH"
        yield problem(*where, found=f"found {shown(where, first)} as the program", expected=expected)
    elif " -" in first or (" " in first and "/" not in first):
        expected = "the program and each of its arguments as a string of its own"
        yield problem(*where, found=f"found {shown(where, first)}", expected=expected, advice="there is no shell")


def _pattern(*key: str, value: str) -> Iterator[Problem]:
    fault = "an empty one matches every line" if not value else pattern_fault(value)
    if fault is not None:
        yield problem(*key, found=f"found {shown(key, value)}", expected=f"a regular expression ({fault})")


def _signal(program: ProgramSettings) -> Iterator[Problem]:
    name = program.stop_signal
    if name in signal.Signals.__members__ and name != "SIGSTOP":
        return
    key = ("child", program.name, "stop_signal")
    full = _full_name(name)
    advice = "it stops a process and does not end it" if name == "SIGSTOP" else ""
    expected = f'"{full}"' if full else 'the name of a signal, like "SIGTERM" or "SIGINT"'
    yield problem(*key, found=f"found {shown(key, name)}", expected=expected, advice=advice)


def _full_name(text: str) -> str:
    """The signal that is probably meant by `TERM`, `sigterm` or `15`; empty when none is."""
    if text.isascii() and text.isdecimal():
        return next((one.name for one in signal.Signals if str(one.value) == text), "")
    name = "SIG" + text.upper().removeprefix("SIG")
    return name if name in signal.Signals.__members__ and name != "SIGSTOP" else ""


# -- what several have ----------------------------------------------------------------------------


def _at_least(*key: str, value: Duration) -> Iterator[Problem]:
    if value < _SHORTEST:
        yield problem(*key, found=format_duration(value), expected=f"at least {format_duration(_SHORTEST)}")


def memory_faults(*where: str, value: Size | None) -> Iterator[Problem]:
    """A ceiling that nothing fits under."""
    if value is not None and value < _LEAST_MEMORY:
        expected, advice = f"at least {format_size(_LEAST_MEMORY)}", "no ceiling: leave the key out"
        yield problem(*where, "memory_max", found=format_size(value), expected=expected, advice=advice)


def given_faults(*where: str, env: Mapping[str, str]) -> Iterator[Problem]:
    """Names and values that a child of the agent cannot or must not be given."""
    yield from environment_faults(*where, env=env)
    for name, value in env.items():
        key = (*where, "env", name)
        if name == "CHARGEHAND_LOG":  # a person's to choose
            if value.upper() not in _LEVELS:
                yield problem(*key, found="no level of logging", expected=f"one of {', '.join(_LEVELS)}")
        elif name in _AGENTS or name.startswith("CHARGEHAND_"):
            advice = "the agent tells its children by it who and where they are"
            if not name.startswith("CHARGEHAND_"):
                advice = "each child has a socket, a watchdog and descriptors of its own, and would be misled"
            yield problem(*key, found="a name that the agent sets itself", expected="another", advice=advice)


def environment_faults(*where: str, env: Mapping[str, str]) -> Iterator[Problem]:
    """Names and values that no process can be given."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            found = "a name or value that no environment can hold"
            yield problem(*where, "env", name, found=found, expected="text")
