"""Rows as people have them, told apart by their columns, as conversations.

| columns | whose |
|---|---|
| question, thinking, attempt | s1ray's traces, and rows like them |
| question, deepseek_thinking_trajectory, deepseek_attempt | s1K-1.1 |
| question, thinking_trajectories, attempt | s1K |
| question, gemini_thinking_trajectory, gemini_attempt | s1K-1.1 without R1's traces |
| messages, conversations or conversation | chats (role and content, or from and value), with system and tools |
| prompt, completion | texts, or lists of messages |
| question, attempt | texts whose thinking is within the attempt |

Other columns are named in the config (`columns`). Thinking may stand in a field of its own (`reasoning_content`,
`reasoning`, `thinking`) or in front of the answer in the delimiters of `DELIMITERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from s1ray.config import ConfigError
from s1ray.schemas import question_id
from s1ray.training.data.conversations import Conversation, Message, Role, calls_of

Record = Mapping[str, Any]
Reader = Callable[[Record], "tuple[list[Message], Sequence[Mapping[str, Any]]]"]
"""Messages and tools of a row."""

DELIMITERS = (
    ("<think>", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|im_start|>think", "<|im_start|>answer"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
"""Around the thinking within an assistant's text, in published data."""
SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
"""Around the answer, where there is <|begin_of_thought|>."""
THINKING_KEYS = ("reasoning_content", "reasoning", "thinking")
CHATS = ("messages", "conversations", "conversation")
ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
}
"""Names of roles in published data."""


class MalformedError(ValueError):
    """A row that is no conversation; says why."""


def recognise(columns: Collection[str], origin: str) -> Reader:
    """How to read rows with these columns.

    Raises:
        ConfigError: in no way that is known.
    """
    have = set(columns)
    for thinking, attempt in (
        ("thinking", "attempt"),
        ("deepseek_thinking_trajectory", "deepseek_attempt"),
        ("thinking_trajectories", "attempt"),
        ("gemini_thinking_trajectory", "gemini_attempt"),
    ):
        if {"question", thinking, attempt} <= have:
            return lambda record: _single(record, "question", thinking, attempt)
    for column in CHATS:
        if column in have:
            return lambda record: _chat(record, record.get(column))
    if {"prompt", "completion"} <= have:
        return _completion
    if {"question", "attempt"} <= have:
        return lambda record: _single(record, "question", None, "attempt")
    raise ConfigError(
        f"{origin}: has the columns {', '.join(sorted(have)) or '(none)'}, which are none of the known ones: question "
        "with thinking and attempt; s1K's and s1K-1.1's; messages or conversations; prompt and completion. Name yours "
        "with columns: {question: ..., thinking: ..., attempt: ...}, or {messages: ...}"
    )


def conversation_of(record: Record, reader: Reader, number: Callable[[str], int]) -> Conversation:
    """A row as a conversation.

    Args:
        number: how many rows with a question came before, by the question's id.

    Raises:
        MalformedError: it is none.
    """
    messages, tools = reader(record)
    first = next((message.content for message in messages if message.role == "user"), "")
    group = str(record.get("question_id") or question_id(first))
    name = record.get("id")
    return Conversation(
        id=f"{group}-{number(group)}" if name is None or name == "" else str(name),
        group=group,
        messages=messages,
        tools=tools,
        cut=record.get("finish_reason") == "length",
    )


def split_thinking(text: str) -> tuple[str, str]:
    """Thinking and answer of an assistant's text; the thinking is empty where no delimiter is known.

    Raises:
        MalformedError: the thinking does not end, or there are two.
    """
    for start, end in DELIMITERS:
        begins = text.lstrip().startswith(start)
        if not begins and (end not in text or start in text):
            continue  # A text may begin within the thinking that its template has opened.
        thinking, found, answer = text.lstrip().removeprefix(start).partition(end)
        if not found:
            raise MalformedError(f"the thinking begins with {start!r} but does not end with {end!r}")
        for marker in SOLUTION if start == "<|begin_of_thought|>" else ():
            answer = answer.replace(marker, "")
        return thinking.strip(), answer.strip()
    return "", text


def _single(record: Record, question: str, thinking: str | None, attempt: str) -> Any:
    thought, answer = "", _text(record, attempt)
    if thinking is not None:
        value = record.get(thinking)
        if isinstance(value, Sequence) and not isinstance(value, str):
            # s1K has a list of one.
            if len(value) != 1:
                raise MalformedError(f"{thinking} has {len(value)} texts; a row has one")
            value = value[0]
        thought = _as_text(value, thinking)
    else:
        thought, answer = split_thinking(answer)
    return _with_system(record, [Message("user", _text(record, question)), Message("assistant", answer, thought)]), ()


def _completion(record: Record) -> Any:
    prompt, completion = (
        _from_json(record.get(name)) if isinstance(record.get(name), str) else record.get(name)
        for name in ("prompt", "completion")
    )
    asked = [Message("user", prompt)] if isinstance(prompt, str) else _messages(prompt, "prompt")
    if isinstance(completion, str):
        thought, answer = split_thinking(completion)
        return _with_system(record, [*asked, Message("assistant", answer, thought)]), _tools(record)
    return _with_system(record, [*asked, *_messages(completion, "completion")]), _tools(record)


def _chat(record: Record, value: object) -> Any:
    return _with_system(record, _messages(_from_json(value), "the conversation")), _tools(record)


def _with_system(record: Record, messages: list[Message]) -> list[Message]:
    system = record.get("system")
    if not isinstance(system, str) or not system.strip() or (messages and messages[0].role == "system"):
        return messages
    return [Message("system", system), *messages]


def _messages(value: object, what: str) -> list[Message]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise MalformedError(f"{what} is no list of messages, but {value!r:.60}")
    return [_message(entry) for entry in value]


def _message(entry: object) -> Message:
    if not isinstance(entry, Mapping):
        raise MalformedError(f"a message is no mapping, but {entry!r:.60}")
    name = entry.get("role") or entry.get("from")
    role = ROLES.get(str(name).lower())
    if role is None:
        raise MalformedError(f"a message has the role {name!r}; known are {', '.join(ROLES)}")
    content = entry.get("content") if entry.get("content") is not None else entry.get("value")
    text = _as_text("" if content is None else content, "content")
    try:
        if str(name).lower() in ("function_call", "tool_call"):
            called = json.loads(text)
            return Message("assistant", tool_calls=calls_of(_pruned(called if isinstance(called, list) else [called])))
        calls = calls_of(_pruned(_from_json(entry.get("tool_calls"))))
    except ValueError as error:
        raise MalformedError(f"a tool call cannot be read: {error}") from error
    if role != "assistant":
        return Message(role, text, others={k: entry[k] for k in ("name", "tool_call_id") if entry.get(k)})
    thinking = next((str(entry[key]) for key in THINKING_KEYS if entry.get(key)), "")
    if not thinking:
        thinking, text = split_thinking(text)
    return Message(role, text, thinking, calls)


def _tools(record: Record) -> list[Mapping[str, Any]]:
    tools = _pruned(_from_json(record.get("tools")))
    if tools is None or tools == "":
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise MalformedError(f"tools is no list of definitions, but {tools!r:.60}")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _text(record: Record, column: str) -> str:
    return _as_text(record.get(column), column)


def _as_text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        return "".join(str(part.get("text") or "") for part in value)
    raise MalformedError(f"{what} is no text, but {value!r:.60}")


def _from_json(value: object) -> object:
    """Lists may be stored as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        # Otherwise it is a text that looks like a list.
        return parsed if all(isinstance(entry, Mapping) for entry in parsed) else value
    return value


def _pruned(value: Any) -> Any:
    """Without the nulls that Parquet puts where only other rows have a key."""
    if isinstance(value, Mapping):
        return {key: _pruned(entry) for key, entry in value.items() if entry is not None}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value
