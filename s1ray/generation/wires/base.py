"""What every wire format does: write a request, and read an answer.

    body = wire.body(request, "some-model", {})
    answer = ...  # POST base_url + wire.path(request), with wire.headers(key); or one line of a provider's batch
    completion = wire.completion(request, answer, None)

Answers are a stranger's: whatever is in them gives a completion or an UnusableError, and never anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from s1ray.errors import InputError
from s1ray.generation.answers import UnusableError, mapping, storable, whole
from s1ray.generation.base import GenerationRequest, Usage
from s1ray.schemas import Completion
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.format import ThinkingFormat

MAX_TOKENS = 2**31 - 1
"""Of an answer that a request may ask for: servers read 32 bits."""


class Wire(Protocol):
    """A wire format. Instances hold settings of the format at most, and nothing of one request."""

    limits: ClassVar[tuple[str, ...]]
    """Fields of a request that limit its answer, in tokens."""

    def path(self, request: GenerationRequest) -> str:
        """Where a request goes, behind the base address (which ends in `/v1`)."""

    def headers(self, api_key: str | None) -> dict[str, str]:
        """Headers of every call, besides the content's type.

        Args:
            api_key: None: no key is sent.
        """

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """The request as a JSON object.

        Args:
            request: what to ask.
            model: its name there.
            extra: further fields, which win over the request's.

        Raises:
            InputError: the API has no way to say what the request asks for, or refuses it for certain.
        """

    def json_answers(self, schema: Mapping[str, object]) -> dict[str, Any]:
        """Fields of a request that make its answer JSON of a schema.

        Args:
            schema: every object in it says that it has all of its properties, and no others.
        """

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """What an answer says.

        Args:
            request: what was asked.
            answer: the body of a response, as a JSON object.
            thinking_format: splits thinking from answer where both come in one text. None: such a text is all answer.

        Raises:
            UnusableError: the answer is of no use, or tells of an error.
        """

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """The provider's count of tokens. None: there is none, or none that can be read."""


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries a key in OpenAI's formats."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def named_schema(schema: Mapping[str, object]) -> dict[str, Any]:
    """A schema as OpenAI's formats have it; `strict` ones are kept to token by token."""
    return {"name": "answer", "strict": True, "schema": dict(schema)}


def merged(body: Mapping[str, Any], extra: Mapping[str, object]) -> dict[str, Any]:
    """A body with further fields, which win; an object within it is merged, not replaced."""
    result = dict(body)
    for name, value in extra.items():
        own = result.get(name)
        result[name] = merged(own, value) if isinstance(own, dict) and isinstance(value, Mapping) else value
    return result


def answer_limit(wire: Wire, body: Mapping[str, Any]) -> int | None:
    """Tokens that an answer can have at most. None: it is not limited.

    Of two fields it is the larger, as servers differ in which one they heed.

    Args:
        wire: the format.
        body: a request in it.

    Raises:
        InputError: a field that limits the answer holds no whole number from 1 to `MAX_TOKENS`.
    """
    given = {name: body[name] for name in wire.limits if body.get(name) is not None}
    for name, value in given.items():
        if type(value) is not int or not 1 <= value <= MAX_TOKENS:
            raise InputError(f"{name}: must be a whole number from 1 to {MAX_TOKENS:,}, got {value!r:.40}")
    return max(given.values(), default=None)


def counted(answer: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Usage]) -> Usage | None:
    """What the object `usage` of an answer says. None: nothing that can be read.

    An answer is paid for and of use, whatever stands where its count belongs.

    Args:
        answer: the body of a response.
        read: makes a count of the object; raises UnusableError where it cannot.
    """
    try:
        usage = mapping(answer.get("usage"), "usage")
        return read(usage) if usage else None
    except UnusableError:
        return None


def details_of(usage: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """An object of further counts within a usage; an empty list, as some languages write an empty object, is one.

    Raises:
        UnusableError: it is something else.
    """
    return mapping(usage.get(field) or None, field)


def usage_of(
    *, prompt: int, cached: int, cache_write: int, completion: int, reasoning: int | None, total: int
) -> Usage:
    """A count in which the prompt's tokens and the completion's are all of them, whatever a server says.

    Args:
        prompt: cached ones included.
        cached: of the prompt.
        cache_write: of the prompt.
        completion: reasoning included. Some providers (xAI, Gemini) leave it out here, and not in the total.
        reasoning: None: not said.
        total: of prompt and completion. 0: not said.
    """
    cached = min(prompt, cached)
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=max(completion, total - prompt),
        reasoning_tokens=reasoning,
        cache_write_tokens=min(prompt - cached, cache_write),
    )


def optional(value: object, field: str) -> int | None:
    """A count that may be left out.

    Raises:
        UnusableError: it is no whole number, or negative.
    """
    return None if value is None else whole(value, field)


def listed(value: object, field: str) -> list[Mapping[str, Any]]:
    """A list of objects; None is an empty one.

    Raises:
        UnusableError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnusableError(f"{field} is no list")
    return [mapping(item, f"{field}[{place}]") for place, item in enumerate(value)]


def word(value: object, field: str) -> str | None:
    """A word of the provider's (a reason, a version). None: it is none, or empty.

    Raises:
        UnusableError: UTF-8 cannot hold it.
    """
    return storable(value, field) if isinstance(value, str) and value else None


def completion_of(
    request: GenerationRequest,
    texts: tuple[str, str],
    usage: Usage | None,
    *,
    finish_reason: str,
    raw_finish_reason: str | None,
    model_version: str | None,
    thinking_format: ThinkingFormat | None,
) -> Completion:
    """What providers without an accounting of their own in the answer tell.

    Args:
        request: what was asked.
        texts: thinking and answer.
        usage: the provider's count. None: there is none.
        finish_reason: in our words.
        raw_finish_reason: in the provider's.
        model_version: what has answered.
        thinking_format: splits the answer where there is no thinking apart.
    """
    thinking, answer = texts
    if not thinking and thinking_format is not None:
        thinking, answer = thinking_format.split(answer)
    said = usage or Usage()
    reasoning = said.reasoning_tokens or 0
    return Completion(
        id=request.id,
        thinking=thinking,
        answer=answer,
        prompt_tokens=said.prompt_tokens,
        thinking_tokens=reasoning,
        answer_tokens=max(0, said.completion_tokens - reasoning),
        answer_cut=finish_reason == "length",
        finish_reason=finish_reason,
        cached_tokens=said.cached_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        model_version=model_version,
        raw_finish_reason=raw_finish_reason,
        thinking_unknown=said.reasoning_tokens is None,
    )


def refusal(request: GenerationRequest, reason: str) -> Completion:
    """What there is of a request that a filter of the provider's does not allow, and that got an error for an answer.

    Args:
        request: what was asked.
        reason: in the provider's words.
    """
    return completion_of(
        request,
        ("", ""),
        None,
        finish_reason="content_filter",
        raw_finish_reason=reason,
        model_version=None,
        thinking_format=None,
    )


def joined(parts: Sequence[str]) -> str:
    """Texts that something else stood between, as paragraphs; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def refuse_unsaid(request: GenerationRequest, api: str, *, top_k: bool, budget: Collection[str]) -> None:
    """Look whether a request asks for what an API has no words for.

    Args:
        request: the request.
        api: its name, for messages.
        top_k: whether it knows `top_k`.
        budget: fields of a budget that it can say.

    Raises:
        InputError: it does; the message names the field.
    """
    if request.messages is None:
        raise InputError(f"prompt_ids: {api} takes messages only")
    if request.strategy is not None:
        raise InputError(f"thinking.strategy: {api} has no such parameter; leave it out")
    for name in ("seed", "top_logprobs") if top_k else ("seed", "top_logprobs", "top_k"):
        if getattr(request, name) is not None:
            raise InputError(f"{name}: {api} has no such parameter; leave it out")
    for name, field in ThinkingBudget.model_fields.items():
        if request.budget is None or name in budget or getattr(request.budget, name) == field.default:
            continue
        raise InputError(f"thinking.{name}: {api} has no such parameter; leave it out, or take a model on vLLM")


def effort_of(request: GenerationRequest) -> str | None:
    """How long to think, in the provider's words. None: not said.

    Raises:
        InputError: it is said twice.
    """
    effort = None if request.budget is None else request.budget.effort
    if effort is not None and request.reasoning_effort is not None:
        raise InputError("reasoning_effort: thinking.effort says the same; leave one of them out")
    return effort or request.reasoning_effort
