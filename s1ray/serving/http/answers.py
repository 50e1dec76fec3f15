"""Answers requests of every dialect: resolves them, reserves what they need, and calls the models' servers.

Imported only where the app is built and in the HTTP workers, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from s1ray.serving.config import ServingConfig
from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.dialects.base import BodyT, Method, Route
from s1ray.serving.http.dialects.openai_chat import ChatRequest
from s1ray.serving.http.equal_answers import equal_answers, repeat, repeated
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.model_names import renamed
from s1ray.serving.http.models import Card, Cards, Models, base_of, changed
from s1ray.serving.http.replica_call import Attempt, ReplicaCall
from s1ray.serving.http.responses import EventStream, Part, is_lost, raise_refusals, to_refusal
from s1ray.serving.protocol.refusals import BadRequestError
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
from s1ray.serving.protocol.strategies import STRATEGY

GENERATE = ("chat", "completions")
"""The methods of a model's server that generate."""


class Backends(Protocol):
    """The models' servers, wherever they run."""

    tries: int
    """How often a request is sent that no server has begun to answer before it was lost."""

    def call(self, model: str, method: Method, request: BaseModel, info: RequestInfo) -> Attempt[Part]:
        """Send a request to a server of the model, or of the adapter, of that name; failures come with the parts."""


class Answerer:
    """Answers requests with what the models' servers say.

    Args:
        config: the application's.
        cards: what `/v1/models` says of each model, by its name.
        folders: where the adapters are of each that has some: a folder, or cloud storage.
        backends: the models' servers.
    """

    def __init__(
        self, config: ServingConfig, cards: Mapping[str, Card], folders: Mapping[str, str], backends: Backends
    ) -> None:
        self._limits, self._backends = config.limits, backends
        self._models = Models(cards, {model.name: model.aliases for model in config.models}, folders)
        self._model_limits = {
            model.name: ModelLimits(budgets=model.budgets, context=model.max_model_len) for model in config.models
        }

    async def models(self, request: Request) -> Cards:
        """All models and their adapters that the request's key may use."""
        context: RequestContext = request.state.context
        return Cards(data=[card for card in await self._models.cards() if _may_use(context, card.id)])

    async def model(self, request: Request, name: str) -> Card:
        """One model, or one adapter, by its own name or an alias, which the card then bears.

        Raises:
            RefusedError: the request's key may not use it, or there is none.
        """
        model = self._models.names.own(name)
        if not _may_use(request.state.context, model):
            raise RefusedError(403, f"this API key may not use the model {name!r}", param="model")
        card = await self._models.card(model)
        return card if name == model else changed(card, id=name)

    async def answer(self, route: Route[BodyT], body: BodyT, request: Request) -> Response:
        """Answer a request of any dialect.

        Raises:
            RefusedError: there is no answer.
            VLLMClientError: vLLM refuses to read the request.
        """
        engine_request: Any = _to_engine(route, body)
        context: RequestContext = request.state.context
        asked: str | None = getattr(engine_request, "model", None)
        model = self._find(context, asked)
        alias = asked if asked and asked != model else None
        if alias:
            engine_request.model = model
        info = self._request_info(request, engine_request, route.method)
        if isinstance(engine_request, ChatRequest) and info.thinking is not None:
            template = {**info.thinking.template, **(engine_request.chat_template_kwargs or {})}
            engine_request.chat_template_kwargs = template or None
        if (copies := equal_answers(vars(engine_request))) > 1:
            engine_request.n = 1
        streams = route.method in GENERATE and bool(getattr(engine_request, "stream", False))
        call: ReplicaCall[Part] = ReplicaCall(
            lambda: self._backends.call(model, route.method, engine_request, info),
            is_lost=is_lost,
            attempts=self._backends.tries,
            first_s=self._limits.first_token_timeout_s if streams else None,
            total_s=self._limits.total_timeout_s,
        )
        context.defer(call.cancel)
        if streams:
            events = route.stream(body)
            if alias:
                events = renamed(events, alias)
            return EventStream(
                call,
                repeated(events, copies) if copies > 1 else events,
                context,
                keep_alive_s=self._limits.keep_alive_s,
                silence=route.silence,
            )
        try:
            whole: Any = await call.begin()
        except Exception as error:
            raise to_refusal(error) or error from None
        raise_refusals(whole)
        call.complete()
        if alias and hasattr(whole, "model"):
            whole.model = alias
        if copies > 1:
            repeat(whole, copies)
        return route.response(body, whole)

    def _find(self, context: RequestContext, asked: str | None) -> str:
        """The own name of the model or adapter that a request asks for.

        Raises:
            RefusedError: it is not there, or not for this key.
        """
        model = self._models.find(asked)
        context.model = base_of(model)
        # Checked before the adapters are: the error of an unknown one lists the names of all.
        if not _may_use(context, model):
            raise RefusedError(403, f"this API key may not use the model {model!r}", param="model")
        self._models.check_adapter(model)
        return model

    def _request_info(self, request: Request, body: BaseModel, method: Method) -> RequestInfo:
        """What is sent to the replica with the body: the thinking is resolved, and reserved with the key.

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
        if method in GENERATE:
            fields = {**body.__dict__, **(body.model_extra or {})}
            info.thinking = self._resolve(context, fields, method)
            info.sequences = sequences(fields, info.thinking.strategy)
            if info.sequences > self._limits.sequences:
                message = f"{info.sequences} responses (prompts, times n) are more than this server's"
                field = "n" if info.thinking.strategy is None else STRATEGY
                raise RefusedError(400, f"{message} {self._limits.sequences}", param=field)
            info.sequences //= equal_answers(fields)
            tokens = thinking_tokens(info.thinking, fields, self._model_limits[context.model])
            info.deadline = deadline(context.arrived, tokens)
            refused = context.ticket.reserve(tokens * info.sequences)
            if refused is not None:
                status = 429 if refused.retry_after_s else 403
                raise RefusedError(status, refused.message, retry_after_s=refused.retry_after_s or None)
        return info

    def _resolve(self, context: RequestContext, fields: dict[str, object], method: Method) -> ResolvedThinking:
        key = context.ticket.key
        maximum = key.maximum_thinking_tokens if key is not None else None
        try:
            return resolve(fields, self._model_limits[context.model], maximum, completion=method == "completions")
        except BadRequestError as error:
            status = 403 if isinstance(error, KeyMaximumError) else 400
            raise RefusedError(status, str(error), param=error.field) from None


def _may_use(context: RequestContext, model: str) -> bool:
    key = context.ticket.key
    return key is None or key.allows(model, base_of(model))


def _to_engine(route: Route[BodyT], body: BodyT) -> BaseModel:
    try:
        return route.to_engine(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise RefusedError(400, f"{field or 'body'}: {problem['msg']}", param=field or None) from None
    except ValueError as error:
        raise RefusedError(400, str(error)) from None
