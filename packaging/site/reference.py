"""What mkdocs is told beside the pages of docs/: a reference made of the code, and what forges do otherwise.

    make docs

The pages of the reference are made at each build and stand nowhere as files, so they cannot fall behind. mkdocs
calls the functions whose names begin with `on_`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from commands import commands_page
from keys import keys_page
from metrics import metrics_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from rest import openapi, rest_page

__all__ = ["MADE", "anchor"]

#: File of the site -> what makes it.
MADE: dict[str, Callable[[], str]] = {
    "reference/cli.md": commands_page,
    "reference/toml.md": keys_page,
    "reference/rest.md": rest_page,
    "reference/metrics.md": metrics_page,
    "reference/openapi.json": openapi,
}


def anchor(heading: str, separator: str = "-") -> str:
    """That of a heading, as forges make it: pages have the same ones there and here."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.mdx_configs["toc"] = {"slugify": anchor, "permalink": "#", "toc_depth": 3}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, make in MADE.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' call
    """Files of the repository are no pages of the site: their names stand without a link."""
    return markdown if page.file.src_uri in MADE else re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
