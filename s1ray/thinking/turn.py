"""The thinking of a turn: all that the assistant has thought since the user last wrote, in requests with tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from s1ray.thinking.format import ThinkingFormat

THINKING_FIELDS = ("reasoning", "reasoning_content", "thinking")
"""Fields of an assistant's message that hold its thinking, by the names that clients use."""


def turn_thinking(messages: Sequence[Mapping[str, object]], fmt: ThinkingFormat) -> Iterator[str]:
    """The thinking that a chat's messages carry, since the last one of the user.

    Args:
        messages: the chat, oldest first; an assistant's message has its thinking in a field of its own, in content
            parts of type "thinking" or "reasoning", or in its text, between the format's delimiters.
        fmt: the model's.
    """
    for message in reversed(messages):
        role = message.get("role")
        if role == "user":
            return
        if role == "assistant":
            yield from _thinking_of(message, fmt)


def _thinking_of(message: Mapping[str, object], fmt: ThinkingFormat) -> Iterator[str]:
    for name in THINKING_FIELDS:
        value = message.get(name)
        if isinstance(value, str) and value:
            yield value
            return  # other names repeat it
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        if part.get("type") in ("thinking", "reasoning"):
            text = part.get("thinking") or part.get("reasoning") or part.get("text")
            yield from (value for value in (text,) if isinstance(value, str))
        elif isinstance(text := part.get("text"), str) and fmt.end in text:
            yield fmt.split(text)[0]
