"""Hooks of the documentation site (`mkdocs.yml`): pages outside docs/, and the links between them.

Links in Markdown files are written for a checkout, where they lead to files. On the site, README, CONTRIBUTING,
CHANGELOG and the examples' README files are pages, and the benchmarks' pictures are assets; a link to any other file
leads to the repository where `repo_url` is set, and is plain text otherwise.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"} | {
    path: path for path in sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("examples/**/README.md"))
}
"""File in the repository -> its page on the site."""
PICTURES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*/*.png"))
SOURCES = {page: path for path, page in PAGES.items()}

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that lie outside docs/."""
    from mkdocs.structure.files import File

    for path, uri in [*PAGES.items(), *((picture, picture) for picture in PICTURES)]:
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the relative links of a page."""
    uri = page.file.src_uri
    source = SOURCES.get(uri, f"docs/{uri}")

    def rewritten(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if f"{path}/README.md" in PAGES or (ROOT / path / "README.md").is_file():
            path = f"{path}/README.md"
        if path in PAGES or path in PICTURES or path.startswith("docs/"):
            found = PAGES.get(path, path.removeprefix("docs/"))
            relative = posixpath.relpath(found, posixpath.dirname(uri) or ".")
            return f"{picture}[{text}]({relative}{hash_sign}{anchor})"
        if config.repo_url:
            return f"{picture}[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{hash_sign}{anchor})"
        return text

    return LINK.sub(rewritten, markdown)
