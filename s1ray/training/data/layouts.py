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
`reasoning`, `thinking`) or in front of the answer in the delimiters of `DELIMITERS`, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from s1ray.config import ConfigError
from s1ray.schemas import question_id
from s1ray.training.data.conversations import Conversation, Message, Role, calls_of, parsed
from s1ray.training.data.rendered import leaves

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

CUT = ("length", "max_tokens")
"""Finish reasons of answers that a limit cut."""


class MalformedError(ValueError):
    """A row that is no conversation; says why."""


def recognise(
    columns: Collection[str], origin: str, there: Collection[str], renamed: Mapping[str, str] | None = None
) -> Reader:
    """How to read rows with these columns.

    Args:
        columns: under the names that are known here.
        origin: where they come from, for messages.
        there: all columns under their own names, for messages.
        renamed: name known here -> own name, where the config gives one.

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
    names = {theirs: f"{theirs} (read as {ours})" for ours, theirs in (renamed or {}).items()}
    shown = ", ".join(names.get(column, column) for column in sorted(there))
    raise ConfigError(
        f"{origin}: has the columns {shown or '(none)'}, which are none of the known ones: question "
        "with thinking and attempt; s1K's and s1K-1.1's; messages or conversations; prompt and completion. Name yours "
        "with columns: {question: ..., thinking: ..., attempt: ...}, or {messages: ...}"
        + ("; those that it leaves out are not read" if renamed else "")
    )


def conversation_of(record: Record, reader: Reader, number: Callable[[str], int]) -> Conversation:
    """A row as a conversation.

    Args:
        number: how many rows with a question came before, by the question's id.

    Raises:
        MalformedError: it is none.
    """
    messages, tools = reader(record)
    if record.get("label") is False:
        messages = [replace(message, trained=message.role != "assistant") for message in messages]
    _check_texts(record, messages, tools)
    first = next((message.content for message in messages if message.role == "user"), "")
    group = str(record.get("question_id") or question_id(first))
    name = record.get("id")
    return Conversation(
        id=f"{group}-{number(group)}" if name is None or name == "" else str(name),
        group=group,
        messages=messages,
        tools=tools,
        cut=str(record.get("finish_reason")).lower() in CUT,
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


def divide(thinking: str, text: str) -> tuple[str, str]:
    """Thinking and answer, where thinking stands in a field of its own or in front of the answer, but not in both.

    Raises:
        MalformedError: delimiters are left.
    """
    if not thinking.strip():
        thinking, text = split_thinking(text)
    for start, end in (*DELIMITERS, SOLUTION):
        _, opened, rest = thinking.partition(start)
        if (opened and end in rest + text) or thinking.strip().startswith(start) or thinking.strip().endswith(end):
            raise MalformedError(f"the thinking contains the delimiter {start if opened else end!r}")
        if end in text:
            raise MalformedError(
                f"the answer contains the delimiter {end!r}; thinking stands in front of the answer, once, or in a "
                "field of its own"
            )
    return thinking, text


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
    thought, answer = divide(thought, answer)
    messages = [Message("user", _text(record, question)), Message("assistant", answer, thought)]
    return _with_system(record, messages), _tools(record)


def _completion(record: Record) -> Any:
    prompt, completion = (
        _from_json(record.get(name)) if isinstance(record.get(name), str) else record.get(name)
        for name in ("prompt", "completion")
    )
    asked = [Message("user", prompt)] if isinstance(prompt, str) else _messages(prompt, "prompt")
    if isinstance(completion, str):
        thought, answer = divide("", completion)
        return _with_system(record, [*asked, Message("assistant", answer, thought)]), _tools(record)
    return _with_system(record, [*asked, *_messages(completion, "completion")]), _tools(record)


def _chat(record: Record, value: object) -> Any:
    return _with_system(record, _messages(_from_json(value), "the conversation")), _tools(record)


def _with_system(record: Record, messages: list[Message]) -> list[Message]:
    system = _as_text(record["system"], "system") if record.get("system") is not None else ""
    if not system.strip() or (messages and messages[0].role == "system"):
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
    is_call = str(name).lower() in ("function_call", "tool_call")
    try:
        calls = calls_of(text if is_call else entry.get("tool_calls"))
        former = calls_of(entry.get("function_call"))
    except ValueError as error:
        raise MalformedError(f"a tool call cannot be read: {error}") from error
    if calls and former:
        raise MalformedError("a message has both tool_calls and function_call")
    if is_call:
        if not calls:
            raise MalformedError(f"a message of {name!r} has no tool call")
        text = ""
    if role != "assistant":
        if calls or former:
            raise MalformedError(f"a message of the {role} has tool calls")
        return Message(role, text, others={k: str(entry[k]) for k in ("name", "tool_call_id") if entry.get(k)})
    thinking, answer = divide(_thinking(entry), text)
    return Message(role, answer, thinking, calls or former, trained=_is_trained(entry))


def _thinking(entry: Record) -> str:
    """The text of the field that holds the thinking; the same text may be in several."""
    texts = [_as_text(entry[key], key) for key in THINKING_KEYS if entry.get(key) is not None]
    given = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(given) > 1:
        raise MalformedError(f"a message has different texts in {', '.join(k for k in THINKING_KEYS if entry.get(k))}")
    return given[0] if given else ""


def _is_trained(entry: Record) -> bool:
    """Whether an assistant's message is trained: its weight (OpenAI's files) is 0 or 1."""
    weight = entry.get("weight")
    if weight not in (None, 0, 1):
        raise MalformedError(f"a message has the weight {weight!r:.60}; it is 0 or 1")
    return weight != 0


def _tools(record: Record) -> list[Mapping[str, Any]]:
    value = record.get("tools") or record.get("functions")
    try:
        tools = parsed(value) or []
    except ValueError as error:
        raise MalformedError(f"tools cannot be read: {error}") from error
    if isinstance(tools, Mapping):
        tools = [tools]
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise MalformedError(f"tools is no list of definitions, but {value!r:.60}")
    found = [
        tool if "function" in tool else {"type": "function", "function": {k: tool[k] for k in tool if k != "type"}}
        for tool in tools
    ]
    for tool in found:
        if not isinstance(tool["function"], Mapping) or not isinstance(tool["function"].get("name"), str):
            raise MalformedError(f"a tool's definition has no name: {tool!r:.60}")
    return found


def _check_texts(record: Record, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> None:
    """Refuse halves of surrogate pairs, which JSON can hold and no file or tokenizer can."""
    for what, text in _named_texts(record, messages, tools):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise MalformedError(f"{what} contains {half!r}, half of a surrogate pair, which is no text") from None


def _named_texts(
    record: Record, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    yield from ((key, str(record.get(key) or "")) for key in ("id", "question_id"))
    for message in messages:
        yield f"a message of the {message.role}", message.content
        yield f"the thinking of the {message.role}", message.thinking
        yield from (("a tool call", leaf) for leaf in leaves(message.tool_calls) if isinstance(leaf, str))
        yield from ((f"{key} of a message", text) for key, text in message.others.items())
    yield from (("a tool's definition", leaf) for leaf in leaves(tools) if isinstance(leaf, str))


def _text(record: Record, column: str) -> str:
    return _as_text(record.get(column), column)


def _as_text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        return "".join(str(part.get("text") or "") for part in value)
    raise MalformedError(f"{what} is no text, but {value!r:.60}")


def _from_json(value: object) -> object:
    """Messages may be stored as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        # Otherwise it is a text that looks like a list.
        return found if found and all(isinstance(entry, Mapping) for entry in found) else value
    return value
