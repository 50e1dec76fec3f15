"""The HTTP door: ray.serve.llm's OpenAI ingress and Anthropic's Messages API, with our request models, and with errors
as the clients of either API know them.

Imported only where the app is built and in the ingress replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError
from ray.exceptions import RayTaskError
from ray.llm._internal.serve.core.configs import openai_api_models as api
from ray.llm._internal.serve.core.ingress.ingress import DEFAULT_ENDPOINTS
from ray.serve.exceptions import BackPressureError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from vllm.exceptions import VLLMClientError

from s1ray import __version__
from s1ray.serving import adapters, anthropic
from s1ray.serving.config import ServedModel
from s1ray.serving.playground import add_playground
from s1ray.serving.requests import ChatRequest, CompletionRequest, CountTokensRequest, MessagesRequest

logger = logging.getLogger("ray.serve")

ENDPOINTS = ("models", "model_data", "completions", "chat", "tokenize", "detokenize")
"""Of ray.serve.llm's endpoints those that make sense for a reasoning model."""

MESSAGES = "/v1/messages"
"""Below it errors have Anthropic's form."""


class RefusedError(Exception):
    """A request that a model's server does not answer, or not now."""

    def __init__(self, status: int, message: str, *, param: str | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.kind = kind or "invalid_request_error"


class BudgetForcingIngress(OpenAiIngress):
    """Hands requests to the models' servers and their answers back.

    Args:
        adapter_folders: folder of a model's LoRA adapters, by the model's name.
        options: ray.serve.llm's: the models' handles and cards, adapters in cloud storage.
    """

    def __init__(self, *, adapter_folders: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._adapter_folders = adapter_folders or {}

    async def model(self, model_id: str) -> api.ModelCard | None:
        """What there is to know of a model, or of one of its adapters."""
        base, _, name = model_id.partition(":")
        if not name or base not in self._adapter_folders:
            return await super().model(model_id)
        if name not in adapters.names_in(self._adapter_folders[base]):
            return None
        return self._model_cards[base].model_copy(update={"id": model_id})

    async def models(self) -> api.ModelList:
        """All models and their adapters."""
        listed = await super().models()
        for base, folder in self._adapter_folders.items():
            names = [f"{base}:{name}" for name in adapters.names_in(folder)]
            listed.data += [self._model_cards[base].model_copy(update={"id": name}) for name in names]
        return listed

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
            return _streamed(first, rest, lambda events: "".join(map(stream.rewrite, events)))
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
            return _streamed(first, rest, "".join)
        return Response(first.model_dump_json(), media_type="application/json")

    async def _open(self, body: Any, method: str, request: Request) -> tuple[Any, AsyncIterator[list[str]]]:
        """Begin to answer: the whole response, or a stream's first events; and what follows.

        Raises:
            RefusedError: there is no answer.
        """
        responses = self._get_response(body=body, call_method=method, raw_request=request)
        try:
            first = await anext(responses)
        except HTTPException as error:
            raise RefusedError(error.status_code, str(error.detail), param="model") from None
        except BackPressureError:
            raise busy() from None
        except RayTaskError as failure:
            if isinstance(failure.cause, BackPressureError):
                raise busy() from None
            raise
        if isinstance(first, list) and not isinstance(first[0], str):
            first = first[0]
        if isinstance(first, api.ErrorResponse):
            info = first.error
            raise RefusedError(info.code, info.message, param=info.param, kind=info.type)
        return first, responses


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
    first: list[str], rest: AsyncIterator[list[str]], rewrite: Callable[[list[str]], str]
) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        yield rewrite(first)
        async for more in rest:
            if text := rewrite(more):
                yield text

    return StreamingResponse(events(), media_type="text/event-stream")


def json_response(body: dict[str, Any], status: int = 200) -> Response:
    """A response in ASCII: what a client sent may come back in an error, and need not be encodable."""
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def error_response(request: Request, error: RefusedError) -> Response:
    """An error in the form of the route's API: `{"error": {"message", "type", "param", "code"}}` is OpenAI's."""
    if MESSAGES in request.url.path:
        body = anthropic.error_body(error.status, error.message, error.param)
    else:
        info = {"message": error.message, "type": error.kind, "param": error.param, "code": error.status}
        body = {"error": info}
    response = json_response(body, error.status)
    if error.status == 429:
        response.headers["Retry-After"] = "2"
    return response


def busy() -> RefusedError:
    """All replicas are full and the queue is, too."""
    return RefusedError(429, "all replicas are busy and the queue is full; try again", kind="rate_limit_error")


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
    logger.error("request failed: %s %s", request.method, request.url.path, exc_info=error)
    refused = RefusedError(500, "the server failed to answer; its log says why", kind="server_error")
    return error_response(request, refused)


def ingress_class(*, playground: bool) -> Any:
    """The ingress deployment's class, bound to its routes; with the page at `/playground`, or without.

    On a plain app of our own: ray.serve.llm's lets every web page's scripts call the server (CORS for all origins, with
    credentials), and wraps each request in two more layers of middleware.
    """
    app = FastAPI(
        title="s1ray", version=__version__, description="OpenAI's and Anthropic's APIs with thinking budgets."
    )
    app.add_exception_handler(RequestValidationError, _invalid_body)
    for refusal in (RefusedError, HTTPException, api.OpenAIHTTPException, VLLMClientError):
        app.add_exception_handler(refusal, _refused)
    app.add_exception_handler(Exception, _internal_error)
    if playground:
        add_playground(app)
    endpoints = {name: DEFAULT_ENDPOINTS[name] for name in ENDPOINTS}
    endpoints["messages"] = lambda app: app.post(MESSAGES)
    endpoints["count_tokens"] = lambda app: app.post(f"{MESSAGES}/count_tokens")
    return make_fastapi_ingress(BudgetForcingIngress, endpoint_map=endpoints, app=app)


def model_card(model: ServedModel, llm_config: Any) -> api.ModelCard:
    """What `/v1/models` says of a model."""
    card = api.to_model_metadata(model.name, llm_config)
    card.metadata |= {
        "thinking_format": model.thinking_format,
        "default_thinking_tokens": model.budgets.default,
        "maximum_thinking_tokens": model.budgets.maximum,
        "effort": model.budgets.effort,
    }
    return card
