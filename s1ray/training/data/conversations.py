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
    others: Mapping[str, str] = field(default_factory=dict)
    """Further keys of a tool's message (name, tool_call_id)."""
    trained: bool = True
    """Of an assistant's message. False: it is history, whatever it thinks."""


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
    """Tool calls as chat templates take them: a list, or a single call, or the JSON of either.

    Raises:
        ValueError: they are no calls.
    """
    found = parsed(value) or []
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError(f"{value!r:.100} is no list of tool calls")
    return [_call_of(call) for call in found]


def parsed(value: object) -> object:
    """Data that may be stored as JSON text; of a blank text nothing.

    Raises:
        ValueError: a text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def _call_of(call: object) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{call!r:.100} is no tool call")
    key = "parameters" if "arguments" not in function and "parameters" in function else "arguments"
    if key not in function and (unknown := set(function) - {"name", "id", "type", "index"}):
        raise ValueError(f"{function!r:.100} has no arguments, but {sorted(map(str, unknown))}")
    arguments = function.get(key)
    for _ in range(2):  # Published data has JSON within JSON.
        arguments = parsed(arguments)
    arguments = {} if arguments is None or arguments == [] else arguments
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of {function['name']!r} are no object, but {arguments!r:.60}")
    known = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return known | ({"id": str(call["id"])} if call.get("id") else {})
