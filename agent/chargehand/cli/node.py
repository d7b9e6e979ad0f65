"""What this node's agent knows, as lines for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime

from chargehand.cli.drain import drain_told
from chargehand.health import ChildStatus, NodeStatus

__all__ = ["labelled", "node_lines"]

_LABEL = 9  # columns: as the other lines of `chargehand status`


def node_lines(node: NodeStatus, *, now: float, width: int | None = None, most: int | None = None) -> list[str]:
    """`now`: Unix time. `width`: columns to wrap at, None for no wrapping. `most`: children to show; those that
    have something to tell come first then, the others are counted."""
    lines = [labelled("agent", f"{node.node}: {node.status}", width)]
    if node.started:
        lines.append(labelled("", f"since {_moment(node.started, now)}, PID {node.pid}, {node.version}", width))
    if node.drain is not None and f"by {node.drain.by} since" not in node.status:
        lines.append(labelled("drain", drain_told(node.drain), width))
    lines += [labelled("degraded", cause, width) for cause in node.degraded if cause not in node.status]
    children = node.children
    if most is not None and len(children) > most:
        kept = sorted(children, key=lambda child: not _notable(child))[:most]
        children = [child for child in children if child in kept]
    lines += _children(children, now, width)
    left = [child for child in node.children if child not in children]
    if left:
        ready = sum(child.state == "ready" for child in left)
        lines.append(labelled("", f"and {len(left)} more, {ready} of them ready (--json shows all)", width))
    return lines


def _children(children: list[ChildStatus], now: float, width: int | None) -> Iterator[str]:
    name = max((len(child.name) for child in children), default=0)
    for child in children:
        memory = f"{child.memory / (1 << 20):.0f} MiB" if child.memory else ""
        fixed = f"  {child.name:<{name}}  {child.state:<8}  since {_moment(child.since, now):<8}  {memory:>8}"
        notes = "; ".join(_notes(child, now))
        yield _wrapped(f"{fixed}  {notes}".rstrip(), " " * (_LABEL + 4), width)


def _notable(child: ChildStatus) -> bool:
    return child.state != "ready" or bool(child.crashes or child.degraded or child.replacing)


def _notes(child: ChildStatus, now: float) -> Iterator[str]:
    if child.role and child.kind != "worker":
        yield child.role + (f" (epoch {child.epoch})" if child.role == "active" and child.epoch else "")
    busy, threads = child.steps
    if threads:
        yield f"{busy}/{threads} steps"
    if child.replacing:
        yield "its successor takes over" if child.state == "draining" else "is being replaced"
    if child.restarts:
        yield f"{child.restarts} {'restart' if child.restarts == 1 else 'restarts'}"
    if child.crashes:
        times = "once at" if child.crashes == 1 else f"{child.crashes} times since"
        yield f"crashed {times} {_moment(child.crashed_since or 0.0, now)}"
    if child.last_words and (child.crashes or child.restarts or child.state != "ready"):
        yield f"last: {child.last_words}"
    if child.degraded:
        yield f"degraded: {child.degraded}"


def labelled(label: str, text: str, width: int | None) -> str:
    """A line with its label, and below what is beyond `width`."""
    return _wrapped(f"{label:<{_LABEL}}{text}", " " * _LABEL, width)


def _wrapped(line: str, indent: str, width: int | None) -> str:
    """A line that is too long goes on below, indented; one word that is too long stays whole."""
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _moment(time: float, now: float) -> str:
    then = datetime.fromtimestamp(time).astimezone()
    return then.strftime("%H:%M:%S" if now - time < 86_400 else "%Y-%m-%d %H:%M")
