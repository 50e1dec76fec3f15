"""The HTTP application: the routes of all dialects, models, metrics and health, and its error handlers.

A FastAPI app of our own: ray.serve.llm's lets every web page's scripts call the server (CORS for all origins, with
credentials), and wraps each request in two more layers of middleware. FastAPI's pages about the API are left out, as
they load scripts from other hosts; the description is at `/openapi.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from vllm.exceptions import VLLMClientError

from s1ray import __version__
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.access import HEALTH, AccessMiddleware
from s1ray.serving.http.answers import Answerer
from s1ray.serving.http.dialects import DIALECTS, error_form
from s1ray.serving.http.dialects.base import BodyT, Route
from s1ray.serving.http.errors import RefusedError, error_response, failed
from s1ray.serving.http.models import Card, Cards
from s1ray.serving.http.preparing import Preparations
from s1ray.serving.http.prometheus import MEDIA_TYPE, Nodes
from s1ray.serving.playground import add_playground

logger = logging.getLogger("ray.serve")

NODES = Nodes()
"""The cluster's, for `/metrics`."""


def http_app(
    config: ServingConfig,
    answerer: Answerer,
    *,
    secret: str | None = None,
    workers: Callable[[], int] = lambda: 1,
    preparations: Preparations | None = None,
) -> FastAPI:
    """The HTTP application.

    Args:
        config: the application's.
        answerer: of its requests.
        secret: the text of a key file from the environment.
        workers: how many processes share the traffic now: each grants its share of a key's caps.
        preparations: of the requests for an engine in this process. None: there is none.
    """
    needs_keys = config.access.keys_file is not None or secret is not None
    app = FastAPI(
        title="s1ray",
        version=__version__,
        description="OpenAI's and Anthropic's APIs with thinking budgets.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # For the description only: the access middleware has checked the key already.
        dependencies=[Security(HTTPBearer(auto_error=False))] if needs_keys else None,
    )
    app.state.error_form, app.state.answerer = error_form, answerer
    app.add_middleware(
        AccessMiddleware,
        access=config.access,
        limits=config.limits,
        secret=secret,
        workers=workers,
        preparations=preparations,
    )
    app.add_exception_handler(RequestValidationError, _invalid_body)
    for refusal in (RefusedError, HTTPException, VLLMClientError):
        app.add_exception_handler(refusal, _refused)
    app.add_exception_handler(Exception, _internal_error)
    if config.playground:
        add_playground(app)
    app.add_api_route(HEALTH, _health, summary="Whether this HTTP worker lives; needs no key.")
    app.add_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    app.add_api_route("/v1/models", _models, response_model=Cards)
    app.add_api_route("/v1/models/{model:path}", _model, response_model=Card)
    for dialect in DIALECTS:
        for route in dialect.routes:
            app.add_api_route(route.path, _endpoint(route), methods=["POST"], response_model=None)
    return app


def _endpoint(route: Route[BodyT]) -> Callable[[BodyT, Request], Awaitable[Response]]:
    async def endpoint(body: BodyT, request: Request) -> Response:
        return await _answerer(request).answer(route, body, request)

    # FastAPI reads the body's model from here.
    endpoint.__annotations__["body"] = route.body
    endpoint.__name__ = route.method
    return endpoint


def _answerer(request: Request) -> Answerer:
    answerer: Answerer = request.app.state.answerer
    return answerer


async def _models(request: Request) -> Cards:
    """All models and their adapters, as far as the key may use them."""
    return await _answerer(request).models(request)


async def _model(model: str, request: Request) -> Card:
    """One model, or one adapter."""
    return await _answerer(request).model(request, model)


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _metrics(request: Request) -> Response:
    key = request.state.context.ticket.key
    if key is not None and not key.metrics:
        raise RefusedError(403, "this API key may not read the metrics")
    return Response(await NODES.page(), media_type=MEDIA_TYPE)


async def _invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"] if part != "body")
    refused = RefusedError(400, f"{field or 'body'}: {problem['msg']}", param=field or None)
    return error_response(request, refused)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, VLLMClientError):
        error = RefusedError(400, str(error), param=getattr(error, "parameter", None))
    elif isinstance(error, HTTPException):
        error = RefusedError(error.status_code, str(error.detail))
    assert isinstance(error, RefusedError)
    return error_response(request, error)


async def _internal_error(request: Request, error: Exception) -> Response:
    logger.error("request failed: %s %s", request.method, request.scope["path"], exc_info=error)
    return error_response(request, failed())
