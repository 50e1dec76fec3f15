"""The files of the page at `/playground`, and how they are served."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from s1ray.config import validate_config
from s1ray.serving import playground
from s1ray.serving.config import ServingConfig
from s1ray.serving.playground import CONTENT_SECURITY_POLICY, MEDIA_TYPES, PAGE, PATH, add_playground

SCRIPTS = sorted(name for name in MEDIA_TYPES if name.endswith(".js"))


def content(name: str) -> str:
    return resources.files(playground).joinpath(name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def http() -> TestClient:
    app = FastAPI()
    add_playground(app)
    return TestClient(app)


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_file_is_served_with_its_type_and_the_policy(http: TestClient, name: str) -> None:
    response = http.get(PATH if name == PAGE else f"{PATH}/{name}")
    assert response.text == content(name)
    assert response.headers["Content-Type"] == MEDIA_TYPES[name]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    policy = response.headers["Content-Security-Policy"]
    assert policy == CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("name", ["nothing.js", PAGE, "__init__.py", "..%2F__init__.py", "%2e%2e/config.py"])
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
    found = {entry.name for entry in resources.files(playground).iterdir() if entry.is_file()}
    assert found == {*MEDIA_TYPES, "__init__.py"}


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_no_file_names_another_host(name: str) -> None:
    text = content(name).replace('xmlns="http://www.w3.org/2000/svg"', "")
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
    looked_for = set(re.findall(r'(?:find|say|count)\("\.([\w-]+)', content("pane.js")))
    assert looked_for
    assert looked_for <= classes


@pytest.mark.parametrize("shown", [False, True])
def test_the_config_can_leave_the_page_out(monkeypatch: pytest.MonkeyPatch, shown: bool) -> None:
    from s1ray.serving.http import routes

    added: list[object] = []
    monkeypatch.setattr(routes, "add_playground", added.append)
    model = {"name": "m", "model": "miniature-base"}
    routes.ingress_class(validate_config(ServingConfig, {"models": [model], "playground": shown}, "test"))
    assert len(added) == shown
