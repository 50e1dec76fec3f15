"""Headless Chromium for tests of pages: the installed one, driven by playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the duration of the block; skips the test if there is none.

    Meanwhile an event loop runs in this thread, so no other test can start one: open it for one module at most.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if found is None:
        pytest.skip(f"no browser found ({', '.join(EXECUTABLES)}); on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-gpu"])
        yield browser
        browser.close()


def until(condition: Callable[[], bool], page: Page) -> None:
    """Wait for a condition; the test fails if it does not become true in 5 s."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(25)
    pytest.fail("the condition did not become true in 5 s")


@contextlib.contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A new page. It fails if the page throws, requests another host, or violates its security policy."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    page = context.new_page()
    page.set_default_timeout(20_000)
    origin = "/".join(url.split("/")[:3]) + "/"
    problems: list[str] = []

    def check_message(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            problems.append(message.text)

    def check_request(request: Request) -> None:
        if not request.url.startswith(origin):
            problems.append(request.url)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", check_message)
    page.on("request", check_request)
    page.goto(url)
    yield page
    context.close()
    assert not problems
