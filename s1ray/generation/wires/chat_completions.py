"""OpenAI's chat completions, which most servers speak (our own, too, with budgets); token ids go to `/completions`.

A budget travels as the request's `thinking` object, and our server's accounting comes back in the choice's. Of a server
that does not know `thinking`, its own count of reasoning tokens is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from s1ray.errors import InputError
from s1ray.generation.answers import UnusableError, mapping, refuse_error, text_of, whole
from s1ray.generation.base import Continuation, GenerationRequest, Usage
from s1ray.generation.wires.base import (
    bearer,
    completion_of,
    counted,
    details_of,
    listed,
    merged,
    named_schema,
    optional,
    usage_of,
    word,
)
from s1ray.schemas import Completion, Confidence
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.format import ThinkingFormat
from s1ray.voting.confidence import measure

FINISH_REASONS = {
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "completed"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "max_length", "model_length"), "length"),
    **dict.fromkeys(("safety", "recitation", "SAFETY", "RECITATION"), "content_filter"),
}
"""Other servers' words for the same."""


class ChatCompletions:
    """`/chat/completions` for messages, `/completions` for token ids."""

    limits: ClassVar[tuple[str, ...]] = ("max_tokens", "max_completion_tokens")

    def path(self, request: GenerationRequest) -> str:
        """By what the prompt is."""
        return "/chat/completions" if request.messages is not None else "/completions"

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The key as a bearer token."""
        return bearer(api_key)

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """What is not set is left out, so that the server's defaults hold."""
        budget = None if request.budget is None else request.budget.model_dump(mode="json", exclude_unset=True)
        if request.strategy is not None:
            budget = (budget or {}) | {"strategy": request.strategy}
        names = ("temperature", "top_p", "top_k", "max_tokens", "reasoning_effort", "seed")
        asked: dict[str, Any] = {name: getattr(request, name) for name in names} | {"thinking": budget}
        prompt: dict[str, Any] = {"prompt": list(request.prompt_ids or ())}
        if request.continues is not None:
            # Our own server forces budgets unless it is told not to; others do not know the field.
            asked |= {"thinking": False, "return_token_ids": True, "skip_special_tokens": False}
            asked |= {"stop": list(request.continues.stop), "stop_token_ids": list(request.continues.stop_ids)}
            asked |= {"include_stop_str_in_output": True}
        if request.messages is not None:
            prompt = {"messages": [dict(message) for message in request.messages]}
        if request.top_logprobs is not None:
            if request.messages is None:
                raise InputError("top_logprobs: a prompt of token ids cannot ask for them; give messages")
            asked |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        body = {"model": model} | prompt | {name: value for name, value in asked.items() if value is not None}
        return merged(body, extra)

    def json_answers(self, schema: Mapping[str, object]) -> dict[str, Any]:
        """A response format."""
        return {"response_format": {"type": "json_schema", "json_schema": named_schema(schema)}}

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """The first choice."""
        refuse_error(answer)
        choices = listed(answer.get("choices"), "choices")
        if not choices:
            raise UnusableError("its form is not OpenAI's: choices is missing or empty")
        choice = choices[0]
        if request.continues is not None:
            return _continued(request, request.continues, choice, self.usage(answer))
        ours = mapping(choice.get("thinking"), "thinking")
        refused = False
        if request.messages is not None:
            if "message" not in choice:
                raise UnusableError("its form is not OpenAI's: choices[0].message is missing")
            thinking, text, refused = _texts(mapping(choice["message"], "message"))
        else:
            thinking = text_of(ours.get("text"), "thinking.text")
            text = text_of(ours.get("answer", choice.get("text")), "text")
        if request.strategy is not None and ours.get("strategy") is None:
            raise UnusableError(
                "it says nothing about the strategy, so the server does not carry it out; leave `strategy` out, or "
                "serve the model with s1ray",
                transient=False,
            )
        if "thinking_tokens" not in ours and request.budget not in (None, ThinkingBudget()):
            raise UnusableError(
                "it says nothing about the budget, so the server does not control its thinking; leave `thinking` out, "
                "or serve the model with s1ray",
                transient=False,
            )
        raw, ids = word(choice.get("finish_reason"), "finish_reason"), choice.get("token_ids")
        completion = completion_of(
            request,
            (thinking, text),
            self.usage(answer),
            finish_reason="refusal" if refused else FINISH_REASONS.get(raw or "", raw or "unknown"),
            raw_finish_reason=raw,
            model_version=word(answer.get("model"), "model"),
            thinking_format=None if "thinking_tokens" in ours else thinking_format,
        )
        if request.top_logprobs is not None:
            completion = replace(completion, confidence=_confidence(request, choice, ours))
        if isinstance(ids, list):
            completion = replace(completion, output_ids=[whole(token, "token_ids") for token in ids])
        return replace(completion, **_accounting(ours, completion)) if ours else completion

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Of OpenAI's form, with DeepSeek's name for cached tokens."""
        return counted(answer, _usage)


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = details_of(usage, "completion_tokens_details")
    prompt = details_of(usage, "prompt_tokens_details")
    cached = prompt.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
    return usage_of(
        prompt=whole(usage.get("prompt_tokens"), "prompt_tokens"),
        cached=whole(cached, "cached_tokens"),
        cache_write=whole(prompt.get("cache_write_tokens"), "cache_write_tokens"),
        completion=whole(usage.get("completion_tokens"), "completion_tokens"),
        reasoning=optional(details.get("reasoning_tokens"), "reasoning_tokens"),
        total=whole(usage.get("total_tokens"), "total_tokens"),
    )


def _accounting(ours: Mapping[str, Any], completion: Completion) -> dict[str, Any]:
    """Fields of a completion that our own server's accounting says better than the usage.

    Raises:
        UnusableError: a field has another type.
    """
    names = [name for name in ("thinking_tokens", "answer_tokens", "waits") if name in ours]
    found: dict[str, Any] = {name: whole(ours[name], name) for name in names}
    if "thinking_tokens" in found:
        found.setdefault("answer_tokens", max(0, (completion.completion_tokens or 0) - found["thinking_tokens"]))
        found["thinking_unknown"] = False
    if ours.get("end_forced") is not None:
        found["end_forced"] = text_of(ours["end_forced"], "end_forced")
    if "answer_cut" in ours:
        found["answer_cut"] = bool(ours["answer_cut"])
    if ours.get("strategy") is not None:
        found["strategy"] = _account(mapping(ours["strategy"], "strategy"))
    if isinstance(spans := ours.get("wait_spans"), list):
        places = [place for span in spans for place in (span if isinstance(span, list) else [None])]
        found["wait_positions"] = [whole(place, "wait_spans") for place in places]
    return found


def _account(account: Mapping[str, Any]) -> dict[str, Any]:
    """What a strategy took, checked: a count that is missing is not a count of none.

    Raises:
        UnusableError: a count is missing, or none; or there was no call.
    """
    sums = dict[str, int]()
    for name in ("calls", "prompt_tokens", "thinking_tokens", "answer_tokens"):
        if account.get(name) is None:
            raise UnusableError(f"strategy.{name} is missing, so nobody knows what it took", transient=False)
        sums[name] = whole(account[name], f"strategy.{name}")
    if not sums["calls"]:
        raise UnusableError("strategy.calls is 0, though there is an answer", transient=False)
    return {**account, **sums}


def _continued(
    request: GenerationRequest, how: Continuation, choice: Mapping[str, Any], usage: Usage | None
) -> Completion:
    """The next part of a response, in ids.

    Raises:
        UnusableError: it came without them.
    """
    if not isinstance(choice.get("token_ids"), list):
        raise UnusableError(
            "it has no token ids (return_token_ids), without which its response cannot go on; `vllm serve` and s1ray "
            "give them",
            transient=False,
        )
    ids = [whole(token, "token_ids") for token in choice["token_ids"]]
    raw, stop = word(choice.get("finish_reason"), "finish_reason"), choice.get("stop_reason")
    if raw == "stop" and type(stop) is int and ids[-1:] != [stop]:
        ids.append(stop)
    text, is_thinking = text_of(choice.get("text"), "text"), how.of == "thinking"
    return Completion(
        id=request.id,
        thinking=text if is_thinking else "",
        answer="" if is_thinking else text,
        prompt_tokens=0 if usage is None else usage.prompt_tokens,
        thinking_tokens=len(ids) if is_thinking else 0,
        answer_tokens=0 if is_thinking else len(ids),
        finish_reason=FINISH_REASONS.get(raw or "", raw or "unknown"),
        raw_finish_reason=raw,
        output_ids=ids,
        cached_tokens=0 if usage is None else usage.cached_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
    )


def _confidence(request: GenerationRequest, choice: Mapping[str, Any], ours: Mapping[str, Any]) -> Confidence:
    """The figures of a response, at once: its log-probabilities are many times larger than its text.

    Raises:
        UnusableError: there are none, or fewer than were asked for. A response without a weight has no vote, and a vote
            without it would be another strategy.
    """
    wanted = request.top_logprobs or 0
    logprobs = mapping(choice.get("logprobs"), "logprobs")
    content = listed(logprobs.get("content"), "logprobs.content")
    if not content:
        raise UnusableError(
            "it has no log-probabilities (top_logprobs), which weigh its vote; take a server that gives them, shows "
            "its thinking, or a strategy without weights",
            transient=False,
        )
    most = len(content)
    try:
        return measure(
            (_place(entry, wanted, place) for place, entry in enumerate(content)),
            window=request.confidence_window,
            forced={
                place for begin, end in ours.get("forced_spans") or () for place in range(max(0, begin), min(end, most))
            },
        )
    except (ValueError, TypeError) as error:
        raise UnusableError(f"its log-probabilities cannot be used: {error}") from None


def _place(entry: Mapping[str, Any], wanted: int, place: int) -> list[float]:
    """The log-probabilities at a place, the highest first, as many as were asked for."""
    found = [each.get("logprob") for each in listed(entry.get("top_logprobs"), "top_logprobs")]
    if len(found) < wanted:
        raise UnusableError(
            f"it has {len(found)} log-probabilities at token {place} where top_logprobs asked for {wanted}; ask for as "
            "many as the server gives",
            transient=False,
        )
    return sorted((_number(each) for each in found), reverse=True)[:wanted]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableError(f"its log-probabilities cannot be used: {value!r:.40} is no number")
    return value


def _texts(message: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Thinking and answer of a message, in whatever form servers give them; and whether the answer is a refusal.

    Raises:
        UnusableError: a field holds something else than text.
    """
    content = message.get("content")
    thinking, parts = "", list[str]()
    for name in ("reasoning", "reasoning_content", "reasoning_details"):
        value = message.get(name)
        if isinstance(value, dict):
            value = [value]
        thinking = thinking or text_of(value, f"message.{name}")
    if isinstance(content, list):
        # Typed parts: thinking beside text, as some servers give them.
        for place, part in enumerate(content):
            is_thinking = isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")
            said = text_of([part], f"message.content[{place}]")
            thinking, parts = (thinking + said, parts) if is_thinking else (thinking, [*parts, said])
        text = "".join(parts)
    else:
        text = text_of(content, "message.content")
    refusal = text_of(message.get("refusal"), "message.refusal")
    return thinking, text or refusal, bool(refusal)
