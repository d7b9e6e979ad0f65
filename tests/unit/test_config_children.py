"""What runs on a node: every refusal of a `[[child]]`, and the names and the order of all of them."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chargehand.config.children import broken_children
from chargehand.config.load import load
from chargehand.config.settings import ProgramSettings, Settings, WorkerSettings
from support.configs import refused, write_site

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_site, tmp_path)


_READY = 'expected one of "notify", "running" or { log = "REGULAR EXPRESSION" }'

CHILD_PROBLEMS = {
    # what it is made ready by
    "ready = 'started'": f'ready: found "started" (a string); {_READY}',
    "ready = true": f"ready: found true (a boolean); {_READY}",
    "ready = ['notify']": f"ready: found a list of 1; {_READY}",
    "ready = {}": f"ready: found a table of nothing; {_READY}",
    "ready = { logs = 'x' }": f"ready: found a table of logs; {_READY}",
    "ready = { log = 'x', after = '1s' }": f"ready: found a table of log, after; {_READY}",
    "ready = { log = 5 }": f"ready: found 5 (an integer) as log; {_READY}",
    "ready = { log = '[' }": 'ready.log: found "[" (a string); expected a regular expression (unterminated',
    "ready.log = ''": 'ready.log: found "" (a string); expected a regular expression (an empty one matches every line)',
    # its role
    "role = 'active'": 'role: found "active" (a string); expected a table of active, passive',
    "role = {}": "role: no pattern; expected active or passive, or both",
    "role.activ = 'x'": 'role.activ: unknown key; expected "active"',
    "role.active = 5": "role.active: found 5 (an integer); expected a string",
    "role.passive = '('": 'role.passive: found "(" (a string); expected a regular expression (missing ), unterm',
    # order
    "after = 'redis'": 'after: found "redis" (a string); expected a list (a name of letters,',
    "after = ['b c']": 'after: found "b c" (a string) in the list; expected a list (a name of',
    "after = ['x']": "after: a circle: x -> x; expected an order with a beginning (each would wait",
    "after = ['y']": 'after: "y", and no child of this name runs here; expected one of worker, orchestrator, redis',
    # its command
    "argv = []": "argv: found a list of 0; expected a list (a string each) with at least 1 element",
    "argv = '/usr/bin/x'": 'argv: found "/usr/bin/x" (a string); expected a list',
    "argv = ['bin/x']": 'argv: found "bin/x" (a string) as the program; expected an absolute path, or the bare name',
    "argv = ['./x']": 'argv: found "./x" (a string) as the program; expected an absolute path',
    "argv = ['']": 'argv: found "" (a string) as the program; expected an absolute path',
    "argv = ['/bin/x -v']": 'argv: found "/bin/x -v" (a string); expected the program and each of its arguments as a',
    "argv = ['x y']": 'argv: found "x y" (a string); expected the program and each of its arguments',
    "argv = ['a', \"\\u0000\"]": "argv: a NUL character; expected text",
    # its end
    "stop_signal = 'TERM'": 'stop_signal: found "TERM" (a string); expected "SIGTERM"',
    "stop_signal = 'sigint'": 'stop_signal: found "sigint" (a string); expected "SIGINT"',
    "stop_signal = '15'": 'stop_signal: found "15" (a string); expected "SIGTERM"',
    "stop_signal = '99'": 'stop_signal: found "99" (a string); expected the name of a signal, like "SIGTERM" or "SIGI',
    "stop_signal = 15": "stop_signal: found 15 (an integer); expected a string",
    "stop_signal = 'SIGSTOP'": 'stop_signal: found "SIGSTOP" (a string); expected the name of a signal, like "SIGTERM"'
    ' or "SIGINT" (it stops a process and does not end it)',
    "stop_signal = 'SIG_DFL'": 'stop_signal: found "SIG_DFL" (a string); expected the name of a signal',
    "stop_timeout = '2h'": "stop_timeout: 2h; expected at most 1h",
    "start_timeout = '0s'": "start_timeout: 0s; expected at least 100ms",
    # liveness
    "watchdog = '3s'": 'watchdog: set, without pings; expected it with ready = "notify" only (only a program that',
    "watchdog = '3s'\nready = { log = 'x' }": "watchdog: set, without pings",
    "ready = 'notify'\nwatchdog = '99ms'": "watchdog: 99ms; expected at least 100ms",
    # the rest
    "directory = 'tmp'": 'directory: found "tmp" (a string); expected an absolute path',
    "memory_max = '16MB'": 'memory_max: found "16MB" (a string); expected a size with its unit, like "64KiB"',
    "memory_max = '16383KiB'": "memory_max: 16383KiB; expected at least 16MiB",
    "limits.nofile = 15": "limits.nofile: found 15 (an integer); expected an integer of at least 16",
    "env.NOTIFY_SOCKET = '/x'": "env.NOTIFY_SOCKET: a name that the agent sets itself; expected another (each child",
    "env.WATCHDOG_USEC = '1'": "env.WATCHDOG_USEC: a name that the agent sets itself",
    "env.CHARGEHAND_INCARNATION = '1'": "env.CHARGEHAND_INCARNATION: a name that the agent sets itself; expected ano"
    "ther (the agent tells its children by it who and where they are)",
    "env.'A=B' = '1'": "env.A=B: a name or value that no environment can hold",
    "env.A = 5": "env.A: found an integer (not shown); expected a string",
    "last_words = 'yes'": 'last_words: found "yes" (a string); expected true or false',
    "restart = 'always'": "restart: unknown key; expected one of after, argv,",
}


@pytest.mark.parametrize("text", CHILD_PROBLEMS)
def test_one_problem_of_a_child(write: Write, text: str) -> None:
    command = "" if text.startswith("argv") else "argv = ['x']\n"
    (line,) = refused(write(f"[[child]]\nname = 'x'\n{command}{text}"))
    where, found = line.split(": ", 1)
    assert where in {"site.toml:3", "site.toml:4", "site.toml:5"}
    assert found.startswith(f'child "x": {CHILD_PROBLEMS[text]}')


NODE = """
redis.url = 'redis://a'
orchestrator.enabled = false
[[worker]]
name = 'group'
processes = 2
[[child]]
name = 'first'
argv = ['x']
[[child]]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name = 'x'\nafter = ['redis']",
            (
                'after: "redis", and no child of this name runs here; expected one of first, group'
                " (the agent runs no server when there is a redis.url)"
            ),
        ),
        ("name = 'x'\nafter = ['orchestrator']", "(orchestrator.enabled is false)"),
        ("name = 'x'\nafter = ['group-2']", 'after: "group-2", a process of a group; expected the group, "group"'),
        (
            "name = 'redis'",
            "name: \"redis\" is the embedded server's name; expected a name that meets no other child's",
        ),
        ("name = 'group'", 'name: "group" is the name of a worker group'),
        ("name = 'group-1'", 'name: "group-1" is the name of a process of worker group "group"'),
    ],
)
def test_a_child_among_others(write: Write, text: str, expected: str) -> None:
    (line,) = refused(write(f"{NODE}argv = ['x']\n{text}"))
    assert expected in line


def test_a_child_that_is_called_as_the_group_that_nobody_declared(write: Write) -> None:
    (line,) = refused(write("[[child]]\nname = 'worker'\nargv = ['x']"))
    assert line.endswith(
        '"worker" is the name of a worker group; expected a name that meets no other child\'s (without'
        ' a [[worker]] there is a group "worker")'
    )


def test_each_circle_is_named_once(write: Write) -> None:
    after = {"a": ["b"], "b": ["d", "c"], "c": ["a"], "d": [], "e": ["a", "f"], "f": ["e"]}
    lines = refused(write("".join(f"[[child]]\nname = '{n}'\nargv = ['x']\nafter = {a}\n" for n, a in after.items())))
    assert [line.split("; ")[0] for line in lines] == [
        'site.toml:4: child "a": after: a circle: a -> b -> c -> a',
        'site.toml:20: child "e": after: a circle: e -> f -> e',
    ]


def test_a_node_may_run_programs_alone(write: Write) -> None:
    worker = "[[worker]]\nname = 'worker'\nenabled = false\n"
    assert not load(write(f"orchestrator.enabled = false\n{worker}[[child]]\nname = 'x'\nargv = ['x']")).settings.worker


# -- properties -----------------------------------------------------------------------------------

NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=6))
@example({"a": ["b"], "b": ["c"], "c": ["b"]})
def test_a_circle_is_told_exactly_when_there_is_no_order(after: dict[str, list[str]]) -> None:
    programs = [ProgramSettings(name=name, argv=["x"], after=names) for name, names in after.items()]
    circles = [one for one in broken_children(Settings(child=programs)) if "circle" in one.found]
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError:
        assert circles
    else:
        assert not circles
    for circle in circles:
        names = circle.found.removeprefix("a circle: ").split(" -> ")
        assert names[0] == names[-1] == circle.key[1]
        assert all(then in after[name] for name, then in itertools.pairwise(names))


MEETING = st.sampled_from(["a", "a-1", "a-2", "a-1-1", "b", "redis", "orchestrator", "agent"])


@given(st.dictionaries(MEETING, st.integers(1, 3), max_size=4), st.sets(MEETING, max_size=3))
def test_names_are_accepted_exactly_when_they_differ(groups: dict[str, int], programs: set[str]) -> None:
    settings = Settings(
        worker=[WorkerSettings(name=name, processes=count) for name, count in groups.items()],
        child=[ProgramSettings(name=name, argv=["x"]) for name in sorted(programs)],
    )
    names = ["agent", "console", "orchestrator", "redis", *groups, *programs]
    names += [f"{name}-{index + 1}" for name, count in groups.items() for index in range(count) if count > 1]
    met = [one for one in broken_children(settings) if one.key[2:] == ("name",)]
    assert bool(met) == (len(set(names)) < len(names))
