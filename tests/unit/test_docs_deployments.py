"""The configurations of docs/deployments.md are sound, each by itself, as `chargehand config check` says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.commands import chargehand
from support.documents import DOCS, blocks

FILES = blocks(DOCS / "deployments.md", "toml")


def title(code: str) -> str:
    return code.splitlines()[0].removeprefix("# ")


@pytest.mark.parametrize("code", FILES, ids=title)
def test_it_is_sound(code: str, tmp_path: Path) -> None:
    name = re.match(r"/etc/chargehand/(?:conf\.d/)?([\w-]+\.toml)", title(code))
    assert name, "its first line says where it belongs"
    path = tmp_path / name[1]
    path.write_text(code)
    done = chargehand("config", "check", config=path)
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "ok"), done.stderr


def test_each_deployment_has_one() -> None:
    executors = {name for code in FILES for name in re.findall(r'^\[executor\]\nname = "([^"]+)"', code, re.MULTILINE)}
    assert executors == {"node-a", "east", "reports"}
    assert len(FILES) >= 7
