"""The page at `/playground`: ask a question, set the thinking budget, and watch thinking and answer stream separately.

The static files next to this module are served as they are: no build step, and nothing from other hosts. The page uses
the same OpenAI API as every client, relative to its own URL, so it works behind a route prefix or a gateway's path.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.applications import Starlette

PATH = "/playground"

PAGE = "index.html"

MEDIA_TYPES = {
    PAGE: "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "pane.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "requests.js": "text/javascript; charset=utf-8",
}
"""All files of the page, with their media types."""

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # A model's text can never become markup: assigning a string as HTML throws.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # So that an updated server never meets scripts of its old page.
    "Cache-Control": "no-cache",
}


def add_playground(app: Starlette) -> None:
    """Add the page and its files to a Starlette or FastAPI application; they do not appear in its API description."""
    app.add_route(PATH, _page, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/", _without_slash, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/{{name}}", _file, methods=["GET"], include_in_schema=False)


async def _page(request: Request) -> Response:
    return _response(PAGE)


async def _without_slash(request: Request) -> Response:
    # Relative, because a gateway may have mounted the server under another path.
    return RedirectResponse(f"..{PATH}")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in MEDIA_TYPES or name == PAGE:
        raise HTTPException(404)
    return _response(name)


def _response(name: str) -> Response:
    return Response(_content(name), headers=HEADERS | {"Content-Type": MEDIA_TYPES[name]})


@cache
def _content(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
