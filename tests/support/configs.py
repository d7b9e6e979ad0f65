"""Configuration files for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.config.load import ConfigError, load

__all__ = ["refused", "write_site"]


def write_site(directory: Path, main: str, *drop_ins: str) -> Path:
    """`site.toml`, and beside it `site.d/1.toml`, `2.toml` and so on."""
    path = directory / "site.toml"
    path.write_text(main)
    for number, text in enumerate(drop_ins, 1):
        (directory / "site.d").mkdir(exist_ok=True)
        (directory / "site.d" / f"{number}.toml").write_text(text)
    return path


def refused(path: Path) -> list[str]:
    """What is said of it, a line a problem, without the directory."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems)
    return [line.replace(f"{path.parent}/", "") for line in lines]
