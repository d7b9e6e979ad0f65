"""The definitions that docs/wire-format.md writes by hand are such that an orchestrator accepts them."""

from __future__ import annotations

import re

import msgspec
import pytest

from chargehand.decoding import decode
from chargehand.plan.run import PlanRun
from chargehand.wire import Definition, Submitted, decode_event
from support.documents import DOCS, blocks, read

PAGE = DOCS / "wire-format.md"
WRITTEN = [*blocks(PAGE, "json"), *re.findall(r"^definition='(.*)'$", read(PAGE), re.MULTILINE)]


def submitted(definition: str) -> PlanRun:
    """What the orchestrator makes of it. Raises for one that it would reject."""
    event = decode_event(b'["submit","documented",%s]' % definition.encode())
    assert isinstance(event, Submitted)
    read = decode(event.definition, Definition)
    run = PlanRun(event.plan, read)
    run.extend(read.steps)
    assert run.whole
    return run


@pytest.mark.parametrize("definition", WRITTEN)
def test_definitions_written_by_hand_would_be_accepted(definition: str) -> None:
    run = submitted(definition)
    assert list(run.ready) == [0, 1], "the backups at once, the report after both"


def test_both_definitions_of_the_page_are_tested() -> None:
    assert len(WRITTEN) == 2


def test_a_definition_that_refers_forward_is_rejected() -> None:
    """As the page says of a step that names a later one."""
    with pytest.raises(ValueError, match="earlier steps only"):
        submitted('{"label":"x","policies":[["backup"]],"total":1,"steps":[[0,{},[3]]]}')
    with pytest.raises(msgspec.ValidationError):
        submitted('{"label":"x","policies":[["backup"]],"steps":[]}')
