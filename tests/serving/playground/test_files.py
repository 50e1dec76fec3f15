"""The files of the page at `/playground`, and how they are served."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from s1ray.config import validate_config
from s1ray.serving import playground
from s1ray.serving.config import ServingConfig
from s1ray.serving.playground import (
    CONTENT_SECURITY_POLICY,
    FILES,
    LIBRARIES,
    PAGE,
    PATH,
    add_playground,
    library_files,
)

FOLDER = resources.files(playground)
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    "LICENSE": "text/plain; charset=utf-8",
}
MOST_BYTES = 700_000
"""Of the libraries together."""


def content(name: str) -> str:
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


def files_in(folder: Traversable, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for entry in folder.iterdir():
        if entry.is_file():
            found.add(prefix + entry.name)
        elif entry.name != "__pycache__":
            found |= files_in(entry, f"{prefix}{entry.name}/")
    return found


@pytest.fixture(scope="module")
def http() -> TestClient:
    app = FastAPI()
    add_playground(app)
    return TestClient(app)


@pytest.mark.parametrize("name", [*FILES, *library_files()])
def test_every_file_is_served_with_its_type_and_the_policy(http: TestClient, name: str) -> None:
    response = http.get(PATH if name == PAGE else f"{PATH}/{name}")
    assert response.content == FOLDER.joinpath(name).read_bytes()
    ending = next(ending for ending in MEDIA_TYPES if name.endswith(ending))
    assert response.headers["Content-Type"] == MEDIA_TYPES[ending]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_the_policy_allows_this_server_and_no_inline_code() -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["trusted-types"] == "'none'"


def test_own_files_are_revalidated_and_versioned_ones_are_kept(http: TestClient) -> None:
    for name in FILES:
        response = http.get(PATH if name == PAGE else f"{PATH}/{name}")
        assert response.headers["Cache-Control"] == "no-cache"
    for name in library_files():
        assert http.get(f"{PATH}/{name}").headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", library_files())
def test_a_librarys_file_is_the_one_of_its_version(name: str) -> None:
    # Browsers keep these files for a year: another content needs another path.
    assert hashlib.sha256(FOLDER.joinpath(name).read_bytes()).hexdigest() == library_files()[name]


def test_the_libraries_are_named_licensed_and_small() -> None:
    libraries = json.loads(content(LIBRARIES))
    for name, library in libraries.items():
        assert library["version"] in library["source"]
        assert library["license"] == "MIT"
        assert "MIT" in content(f"assets/{name}-{library['version']}/LICENSE")
    assert sum(len(FOLDER.joinpath(name).read_bytes()) for name in library_files()) < MOST_BYTES
    own = "".join(content(name) for name in FILES)
    for used in set(re.findall(r"assets/[\w./-]+", own)):
        assert used in library_files()


def test_fonts_of_the_formulas_come_from_this_server() -> None:
    (style,) = (name for name in library_files() if name.endswith(".css"))
    fonts = re.findall(r"url\((.*?)\)", content(style))
    assert fonts
    folder = style.rpartition("/")[0]
    for font in fonts:
        if font.endswith(".woff2"):
            assert f"{folder}/{font}" in library_files()
        else:
            assert re.fullmatch(r"fonts/[\w-]+\.(woff|ttf)", font)  # what a browser of today never asks for
    assert "@import" not in content(style)


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        PAGE,
        "__init__.py",
        "..%2F__init__.py",
        "%2e%2e/config.py",
        LIBRARIES,
        "assets",
        "assets/..%2Fapp.js",
    ],
)
def test_nothing_else_is_served(http: TestClient, name: str) -> None:
    assert http.get(f"{PATH}/{name}").status_code == 404


def test_a_trailing_slash_redirects_to_the_page_under_any_mount() -> None:
    app, outer = FastAPI(), FastAPI()
    add_playground(app)
    outer.mount("/prefix", app)
    response = TestClient(outer).get(f"/prefix{PATH}/")
    assert response.url.path == f"/prefix{PATH}"
    assert response.text == content(PAGE)


def test_the_page_is_not_in_the_api_description(http: TestClient) -> None:
    assert http.get("/openapi.json").json()["paths"] == {}


def test_the_folder_contains_only_served_files() -> None:
    assert files_in(FOLDER) == {*FILES, *library_files(), LIBRARIES, "__init__.py"}


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host(name: str) -> None:
    text = content(name).replace('xmlns="http://www.w3.org/2000/svg"', "").replace('["http:", "https:", "mailto:"]', "")
    assert not re.search(r"https?:|[\"'(]//|@import|\burl\(", text)


def test_the_page_has_no_inline_code_or_style() -> None:
    assert not re.search(r"\s(style|on\w+)=|<style|<script(?! type=\"module\" src=)|javascript:", content(PAGE))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_never_parse_text_as_markup_and_store_nothing(name: str) -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|eval\(|Function\(|localStorage|cookie"
    assert not re.search(forbidden, content(name))


def test_the_elements_that_the_scripts_use_are_on_the_page() -> None:
    page = content(PAGE)
    for name in re.findall(r'\bby\("([\w-]+)"\)', content("app.js")):
        assert f'id="{name}"' in page, name
    classes = {name for group in re.findall(r'class="([^"]+)"', page) for name in group.split()}
    scripts = content("pane.js") + content("turn.js")
    looked_for = set(re.findall(r'(?:find|say|count)\("\.([\w-]+)', scripts))
    assert looked_for
    assert looked_for <= classes


@pytest.mark.parametrize("shown", [False, True])
def test_the_config_can_leave_the_page_out(monkeypatch: pytest.MonkeyPatch, shown: bool) -> None:
    from s1ray.serving.http import routes

    added: list[object] = []
    monkeypatch.setattr(routes, "add_playground", added.append)
    model = {"name": "m", "model": "miniature-base"}
    config = validate_config(ServingConfig, {"models": [model], "playground": shown}, "test")
    answerer: Any = None
    routes.http_app(config, answerer)
    assert len(added) == shown
