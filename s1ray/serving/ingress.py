"""The HTTP door: ray.serve.llm's OpenAI ingress, with our request models and with errors as OpenAI's clients know them.

Imported only where the app is built and in the ingress replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import InitErrorDetails
from ray.exceptions import RayTaskError
from ray.llm._internal.serve.core.configs import openai_api_models as api
from ray.llm._internal.serve.core.ingress.ingress import DEFAULT_ENDPOINTS
from ray.serve.exceptions import BackPressureError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from vllm.exceptions import VLLMClientError

from s1ray import __version__
from s1ray.serving.config import ServedModel
from s1ray.thinking import ThinkingBudget

logger = logging.getLogger("ray.serve")

Thinking = Annotated[
    Any,
    WithJsonSchema({"anyOf": [ThinkingBudget.model_json_schema(), {"type": "null"}]}),
    Field(description="How long the response may think; what is left out comes from the server's budgets."),
]
"""Typed for the API's schema only. The model's server reads it, so that every door gives the same errors."""

ENDPOINTS = ("models", "model_data", "completions", "chat", "tokenize", "detokenize")
"""Of ray.serve.llm's endpoints those that make sense for a reasoning model."""


def _read(data: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate a request's body. Some of vLLM's own checks stumble, with any exception, over fields of a wrong type."""
    try:
        return validate(data)
    except (ValueError, VLLMClientError):
        raise
    except Exception as error:
        raise ValueError(f"cannot be read: {error}") from error


class ChatRequest(api.ChatCompletionRequest):
    """A chat completion request with our parameters."""

    thinking: Thinking = None

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, validate: Callable[[Any], Any]) -> Any:
        messages = data.get("messages", []) if isinstance(data, dict) else []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            problem = InitErrorDetails(type="list_type", loc=("messages",), input=messages)
            raise ValidationError.from_exception_data("ChatRequest", [problem])
        return _read(data, validate)


class CompletionRequest(api.CompletionRequest):
    """A completion request with our parameters."""

    thinking: Thinking = None
    max_tokens: int | None = None
    """Without it a completion may use the whole context: OpenAI's default of 16 would end before most thinking does."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, validate: Callable[[Any], Any]) -> Any:
        return _read(data, validate)


class BudgetForcingIngress(OpenAiIngress):
    """Hands requests to the models' servers and their answers back."""

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Chat completion, OpenAI's API with `thinking`."""
        return await self._answer(body, "chat", request)

    async def completions(self, body: CompletionRequest, request: Request) -> Response:
        """Text completion, OpenAI's API with `thinking`."""
        return await self._answer(body, "completions", request)

    async def _answer(self, body: Any, method: str, request: Request) -> Response:
        responses = self._get_response(body=body, call_method=method, raw_request=request)
        try:
            first = await anext(responses)
        except HTTPException as error:
            return error_response(error.status_code, str(error.detail), param="model")
        except BackPressureError:
            return busy_response()
        except RayTaskError as failure:
            if isinstance(failure.cause, BackPressureError):
                return busy_response()
            raise
        if isinstance(first, list) and isinstance(first[0], str):
            return StreamingResponse(_stream(first, responses), media_type="text/event-stream")
        if isinstance(first, list):
            first = first[0]
        if isinstance(first, api.ErrorResponse):
            info = first.error
            return error_response(info.code, info.message, param=info.param, kind=info.type)
        return Response(first.model_dump_json(), media_type="application/json")


async def _stream(first: list[str], rest: AsyncIterator[list[str]]) -> AsyncIterator[str]:
    yield "".join(first)
    async for events in rest:
        yield "".join(events)


def error_response(
    status: int, message: str, *, param: str | None = None, kind: str = "invalid_request_error"
) -> JSONResponse:
    """An error in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return JSONResponse(body, status_code=status)


def busy_response() -> JSONResponse:
    """All replicas are full and the queue is, too."""
    response = error_response(429, "all replicas are busy and the queue is full; try again", kind="rate_limit_error")
    response.headers["Retry-After"] = "2"
    return response


async def _invalid_body(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"] if part != "body")
    return error_response(400, f"{field or 'body'}: {problem['msg']}", param=field or None)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, api.OpenAIHTTPException):
        return error_response(error.status_code, error.message, kind=error.type)
    if isinstance(error, VLLMClientError):
        return error_response(400, str(error), param=getattr(error, "parameter", None))
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, str(error.detail))


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    logger.error("request failed: %s %s", request.method, request.url.path, exc_info=error)
    return error_response(500, "the server failed to answer; its log says why", kind="server_error")


def ingress_class() -> Any:
    """The ingress deployment's class, bound to its routes.

    On a plain app of our own: ray.serve.llm's lets every web page's scripts call the server (CORS for all origins, with
    credentials), and wraps each request in two more layers of middleware.
    """
    app = FastAPI(title="s1ray", version=__version__, description="OpenAI's API with thinking budgets.")
    app.add_exception_handler(RequestValidationError, _invalid_body)
    for refusal in (HTTPException, api.OpenAIHTTPException, VLLMClientError):
        app.add_exception_handler(refusal, _refused)
    app.add_exception_handler(Exception, _internal_error)
    endpoints = {name: DEFAULT_ENDPOINTS[name] for name in ENDPOINTS}
    return make_fastapi_ingress(BudgetForcingIngress, endpoint_map=endpoints, app=app)


def model_card(model: ServedModel, llm_config: Any) -> api.ModelCard:
    """What `/v1/models` says of a model."""
    card = api.to_model_metadata(model.name, llm_config)
    card.metadata |= {
        "thinking_format": model.thinking_format,
        "default_thinking_tokens": model.budgets.default,
        "maximum_thinking_tokens": model.budgets.maximum,
    }
    return card
