"""The HTTP door: ray.serve.llm's OpenAI ingress and Anthropic's Messages API, with our request models, and with errors
as the clients of either API know them.

Imported only where the app is built and in the ingress replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from vllm.exceptions import VLLMClientError

from s1ray import __version__
from s1ray.serving import ray_llm as api
from s1ray.serving.config import Limits, ServedModel, ServingConfig
from s1ray.serving.http import anthropic
from s1ray.serving.http.access import HEALTH, AccessMiddleware, RequestContext
from s1ray.serving.http.errors import MESSAGES, RefusedError, busy, error_response, json_response, late, lost
from s1ray.serving.http.prometheus import MEDIA_TYPE, Nodes
from s1ray.serving.http.replica_call import LateError, LostError, ReplicaCall
from s1ray.serving.http.requests import (
    ChatRequest,
    CompletionRequest,
    CountTokensRequest,
    MessagesRequest,
)
from s1ray.serving.playground import add_playground
from s1ray.serving.protocol.aliases import BadRequestError
from s1ray.serving.protocol.request_info import HEADERS, RequestInfo
from s1ray.serving.protocol.resolve import (
    KeyMaximumError,
    ModelLimits,
    ResolvedThinking,
    deadline,
    resolve,
    sequences,
    thinking_tokens,
)
from s1ray.serving.replica import adapters
from s1ray.serving.replica.watchdog import EngineLostError

logger = logging.getLogger("ray.serve")

ENDPOINTS: dict[str, Callable[[FastAPI], Callable[..., Any]]] = {
    "models": lambda app: app.get("/v1/models", response_model=api.ModelList),
    "model_data": lambda app: app.get("/v1/models/{model:path}", response_model=api.ModelCard),
    "completions": lambda app: app.post("/v1/completions"),
    "chat": lambda app: app.post("/v1/chat/completions"),
    "messages": lambda app: app.post(MESSAGES),
    "count_tokens": lambda app: app.post(f"{MESSAGES}/count_tokens"),
    "tokenize": lambda app: app.post("/tokenize"),
    "detokenize": lambda app: app.post("/detokenize"),
}

NODES = Nodes()
"""The cluster's, for `/metrics`."""

MAX_HANDLES = 1024
"""Handles to models and adapters that are kept."""

THINKING = ("chat", "completions")
"""The methods of a model's server that generate."""


class BudgetForcingIngress(OpenAiIngress):
    """Hands requests to the models' servers and their answers back.

    Args:
        model_limits: what to know of each model, by its name.
        limits: of a single request.
        adapter_folders: folder of a model's LoRA adapters, by the model's name.
        options: ray.serve.llm's: the models' handles and cards, adapters in cloud storage.
    """

    def __init__(
        self,
        *,
        model_limits: dict[str, ModelLimits],
        limits: Limits,
        adapter_folders: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._model_limits, self._limits = model_limits, limits
        self._adapter_folders = adapter_folders or {}

    async def model(self, model_id: str) -> api.ModelCard | None:
        """What there is to know of a model, or of one of its adapters."""
        base, _, name = model_id.partition(":")
        if not name or base not in self._adapter_folders:
            return await super().model(model_id)
        if name not in adapters.names_in(self._adapter_folders[base]):
            return None
        return self._model_cards[base].model_copy(update={"id": model_id})

    async def models(self, request: Request) -> api.ModelList:
        """All models and their adapters, as far as the key may use them."""
        listed = await super().models()
        for base, folder in self._adapter_folders.items():
            names = [f"{base}:{name}" for name in adapters.names_in(folder)]
            listed.data += [self._model_cards[base].model_copy(update={"id": name}) for name in names]
        listed.data = [card for card in listed.data if _may_use(request, card.id)]
        return listed

    async def model_data(self, model: str, request: Request) -> api.ModelCard:
        """One model, or one adapter."""
        if not _may_use(request, model):
            raise RefusedError(403, f"this API key may not use the model {model!r}", param="model")
        return await super().model_data(model)

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Chat completion, OpenAI's API with `thinking`."""
        return await self._answer(body, "chat", request)

    async def completions(self, body: CompletionRequest, request: Request) -> Response:
        """Text completion, OpenAI's API with `thinking`."""
        return await self._answer(body, "completions", request)

    async def messages(self, body: MessagesRequest, request: Request) -> Response:
        """A message, Anthropic's API with all of `thinking`."""
        first, rest = await self._open(_converted(body), "chat", request)
        omitted = isinstance(body.thinking, dict) and body.thinking.get("display") == "omitted"
        if isinstance(first, list):
            stream = anthropic.MessageStream(omitted=omitted)
            return _streamed(first, rest, lambda events: "".join(map(stream.rewrite, events)), request.state.context)
        return json_response(anthropic.message(first.model_dump(mode="json"), omitted=omitted))

    async def count_tokens(self, body: CountTokensRequest, request: Request) -> Response:
        """The tokens of a message's prompt, Anthropic's API."""
        first, _ = await self._open(_converted(body), "count_tokens", request)
        return json_response({"input_tokens": first.count})

    async def tokenize(self, body: api.TokenizeCompletionRequest, request: Request) -> Response:
        """The tokens of a text."""
        return await self._answer(body, "tokenize", request)

    async def detokenize(self, body: api.DetokenizeRequest, request: Request) -> Response:
        """The text of tokens."""
        return await self._answer(body, "detokenize", request)

    async def _answer(self, body: Any, method: str, request: Request) -> Response:
        first, rest = await self._open(body, method, request)
        if isinstance(first, list):
            return _streamed(first, rest, "".join, request.state.context)
        return Response(first.model_dump_json(), media_type="application/json")

    async def _open(self, body: Any, method: str, request: Request) -> tuple[Any, ReplicaCall]:
        """Begin to answer: the whole response, or a stream's first events; and what follows.

        Raises:
            RefusedError: there is no answer.
        """
        context: RequestContext = request.state.context
        try:
            model = await self._get_model_id(body.model)
            context.model = _base(model)
            # Before its adapters are looked at: an unknown one is answered with the names of all.
            if not _may_use(request, model):
                raise RefusedError(403, f"this API key may not use the model {model!r}", param="model")
            handle = self._handle(model)
        except HTTPException as error:
            raise RefusedError(error.status_code, str(error.detail), param="model") from None
        except adapters.UnknownAdapterError as error:
            raise RefusedError(404, str(error), param="model") from None
        info = self._request_info(request, body, method)
        exchange = ReplicaCall(
            lambda: getattr(handle, method).remote(body, info),
            is_lost=is_lost,
            first_s=self._limits.first_token_timeout_s if getattr(body, "stream", False) else None,
            total_s=self._limits.total_timeout_s,
        )
        context.defer(exchange.cancel)
        try:
            first = await exchange.begin()
        except Exception as error:
            raise refusal(error) or error from None
        if isinstance(first, list) and not isinstance(first[0], str):
            first = first[0]
        if isinstance(first, api.ErrorResponse):
            info = first.error
            raise RefusedError(info.code, info.message, param=info.param, kind=info.type)
        if isinstance(first, list):
            if (failed := _failure(first[0])) is not None:
                raise failed
        else:
            exchange.complete()
        return first, exchange

    def _handle(self, model: str) -> Any:
        """The handle of a model or adapter. Each name has one of its own, which is kept: names come from clients."""
        base, _, name = model.partition(":")
        if name and base in self._adapter_folders:
            adapters.adapter_path(self._adapter_folders[base], name)
        elif name and base not in self._lora_paths:
            raise adapters.UnknownAdapterError(f"the model {base!r} has no adapters; ask for {base!r}")
        if len(self._configured_serve_handles) >= MAX_HANDLES:
            self._configured_serve_handles.pop(next(iter(self._configured_serve_handles)))
        return self._get_configured_serve_handle(model)

    def _request_info(self, request: Request, body: BaseModel, method: str) -> RequestInfo:
        """What the replica is told, with the thinking resolved and reserved.

        Raises:
            RefusedError: the request is wrong by its own text, or its key may not have it, or not now.
        """
        context: RequestContext = request.state.context
        info = RequestInfo(
            headers={name: value for name in HEADERS if (value := request.headers.get(name)) is not None},
            client=context.ticket.name,
            arrived=context.arrived,
            deadline=deadline(context.arrived, 0),
        )
        if method in THINKING:
            fields = {**body.__dict__, **(body.model_extra or {})}
            info.sequences = sequences(fields)
            if info.sequences > self._limits.sequences:
                message = f"{info.sequences} responses (prompts, times n) are more than this server's"
                raise RefusedError(400, f"{message} {self._limits.sequences}", param="n")
            info.thinking = self._resolve(context, fields, method)
            tokens = thinking_tokens(info.thinking, fields, self._model_limits[context.model])
            info.deadline = deadline(context.arrived, tokens)
            refused = context.ticket.reserve(tokens * info.sequences)
            if refused is not None:
                status = 429 if refused.retry_after_s else 403
                raise RefusedError(status, refused.message, retry_after_s=refused.retry_after_s or None)
        return info

    def _resolve(self, context: RequestContext, fields: dict[str, object], method: str) -> ResolvedThinking:
        key = context.ticket.key
        maximum = key.maximum_thinking_tokens if key is not None else None
        try:
            return resolve(fields, self._model_limits[context.model], maximum, completion=method == "completions")
        except BadRequestError as error:
            status = 403 if isinstance(error, KeyMaximumError) else 400
            raise RefusedError(status, str(error), param=error.field) from None


def _base(model: str) -> str:
    """The model of an adapter; a model itself."""
    return model.partition(":")[0]


def _may_use(request: Request, model: str) -> bool:
    key = request.state.context.ticket.key
    return key is None or key.allows(model, _base(model))


def is_lost(error: BaseException) -> bool:
    """Whether an error means that the replica, its engine or its node is gone."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return isinstance(cause, EngineLostError) or (not isinstance(cause, RayTaskError) and is_lost(cause))
    if isinstance(error, ReplicaUnavailableError):
        return True
    return isinstance(error, RayError) and not isinstance(error, TaskCancelledError)


def refusal(error: Exception) -> RefusedError | None:
    """What a client is told of an error on the way to the model; None: the server's own fault."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, BackPressureError):
        return busy()
    if isinstance(cause, LostError):
        return lost()
    if isinstance(cause, LateError):
        return late(cause.seconds, begun=cause.begun)
    if isinstance(cause, DeploymentUnavailableError):
        return RefusedError(503, "the model is not available: it failed to start")
    return None


def _converted(body: MessagesRequest | CountTokensRequest) -> ChatRequest:
    try:
        return body.to_chat()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise RefusedError(400, f"{field or 'body'}: {problem['msg']}", param=field or None) from None
    except ValueError as error:
        raise RefusedError(400, str(error)) from None


def _streamed(
    first: list[str], rest: ReplicaCall, rewrite: Callable[[list[str]], str], context: RequestContext
) -> StreamingResponse:
    def shown(events: list[str]) -> str:
        if any(_failure(event) is not None for event in events):
            context.outcome = "failed"
        return rewrite(events)

    async def events() -> AsyncIterator[str]:
        try:
            yield shown(first)
            async for more in rest:
                if text := shown(more):
                    yield text
        except Exception as error:
            refused = refusal(error)
            if refused is None:
                logger.error("a stream failed", exc_info=error)
                refused = _failed()
            context.outcome = refused.outcome or "failed"
            yield rewrite([f"data: {json.dumps(refused.body())}\n\n", "data: [DONE]\n\n"])
        except BaseException:
            context.outcome = "cancelled"
            raise
        finally:
            rest.cancel()

    return StreamingResponse(events(), media_type="text/event-stream")


def _failure(event: str) -> RefusedError | None:
    """The error that an event of a stream tells of."""
    if not event.startswith('data: {"error"'):
        return None
    info = json.loads(event.removeprefix("data: "))["error"]
    return RefusedError(info.get("code") or 500, info["message"], param=info.get("param"), kind=info.get("type"))


def _failed() -> RefusedError:
    return RefusedError(500, "the server failed to answer; its log says why", kind="server_error")


async def _invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"] if part != "body")
    refused = RefusedError(400, f"{field or 'body'}: {problem['msg']}", param=field or None)
    return error_response(request, refused)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, api.OpenAIHTTPException):
        error = RefusedError(error.status_code, error.message, kind=error.type)
    elif isinstance(error, VLLMClientError):
        error = RefusedError(400, str(error), param=getattr(error, "parameter", None))
    elif isinstance(error, HTTPException):
        error = RefusedError(error.status_code, str(error.detail))
    assert isinstance(error, RefusedError)
    return error_response(request, error)


async def _internal_error(request: Request, error: Exception) -> Response:
    logger.error("request failed: %s %s", request.method, request.scope["path"], exc_info=error)
    return error_response(request, _failed())


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _metrics(request: Request) -> Response:
    key = request.state.context.ticket.key
    if key is not None and not key.metrics:
        raise RefusedError(403, "this API key may not read the metrics")
    return Response(await NODES.page(), media_type=MEDIA_TYPE)


def ingress_class(config: ServingConfig, *, secret: str | None = None) -> Any:
    """The ingress deployment's class, bound to its routes.

    On a plain app of our own: ray.serve.llm's lets every web page's scripts call the server (CORS for all origins, with
    credentials), and wraps each request in two more layers of middleware. Without FastAPI's pages about the API, which
    load scripts from other hosts; its description is at `/openapi.json`.

    Args:
        config: the application's.
        secret: the text of a key file from the environment.
    """
    asks_for_keys = config.access.keys_file is not None or secret is not None
    app = FastAPI(
        title="s1ray",
        version=__version__,
        description="OpenAI's and Anthropic's APIs with thinking budgets.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # For the description only: the door has looked at the key already.
        dependencies=[Security(HTTPBearer(auto_error=False))] if asks_for_keys else None,
    )
    app.add_middleware(
        AccessMiddleware, access=config.access, limits=config.limits, secret=secret, workers=config.ingress_replicas
    )
    app.add_exception_handler(RequestValidationError, _invalid_body)
    for refusal in (RefusedError, HTTPException, api.OpenAIHTTPException, VLLMClientError):
        app.add_exception_handler(refusal, _refused)
    app.add_exception_handler(Exception, _internal_error)
    if config.playground:
        add_playground(app)
    app.add_api_route(HEALTH, _health, summary="Whether this HTTP worker lives; needs no key.")
    app.add_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    return make_fastapi_ingress(BudgetForcingIngress, endpoint_map=ENDPOINTS, app=app)


def model_card(model: ServedModel, llm_config: Any) -> api.ModelCard:
    """What `/v1/models` says of a model."""
    card = api.to_model_metadata(model.name, llm_config)
    card.metadata |= {
        "thinking_format": model.thinking_format.name,
        "default_thinking_tokens": model.budgets.default,
        "maximum_thinking_tokens": model.budgets.maximum,
        "effort": model.budgets.effort,
    }
    return card
