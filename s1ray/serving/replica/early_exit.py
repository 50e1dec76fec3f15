"""Early exit in a stream: a request's thinking is probed while it is generated, and ended where a probe says so.

One stream of outputs is made out of several requests to the engine, so that all above it (chunks, usage, parsers) sees
one response:

    thinking    the request as it came; its tokens pass through as they come
    probes      one at a time beside it: prompt and thinking so far, the end of thinking, the beginning of an answer,
                and a few greedy tokens with their probabilities (`s1ray.thinking.early_exit`). The prefix cache has
                what they share with the thinking. Of the points that the thinking passes while a probe runs, only the
                last is probed
    answer      after an exit the first request is aborted, and its last tokens are taken in; what forcing a maximum
                would write is written behind exactly what was streamed; and the answer is generated from all of it,
                under the same plan with what is left of the response's room

A thinking that ends by itself ends its probes, and its response stays one request. A request that is aborted is read
to its end, so that every token that the engine counts is counted here.

What an exit decides depends on how far the thinking came while the probe ran, so two equal requests may end at
different tokens. Penalties of the answer do not see the thinking as output.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.inputs.engine import tokens_input
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from s1ray.generation.base import request_seed
from s1ray.grading import vote_classes
from s1ray.serving.protocol.strategies import STRATEGY
from s1ray.serving.replica.engine_strategies import Generate, without_strategy
from s1ray.thinking import Accounting, BudgetForcer, ForcingPlan, TokenizedFormat
from s1ray.thinking.early_exit import EarlyExit, ProbePoints, Trial, exits, mean_probability, trial_answer
from s1ray.thinking.forcer import Phase
from s1ray.thinking.plan import EXTRA_ARG, continuation_ids

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

REASON = "early_exit"
"""What `end_forced` says."""

SHARED_OPTIONS = ("lora_request", "trace_headers", "priority", "data_parallel_rank")
"""Options of the engine's `generate` that hold for a request's probes and its answer, too."""


class EarlyExiting:
    """One response with early exit.

    Args:
        settings: the request's.
        tokenized: the model's format.
        plan: the request's.
        context: tokens that prompt and response may have together.
        stop_ids: the request's own stop tokens.

    Attributes:
        position: in the output, where the end of thinking was written. None: nowhere.
    """

    def __init__(
        self, settings: EarlyExit, tokenized: TokenizedFormat, plan: ForcingPlan, context: int, stop_ids: Sequence[int]
    ) -> None:
        self._settings, self._tokenized, self._plan = settings, tokenized, plan
        self._context, self._stop_ids = context, stop_ids
        self._points = ProbePoints(settings, tokenized)
        prefix = settings.prefix(tokenized.format)
        self._boxed = prefix.endswith("{")
        self._end = plan.end + continuation_ids(tokenized, prefix)
        self._ids: list[int] = []
        self._begin = 0
        """Position of the first thinking token."""
        self._trials: list[Trial] = []
        self._pending: int | None = None
        """The point that is probed next."""
        self._prober: asyncio.Task[None] | None = None
        self._probe_id: str | None = None
        self._decided = self._closed = False
        self._cached: int | None = None
        self._prompt_ids: list[int] = []
        self._forcer = BudgetForcer(plan)
        self._exited_at: int | None = None
        self._answer_prompt_tokens: int | None = None
        """Of the request that generates the answer. None: there is none."""
        self.position: int | None = None

    def account(self) -> dict[str, JsonValue]:
        """The response's `thinking.strategy`."""
        counted = self._forcer.accounting()
        probe_prompts = sum(trial.prompt_tokens for trial in self._trials)
        probed = sum(trial.tokens for trial in self._trials)
        further = self._answer_prompt_tokens is not None
        return {
            "name": REASON,
            "calls": 1 + len(self._trials) + further,
            "prompt_tokens": len(self._prompt_ids) + probe_prompts + (self._answer_prompt_tokens or 0),
            "thinking_tokens": counted.thinking_tokens,
            "answer_tokens": counted.answer_tokens + probed,
            "completion_tokens": len(self._ids) + probed,
            "kind": self._settings.kind,
            "exited_at": self._exited_at,
            "probe_tokens": probed,
            "probe_prompt_tokens": probe_prompts,
            "probes": [
                {"at": trial.at, "answer": trial.answer, "confidence": trial.confidence, "tokens": trial.tokens}
                for trial in self._trials
            ],
        }

    def others(self) -> Iterator[Accounting]:
        """Nothing: a probe is no response."""
        return iter(())

    def endings(self) -> Iterator[str]:
        """What became of each request to the engine."""
        yield "finished" if self._exited_at is None else "exited"
        yield from ("probe" for _ in self._trials)

    async def generate(
        self, engine: AsyncLLM, plain: Generate, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput]:
        """Generate the response.

        Raises:
            VLLMValidationError: the prompt is more than text.
        """
        if prompt.get("type") != "token":
            message = f"{STRATEGY}.early_exit: takes text only; leave images and sound out"
            raise VLLMValidationError(message, parameter="messages")
        self._engine, self._plain, self._prompt, self._params = engine, plain, prompt, params
        self._options = options
        self._shared = {name: options[name] for name in SHARED_OPTIONS if name in options}
        # Ids of clients may repeat; an abort must not hit another request.
        self._id = f"{request_id}-{uuid.uuid4().hex[:8]}"
        self._prompt_ids = list(prompt["prompt_token_ids"])
        left = self._context - len(self._prompt_ids)
        self._room = left if params.max_tokens is None else min(left, int(params.max_tokens))
        self._forcer = BudgetForcer(
            self._plan, self._prompt_ids, room=self._room, stop_ids=self._stop_ids, from_ids=True
        )
        total: RequestOutput | None = None
        try:
            async with aclosing(self._outputs()) as outputs:
                async for output in outputs:
                    output.request_id = request_id
                    if params.output_kind is RequestOutputKind.DELTA:
                        yield output
                    elif total is None:
                        total = output
                    else:
                        total.add(output, aggregate=True)
            if total is not None:
                yield total
        finally:
            if self._prober is not None:
                self._prober.cancel()
                await asyncio.gather(self._prober, return_exceptions=True)

    async def _outputs(self) -> AsyncGenerator[RequestOutput]:
        aborted = False
        params = self._own_params()
        async with aclosing(self._plain(self._prompt, params, self._id, **self._options)) as outputs:
            async for output in outputs:
                self._cached = output.num_cached_tokens if self._cached is None else self._cached
                completion = output.outputs[0]
                self._observe(completion.token_ids)
                if output.finished and completion.finish_reason != "abort":
                    await self._end_probes()
                    yield output
                    return
                if self._decided and not aborted and self._thinking:
                    # The tokens that were generated by now still come, with the output that says it was aborted.
                    aborted = True
                    await self._engine.abort(self._id)
                if not self._thinking and not self._closed:
                    await self._end_probes()
                output.finished, completion.finish_reason = False, None
                if completion.token_ids or completion.text:
                    yield output
        await self._end_probes()
        if (written := self._written()) is not None:
            yield written
            if written.finished:
                return
        async with aclosing(self._answer()) as answer:
            async for output in answer:
                yield output

    @property
    def _thinking(self) -> bool:
        return self._forcer.phase in (Phase.START, Phase.THINK, Phase.WAIT)

    def _own_params(self) -> SamplingParams:
        params = without_strategy(self._params)
        params.output_kind, params.skip_clone = RequestOutputKind.DELTA, False
        return params

    def _observe(self, token_ids: Sequence[int]) -> None:
        """Take what was generated of the thinking, and begin a probe where it is time for one."""
        forcer, prober = self._forcer, self._prober
        if prober is not None and prober.done():
            prober.result()  # a probe that failed fails the response
        for token_id in token_ids:
            count = forcer.thinking_tokens
            forcer.observe(token_id)
            self._ids.append(token_id)
            if forcer.thinking_tokens == count:
                continue
            self._begin = len(self._ids) - 1 if not count else self._begin
            at = self._points.observe(token_id)
            if at is not None and at >= self._plan.min_tokens:
                self._pending = at
        if self._thinking and self._may_probe and (prober is None or prober.done()):
            self._prober = asyncio.create_task(self._probe())

    @property
    def _may_probe(self) -> bool:
        """Whether there is a point to probe, and a probe left."""
        most = self._settings.max_probes
        left = most is None or len(self._trials) < most
        return self._pending is not None and left and not self._closed and not self._decided

    async def _probe(self) -> None:
        """Probe at the last point that was passed, until there is none, or one decides."""
        while self._may_probe:
            at, self._pending = self._pending, None
            assert at is not None, "a point to probe"
            trial = await self._trial(at)
            if trial is None:
                return
            self._trials.append(trial)
            if self._settings.kind == "confidence":
                self._decided = exits(self._settings, self._trials, vote_classes)
            else:
                # In a thread: answers that are compared may be long formulas.
                self._decided = await asyncio.to_thread(exits, self._settings, self._trials, vote_classes)

    async def _trial(self, at: int) -> Trial | None:
        """One trial answer; None where the context has no room for it."""
        thought = self._ids[: self._begin + at]
        newline = () if not thought or thought[-1] in self._tokenized.newline_ids else self._plan.newline
        ids = [*self._prompt_ids, *thought, *newline, *self._end]
        most = min(self._settings.probe_tokens, self._context - len(ids))
        if most < 1:
            return None
        params = SamplingParams(
            temperature=0.0, max_tokens=most, logprobs=0, detokenize=False, output_kind=RequestOutputKind.DELTA
        )
        reader = _TrialReader(self._tokenized, boxed=self._boxed)
        self._probe_id = probe_id = f"{self._id}-probe-{at}"
        tokens = 0
        async with aclosing(self._plain(tokens_input(ids), params, probe_id, **self._shared)) as outputs:
            async for output in outputs:
                completion = output.outputs[0]
                tokens += len(completion.token_ids)
                stopped = completion.finish_reason == "stop"
                complete = reader.read(completion.token_ids, completion.logprobs or (), stopped=stopped)
                if complete and not output.finished:
                    await self._engine.abort(probe_id)
        self._probe_id = None
        return Trial(at, reader.answer, reader.confidence, len(ids), tokens)

    async def _end_probes(self) -> None:
        """The thinking has ended: a probe that still runs is stopped, and counted."""
        self._closed, self._pending = True, None
        if self._prober is not None:
            if self._probe_id is not None:
                await self._engine.abort(self._probe_id)
            await self._prober

    def _written(self) -> RequestOutput | None:
        """What is written for the model behind the thinking; None where it has come to its answer by itself."""
        forcer = self._forcer
        if forcer.phase in (Phase.THINK, Phase.WAIT):
            self.position, self._exited_at = forcer.position, forcer.thinking_tokens
            forcer.end_now(REASON)
        written: list[int] = []
        reason: str | None = None
        while (action := forcer.action) is not None and action.force is not None and reason is None:
            reason = "stop" if forcer.phase is Phase.CLOSE else None
            written.append(action.force)
            forcer.observe(action.force)
            if forcer.position >= self._room:
                reason = reason or "length"
        if not written:
            return None
        self._ids += written
        text = self._tokenized.tokenizer.decode(written, skip_special_tokens=self._params.skip_special_tokens)
        completion = CompletionOutput(0, text, written, None, None, finish_reason=reason)
        return self._output([completion], finished=reason is not None)

    async def _answer(self) -> AsyncGenerator[RequestOutput]:
        """Generate the answer behind what there is."""
        forcer, params, plan = self._forcer, self._own_params(), self._plan
        if plan.answer_max_tokens is not None:
            plan = plan.model_copy(update={"answer_max_tokens": plan.answer_max_tokens - forcer.answer_tokens})
        params.extra_args = {**(params.extra_args or {}), EXTRA_ARG: plan.to_json()}
        params.max_tokens = self._room - forcer.position
        params.min_tokens = max(0, params.min_tokens - forcer.position)
        if params.seed is not None:
            params.seed = request_seed(params.seed, "answer")
        ids = [*self._prompt_ids, *self._ids]
        self._answer_prompt_tokens = len(ids)
        answer_id = f"{self._id}-answer"
        async with aclosing(self._plain(tokens_input(ids), params, answer_id, **self._shared)) as outputs:
            async for output in outputs:
                for token_id in output.outputs[0].token_ids:
                    forcer.observe(token_id)
                    self._ids.append(token_id)
                yield self._output(output.outputs, finished=output.finished)

    def _output(self, completions: list[CompletionOutput], *, finished: bool) -> RequestOutput:
        return RequestOutput(
            self._id, None, self._prompt_ids, None, completions, finished, num_cached_tokens=self._cached
        )


class _TrialReader:
    """Reads a probe's tokens until its answer is complete."""

    def __init__(self, tokenized: TokenizedFormat, *, boxed: bool) -> None:
        self._tokenized, self._boxed = tokenized, boxed
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self.answer: str | None = None

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the tokens' probabilities."""
        return mean_probability(self._logprobs)

    def read(self, token_ids: Sequence[int], logprobs: Sequence[Mapping[int, Any]], *, stopped: bool) -> bool:
        """Take the next tokens; say whether the answer is complete.

        Args:
            token_ids: the ids.
            logprobs: of each id, by id.
            stopped: the model ended its response with the last of them.
        """
        for number, (token_id, known) in enumerate(zip(token_ids, logprobs, strict=True), 1):
            if self.answer is not None:
                break
            self._ids.append(token_id)
            self._logprobs.append(float(known[token_id].logprob))
            text = self._tokenized.tokenizer.decode(self._ids, skip_special_tokens=True)
            self.answer = trial_answer(text, boxed=self._boxed, ended=stopped and number == len(token_ids))
        return self.answer is not None
