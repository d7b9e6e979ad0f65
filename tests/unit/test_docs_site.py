"""The pages as mkdocs builds them: no link or anchor leads nowhere, and the reference has everything."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.cli.app import COMMANDS
from chargehand.config.settings import Settings
from chargehand.console.api import ENDPOINTS
from chargehand.console.metrics import METRICS
from chargehand.console.openapi import document
from support.documents import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    # Not --quiet: what mkdocs does not print, it does not count as a warning either.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def text_of(page: Path) -> str:
    return html.unescape(page.read_text(encoding="utf-8"))


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere(site: Path) -> None:
    """All of this is mkdocs' own judgement: `strict`, and what mkdocs.yml has it validate."""
    assert (site / "index.html").exists()


def test_every_example_table_and_list_is_seen_as_one(site: Path) -> None:
    """Forges forgive an indented fence, or a list without an empty line before it; this Markdown does not."""
    for page in site.rglob("*.html"):
        text = re.sub(r"<pre>.*?</pre>", "", text_of(page), flags=re.DOTALL)
        assert not re.findall(r"```|<p>(?:- |\| )|^(?:- |\| ).*", text, re.MULTILINE), page.name


def test_nothing_comes_from_another_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', text_of(page))
        assert not [address for one in fetched for address in one if re.match("(?:https?:)?//", address)], page.name


def test_the_reference_has_every_command(site: Path) -> None:
    page = text_of(site / "reference/cli.html")
    for name in COMMANDS:
        assert re.search(rf'<h2 id="{name}\b', page), name
    assert "<code>--grace" in page


def test_the_reference_has_every_key(site: Path) -> None:
    page = text_of(site / "reference/toml.html")
    for section in Settings.__struct_fields__:
        assert re.search(rf"<code>(?:\[\[{section}\]\] |{section}\.)", page), section
    assert '<td><code>orchestrator.lease.ttl</code></td>\n<td><code>"5s"</code></td>' in page


def test_the_reference_has_every_operation(site: Path) -> None:
    page = text_of(site / "reference/rest.html")
    for one in ENDPOINTS:
        assert f'id="{one.method.lower()}-{one.name}"' in page
    served = json.loads((site / "reference/openapi.json").read_text(encoding="utf-8"))
    assert served == json.loads(json.dumps(document(ENDPOINTS)))


def test_the_reference_has_every_metric(site: Path) -> None:
    page = text_of(site / "reference/metrics.html")
    assert not [name for name in METRICS if f"<td><code>{name}</code></td>" not in page]


def test_names_of_files_of_the_repository_stand_without_a_link(site: Path) -> None:
    page = text_of(site / "agent.html")
    assert "life.py is this table" in page
