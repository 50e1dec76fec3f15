"""Budget forcing for servers that do not support it: the segmented driver over an OpenAI-compatible `/completions`.

    generator = SegmentedGenerator("http://127.0.0.1:8000/v1", "qwen", weights="Qwen/Qwen3-8B", thinking_format="qwen3")

That may be `vllm serve`, or our own server, which then leaves the forcing to us. It has to take a prompt of token ids
and `stop_token_ids`, to give token ids back (`return_token_ids`), and to honour `logit_bias`. Chat templates and
formats are applied here, so the model's tokenizer is needed, and the folder's `generation_config.json`, because the
server ends responses at the ids that it lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from s1ray.errors import InputError
from s1ray.generation.base import GenerationError, GenerationRequest, OnCall
from s1ray.generation.endpoint import AtEndpoint
from s1ray.generation.pace import Pace
from s1ray.generation.prompts import prompt_ids_of
from s1ray.generation.transport import Calls, Transport
from s1ray.generation.wires import ChatCompletions
from s1ray.models import resolve_model
from s1ray.schemas import Completion
from s1ray.storage import local_model
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.format import ThinkingFormat, eos_ids_of
from s1ray.thinking.plan import make_plan
from s1ray.thinking.segmented import Segment, SegmentError, force_in_segments

BANNED = -100.0
"""Logit bias of a banned id: the most that OpenAI's API allows."""

PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent with every call, because vLLM's server would fill them in from the model's generation_config.json."""


@dataclass(frozen=True)
class HTTPSegments:
    """`CompleteIds` over `/completions`, for one request."""

    transport: Transport
    calls: Calls
    fields: Mapping[str, object]
    """Of every call: model, temperature, ..."""

    async def __call__(
        self, prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        """Generate up to `max_tokens` ids.

        Raises:
            GenerationError: the server does not answer, refuses, or gives no token ids.
        """
        body = {
            **self.fields,
            "prompt": prompt_ids,
            "max_tokens": max_tokens,
            "stop_token_ids": list(stop_ids),
            "return_token_ids": True,
            # Our own server forces budgets unless it is told not to; others do not know the field.
            "thinking": False,
        }
        if ban:
            body["logit_bias"] = {str(token_id): BANNED for token_id in ban}
        if seed is not None:
            body["seed"] = seed
        answer: Mapping[str, Any] = await self.transport.ask(self.calls, "/completions", body, max_tokens=max_tokens)
        where = f"request {self.calls.request_id!r}: {self.transport.base_url}/completions"
        try:
            choice = answer["choices"][0]
            ids, reason, stop = choice.get("token_ids"), choice.get("finish_reason"), choice.get("stop_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise GenerationError(
                f"{where} answered in a form that is not OpenAI's ({type(error).__name__}: {error}): "
                f"{str(answer)[:300]}"
            ) from error
        if "thinking" in choice:
            raise GenerationError(
                f"{where} forces budgets itself in spite of `thinking: false`; use HTTPGenerator (in a benchmark's "
                "config: driver: engine)"
            )
        if not isinstance(ids, list):
            raise GenerationError(
                f"{where} gives no token ids (return_token_ids), without which budgets cannot be forced from outside; "
                "`vllm serve` does, as of 0.10.2"
            )
        if reason == "stop" and isinstance(stop, int) and ids[-1:] != [stop]:
            ids = [*ids, stop]
        return Segment(ids, reason or "stop")


class SegmentedGenerator(AtEndpoint):
    """Completes requests at an endpoint that forces no budgets; use as `async with`, or call `close`.

    Args:
        base_url: the address with its `/v1`, or several that serve the same.
        model: the model's name there.
        weights: folder or Hugging Face id of the model, for its tokenizer and the ids that end its responses;
            "miniature-base" is the packaged one.
        thinking_format: how the model writes its thinking; a name is a preset.
        context: tokens that prompt and response may have together. None: what `/models` says (vLLM's does).
        api_key: None: none is sent.
        concurrency: most responses at once; further ones wait.
        timeout: seconds that one attempt of one call may take.
        attempts: tries of one call.
        segment_tokens: tokens of one call at most. None: as many as fit.
        extra_body: further fields for every call.
        on_call: is told of every call that is sent, and of its end; a response is one call or more.
        transport: replaces the network, for tests.

    Raises:
        InputError: there is no tokenizer, or it cannot express the format.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str,
        *,
        weights: str,
        thinking_format: ThinkingFormat | str = "s1",
        context: int | None = None,
        api_key: str | None = None,
        concurrency: int = 64,
        timeout: float = 3600.0,
        attempts: int = 4,
        segment_tokens: int | None = None,
        extra_body: Mapping[str, object] | None = None,
        on_call: OnCall | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        fmt = ThinkingFormat.preset(thinking_format) if isinstance(thinking_format, str) else thinking_format
        folder = local_model(resolve_model(weights))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise InputError(f"weights: {folder}: its tokenizer cannot be loaded: {error}") from None
        eos, own = set(eos_ids_of(folder)), self._tokenizer.eos_token_id
        self._eos = sorted(eos if own is None else {*eos, own})
        self._tokenized = fmt.resolve(self._tokenizer, self._eos)
        super().__init__(
            base_url,
            model,
            wire=ChatCompletions(),
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            pace=Pace,
            extra_body=extra_body,
            on_call=on_call,
            transport=transport,
        )
        self._context = context
        self._context_asked = asyncio.Lock()
        self._segment_tokens = segment_tokens

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        if request.continues is not None:
            raise GenerationError(f"request {request.id!r}: its strategy forces from outside already; driver: engine")
        if request.strategy is not None:
            raise GenerationError(
                f"request {request.id!r}: strategy: only a server of s1ray's carries it out, at which budgets are not "
                "forced from outside; driver: engine"
            )
        if request.top_logprobs is not None:
            raise GenerationError(
                f"request {request.id!r}: top_logprobs: confidence cannot be measured where budgets are forced from "
                "outside (driver: segmented)"
            )
        try:
            prompt_ids = prompt_ids_of(request, self._tokenizer)
            plan = None if request.budget is None else make_plan(self._tokenized, request.budget)
        except InputError as error:
            raise GenerationError(f"request {request.id!r}: {error}") from error
        asked = {name: getattr(request, name) for name in ("temperature", "top_p", "top_k")}
        sampling = {name: value for name, value in asked.items() if value is not None}
        fields = {"model": self._model} | PLAIN_SAMPLING | sampling | self._extra
        complete = HTTPSegments(self._transport, Calls(request.id, self._on_call), fields)
        async with self._free:
            room = await self._room(request, len(prompt_ids))
            if plan is None:
                segment = await complete(prompt_ids, max_tokens=room, stop_ids=self._eos, ban=(), seed=request.seed)
                return completion_from_ids(
                    request.id, self._tokenized, None, prompt_ids, segment.token_ids, segment.finish_reason
                )
            try:
                response = await force_in_segments(
                    complete,
                    plan,
                    prompt_ids,
                    room=room,
                    eos_ids=self._eos,
                    seed=request.seed,
                    segment_tokens=self._segment_tokens,
                )
            except SegmentError as error:
                raise GenerationError(f"request {request.id!r}: {self._transport.base_url}: {error}") from error
        return completion_from_ids(
            request.id,
            self._tokenized,
            plan,
            prompt_ids,
            response.output_ids,
            response.finish_reason,
            swallowed=response.swallowed,
            room=room,
        )

    async def _room(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """Tokens that the response may have."""
        if self._context is None:
            async with self._context_asked:
                if self._context is None:
                    self._context = await self._ask_context(request.id)
        room = self._context - prompt_tokens
        if room < 1:
            raise GenerationError(
                f"request {request.id!r}: the prompt has {prompt_tokens} tokens, which fills the model's context of "
                f"{self._context}"
            )
        return room if request.max_tokens is None else min(room, request.max_tokens)

    async def _ask_context(self, request_id: str) -> int:
        answer: Mapping[str, Any] = await self._transport.ask(Calls(request_id), "/models")
        try:
            # vLLM has it in the card, s1ray's server in the card's metadata.
            cards = {model["id"]: model.get("metadata", {}) | model for model in answer["data"]}
            there = {name: card.get("max_model_len") for name, card in cards.items()}
        except (KeyError, TypeError, AttributeError):
            there = {}
        context = there.get(self._model)
        if not isinstance(context, int):
            raise GenerationError(
                f"request {request_id!r}: {self._transport.base_url}/models does not say how long the context of "
                f"{self._model!r} is; give it as `context`"
            )
        return context
