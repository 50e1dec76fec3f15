"""The ingress: takes requests of every dialect, resolves and admits them, and calls the models' replicas.

Imported only where the app is built and in the HTTP workers, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from ray.serve.llm.ingress import OpenAiIngress
from starlette.exceptions import HTTPException

from s1ray.serving.config import Limits, ServedModel
from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.dialects.base import Method, Route
from s1ray.serving.http.dialects.openai_chat import ChatRequest
from s1ray.serving.http.equal_answers import equal_answers, repeat, repeated
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.model_names import ModelNames, renamed
from s1ray.serving.http.replica_call import ReplicaCall
from s1ray.serving.http.responses import Part, is_lost, raise_refusals, streamed, to_refusal
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
from s1ray.serving.ray_llm import ModelCard, ModelList, to_model_metadata
from s1ray.serving.replica import adapters

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from ray.serve.llm import LLMConfig

BodyT = TypeVar("BodyT", bound=BaseModel)

MAX_HANDLES = 1024
"""Handles to models and adapters that are kept."""

GENERATE = ("chat", "completions")
"""The methods of a model's server that generate."""


class Card(ModelCard):  # type: ignore[misc]  # Ray is untyped here
    """What `/v1/models` says of a model."""

    created: int
    """When the application was built, in seconds since the epoch."""


class Cards(ModelList):  # type: ignore[misc]  # Ray is untyped here
    """All models and their adapters."""

    data: list[Card]


class BudgetForcingIngress(OpenAiIngress):  # type: ignore[misc]  # Ray is untyped here
    """Hands requests to the models' servers, and returns their responses.

    Args:
        llm_deployments: handle of each model, by its name.
        model_cards: what `/v1/models` says of each.
        model_limits: what resolving a request needs to know of each.
        limits: of a single request.
        adapter_folders: folder of a model's LoRA adapters, by the model's name.
        lora_paths: the same for adapters in cloud storage, which ray.serve.llm reads.
        aliases: other names of each model, by its own.
    """

    def __init__(
        self,
        *,
        llm_deployments: dict[str, DeploymentHandle],
        model_cards: dict[str, Card],
        model_limits: dict[str, ModelLimits],
        limits: Limits,
        adapter_folders: dict[str, str] | None = None,
        lora_paths: dict[str, str] | None = None,
        aliases: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(llm_deployments, model_cards, lora_paths=lora_paths)
        self._cards, self._model_limits, self._limits = model_cards, model_limits, limits
        self._adapter_folders = adapter_folders or {}
        self._names = ModelNames({name: (aliases or {}).get(name, ()) for name in model_cards})

    async def model(self, model_id: str) -> Card | None:
        """The card of a model, or of one of its adapters."""
        base, _, name = model_id.partition(":")
        if base not in self._adapter_folders or not name:
            found = await super().model(model_id)
            # An adapter's in cloud storage is made by ray.serve.llm.
            return None if found is None else _card(found, created=self._cards[base].created)
        if name not in adapters.names_in(self._adapter_folders[base]):
            return None
        return _card(self._cards[base], id=model_id)

    async def models_for(self, request: Request) -> Cards:
        """All models and their adapters that the request's key may use."""
        cards = list((await super().models()).data)
        for base, folder in self._adapter_folders.items():
            names = [f"{base}:{name}" for name in adapters.names_in(folder)]
            cards += [_card(self._cards[base], id=name) for name in names]
        return Cards(data=[card for card in cards if _may_use(request, card.id)])

    async def model_for(self, request: Request, name: str) -> Card:
        """One model, or one adapter, by its own name or an alias, which the card then bears.

        Raises:
            RefusedError: the request's key may not use it.
            OpenAIHTTPException: there is no such model.
        """
        model = self._names.own(name)
        if not _may_use(request, model):
            raise RefusedError(403, f"this API key may not use the model {name!r}", param="model")
        card: Card = await super().model_data(model)
        return card if name == model else _card(card, id=name)

    async def answer(self, route: Route[BodyT], body: BodyT, request: Request) -> Response:
        """Answer a request of any dialect.

        Raises:
            RefusedError: there is no answer.
            VLLMClientError: vLLM refuses to read the request.
        """
        engine_request: Any = _to_engine(route, body)
        context: RequestContext = request.state.context
        asked: str | None = getattr(engine_request, "model", None)
        model = self._names.own(asked) if asked is not None else None
        if model != asked:
            engine_request.model = model
        handle = await self._find(request, model)
        info = self._request_info(request, engine_request, route.method)
        if isinstance(engine_request, ChatRequest) and info.thinking is not None:
            template = {**info.thinking.template, **(engine_request.chat_template_kwargs or {})}
            engine_request.chat_template_kwargs = template or None
        if (copies := equal_answers(vars(engine_request))) > 1:
            engine_request.n = 1
        streams = route.method in GENERATE and bool(getattr(engine_request, "stream", False))
        call: ReplicaCall[Part] = ReplicaCall(
            lambda: getattr(handle, route.method).remote(engine_request, info),
            is_lost=is_lost,
            first_s=self._limits.first_token_timeout_s if streams else None,
            total_s=self._limits.total_timeout_s,
        )
        context.defer(call.cancel)
        try:
            if streams:
                events = route.stream(body)
                if asked and asked != model:
                    events = renamed(events, asked)
                return await streamed(
                    call,
                    repeated(events, copies) if copies > 1 else events,
                    context,
                    keep_alive_s=self._limits.keep_alive_s,
                    silence=route.silence,
                )
            whole: Any = await call.begin()
        except Exception as error:
            raise to_refusal(error) or error from None
        raise_refusals(whole)
        call.complete()
        if asked != model and hasattr(whole, "model"):
            whole.model = asked
        if copies > 1:
            repeat(whole, copies)
        return route.response(body, whole)

    async def _find(self, request: Request, name: str | None) -> DeploymentHandle:
        """The handle of the model or adapter that a request names.

        Raises:
            RefusedError: it is not there, or not for this key.
        """
        context: RequestContext = request.state.context
        try:
            model = await self._get_model_id(name)
            context.model = _base(model)
            # Checked before the adapters are: the error of an unknown one lists the names of all.
            if not _may_use(request, model):
                raise RefusedError(403, f"this API key may not use the model {model!r}", param="model")
            return self._handle(model)
        except HTTPException as error:
            raise RefusedError(error.status_code, str(error.detail), param="model") from None
        except adapters.UnknownAdapterError as error:
            raise RefusedError(404, str(error), param="model") from None

    def _handle(self, model: str) -> DeploymentHandle:
        """The handle of a model or adapter, one for each name. Names come from clients, so only some are kept."""
        base, _, name = model.partition(":")
        if name and base in self._adapter_folders:
            adapters.adapter_path(self._adapter_folders[base], name)
        elif name and base not in self._lora_paths:
            raise adapters.UnknownAdapterError(f"the model {base!r} has no adapters; ask for {base!r}")
        if len(self._configured_serve_handles) >= MAX_HANDLES:
            self._configured_serve_handles.pop(next(iter(self._configured_serve_handles)))
        return self._get_configured_serve_handle(model)

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


def _card(card: ModelCard, **changes: object) -> Card:
    """A card with some fields changed."""
    changed: Card = Card(**dict(card) | changes)
    return changed


def _base(model: str) -> str:
    """The name of an adapter's model; of a model, its own."""
    return model.partition(":")[0]


def _may_use(request: Request, model: str) -> bool:
    key = request.state.context.ticket.key
    return key is None or key.allows(model, _base(model))


def _to_engine(route: Route[BodyT], body: BodyT) -> BaseModel:
    try:
        return route.to_engine(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise RefusedError(400, f"{field or 'body'}: {problem['msg']}", param=field or None) from None
    except ValueError as error:
        raise RefusedError(400, str(error)) from None


def model_card(model: ServedModel, llm_config: LLMConfig) -> Card:
    """What `/v1/models` says of a model of an application that is being built."""
    card = _card(to_model_metadata(model.name, llm_config), created=int(time.time()))
    card.metadata |= {
        "thinking_format": model.thinking_format.name,
        "default_thinking_tokens": model.budgets.default,
        "maximum_thinking_tokens": model.budgets.maximum,
        "over_maximum": model.budgets.over_maximum,
        "effort": model.budgets.effort,
        "max_model_len": model.max_model_len,
        "aliases": model.aliases,
    }
    return card
