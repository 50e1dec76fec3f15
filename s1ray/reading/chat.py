"""Conversations as data sets have them: messages with role and content, or with from and value (ShareGPT)."""

from __future__ import annotations

from collections.abc import Sequence

from s1ray.reading.items import Unusable

ROLES = ("system", "user", "assistant")
_SYNONYMS = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "developer": "system"}


def message_of(messages: object, role: str, column: str) -> str | None:
    """One message of a conversation.

    Args:
        messages: the conversation.
        role: "system": its first system prompt; "user": its first question; "assistant": the last message before the
            user writes again, so tools may have been called in between.
        column: for messages.

    Raises:
        Unusable: it is no conversation.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise Unusable("wrong type", f"column {column!r} is no list of messages")
    turns = [_turn(message, column) for message in messages]
    if role == "system":
        return next((text for speaker, text in turns if speaker == "system"), None)
    users = [place for place, (speaker, _) in enumerate(turns) if speaker == "user"]
    if not users:
        return None
    if role == "user":
        return turns[users[0]][1]
    end = users[1] if len(users) > 1 else len(turns)
    replies = [text for speaker, text in turns[users[0] + 1 : end] if speaker == "assistant"]
    return replies[-1] if replies else None


def _turn(message: object, column: str) -> tuple[str, str | None]:
    if not isinstance(message, dict):
        raise Unusable("wrong type", f"column {column!r}: a message is a {type(message).__name__}, not an object")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str):
        raise Unusable("wrong type", f"column {column!r}: a message has no role")
    if isinstance(content, list):
        content = "".join(_part(part, column) for part in content)
    return _SYNONYMS.get(role.lower(), role.lower()), content if isinstance(content, str) else None


def _part(part: object, column: str) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else None
        raise Unusable("not text", f"column {column!r}: a message holds {kind or 'something else'}")
    return text
