"""The page in a browser, before a scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from s1ray.serving.playground import PATH
from tests.support.browser import chromium, opened
from tests.support.playground_server import StandIn, standing_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
def page(browser: Browser, server: StandIn) -> Iterator[Page]:
    with opened(browser, f"{server.url}{PATH}") as page:
        page.wait_for_selector("#submit:enabled")
        yield page
