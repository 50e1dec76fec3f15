"""The page at `/playground`: ask a question, drag the thinking budget, watch thinking and answer stream apart.

Static files beside this module, sent as they are: no build step, and nothing from other hosts. The page talks to the
same OpenAI API as every client, relative to where it was loaded from, so a route prefix or a gateway's path does not
matter to it.
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
"""The files there are, and nothing else in this folder, by media type."""

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
        # What a model writes can never become markup: assigning text as HTML throws.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # An updated server must not meet the old page's scripts.
    "Cache-Control": "no-cache",
}


def add_playground(app: Starlette) -> None:
    """Add the page and its files to an application (FastAPI's too); they stay out of its API description."""
    app.add_route(PATH, _page, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/", _without_slash, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/{{name}}", _file, methods=["GET"], include_in_schema=False)


async def _page(request: Request) -> Response:
    return _response(PAGE)


async def _without_slash(request: Request) -> Response:
    # Relative, as everything here: a gateway may have put the server under another path.
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
