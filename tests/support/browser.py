"""Headless Chromium for tests of pages: Debian's package, driven by playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts; where there is none, the test is skipped.

    An event loop runs in this thread meanwhile, so no test beside it can start one: open it for one module at most.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if found is None:
        pytest.skip(f"no browser found ({', '.join(EXECUTABLES)}); on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of its own, which must not throw, nor ask anybody but its own server, nor break its security policy."""
    options = {"viewport": WIDE} | options
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: _refused_by_policy(message.text) and problems.append(message.text))
    page.on("request", lambda request: request.url.startswith(url_origin(url)) or problems.append(request.url))
    page.goto(url)
    yield page
    context.close()
    assert not problems


def url_origin(url: str) -> str:
    """Scheme, host and port of a URL, with a slash at the end."""
    return "/".join(url.split("/")[:3]) + "/"


def _refused_by_policy(text: str) -> bool:
    return "Content Security Policy" in text or "TrustedHTML" in text
