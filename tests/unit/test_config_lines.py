"""The lines of keys agree with tomllib and tomli-w, whatever the document."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from chargehand.config.lines import locate

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    st.integers(-(2**60), 2**60), st.booleans(), st.text(max_size=20), st.floats(), st.dates(), st.datetimes()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4))
)


def paths(value: Any, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    here = {at} if at else set()
    return here.union(*(paths(inner, (*at, str(key))) for key, inner in pairs))


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_every_key_has_a_line_and_nothing_else_has(document: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    assert set(locate(text)) == paths(tomllib.loads(text))


def test_lines_are_those_of_an_editor() -> None:
    text = '''\
top = 1
# threads = 9
[orchestrator]   # comment ] [
lease = { ttl = "5s", renew = "1s" }
[[worker]]
name = "a"
note = """
threads = 7
[[worker]]
"""
threads = 1
queues = [
  "one",   # first
  "two",
]
[[worker]]
"na\\u006de" = "b"
worker.'x y'.z = 1979-05-27 07:32:00
[worker.deep.er]
k = \'\'\'it''s\'\'\'
'''
    found = locate(text)
    assert found[("top",)] == 1
    assert found["orchestrator",] == 3
    assert found["orchestrator", "lease", "renew"] == 4
    assert found["worker", "0"] == 5
    assert found["worker", "0", "threads"] == 11
    assert found["worker", "0", "queues", "1"] == 14
    assert found["worker", "1"] == 16
    assert found["worker", "1", "name"] == 17
    assert found["worker", "1", "worker", "x y", "z"] == 18
    assert found["worker", "1", "deep", "er", "k"] == 20
    assert set(found) == paths(tomllib.loads(text))
    assert locate(text.replace("\n", "\r\n")) == found
