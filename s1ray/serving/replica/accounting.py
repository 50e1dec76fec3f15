"""Counts thinking in responses from their token ids, and writes the result into them.

The server asks vLLM for the ids of every response (`return_token_ids`), follows each choice with the state machine that
forces budgets inside the engine, and removes the ids again where the client did not ask for them. Streams arrive as
server-sent events, one string each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from s1ray.serving.metrics import ResponseMeter
from s1ray.serving.protocol.aliases import FIELD
from s1ray.serving.protocol.budgets import report
from s1ray.serving.protocol.engine_json import Choice, EngineJson
from s1ray.thinking import BudgetForcer, ForcingPlan, ThinkingBudget

SplitTexts = Callable[[Sequence[int], Sequence[int]], tuple[str, str]]
"""From thinking ids and answer ids to their texts."""


@dataclass
class RequestRecord:
    """What the server keeps of a request to account for its response."""

    plan: ForcingPlan
    budget: ThinkingBudget
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
    texts: SplitTexts | None = None
    """For completions, whose `thinking` object is the only place where the two texts stand apart."""
    meter: ResponseMeter | None = None
    """Takes the counts for metrics."""
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

    @property
    def thinking_tokens(self) -> int:
        """Thinking tokens of all choices so far."""
        return sum(choice.forcer.thinking_tokens for choice in self.choices.values())


class ChoiceRecord:
    """One choice of a response, followed token by token."""

    def __init__(self, request: RequestRecord, prompt_ids: Sequence[int]) -> None:
        self._request = request
        self._ids: list[int] = []
        room = request.room(len(prompt_ids))
        self.forcer = BudgetForcer(request.plan, prompt_ids, room=room, stop_ids=request.stop_ids, from_ids=True)

    def extend(self, token_ids: Sequence[int]) -> None:
        """Take the next ids of the choice."""
        for token_id in token_ids:
            self.forcer.observe(token_id)
        if self._request.texts is not None:
            self._ids.extend(token_ids)

    @property
    def answering(self) -> bool:
        """Whether the answer has begun."""
        return self.forcer.answer_tokens > 0

    def report(self) -> dict[str, JsonValue]:
        """The choice's `thinking` object."""
        accounting = self.forcer.accounting()
        result = report(accounting, self._request.budget)
        if self._request.texts is not None:
            begin, end = accounting.thinking_span
            thinking, answer = self._request.texts(self._ids[begin:end], self._ids[accounting.answer_begin :])
            result |= {"text": thinking, "answer": answer}
        return result


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
        self._account(data)
        if _is_empty(data):
            return ""
        return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"

    def _account(self, data: EngineJson) -> None:
        record = self._record
        # A chat stream has the prompt once, a completion stream in the first event of each choice.
        self._prompt_ids = data.get("prompt_token_ids") or self._prompt_ids
        if not record.wants_ids:
            data.pop("prompt_token_ids", None)
        for choice in data.get("choices") or ():
            followed = record.choice(choice["index"], choice.get("prompt_token_ids") or self._prompt_ids)
            if token_ids := choice.get("token_ids"):
                followed.extend(token_ids)
                if record.meter is not None:
                    record.meter.tokens(of_answer=followed.answering)
            if choice.get("finish_reason") is not None:
                choice[FIELD] = followed.report()
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
            usage["completion_tokens_details"] = {"reasoning_tokens": record.thinking_tokens}


def _is_empty(data: EngineJson) -> bool:
    """Whether an event has nothing left for the client: some carry ids and no text."""
    choices = data.get("choices")
    return bool(choices) and not data.get("usage") and all(map(_is_empty_choice, choices or ()))


def _is_empty_choice(choice: Choice) -> bool:
    delta = choice.get("delta")
    if delta is None or choice.get("finish_reason") is not None or "token_ids" in choice:
        return False
    return all(value is None for value in delta.values())
