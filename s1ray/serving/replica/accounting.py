"""Counts thinking in responses from their token ids, and writes the result into them.

The server asks vLLM for the ids of every response (`return_token_ids`), follows each choice with the state machine that
forces budgets inside the engine, and removes the ids again where the client did not ask for them. Streams arrive as
server-sent events, one string each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from s1ray.serving.metrics import ResponseMeter
from s1ray.serving.protocol.budgets import report
from s1ray.serving.protocol.engine_json import Choice, EngineJson, Error, Message, Usage
from s1ray.serving.protocol.refusals import FIELD
from s1ray.serving.replica.live_texts import LiveTexts
from s1ray.thinking import BudgetForcer, ForcingPlan, ThinkingBudget
from s1ray.thinking.accounting import forced_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from s1ray.serving.replica.early_exit import EarlyExiting
    from s1ray.serving.replica.engine_strategies import EngineStrategy

NO_ROOM: Final[Error] = {
    "message": "max_tokens: the response has room for the end of its thinking, and none for an answer: allow it more "
    "tokens, or shorten the prompt",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": 400,
}
"""What a response is refused with that cannot have an answer."""

SplitTexts = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], tuple[str, str]]
"""From the ids of all blocks of thinking and of all parts of the answer to their texts."""


@dataclass
class RequestRecord:
    """What the server keeps of a request to account for its response."""

    plan: ForcingPlan
    budget: ThinkingBudget
    clamped_from: Mapping[str, int] = field(default_factory=dict)
    """What was asked for where the budget is its maximum instead."""
    stop_ids: Collection[int] = ()
    """The request's own stop tokens."""
    max_tokens: int | None = None
    """Tokens of a response at most, by the request or the model's defaults. None: no limit."""
    context: int | None = None
    """Tokens that prompt and response may have together."""
    wants_ids: bool = False
    """The client asked for `return_token_ids`."""
    hides_thinking: bool = False
    """The client asked for a response without its thinking."""
    marks_forced: bool = False
    """The client asked for log-probabilities: the response says which of its tokens the model has not chosen."""
    texts: SplitTexts | None = None
    """For completions, whose `thinking` object is the only place where the two texts stand apart."""
    tokenizer: Tokenizer | None = None
    """For chats whose model may think again: their texts are made from ids."""
    spent: int = 0
    """Thinking tokens of the turn's earlier messages, taken off the budget."""
    meter: ResponseMeter | None = None
    """Takes the counts for metrics."""
    strategy: EngineStrategy | None = None
    """Makes the response out of several."""
    early_exit: EarlyExiting | None = None
    """The strategy, where it may end the thinking."""
    choices: dict[int, ChoiceRecord] = field(default_factory=dict)

    def choice(self, index: int, prompt_ids: Sequence[int]) -> ChoiceRecord:
        """The record of one choice, created on first use."""
        if index not in self.choices:
            self.choices[index] = ChoiceRecord(self, prompt_ids)
        return self.choices[index]

    def room(self, prompt_tokens: int) -> int | None:
        """Tokens that a response to a prompt may have, by the engine's own rule."""
        left = None if self.context is None else self.context - prompt_tokens
        known = [limit for limit in (left, self.max_tokens) if limit is not None]
        return min(known, default=None)

    def measure(self) -> None:
        """The response is complete, or its client has left: count what there is of it."""
        if self.meter is not None:
            for choice in self.choices.values():
                self.meter.finished(choice.forcer.accounting())
            if self.strategy is not None:
                for other in self.strategy.others():
                    self.meter.finished(other)
                self.meter.strategy_ended(self.strategy.endings())

    @property
    def thinking_tokens(self) -> int:
        """Thinking tokens of all choices so far, and of what a strategy made besides."""
        if self.strategy is not None:
            return _count(self.strategy.account(), "thinking_tokens")
        return sum(choice.forcer.thinking_tokens for choice in self.choices.values())

    def count_all(self, usage: Usage) -> None:
        """Let a usage count all that a strategy has made."""
        if self.strategy is not None:
            usage["completion_tokens"] = _count(self.strategy.account(), "completion_tokens")
            usage["total_tokens"] = usage.get("prompt_tokens", 0) + (usage["completion_tokens"] or 0)


class ChoiceRecord:
    """One choice of a response, followed token by token."""

    def __init__(self, request: RequestRecord, prompt_ids: Sequence[int]) -> None:
        self._request = request
        self._prompt_ids = prompt_ids
        self._ids: list[int] = []
        room = request.room(len(prompt_ids))
        self.forcer = BudgetForcer(request.plan, prompt_ids, room=room, stop_ids=request.stop_ids, from_ids=True)
        self._live = None if request.tokenizer is None else LiveTexts(self.forcer, request.tokenizer)
        self._stopped = self.unanswerable = False

    def extend(self, token_ids: Sequence[int]) -> tuple[str, str] | None:
        """Take the next ids of the choice; give what they add to thinking and answer, where it is made here."""
        if self._request.texts is not None or self._request.marks_forced:
            self._ids.extend(token_ids)
        if self._live is not None:
            return self._live.observe(token_ids)
        exiting = self._request.early_exit
        for token_id in token_ids:
            if exiting is not None and exiting.position == self.forcer.position:
                self.forcer.end_now("early_exit")
            self.forcer.observe(token_id)
        return None

    def finish(self, finish_reason: str, stop_reason: int | str | None) -> tuple[str, str]:
        """The choice is complete.

        Args:
            finish_reason: the engine's. It takes an end that was forced at the answer's maximum for the model's own.
            stop_reason: the stop string or stop id that ended the response; None: neither did.

        Returns:
            What was held back of its answer, and its finish reason.
        """
        accounting = self.forcer.accounting()
        # Streams say "tool_calls" as soon as a call has begun, also where it was cut off.
        ended = finish_reason in ("stop", "tool_calls")
        self._stopped = ended and stop_reason is not None
        cut = accounting.answer_cut and not self._stopped
        # It had room for the end of its thinking and for nothing else.
        self.unanswerable = cut and not accounting.answer_tokens and accounting.limit == 0
        held = "" if self._live is None else self._live.finish()
        return held, "length" if ended and cut else finish_reason

    @property
    def answering(self) -> bool:
        """Whether the answer has begun."""
        return self.forcer.answer_tokens > 0

    def report(self) -> dict[str, JsonValue]:
        """The choice's `thinking` object."""
        accounting, request = self.forcer.accounting(), self._request
        if self._stopped:
            accounting = replace(accounting, answer_cut=False)
        result = report(accounting, request.budget, request.spent, request.clamped_from)
        if request.texts is not None:
            thinking, answer = request.texts(accounting.thinking_of(self._ids), accounting.answer_of(self._ids))
            result |= {"text": thinking, "answer": answer}
        if request.marks_forced:
            room, prompt = request.room(len(self._prompt_ids)), self._prompt_ids
            spans = forced_spans(request.plan, prompt, self._ids, room=room, stop_ids=request.stop_ids)
            result["forced_spans"] = [list(span) for span in spans]
        if request.strategy is not None:
            result["strategy"] = request.strategy.account()
        elif (schedule := request.plan.schedule) is not None:
            result["strategy"] = {
                "name": "schedule",
                "calls": 1,
                "prompt_tokens": len(self._prompt_ids),
                "thinking_tokens": accounting.thinking_tokens,
                "answer_tokens": accounting.answer_tokens,
                "alpha_moment": schedule.moment,
                "waits": accounting.waits,
            }
        return result

    def answer(self) -> str:
        """The text of the answer so far, where the request's record makes texts."""
        assert self._request.texts is not None
        return self._request.texts([], self.forcer.accounting().answer_of(self._ids))[1]


class StreamAccountant:
    """Accounts for one stream, event by event."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._prompt_ids: Sequence[int] = ()

    def rewrite(self, event: str) -> str:
        """Turn one event ("data: ...") into the one that the client gets; an empty string: none."""
        payload = event.removeprefix("data: ").rstrip("\n")
        if not payload.startswith("{"):
            return event
        data: EngineJson = json.loads(payload)
        if not self._account(data):
            return f"data: {json.dumps({'error': NO_ROOM})}\n\n"
        if _is_empty(data):
            return ""
        return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"

    def _account(self, data: EngineJson) -> bool:
        """Account for an event in place; False where a choice has ended that can have no answer."""
        record, answerable = self._record, True
        # A chat stream has the prompt once, a completion stream in the first event of each choice.
        self._prompt_ids = data.get("prompt_token_ids") or self._prompt_ids
        if not record.wants_ids:
            data.pop("prompt_token_ids", None)
        for choice in data.get("choices") or ():
            followed = record.choice(choice["index"], choice.get("prompt_token_ids") or self._prompt_ids)
            texts: tuple[str, str] | None = None
            if token_ids := choice.get("token_ids"):
                texts = followed.extend(token_ids)
                if record.meter is not None:
                    record.meter.tokens(of_answer=followed.answering)
            if choice.get("finish_reason") is not None:
                held, choice["finish_reason"] = followed.finish(
                    choice["finish_reason"] or "stop", choice.get("stop_reason")
                )
                answerable = answerable and not followed.unanswerable
                choice[FIELD] = followed.report()
                thinking, answer = texts or ("", "")
                texts = thinking, answer + held
            if record.tokenizer is not None:
                _set_texts(choice.setdefault("delta", {}), *(texts or ("", "")))
            if not record.wants_ids:
                choice.pop("token_ids", None)
                choice.pop("prompt_token_ids", None)
            if record.hides_thinking and "logprobs" in choice:
                # They hold the thinking, token by token.
                choice["logprobs"] = None
            delta = choice.get("delta")
            if delta and "reasoning" in delta:
                if record.hides_thinking:
                    del delta["reasoning"]
                else:
                    delta["reasoning_content"] = delta["reasoning"]
        if usage := data.get("usage"):
            record.count_all(usage)
            usage["completion_tokens_details"] = {"reasoning_tokens": record.thinking_tokens}
            if details := usage.get("prompt_tokens_details"):
                usage["prompt_tokens_details"] = {"cached_tokens": details.get("cached_tokens") or 0}
        return answerable


def _count(account: Mapping[str, JsonValue], name: str) -> int:
    """A number of a strategy's account."""
    value = account[name]
    assert isinstance(value, int)
    return value


def _set_texts(delta: Message, thinking: str, answer: str) -> None:
    """Put our texts in place of the parser's."""
    for name in ("reasoning", "content"):
        delta.pop(name, None)  # type: ignore[misc]  # one of its keys
    if thinking:
        delta["reasoning"] = thinking
    if answer:
        delta["content"] = answer


def _is_empty(data: EngineJson) -> bool:
    """Whether an event has nothing left for the client: some carry ids and no text."""
    choices = data.get("choices")
    return bool(choices) and not data.get("usage") and all(map(_is_empty_choice, choices or ()))


def _is_empty_choice(choice: Choice) -> bool:
    delta = choice.get("delta")
    if delta is None or choice.get("finish_reason") is not None or "token_ids" in choice:
        return False
    return all(value is None for value in delta.values())
