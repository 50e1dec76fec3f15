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


GROUPS = {
    f"s1ray.{kind}" for kind in ("sources", "benchmarks", "teachers", "strategies", "scorers", "graders", "models")
}
"""Of entry points."""
PATH = re.compile(r"(s1ray|tests|jobs|docs|deploy|benchmarks|examples|requirements)/[\w./-]+")


@pytest.mark.parametrize("file", markdown.FILES, ids=markdown.name)
def test_named_paths_exist(file: Path) -> None:
    if file.name == "CHANGELOG.md":
        pytest.skip("names what was there before")
    missing = [text for text in markdown.code(file) if PATH.fullmatch(text) and not (markdown.ROOT / text).exists()]
    assert not missing


def test_named_modules_and_attributes_exist() -> None:
    text = " ".join(span for file in markdown.FILES if file.name != "CHANGELOG.md" for span in markdown.code(file))
    names = set(re.findall(r"(?<![\w./-])s1ray(?:\.[A-Za-z]\w*)+", text)) - GROUPS
    for name in sorted(names):
        parts = name.split(".")
        while not (found := _module(parts)).is_file():
            parts.pop()
        rest = name.split(".")[len(parts) :]
        source = found.read_text(encoding="utf-8")
        missing = [attribute for attribute in rest if not re.search(rf"\b{attribute}\b", source)]
        assert not missing, f"{name}: {markdown.name(found)} has no {missing[0]}"


def _module(parts: list[str]) -> Path:
    file = markdown.ROOT.joinpath(*parts)
    return file / "__init__.py" if file.is_dir() else file.with_name(f"{file.name}.py")
