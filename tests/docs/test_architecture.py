"""The reading path stays short, and the pages that list things list all of them."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support import markdown

DOCS = markdown.ROOT / "docs"
MAX_LINES = 2000


def reading_path() -> list[Path]:
    section = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## A reading path")[2]
    return [DOCS / target for target in re.findall(r"^\d+\. \[`[^`]+`\]\(([^)]+)\)", section, re.MULTILINE)]


def test_the_reading_path_has_at_most_2000_lines() -> None:
    files = reading_path()
    assert len(files) >= 10
    lengths = {
        file.resolve().relative_to(markdown.ROOT).as_posix(): len(file.read_text().splitlines()) for file in files
    }
    assert sum(lengths.values()) <= MAX_LINES, f"{sum(lengths.values())} lines: {lengths}"


def test_the_architecture_names_every_room() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for room in sorted(
        folder.name for folder in (markdown.ROOT / "s1ray").iterdir() if (folder / "__init__.py").exists()
    ):
        assert f"`s1ray/{room}/`" in text, f"docs/architecture.md does not say what s1ray/{room}/ is"


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without what only mkdocs can load."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.load((markdown.ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for value in (entry.values() if isinstance(entry, dict) else entry) for page in pages(value)]

    listed = pages(config["nav"])
    here = {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")}
    elsewhere = {"index.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    elsewhere |= {markdown.name(file) for file in (markdown.ROOT / "examples").rglob("README.md")}
    assert sorted(listed) == sorted(here | elsewhere)


def test_every_decision_is_listed() -> None:
    notes = sorted(file.name for file in (DOCS / "decisions").glob("0*.md"))
    listed = re.findall(r"\((\d{4}-[^)]+\.md)\)", (DOCS / "decisions" / "README.md").read_text(encoding="utf-8"))
    assert listed == notes
    assert [note[:4] for note in notes] == [f"{number:04d}" for number in range(1, len(notes) + 1)]
