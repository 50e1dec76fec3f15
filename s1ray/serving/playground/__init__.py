"""The page at `/playground`: a conversation under a thinking budget, with thinking and answer streamed separately.

The static files next to this module are served as they are: no build step, and nothing from other hosts. The page uses
the same OpenAI API as every client, relative to its own URL, so it works behind a route prefix or a gateway's path.
`assets/` has the built files of the two libraries that the page uses (Markdown and formulas), as npm has them, in
folders named by version; `assets/libraries.json` names their sources, licences and hashes.
"""

from __future__ import annotations

import json
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

FILES = (
    PAGE,
    "style.css",
    "rendered.css",
    "icon.svg",
    "app.js",
    "pane.js",
    "turn.js",
    "meter.js",
    "markdown.js",
    "math.js",
    "stream.js",
    "requests.js",
)
"""The page's own files."""

ASSETS = "assets"
LIBRARIES = f"{ASSETS}/libraries.json"

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
"""Media types by a name's ending; any other file is plain text."""

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
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
}

REVALIDATED = "no-cache"
"""For the page's own files, so that an updated server never meets scripts of its old page."""

IMMUTABLE = "public, max-age=31536000, immutable"
"""For a library's files, whose paths contain its version."""


def add_playground(app: Starlette) -> None:
    """Add the page and its files to a Starlette or FastAPI application; they do not appear in its API description."""
    app.add_route(PATH, _page, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/", _without_slash, methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/{{name:path}}", _file, methods=["GET"], include_in_schema=False)


@cache
def library_files() -> dict[str, str]:
    """The paths of the libraries' files below the page's folder, with their SHA-256."""
    libraries = json.loads(_content(LIBRARIES))
    return {
        f"{ASSETS}/{name}-{library['version']}/{file}": digest
        for name, library in libraries.items()
        for file, digest in library["sha256"].items()
    }


async def _page(request: Request) -> Response:
    return _response(PAGE, REVALIDATED)


async def _without_slash(request: Request) -> Response:
    # Relative, because a gateway may have mounted the server under another path.
    return RedirectResponse(f"..{PATH}")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name in library_files():
        return _response(name, IMMUTABLE)
    if name not in FILES or name == PAGE:
        raise HTTPException(404)
    return _response(name, REVALIDATED)


def _response(name: str, caching: str) -> Response:
    media_type = MEDIA_TYPES.get(name.rpartition(".")[2], "text/plain; charset=utf-8")
    return Response(_content(name), headers=HEADERS | {"Content-Type": media_type, "Cache-Control": caching})


@cache
def _content(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
