"""Several responses to one request, of which the elected one is given: `thinking.strategy.votes`.

The responses are requests of their own to the replica's engine, so that they share its prefix cache. Each is followed
as it is written; when one ends its answer is read, and as soon as the vote is decided (`vote_count.py`) the others are
aborted in the engine. What vLLM's server then gets is the winner's output, in parts, as if it had been the only one:
texts, streams, stop strings and accounting are those of any response.

An aborted request is read to its end, which comes at once, so that every token that the engine counts is counted here.

DeepConf's online stop (arXiv 2508.15260, section 3.3) reads the confidence here, from the log-probabilities that the
engine sends with each token. The processor inside the engine sees logits one step earlier, but has no way to say what
it saw: a weight could not be had from there, and the step saved is one of thousands.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind

from s1ray.generation.base import request_seed
from s1ray.serving.protocol.strategies import STRATEGY, Votes
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.engine_strategies import Generate, forget_logprobs, without_strategy
from s1ray.serving.replica.vote_count import Outcome, outcome
from s1ray.serving.replica.vote_traces import Trace
from s1ray.thinking import Accounting
from s1ray.thinking.vllm.requests import GREEDY_BELOW
from s1ray.voting.ballots import Ballot, kept

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM


class Voting:
    """One request's vote.

    Args:
        strategy: what it asks for.
        record: what the accounting of each response needs of the request, with `texts`.
    """

    def __init__(self, strategy: Votes, record: RequestRecord) -> None:
        self._strategy, self._record = strategy, record
        self._traces: list[Trace] = []
        self._ended: list[Trace] = []
        """In the order in which they ended."""
        self._running: dict[asyncio.Task[None], Trace] = {}
        self._began = asyncio.Event()
        self._threshold = strategy.stop_below
        self._winner: Trace | None = None
        self._outcome: Outcome | None = None

    async def generate(
        self, engine: AsyncLLM, plain: Generate, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput]:
        """Vote, and give the winner's output.

        Args:
            engine: runs the responses.
            plain: its own `generate`.
            prompt, params, request_id, options: what it is called with.

        Raises:
            VLLMValidationError: all responses would be the same.
        """
        if params.temperature < GREEDY_BELOW:
            message = f"{STRATEGY}.votes: at temperature 0 all responses are the same; give votes.temperature"
            raise VLLMValidationError(message, parameter="temperature")
        self._engine, self._plain = engine, plain
        self._prompt, self._params, self._options = prompt, params, options
        self._id = f"{request_id}-{uuid.uuid4().hex[:8]}"
        keeps = params.logprobs is not None
        self._traces = [
            Trace(number, self._strategy, self._record, keeps_logprobs=keeps) for number in range(self._strategy.n)
        ]
        streams = params.output_kind == RequestOutputKind.DELTA
        vote = asyncio.create_task(self._vote())
        try:
            if streams and (opening := await self._opening(vote)) is not None:
                opening.request_id = request_id
                yield opening
            self._winner = await vote
            for output in self._outputs(self._winner, whole=not streams):
                output.request_id = request_id
                yield output
        finally:
            vote.cancel()
            await asyncio.gather(vote, return_exceptions=True)

    async def _opening(self, vote: asyncio.Task[Trace]) -> RequestOutput | None:
        """An output without tokens as soon as any response has some: the stream begins."""
        began = asyncio.ensure_future(self._began.wait())
        await asyncio.wait({vote, began}, return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        first = next((trace.first for trace in self._traces if trace.first is not None), None)
        if first is None:
            return None
        opening, completion = copy.copy(first), copy.copy(first.outputs[0])
        completion.text, completion.token_ids, completion.logprobs = "", [], None
        completion.finish_reason = completion.stop_reason = None
        opening.outputs, opening.finished = [completion], False
        return opening

    def _outputs(self, winner: Trace, *, whole: bool) -> Iterator[RequestOutput]:
        if not whole:
            yield from winner.parts()
            return
        first, *rest = winner.parts()
        for part in rest:
            first.add(part, aggregate=True)
        yield first

    async def _vote(self) -> Trace:
        """The winner. Afterwards no response is running."""
        warmup = self._strategy.warmup
        try:
            self._start(self._traces[:warmup])
            while True:
                await self._next_ends()
                if warmup is not None:
                    if len(self._ended) < warmup:
                        continue  # which of them may vote is not known yet
                    self._calibrate()
                    self._start(self._traces[warmup:])
                    warmup = None
                if (decided := await asyncio.to_thread(self._count)) is not None:
                    break
            self._outcome, voters = decided
            await self._cancel()
            winner = voters[self._outcome.winner]
            for trace in self._traces:
                if trace is not winner:
                    trace.forget()
            return winner
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, traces: list[Trace]) -> None:
        for trace in traces:
            trace.begun = True
            self._running[asyncio.create_task(self._follow(trace))] = trace

    async def _follow(self, trace: Trace) -> None:
        """Read one response to its end."""
        name = f"{self._id}-{trace.number}"
        outputs = self._plain(self._prompt, self._params_of(trace), name, **self._options)
        async with aclosing(outputs):
            async for output in outputs:
                trace.take(output)
                self._began.set()
                if self._strategy.reads_logprobs:
                    forget_logprobs(self._engine, name)
                if not trace.ended and trace.stopped is None and self._is_too_unsure(trace):
                    trace.stopped = "low_confidence"
                    await self._engine.abort(name)

    def _params_of(self, trace: Trace) -> SamplingParams:
        params, strategy = without_strategy(self._params), self._strategy
        params.output_kind, params.skip_clone = RequestOutputKind.DELTA, False
        if params.seed is not None:
            params.seed = request_seed(params.seed, f"vote-{trace.number}")
        if strategy.reads_logprobs:
            params.flat_logprobs = params.logprobs is None
            params.logprobs = max(strategy.top_logprobs, params.logprobs or 0)
        return params

    def _is_too_unsure(self, trace: Trace) -> bool:
        """Whether it falls below the threshold, and is not the last that may vote."""
        if not trace.below(self._threshold):
            return False
        return any(other is not trace and other.stopped is None for other in self._traces if other.begun)

    async def _next_ends(self) -> None:
        """Wait until a response ends. Of several at once the one that thought least is first."""
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        ended = [self._running.pop(task) for task in done]
        for task in done:
            task.result()
        self._ended += sorted(ended, key=lambda trace: (trace.tokens, trace.number))

    def _calibrate(self) -> None:
        """Set the threshold that keeps so many of the first responses; the others do not vote."""
        first = self._traces[: self._strategy.warmup]
        best = [first[place] for place in kept([trace.lowest_group for trace in first], self._strategy.kept_share)]
        self._threshold = min(trace.lowest_group for trace in best)
        for trace in first:
            if trace not in best:
                trace.stopped = "low_confidence"

    def _count(self) -> tuple[Outcome, list[Trace]] | None:
        """The outcome and those who voted, if it is decided. Reads answers: not for the event loop."""
        ended = list(self._ended)
        for trace in ended:
            trace.read()
        voters = [trace for trace in ended if trace.stopped is None][: self._strategy.first]
        if not voters:
            return None
        voters.sort(key=lambda trace: trace.number)
        ballots = [Ballot(trace.answer, trace.weight) for trace in voters]
        decided = outcome(self._strategy, ballots, len(self._traces) - len(ended))
        if decided is None:
            return None
        for trace in voters:
            trace.voted = True
        return decided, voters

    async def _cancel(self) -> None:
        """Abort what is running in the engine, and read it to its end."""
        if self._running:
            await self._engine.abort([f"{self._id}-{trace.number}" for trace in self._running.values()])
            await asyncio.gather(*self._running)
            self._running.clear()

    def account(self) -> dict[str, JsonValue]:
        """The response's `thinking.strategy`."""
        begun = [trace for trace in self._traces if trace.begun]
        votes = [trace.account() for trace in begun]
        decided = self._outcome
        sums = {
            name: sum(trace.choice.forcer.accounting().__dict__[name] for trace in begun if trace.choice is not None)
            for name in ("thinking_tokens", "answer_tokens")
        }
        return {
            "name": self._strategy.name,
            "calls": len(begun),
            "prompt_tokens": sum(trace.prompt_tokens for trace in begun),
            **sums,
            "completion_tokens": sum(trace.tokens for trace in begun),
            "cancelled": sum(trace.stopped == "cancelled" for trace in begun),
            "decided_by": None if decided is None else decided.by,
            "share": 0.0 if decided is None else decided.share,
            "winner": None if self._winner is None else self._winner.number,
            "votes": list(votes),
        }

    def others(self) -> Iterator[Accounting]:
        """The accounting of every response but the one that was given."""
        for trace in self._traces:
            if trace is not self._winner and trace.choice is not None:
                yield trace.choice.forcer.accounting()

    def endings(self) -> Iterator[str]:
        """What became of each response that was begun, for metrics."""
        for trace in self._traces:
            if trace.begun:
                yield "voted" if trace.voted else trace.stopped or ("late" if trace.ended else "cancelled")
