"""Counts thinking in responses from their token ids, and writes the result into them.

The server asks vLLM for the ids of every response (`return_token_ids`), follows each choice with the same state machine
that forces budgets inside the engine, and takes the ids out again where the client did not ask for them. Streams arrive
as server-sent events; the objects here see the decoded JSON of one event at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from s1ray.serving.protocol import FIELD, report
from s1ray.thinking import BudgetForcer, ForcingPlan, ThinkingBudget, TokenizedFormat


@dataclass
class RequestRecord:
    """What the server must remember of a request to account for its response."""

    plan: ForcingPlan
    budget: ThinkingBudget
    tokenized: TokenizedFormat
    stop_ids: Collection[int]
    """The request's own stop tokens."""
    wants_ids: bool
    """The client asked for `return_token_ids`."""
    hides_thinking: bool
    """The client asked for `include_reasoning: false`."""
    texts: bool
    """The `thinking` object gets the texts: completions, which have no other place for them."""
    choices: dict[int, ChoiceRecord] = field(default_factory=dict)

    def choice(self, index: int, prompt_ids: Sequence[int]) -> ChoiceRecord:
        """The record of one choice, begun on first use."""
        if index not in self.choices:
            self.choices[index] = ChoiceRecord(self, prompt_ids)
        return self.choices[index]

    @property
    def thinking_tokens(self) -> int:
        """Thinking tokens of all choices so far."""
        return sum(choice.forcer.thinking_tokens for choice in self.choices.values())


class ChoiceRecord:
    """One choice of a response, followed token by token."""

    def __init__(self, request: RequestRecord, prompt_ids: Sequence[int]) -> None:
        self._request = request
        self.forcer = BudgetForcer(request.plan, prompt_ids, stop_ids=request.stop_ids)
        self._ids: list[int] = []

    def extend(self, token_ids: Sequence[int]) -> None:
        """Take the next ids of the choice."""
        for token_id in token_ids:
            self.forcer.observe(token_id)
        if self._request.texts:
            self._ids.extend(token_ids)

    def report(self) -> dict[str, Any]:
        """The choice's `thinking` object."""
        accounting = self.forcer.accounting()
        result = report(accounting, self._request.budget)
        if self._request.texts:
            begin, end = accounting.thinking_span
            result["text"], result["answer"] = self._request.tokenized.texts(
                self._ids[begin:end], self._ids[accounting.answer_begin :]
            )
        return result


class StreamAccountant:
    """Rewrites the events of one stream."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._prompt_ids: Sequence[int] = ()

    def rewrite(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Account for one event and give what the client gets; None: nothing."""
        record = self._record
        if "prompt_token_ids" in event:
            self._prompt_ids = event["prompt_token_ids"] or ()
            if not record.wants_ids:
                del event["prompt_token_ids"]
        for choice in event.get("choices", ()):
            prompt_ids = choice.get("prompt_token_ids") or self._prompt_ids
            followed = record.choice(choice["index"], prompt_ids)
            ids = choice.get("token_ids")
            if ids:
                followed.extend(ids)
            if choice.get("finish_reason") is not None:
                choice[FIELD] = followed.report()
            if not record.wants_ids:
                choice.pop("token_ids", None)
                choice.pop("prompt_token_ids", None)
            delta = choice.get("delta")
            if delta and "reasoning" in delta:
                delta["reasoning_content"] = delta["reasoning"]
                if record.hides_thinking:
                    del delta["reasoning"], delta["reasoning_content"]
        if event.get("usage"):
            event["usage"]["completion_tokens_details"] = {"reasoning_tokens": record.thinking_tokens}
        return None if self._is_empty(event) else event

    def _is_empty(self, event: dict[str, Any]) -> bool:
        """Some events carry ids and no text; without the ids they say nothing."""
        choices = event.get("choices")
        return bool(choices) and not event.get("usage") and all(map(_says_nothing, choices or ()))


def _says_nothing(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if delta is None or choice.get("finish_reason") is not None or "token_ids" in choice:
        return False
    return all(value is None for value in delta.values())
