"""`BudgetForcingServer`: ray.serve.llm's model server, with a thinking budget in every request.

The HTTP worker has resolved the budget. Here it becomes a forcing plan in token ids, which the logits processor inside
the engine carries out; of the response, thinking and answer are counted from its ids. Everything else (the OpenAI API,
tensor parallelism, LoRA, metrics) is the base class's.

Imported only where the app is built and in the replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from pydantic import BaseModel
from ray.serve.llm.deployment import LLMServer
from starlette.exceptions import HTTPException
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest

from s1ray.serving.config import Limits
from s1ray.serving.http.preparing import prepared
from s1ray.serving.metrics import FrameworkMeter, ResponseMeter
from s1ray.serving.protocol.answer_shape import AnswerShape
from s1ray.serving.protocol.budgets import check_room
from s1ray.serving.protocol.refusals import FIELD, BadRequestError
from s1ray.serving.protocol.request_info import RequestInfo
from s1ray.serving.protocol.strategies import STRATEGY
from s1ray.serving.ray_llm import (
    ChatCompletionRequest,
    CompletionRequest,
    ErrorInfo,
    ErrorResponse,
)
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.adapters import FolderLoader, UnknownAdapterError
from s1ray.serving.replica.engine import BudgetForcingEngine
from s1ray.serving.replica.flow import FLOW, Flow
from s1ray.serving.replica.responses import Responses, accounted, accounted_stream
from s1ray.serving.replica.strategies import begin, schedule_of
from s1ray.serving.replica.stream_batching import PARTS_PER_CORE_AND_S, Pace, batched
from s1ray.thinking import ForcingPlan, ThinkingBudget, ThinkingFormat, TokenizedFormat, make_plan
from s1ray.thinking.plan import EXTRA_ARG
from s1ray.thinking.schedule import Schedule
from s1ray.thinking.turn import turn_thinking
from s1ray.thinking.vllm.reasoning_parser import plugin_file, register

if TYPE_CHECKING:
    from ray.serve.llm import LLMConfig
    from tokenizers import Tokenizer

    from s1ray.serving.ray_llm import VLLMEngineConfig

CACHED_PLANS = 1024
"""Plans that are kept: clients use few different budgets, and a plan costs some tokenizer calls."""

GenerationRequest: TypeAlias = "ChatCompletionRequest | CompletionRequest"

TEMPLATE_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Efforts that vLLM shows to chat templates."""


class BudgetForcingServer(LLMServer):  # type: ignore[misc]  # Ray is untyped here
    """One model's replica.

    Args:
        llm_config: ray.serve.llm's configuration of the model.
        thinking_format: the model's format.
        limits: of a single request.
        parts_per_core_and_s: parts of streams that the replica sends in a second, for each core.
        model_downloader: makes what loads LoRA adapters. None: ray.serve.llm's own, for cloud storage.
    """

    _default_engine_cls = BudgetForcingEngine
    engine: BudgetForcingEngine

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        llm_config: LLMConfig,
        *,
        thinking_format: ThinkingFormat,
        limits: Limits,
        parts_per_core_and_s: float = PARTS_PER_CORE_AND_S,
        model_downloader: Callable[..., FolderLoader] | None = None,
    ) -> None:
        self._limits = limits
        parts_per_s = self._limits.stream_parts_per_s or parts_per_core_and_s * (os.cpu_count() or 1)
        self._pace = Pace(self._limits.stream_interval_ms / 1000, parts_per_s)
        engine = llm_config.get_engine_config()
        in_cloud = engine.mirror_config is not None and not engine.engine_kwargs.get("tokenizer")
        if not in_cloud:
            # Before the engine starts: a format that the tokenizer cannot express should fail early.
            self._tokenized = _tokenized(thinking_format, engine)
        self._plan = lru_cache(CACHED_PLANS)(self._make_plan)
        # Here and not in the app's configuration: the plugin of a format without a preset is a file on this node.
        llm_config.update_engine_kwargs(
            reasoning_parser=register(thinking_format), reasoning_parser_plugin=plugin_file(thinking_format)
        )
        await super().__init__(llm_config, model_downloader=model_downloader)
        if in_cloud:
            # The engine has brought the model's files here.
            self._tokenized = _tokenized(thinking_format, engine)
        self._watch = asyncio.create_task(self.engine.watch(self._limits.stalled_after_s))

    async def _start_engine(self) -> None:
        # Without the base class's usage report: it goes through an actor in a process of its own, and the replica would
        # wait until that has imported vLLM, too.
        await self.engine.start()

    async def chat(self, request: ChatCompletionRequest, info: RequestInfo) -> Responses:
        """Chat completion with a thinking budget."""
        return await self._generate(super().chat, request, info, texts=False)

    async def completions(self, request: CompletionRequest, info: RequestInfo) -> Responses:
        """Text completion with a thinking budget."""
        if request.max_tokens is None:
            # In a thread: a prompt may have megabytes, and must not hold up this replica's streams.
            request.max_tokens = await asyncio.to_thread(self._room, request)
        return await self._generate(super().completions, request, info, texts=True)

    def _room(self, request: CompletionRequest) -> int:
        """Tokens of the context that the longest of a request's prompts leaves; vLLM itself refuses longer ones."""
        prompts = request.prompt if isinstance(request.prompt, list) else [request.prompt or ""]
        if prompts and isinstance(prompts[0], int):
            prompts = [prompts]
        encode, context = self._tokenized.tokenizer.encode, self.engine.context_length
        lengths = [
            len(encode(prompt, add_special_tokens=request.add_special_tokens) if isinstance(prompt, str) else prompt)
            for prompt in prompts
        ]
        longest: int = max(lengths, default=0)
        kept: int | None = request.truncate_prompt_tokens
        if kept is not None:
            longest = min(longest, kept if kept >= 0 else context)
        return max(1, context - longest)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The engine's load. Serve brings it to the controller, for `s1ray.serving.scaling.policy`."""
        return self.engine.load()

    def _batch_output_stream(self, generator: AsyncGenerator[str]) -> AsyncIterator[list[str]]:
        flow = FLOW.get()
        if flow is None or flow.pace is None:
            return batched(generator, self._pace)
        return batched(generator, self._pace, is_complete=flow.is_complete, held=int(flow.roles))

    async def count_tokens(self, request: ChatCompletionRequest, info: RequestInfo) -> Responses:
        """The prompt of a chat completion in tokens; nothing is generated."""
        chat = TokenizeChatRequest(
            model=request.model,
            messages=request.messages,
            tools=request.tools,
            chat_template_kwargs=request.chat_template_kwargs,
        )
        counted: Responses = await self.tokenize(chat, info)
        return counted

    async def _generate(
        self,
        generate: Callable[[GenerationRequest, RequestInfo], Awaitable[AsyncGenerator[BaseModel | list[str]]]],
        request: GenerationRequest,
        info: RequestInfo,
        *,
        texts: bool,
    ) -> Responses:
        try:
            await self._load_adapter(request)
            record = self._prepare(request, info, texts=texts)
        except BadRequestError as error:
            return _refusal(400, str(error), error.field)
        except UnknownAdapterError as error:
            return _refusal(404, str(error), "model")
        # Tool parsers want every token by itself, strategies read them all, and several prompts would each have a pace.
        merges = request.stream and self._pace.interval_s > 0 and not getattr(request, "tools", None)
        merges = merges and not _several(getattr(request, "prompt", None))
        merges = merges and (info.thinking is None or info.thinking.strategy is None)
        meter = FrameworkMeter(self._llm_config.model_id, info.arrived + info.waited_s)
        FLOW.set(flow := Flow(meter, self._pace if merges else None, roles=not texts))
        responses = await generate(request, info)
        if record is None:
            return responses
        return accounted_stream(responses, record, flow) if request.stream else accounted(responses, record)

    async def _load_adapter(self, request: GenerationRequest) -> None:
        """Load the LoRA adapter that a request names.

        Raises:
            UnknownAdapterError: it is not there, or cannot be loaded.
        """
        model, _, name = (request.model or "").partition(":")
        if not name:
            return
        if self._llm_config.lora_config is None:
            raise UnknownAdapterError(f"the model {model!r} has no adapters; ask for {model!r}")
        # It may have to be loaded.
        prepared()
        try:
            await self.engine.resolve_lora(await self._load_model(request.model))
        except HTTPException as error:
            raise UnknownAdapterError(str(error.detail)) from None
        except ValueError as error:
            raise UnknownAdapterError(str(error)) from None

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        """Nothing: it would load what a client's header names, and adapters are loaded by the request's model."""

    def _prepare(self, request: GenerationRequest, info: RequestInfo, *, texts: bool) -> RequestRecord | None:
        """Put the forcing plan into the request; None for a request whose response is not accounted for.

        Raises:
            BadRequestError: the budget cannot be written in this tokenizer's ids, or kept within this engine's context.
        """
        thinking = info.thinking
        assert thinking is not None, "the HTTP worker resolves the thinking of every request that generates"
        request.priority = self.engine.priority(info.deadline)
        self.engine.begin(info.sequences)
        # No budget for vLLM: two would force at once. An effort is still shown to the chat template.
        request.thinking_token_budget = None
        request.reasoning_effort = thinking.effort if thinking.effort in TEMPLATE_EFFORTS else None
        if thinking.unforced:
            most = thinking.budget.max_tokens
            if isinstance(most, int) and request.max_tokens > most:
                request.max_tokens = max(1, most)
            return None
        spent = self._spent(request) if thinking.budget.scope == "turn" else 0
        budget = thinking.budget.less(spent)
        shape = AnswerShape.of(dict(request))
        try:
            schedule = schedule_of(thinking.strategy, request.seed)
            plan_json, plan = self._plan(budget.model_dump_json(), shape.governed, shape.begun, schedule)
        except ValueError as error:
            if str(error).startswith("schedule: "):
                raise BadRequestError(f"{STRATEGY}.schedule", str(error).removeprefix("schedule: ")) from None
            raise thinking.aliases.error(str(error)) from None
        if plan.stop_in_thinking:
            self._check_stops(request.stop, plan)
        if plan.reopen and request.stop:
            raise BadRequestError("stop", f'strings do not go together with `{FIELD}.reopen: "allow"`; leave one out')
        max_tokens = getattr(request, "max_completion_tokens", None) or request.max_tokens
        context = self.engine.context_length
        check_room(budget, thinking.aliases, max_tokens=max_tokens, context=context, plan=plan)
        delimiters = len(plan.start) + len(plan.end)
        if max_tokens is not None and max_tokens <= delimiters and shape.grammar:
            # Without an end of the thinking vLLM would not apply the grammar.
            raise BadRequestError("max_tokens", f"a grammar or a forced tool needs more than {delimiters} tokens")
        request.vllm_xargs = (request.vllm_xargs or {}) | {EXTRA_ARG: plan_json}
        wants_ids, request.return_token_ids = bool(request.return_token_ids), True
        if texts and "skip_special_tokens" not in request.model_fields_set:
            # A completion's text shows thinking and answer as they are, delimiters included.
            request.skip_special_tokens = False
        if not texts:
            # vLLM would hide the ids with the thinking; it is left out here instead, after counting.
            request.include_reasoning = True
        record = RequestRecord(
            plan=plan,
            budget=thinking.budget,
            clamped_from=thinking.clamped_from,
            stop_ids=tuple(request.stop_token_ids or ()),
            max_tokens=max_tokens if max_tokens is not None else self.engine.default_max_tokens,
            context=context,
            wants_ids=wants_ids and not thinking.hidden,
            hides_thinking=thinking.hidden,
            marks_forced=bool(request.logprobs),
            texts=self._tokenized.texts if texts else None,
            tokenizer=self._backend() if plan.reopen and not texts else None,
            spent=spent,
            meter=ResponseMeter(self._llm_config.model_id, info.client, info.arrived),
        )
        begin(thinking.strategy, request, record, self._tokenized, self.engine.strategies)
        return record

    def _spent(self, request: GenerationRequest) -> int:
        """Thinking tokens that the request carries in the assistant's messages since the last user message."""
        texts = turn_thinking(getattr(request, "messages", None) or (), self._tokenized.format)
        return sum(len(self._tokenized.encode(text)) for text in texts)

    def _backend(self) -> Tokenizer:
        """The tokenizer that decodes streams.

        Raises:
            BadRequestError: the model's tokenizer has none.
        """
        backend: Tokenizer | None = getattr(self._tokenized.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise BadRequestError(f"{FIELD}.reopen", "this model's tokenizer cannot follow several blocks of thinking")
        return backend

    def _check_stops(self, stop: str | list[str] | None, plan: ForcingPlan) -> None:
        """Refuse stop strings that would end the response in the middle of a forced text before its answer.

        At the answer's beginning ("Final Answer:") they may stop it, as the client asks for it.

        Raises:
            BadRequestError: one is part of a forced text.
        """
        if not stop:
            return
        forced = [plan.start, plan.newline + plan.cut[: plan.cut_answer], *plan.wait_texts]
        texts = [self._tokenized.tokenizer.decode(list(ids), skip_special_tokens=False) for ids in forced]
        for string in [stop] if isinstance(stop, str) else stop:
            if any(string in text for text in texts):
                message = f"{string!r} is part of the text that budget forcing writes, where the response would stop"
                raise BadRequestError("stop", message)

    def _make_plan(
        self, budget_json: str, bare_end: bool, begun_answer: bool, schedule: Schedule | None
    ) -> tuple[str, ForcingPlan]:
        budget = ThinkingBudget.model_validate_json(budget_json)
        plan = make_plan(self._tokenized, budget, bare_end=bare_end, begun_answer=begun_answer, schedule=schedule)
        return plan.to_json(), plan


def _several(prompt: object) -> bool:
    """Whether a completion has several prompts: texts, or lists of ids."""
    return isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)


def _tokenized(fmt: ThinkingFormat, engine: VLLMEngineConfig) -> TokenizedFormat:
    """The format in the ids of an engine's model."""
    from transformers import AutoTokenizer, GenerationConfig

    model = engine.engine_kwargs.get("tokenizer") or engine.actual_hf_model_id
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=engine.trust_remote_code)
    try:
        eos = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:
        eos = None
    return fmt.resolve(tokenizer, [eos] if isinstance(eos, int) else eos or ())


async def _refusal(code: int, message: str, param: str) -> AsyncIterator[ErrorResponse]:
    yield ErrorResponse(error=ErrorInfo(message=message, type="invalid_request_error", param=param, code=code))
