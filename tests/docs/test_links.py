"""Links in Markdown files lead to files and headings that exist, and so do the paths that they name."""

import re
from pathlib import Path

import pytest

from tests.support import markdown


@pytest.mark.parametrize("file", markdown.FILES, ids=markdown.name)
def test_relative_links_and_anchors_resolve(file: Path) -> None:
    for target in markdown.links(file):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = (file.parent / path).resolve() if path else file
        assert found.exists(), f"{markdown.name(file)} links to {target}, which does not exist"
        assert found.is_relative_to(markdown.ROOT), f"{markdown.name(file)} links to {target}, outside the repository"
        if anchor:
            assert anchor in markdown.anchors(found), f"{markdown.name(file)} links to {target}: no such heading"


PATH = re.compile(r"(s1ray|tests|jobs|docs|deploy|benchmarks|examples|requirements)/[\w./-]+")


@pytest.mark.parametrize("file", markdown.FILES, ids=markdown.name)
def test_named_paths_exist(file: Path) -> None:
    if file.name == "CHANGELOG.md":
        pytest.skip("names what was there before")
    missing = [text for text in markdown.code(file) if PATH.fullmatch(text) and not (markdown.ROOT / text).exists()]
    assert not missing
