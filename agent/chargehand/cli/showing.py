"""`chargehand plan show`: one plan, its steps as a table or a graph, however many there are."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from chargehand.cli import completion
from chargehand.cli.columns import Cell, Column, Said, arranged, plain, print_lines, terminal_width
from chargehand.cli.errors import CliError
from chargehand.cli.graph import QUIET, Lanes, Row, drawn, folded, numbers
from chargehand.cli.options import config_option, connected, json_option, print_json, time_of_day
from chargehand.cli.times import lasting
from chargehand.cli.why import first_line
from chargehand.plan.asking import word
from chargehand.plan.life import ENDED, StepState

if TYPE_CHECKING:
    from chargehand.executors import Executors
    from chargehand.store.plans import PlanView, StepView
    from chargehand.wire import Failure

__all__ = ["COLORS", "colored", "failures", "show"]

#: State -> how it is coloured; others are as the text around them.
COLORS = {
    "running": "cyan",
    "cancelling": "cyan",
    "reverting": "cyan",
    "paused": "yellow",
    "failing": "yellow",
    "skipped": "yellow",
    "suspended": "yellow",
    "retrying": "yellow",
    "succeeded": "green",
    "rejected": "red",
    "failed": "red",
    "halted": "red",
    "spoiled": "red",
}

BAD = frozenset({"failed", "skipped", "spoiled"})  # words of steps

_STATES = ("running", *(word(state) for state in StepState))
_ENDED = {word(state) for state in ENDED}

_SHOWN = 10  # steps of a row that are not quiet
_NODES = 3  # told by their names
_NUMBERS = 3  # of steps that a step comes after
_LINES = 20  # of an output
_WIDE = 100  # columns: longer lines of text are hard to read
_LEAST = 20  # columns for a text
_DRAWN = 3  # the drawing may take one part in so many of the terminal


class Work(NamedTuple):
    """A step that runs."""

    node: str
    seconds: float  # so far


def colored(state: str) -> Cell:
    return (state, COLORS.get(state, ""))


@click.command()
@click.argument("plan_id", metavar="PLAN", shell_complete=completion.plans)
@click.option("--graph", is_flag=True, help="Draw which steps come after which.")
@click.option(
    "--steps",
    "which",
    metavar="WHICH",
    help='Only "failed", "running" or another state; "3,7-9": these, with all they left; "all": each by itself.',
)
@click.option("--output", "with_output", is_flag=True, help="Show what steps returned too.")
@json_option
@config_option
def show(plan_id: str, which: str | None, *, graph: bool, with_output: bool, as_json: bool) -> None:
    """One plan: why it stands still, its state, its steps with attempts, errors and outputs.

    Steps that look the same are folded: the first of them stands for the others.
    """
    wanted = _wanted(which)
    if graph and wanted is not None:
        raise click.UsageError(f"--graph draws the whole plan: it does not go with --steps {which}")
    with connected() as executors:
        view = executors.read(plan_id)
        if view is None:
            raise CliError(f"there is no plan {plan_id!r} (chargehand plan list)")
        if as_json:
            print_json(view)
            return
        answer = executors.why(plan_id, view) if _stands_still(view) else None
        work = _work(executors, view)
    width = terminal_width()
    if answer is not None:
        view.waits = [reason for reason in view.waits if reason != answer.text]
        sentence = plain(f"{first_line(answer)} (chargehand why {plan_id})")
        lines = [sentence] if width is None else textwrap.wrap(sentence, min(width, _WIDE), break_on_hyphens=False)
        print_lines([*([(line, "bold")] for line in lines), [""]])
    print_lines(_facts(view, width))
    steps = view.steps if wanted is None else [step for step in view.steps if wanted(step)]
    if not steps:
        print_lines([[f"\nno step is {which}" if view.steps else "\nno steps"]])
        return
    rows = folded(steps) if which is None else [Row([step], frozenset(numbers(step.after))) for step in steps]
    lanes = drawn(rows) if graph else None
    if lanes and width is not None and lanes[0].width > width // _DRAWN:
        lanes = None  # it would leave no room for the words: the column AFTER has to do
    one_by_one = which is not None and which[:1].isdigit()
    print_lines([[""], *_table(rows, lanes, work, width, output=with_output or one_by_one, trace=one_by_one)], width)


def _wanted(which: str | None) -> Callable[[StepView], bool] | None:
    """Whether a step is to be shown; None: each."""
    if which is None or which == "all":
        return None
    if which[:1].isdigit():
        chosen: list[tuple[int, int]] = []
        for part in which.split(","):
            first, _, last = part.partition("-")
            if not first.isdigit() or not (last or first).isdigit():
                raise click.BadParameter(f'{part!r} is no step: write "3" or "3,7-9"', param_hint="--steps")
            chosen.append((int(first), int(last or first)))
        return lambda step: any(first <= step.index <= last for first, last in chosen)
    if which not in _STATES:
        raise click.BadParameter(
            f"{which!r} is no state of a step (there are: all, {', '.join(_STATES)})", param_hint="--steps"
        )
    return lambda step: step.state == which


def _stands_still(view: PlanView) -> bool:
    """It has not ended, and nothing of it runs."""
    return view.state not in _ENDED and not any(step.state in {"running", "undoing"} for step in view.steps)


def _work(executors: Executors, view: PlanView) -> dict[int, Work]:
    """Of the steps that run: where, and for how long. The first 50 of each worker are known."""
    if not any(step.state in {"running", "undoing"} for step in view.steps):
        return {}
    found: dict[int, Work] = {}
    for seen in executors.at(view.plan).census().members:
        for key, ms in zip(seen.member.running, seen.member.for_ms, strict=False):
            plan, step, _ = key.rsplit("/", 2)
            if plan == view.plan:
                found[int(step)] = Work(seen.member.node, ms / 1000 + seen.beat_age)
    return found


def _facts(view: PlanView, width: int | None) -> Iterator[Said]:
    """What is to be said of a plan as a whole, with a name before each."""
    for name, value in _named_facts(view):
        first, *others = _wrapped(" " * 11, value, width)
        yield [f"{name:<10} ", *first[1:]]
        yield from others


def _named_facts(view: PlanView) -> Iterator[tuple[str, Cell]]:
    states = Counter(step.state for step in view.steps) if view.state != "submitted" else {}
    counts = ", ".join(f"{count:,} {state}" for state, count in states.items()) or "not accepted yet"
    since = f" since {time_of_day(view.since_ms)}" if view.since_ms else ""
    yield "plan", view.plan
    yield "state", (f"{view.state}{since}", COLORS.get(view.state, ""))
    for reason in view.waits:
        yield "waits", plain(reason)
    if view.progress and view.state not in {"succeeded", "reverted"}:
        yield "progress", f"{int(view.progress * 100)}%"  # never 100 before it has ended
    yield "action", plain(view.label)
    if view.executor:
        yield "executor", view.executor
    yield "steps", f"{view.total:,} ({counts})"
    yield "submitted", f"{time_of_day(view.submitted_ms)} by {plain(view.by)}"
    if view.labels:
        yield "labels", plain(", ".join(view.labels))
    if view.parent:
        yield "sub-plan", f"of step {view.parent[1]} of plan {view.parent[0]}"
    if view.start_at_ms or view.start_before_ms:
        at = f"at {time_of_day(view.start_at_ms)}" if view.start_at_ms else ""
        before = f"before {time_of_day(view.start_before_ms)}" if view.start_before_ms else ""
        yield "starts", ", ".join(filter(None, (at, before)))
    if view.error is not None:
        yield "error", (_error(view.error), "red")


def failures(view: PlanView) -> Iterator[str]:
    """What went wrong, a line each: the plan's own error, then its failed steps, those with the same error as one."""
    if view.error is not None:
        yield f"error      {_error(view.error)}"
    causes: dict[tuple[str, str], list[StepView]] = {}
    for step in view.steps:
        if step.state in BAD and step.error is not None:
            causes.setdefault((step.state, _error(step.error)), []).append(step)
    for (state, error), some in list(causes.items())[:_SHOWN]:
        first = some[0]
        where = f" on {first.error.node}" if first.error and first.error.node else ""
        more = f" and {len(some) - 1:,} more" if len(some) > 1 else ""
        yield f"{state:<10} step {first.index} {plain(first.action)}{where}{more}: {error}"
    if len(causes) > _SHOWN:
        yield f"{'':<10} and {len(causes) - _SHOWN:,} more (chargehand plan show {view.plan} --steps failed)"


def _error(error: Failure) -> str:
    return plain(f"{error.kind}: {error.message}")


# -- the steps ------------------------------------------------------------------------------------

_COLUMNS = (
    Column(""),
    Column("STEP", right=True),
    Column("ACTION", cut=True),
    Column("STATE"),
    Column("ATTEMPT", drop=3, right=True),
    Column("NODE", drop=2),
    Column("TOOK", drop=1, right=True),
    Column("AFTER", drop=4),
    Column("", cut=True),
)


def _table(
    rows: Sequence[Row],
    lanes: Sequence[Lanes] | None,
    work: Mapping[int, Work],
    width: int | None,
    *,
    output: bool,
    trace: bool,
) -> Iterator[Said]:
    """The steps with what is to be said of each below it. `trace`: where in the code it failed, too."""
    shown = [row.steps[: 1 if len(row.steps) > 1 and row.steps[0].state in QUIET else _SHOWN] for row in rows]
    cells: list[list[Cell]] = []
    for place, some in enumerate(shown):
        for number, step in enumerate(some):
            drawing = "" if lanes is None else lanes[place].row if not number else lanes[place].again
            cells.append([drawing, *_cells(step, work.get(step.index), after=lanes is None)])
    titles, *lines = arranged(_COLUMNS, cells, width)
    numbers_end = " " * (max(len("STEP"), len(str(rows[-1].steps[-1].index))) + 2)
    yield titles
    following = iter(lines)
    for place, (row, some) in enumerate(zip(rows, shown, strict=True)):
        before = numbers_end if lanes is None else f"{lanes[place].below:<{lanes[place].width}}  {numbers_end}"
        for step in some:
            yield next(following)
            for line in _left(step, output=output, trace=trace):
                yield from _wrapped(before, line, width)
        if len(row.steps) > len(some):
            yield from _wrapped(before, ("… " + _more(row.steps[len(some) :], some[0]), "dim"), width)


def _cells(step: StepView, work: Work | None, *, after: bool) -> list[Cell]:
    result, error = step.result, step.error
    took = ""
    if work is not None:
        took = lasting(work.seconds)
    elif result is not None:
        took = lasting((result.ended_ms - result.started_ms) / 1000)
    elif error is not None and error.started_ms:
        took = lasting((error.ended_ms - error.started_ms) / 1000)
    node = work.node if work else result.node if result else error.node if error else ""
    return [
        str(step.index),
        step.action,
        colored(step.state),
        str(step.attempt) if step.attempt > 1 or step.losses else "",
        node or (step.queue if step.queue.startswith("@") else ""),
        took,
        _after(step) if after else "",
        _far(step),
    ]


def _after(step: StepView) -> str:
    names = [str(one) if isinstance(one, int) else f"{one[0]}-{one[1] - 1}" for one in step.after]
    return ",".join(names) if len(names) <= _NUMBERS else f"{names[0]} … {names[-1]}"


def _far(step: StepView) -> str:
    """How far it is, and how its sub-plans are."""
    if step.children is not None:
        counts = step.children
        failed = f", {counts.failed:,} failed" if counts.failed else ""
        return f"{counts.succeeded + counts.failed:,}/{counts.total:,} sub-plans{failed}"
    if step.progress is not None and step.state in {"running", "suspended"}:
        return f"{step.progress.fraction:.0%} {step.progress.message}".rstrip()
    return ""


def _wrapped(before: str, cell: Cell, width: int | None) -> Iterator[Said]:
    """A text below a row or beside a name, on as many lines as it needs; where it is no terminal, on one."""
    text, style = (cell, "") if isinstance(cell, str) else cell
    room = len(text) if width is None else max(_LEAST, width - len(before))
    for line in textwrap.wrap(text, max(1, room), subsequent_indent="  ", break_on_hyphens=False) or [""]:
        yield [before, (line, style)]


def _left(step: StepView, *, output: bool, trace: bool) -> Iterator[Cell]:
    """What a step left behind, a line each: why it failed, what it returned."""
    if step.error is not None and step.state not in {"succeeded", "reverted"}:
        lost = f", lost {step.losses} times with its worker" if step.losses > 1 else ""
        yield f"{_error(step.error)}{lost}", COLORS.get(step.state, "")
        for line in step.error.trace.splitlines() if trace else ():
            yield f"  {plain(line)}"
    if output and step.result is not None:
        from chargehand.decoding import decode

        text = step.result.output
        value = decode(text)
        lines = value.splitlines() or [""] if isinstance(value, str) else [bytes(text).decode()]
        yield from (f"{'  ' if number else '= '}{plain(line)}" for number, line in enumerate(lines[:_LINES]))
        if len(lines) > _LINES:
            yield f"  … {len(lines) - _LINES:,} more lines (--json has all)", "dim"


def _more(others: Sequence[StepView], like: StepView) -> str:
    """What is to be said of the steps of a row that are not shown."""
    states = Counter(step.state for step in others)
    said = [f"{len(others):,} more"]
    if len(states) == 1 and all(step.action == like.action for step in others):
        said[0] += f" like step {like.index}: {like.state}"
    else:
        said[0] += f": {', '.join(f'{count:,} {word}' for word, count in states.most_common())}"
    nodes = sorted({step.result.node for step in others if step.result} | {s.error.node for s in others if s.error})
    if nodes:
        said.append(f"on {', '.join(nodes)}" if len(nodes) <= _NODES else f"on {len(nodes):,} nodes")
    took = [(step.result.ended_ms - step.result.started_ms) / 1000 for step in others if step.result]
    if took:
        said.append(" to ".join(dict.fromkeys((lasting(min(took)), lasting(max(took))))))
    return ", ".join(said)
