"""One of the responses that vote: followed token by token, counted from ids, with its confidence as it goes.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from s1ray.serving.protocol.strategies import Votes
from s1ray.serving.replica.accounting import ChoiceRecord, RequestRecord
from s1ray.serving.replica.vote_count import read_answer, weight_of
from s1ray.voting.confidence import RunningConfidence, token_certainty, token_confidence, token_entropy

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.logprobs import SampleLogprobs
    from vllm.outputs import CompletionOutput

PART_TOKENS = 32
"""Tokens of a part of the winner's stream at most, but for what the engine gave at once."""

Ending = Literal["cancelled", "low_confidence"]
"""Why a response was stopped."""


class Trace:
    """One response.

    Args:
        number: from 0.
        strategy: the request's.
        record: what its accounting needs of the request, with `texts`.
        keeps_logprobs: the client wants them.
    """

    def __init__(self, number: int, strategy: Votes, record: RequestRecord, *, keeps_logprobs: bool) -> None:
        self.number, self._strategy, self._record = number, strategy, record
        self._keeps_logprobs = keeps_logprobs
        self.tokens = self.prompt_tokens = 0
        self.begun = self.ended = self.voted = False
        self.stopped: Ending | None = None
        """Why it was stopped, if it was."""
        self.finish_reason: str | None = None
        self.answer: str | None = None
        self.weight = 1.0
        self._parts: list[RequestOutput] = []
        self._choice: ChoiceRecord | None = None
        self._confidence = RunningConfidence(strategy.window)
        self._certainty = self._entropy = 0.0

    def take(self, output: RequestOutput) -> None:
        """Take what the engine gives next."""
        completion = output.outputs[0]
        if self._choice is None:
            prompt_ids = output.prompt_token_ids or []
            self._choice, self.prompt_tokens = self._record.choice(self.number, prompt_ids), len(prompt_ids)
        self.tokens += len(completion.token_ids)
        if self._strategy.reads_logprobs:
            self._measure(self._choice, completion)
        else:
            self._choice.extend(completion.token_ids)
        if not self._keeps_logprobs:
            completion.logprobs = None
        if output.finished:
            self.ended = True
            reason = completion.finish_reason or "stop"
            if reason == "abort":
                self.finish_reason = self.stopped = self.stopped or "cancelled"
            else:
                # It may have ended by itself while it was being stopped.
                self.stopped = None
                _, self.finish_reason = self._choice.finish(reason, completion.stop_reason)
        if self._parts and len(self._parts[-1].outputs[0].token_ids) < PART_TOKENS:
            self._parts[-1].add(output, aggregate=True)
        else:
            self._parts.append(output)

    def _measure(self, choice: ChoiceRecord, completion: CompletionOutput) -> None:
        """Take the new tokens, and the confidence of those that the model has chosen."""
        places = candidates_of(completion.logprobs, self._strategy.top_logprobs)
        for token_id, candidates in zip(completion.token_ids, places, strict=True):
            action, swallowed = choice.forcer.action, len(choice.forcer.swallowed)
            choice.extend([token_id])
            inserted = len(choice.forcer.swallowed) > swallowed and choice.forcer.plan.wait_texts
            if (action is not None and action.force == token_id) or inserted:
                continue
            self._confidence.add(token_confidence(candidates))
            if self._strategy.weights == "self_certainty":
                self._certainty += token_certainty(candidates)
            elif self._strategy.weights == "inverse_entropy":
                self._entropy += token_entropy(candidates)

    @property
    def lowest_group(self) -> float:
        """Of its groups of tokens so far, the one with the lowest confidence."""
        return self._confidence.lowest_group

    def below(self, threshold: float | None) -> bool:
        """Whether a full group's confidence has fallen below a threshold."""
        lowest = self._confidence.lowest
        return threshold is not None and lowest is not None and lowest < threshold

    def read(self) -> None:
        """Read its answer and weight, after it has ended. Decodes the answer: not for the event loop."""
        if self._choice is not None and self.stopped is None:
            self.answer = read_answer(self._choice.answer())
        tokens = max(1, self._confidence.tokens)
        self.weight = weight_of(
            self._strategy, self._confidence, certainty=self._certainty / tokens, entropy=self._entropy / tokens
        )

    @property
    def choice(self) -> ChoiceRecord | None:
        """Its accounting. None: the engine has given nothing of it yet."""
        return self._choice

    def parts(self) -> Iterator[RequestOutput]:
        """Its outputs, in parts, once."""
        parts, self._parts = self._parts, []
        yield from parts

    @property
    def first(self) -> RequestOutput | None:
        """Its first output, if there is one."""
        return self._parts[0] if self._parts else None

    def forget(self) -> None:
        """Its outputs are not needed."""
        self._parts = []

    def account(self) -> dict[str, JsonValue]:
        """What the response says of it."""
        counts = None if self._choice is None else self._choice.forcer.accounting()
        account: dict[str, JsonValue] = {
            "answer": self.answer,
            "weight": self.weight if self.voted else 0.0,
            "thinking_tokens": 0 if counts is None else counts.thinking_tokens,
            "answer_tokens": 0 if counts is None else counts.answer_tokens,
            "completion_tokens": self.tokens,
            "finish_reason": self.finish_reason,
            "voted": self.voted,
        }
        return account | ({"lowest_group": self.lowest_group} if self._strategy.reads_logprobs else {})


def candidates_of(logprobs: SampleLogprobs | None, count: int) -> Iterator[list[float]]:
    """The log-probabilities of the likeliest tokens at each new place, in whichever form vLLM gives them.

    The sampled token stands before the others, and once more among them unless outputs were merged on their way, when
    the engine is ahead of its reader: only ranks tell which are the likeliest.

    Args:
        logprobs: of some places.
        count: candidates at each.
    """
    if not logprobs:
        return
    if isinstance(logprobs, list):
        ranked = [[(each.rank, each.logprob) for each in place.values()] for place in logprobs]
    else:
        places = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
        ranked = [[*zip(logprobs.ranks[a:b], logprobs.logprobs[a:b], strict=True)] for a, b in places]
    for place in ranked:
        yield list({rank: logprob for rank, logprob in place if rank <= count}.values())
