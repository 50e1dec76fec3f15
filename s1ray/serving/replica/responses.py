"""Responses on their way out of the replica: counted, and rid of what the client did not ask for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from pydantic import BaseModel
from vllm.entrypoints.serve.engine.protocol import CompletionTokenUsageInfo

from s1ray.serving.protocol.engine_json import Usage
from s1ray.serving.protocol.refusals import FIELD
from s1ray.serving.ray_llm import ChatCompletionResponse, CompletionResponse, ErrorInfo, ErrorResponse
from s1ray.serving.replica.accounting import NO_ROOM, RequestRecord, StreamAccountant
from s1ray.serving.replica.flow import Flow

Responses = AsyncIterator[BaseModel | list[str]]
"""A whole response, or the events of a stream in batches."""


async def accounted(responses: Responses, record: RequestRecord) -> Responses:
    """A whole response with its counts, or the refusal of one that has no room for an answer."""
    async for response in responses:
        if not isinstance(response, ErrorResponse):
            _account(response, record)
            if any(choice.unanswerable for choice in record.choices.values()):
                yield ErrorResponse(error=ErrorInfo(**NO_ROOM))
                continue
        yield response


async def accounted_stream(
    responses: AsyncGenerator[BaseModel | list[str]], record: RequestRecord, flow: Flow
) -> Responses:
    """The events of a stream, with its counts in the last one of each choice."""
    accountant = StreamAccountant(record)
    try:
        # Closed explicitly: an engine works on while its response is open, and garbage collection may come late.
        async with aclosing(responses):
            async for events in responses:
                if isinstance(events, list) and isinstance(events[0], str):
                    rewritten = [text for event in events if (text := accountant.rewrite(event))]
                    if rewritten:
                        flow.sent()
                        yield rewritten
                else:
                    yield events
    finally:
        record.measure()


def _account(response: ChatCompletionResponse | CompletionResponse, record: RequestRecord) -> None:
    """Account for a whole response, chat or completion, in place."""
    shared = getattr(response, "prompt_token_ids", None)
    for choice in response.choices:
        own = getattr(choice, "prompt_token_ids", None)
        followed = record.choice(choice.index, own or shared or ())
        texts = followed.extend(choice.token_ids or ())
        stop_reason = getattr(choice, "stop_reason", None)
        held, choice.finish_reason = followed.finish(choice.finish_reason or "stop", stop_reason)
        setattr(choice, FIELD, followed.report())
        message = getattr(choice, "message", None)
        if message is not None:
            if texts is not None:
                thinking, answer = texts
                message.reasoning, message.content = thinking or None, answer + held or None
            message.reasoning = None if record.hides_thinking else message.reasoning
            message.reasoning_content = message.reasoning
        if record.hides_thinking and hasattr(choice, "logprobs"):
            # They hold the thinking, token by token.
            choice.logprobs = None
        if not record.wants_ids:
            choice.token_ids = None
            if own is not None:
                choice.prompt_token_ids = None
    if shared is not None and not record.wants_ids:
        response.prompt_token_ids = None
    usage = response.usage
    if record.strategy is not None:
        counted: Usage = {"prompt_tokens": usage.prompt_tokens}
        record.count_all(counted)
        usage.completion_tokens, usage.total_tokens = counted["completion_tokens"], counted["total_tokens"]
    usage.completion_tokens_details = CompletionTokenUsageInfo(reasoning_tokens=record.thinking_tokens)
    if usage.prompt_tokens_details is not None:
        # vLLM's count of tokens that were written into the cache is not the same in streams.
        usage.prompt_tokens_details.created_cache_tokens = None
    record.measure()
