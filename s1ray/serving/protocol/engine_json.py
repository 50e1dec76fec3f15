"""The JSON of an engine's responses and of the events of its streams, as far as it is read here: OpenAI's, as vLLM
writes it.
"""

from __future__ import annotations

from typing import TypedDict

from pydantic import JsonValue


class FunctionCall(TypedDict, total=False):
    """A tool's name and its input, of a stream in parts."""

    name: str | None
    arguments: str | None


class ToolCall(TypedDict, total=False):
    """A call of a tool."""

    index: int
    id: str | None
    function: FunctionCall | None


class Message(TypedDict, total=False):
    """What the model says: a chat's message, or a stream's next part of one."""

    role: str
    content: str | None
    reasoning: str | None
    reasoning_content: str | None
    tool_calls: list[ToolCall] | None


class Choice(TypedDict, total=False):
    """One response to a prompt, or its next part."""

    index: int
    message: Message
    delta: Message
    text: str
    finish_reason: str | None
    stop_reason: int | str | None
    token_ids: list[int] | None
    prompt_token_ids: list[int] | None
    logprobs: object
    thinking: dict[str, JsonValue]
    """Ours: the accounting."""


class Usage(TypedDict, total=False):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int | None
    total_tokens: int
    prompt_tokens_details: dict[str, int | None] | None
    completion_tokens_details: dict[str, int]


class Error(TypedDict, total=False):
    """A failure."""

    message: str
    type: str | None
    param: str | None
    code: int | None


class EngineJson(TypedDict, total=False):
    """A whole response, or one event of a stream."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None
    prompt_token_ids: list[int] | None
    error: Error
