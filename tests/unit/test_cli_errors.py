"""Errors that the command line expects are named by their place; one that moved would show as a traceback."""

from __future__ import annotations

from importlib import import_module

import pytest

from chargehand.cli import errors


@pytest.mark.parametrize("name", sorted(errors._EXPECTED))
def test_an_expected_error_is_where_the_table_says(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    kind = getattr(import_module(module), attribute)
    assert issubclass(kind, Exception)
    assert kind.__module__ == module, "the table is asked with the place of its definition"
