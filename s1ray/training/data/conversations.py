"""A conversation to train on: what every kind of row becomes before it is rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from s1ray.schemas import Trace

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Message:
    """One message."""

    role: Role
    content: str = ""
    """The text; of an assistant's message the answer alone."""
    thinking: str = ""
    """What an assistant's message thinks before its answer."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """Calls of an assistant's message, as chat templates take them: {"type": "function", "function": {"name", ...}}."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of a tool's message (name, tool_call_id)."""


@dataclass(frozen=True)
class Conversation:
    """Messages, of which the assistant's are trained."""

    id: str
    group: str
    """What is held out together (the question's id)."""
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    """Definitions for the chat template."""
    cut: bool = False
    """The teacher was cut by its limit."""

    @classmethod
    def of(cls, trace: Trace) -> Conversation:
        """A trace is a question and its answer."""
        answer = Message("assistant", trace.attempt, trace.thinking)
        return cls(
            trace.id, trace.question_id, (Message("user", trace.question), answer), cut=trace.finish_reason == "length"
        )

    @property
    def characters(self) -> int:
        """The length of its texts."""
        return sum(len(message.content) + len(message.thinking) for message in self.messages)


def calls_of(value: object) -> list[dict[str, Any]]:
    """Tool calls as chat templates take them: arguments that are JSON text become objects.

    Raises:
        ValueError: they are no calls.
    """
    calls = []
    for call in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError(f"{call!r:.100} is no tool call")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments or "{}")
        known = {"name": function["name"], "arguments": arguments or {}}
        calls.append({"type": "function", "function": known} | ({"id": call["id"]} if call.get("id") else {}))
    return calls
