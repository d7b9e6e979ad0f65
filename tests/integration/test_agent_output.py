"""Programs that print too much, too long, or what is no text; and a standard error that nobody reads."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chargehand.supervisor.asking import ControlError, query
from support.nodes import Node
from support.others import child, named, running, shell
from support.programs import until

MIB = 1 << 20

#: Prints `count` times `text` (with escapes) on its standard error, then says so in a file and lives on.
FLOOD = """
import os, signal, sys
text = sys.argv[1].encode("latin-1").decode("unicode_escape").encode("latin-1")
done = sys.argv[3]
with os.fdopen(2, "wb", 65536) as out:
    for _ in range(int(sys.argv[2])):
        out.write(text)
open(done, "w").close()
signal.pause()
"""


def flood(place: Path, text: str, count: int) -> dict[str, Any]:
    return child("web", sys.executable, "-c", FLOOD, text, str(count), f"{place}/done")


def memory(node: Node, field: str = "VmHWM") -> int:
    """Bytes that the agent holds, or held at most."""
    status = Path(f"/proc/{node.agent.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) * 1024


def logs(node: Node, **parameters: Any) -> list[dict[str, str]]:
    answer = query(node.runtime_dir / "agent.sock", "io.chargehand.Agent.Logs", parameters)
    assert answer["journal"] is False
    found: list[dict[str, str]] = answer["lines"]
    return found


@pytest.fixture
def unread(place: Path) -> Iterator[int]:
    """The agent's standard error is a pipe that nobody reads; its other end."""
    path = place / "node-a.agent.log"
    os.mkfifo(path)
    reads = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield reads
    os.close(reads)


def unlink_pipe(place: Path) -> None:
    """The agent has it open: from now on a test that fails may look at its log."""
    path = place / "node-a.agent.log"
    path.unlink()
    path.touch()


def arrived(pipe: int) -> bytes:
    data = b""
    while True:
        try:
            data += os.read(pipe, 65536)
        except BlockingIOError:
            return data


def test_flood_arrives_whole(place: Path) -> None:
    """100 MB: the program waits for the agent, which neither stops nor grows."""
    line, count = "x" * 999, 100_000
    with running(place, flood(place, line + "\\n", count)) as node:
        before = memory(node)
        until("all is printed", lambda: named(node, "web") and (place / "done").exists(), timeout=120.0)
        assert memory(node) - before < 8 * MIB
        until("all has arrived", lambda: os.path.getsize(node.log) > count * 1000)  # noqa: PTH202
    text = node.log.read_bytes()
    assert text.count(b"web: " + line.encode() + b"\n") == count
    assert "dropped" not in node.status


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("x" * 999 + "\\n", 100_000, id="lines"),
        pytest.param("x" * 1000, 100_000, id="one line without an end"),
        pytest.param("x" * 50_000 + "\\n", 2_000, id="long lines"),
        pytest.param("\\x00\\xff\\xfe\\x1b" * 250, 100_000, id="no text"),
    ],
)
def test_flood_that_nobody_reads(place: Path, unread: int, text: str, count: int) -> None:
    """The agent answers all the while, and does not grow; the program is not held up by it."""
    with running(place, flood(place, text, count)) as node:
        unlink_pipe(place)
        before = memory(node)
        until("all is printed", lambda: named(node, "web") and (place / "done").exists(), timeout=120.0)
        assert memory(node) - before < 8 * MIB
        assert named(node, "web")["state"] == "ready"
        assert arrived(unread)


def test_what_is_dropped_is_counted(place: Path, unread: int) -> None:
    """What arrives and what is counted are all of it."""
    line, count = b"web: " + b"x" * 99 + b"\n", 100_000
    with running(place, flood(place, "x" * 99 + "\\n", count)) as node:
        unlink_pipe(place)
        until("all is printed", (place / "done").exists)
        found = b""

        def accounted() -> int:
            nonlocal found
            found += arrived(unread)
            return found.count(line) * len(line) + told_dropped(node)

        until("all of it is accounted for", lambda: accounted() >= count * len(line))
        assert accounted() == count * len(line)
        assert told_dropped(node) > 0


def test_what_is_dropped_is_told(place: Path, unread: int) -> None:
    with running(place, flood(place, "x" * 99 + "\\n", 10_000)) as node:
        unlink_pipe(place)
        until("all is printed", (place / "done").exists)
        node.until("it is told", lambda node: "bytes of output dropped" in node.status)
        assert arrived(unread)


def told_dropped(node: Node) -> int:
    match = re.search(r"(\d+) bytes of output dropped", " ".join(node.describe()["degraded"]))
    return int(match[1]) if match else 0


def test_what_is_no_text(place: Path) -> None:
    script = r"printf '\377\376\000\001 binary\n\033[31mred\n'; printf 'no end'; exec sleep 1000"
    with running(place, shell("web", script)) as node:
        until("it has printed", lambda: len(logs(node)) == 2)
        assert [one["text"] for one in logs(node)] == ["\ufffd\ufffd\x00\x01 binary", "\x1b[31mred"]
        node.until_logged("web: \ufffd\ufffd\x00\x01 binary\n")


def test_what_one_printed_before_it_ended_is_kept(place: Path) -> None:
    """That is what somebody asks for after it has been started again."""
    script = f"test -e {place}/again && exec sleep 1000; touch {place}/again; echo 'no licence'; exit 1"
    with running(place, shell("web", script)) as node:
        node.until("it is told", lambda node: "web crashed once" in node.status)
        assert logs(node, child="web") == [{"child": "web", "text": "no licence"}]


def test_last_line_without_an_end(place: Path) -> None:
    with running(place, shell("web", "printf 'no end'; exit 1")) as node:
        until("it is shown", lambda: "web: no end\n" in node.log.read_text())


def test_program_that_closes_its_output(place: Path) -> None:
    """It goes on running, and the agent does not look at it for ever."""
    with running(place, shell("web", "echo closing; exec sleep 1000 >&- 2>&-")) as node:
        until("it has printed", lambda: logs(node))
        pid = named(node, "web")["pid"]
        until("it has closed it", lambda: not Path(f"/proc/{pid}/fd/1").exists())
        before, wall = os.times(), spent(node)
        until("a second", lambda: os.times().elapsed - before.elapsed > 1.0)
        assert spent(node) - wall < 30, "hundredths of a second of its processor: it does not turn in a circle"
        assert (named(node, "web")["state"], named(node, "web")["pid"]) == ("ready", pid)


def spent(node: Node) -> int:
    """Clock ticks."""
    fields = Path(f"/proc/{node.agent.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_logs(place: Path) -> None:
    """The last lines of one child or of all."""
    count = "for n in 1 2 3 4 5; do echo $0 $n; done; exec sleep 1000"
    both = [child(name, "/bin/sh", "-c", count, name) for name in ("web", "feed")]
    with running(place, *both) as node:
        until("both have printed", lambda: len(logs(node)) == 10)
        assert logs(node, child="feed", lines=2) == [{"child": "feed", "text": f"feed {n}"} for n in (4, 5)]
        assert {one["child"] for one in logs(node, lines=1)} == {"web", "feed"}
        with pytest.raises(ControlError, match=r'there is no child "wob" here; there are: feed, web'):
            logs(node, child="wob")
        for wrong in ("5", -1, 1.5, [2]):
            with pytest.raises(ControlError, match=r"lines: found .*, expected a number"):
                logs(node, lines=wrong)
