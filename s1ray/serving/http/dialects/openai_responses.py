"""OpenAI's Responses API, as far as it needs nothing stored: each request brings its whole conversation.

A response is a chat completion in other words: requests become chat requests, and what comes of them is made of a
chat's (`openai_responses_output.py`). The accounting of the thinking is the response's field `thinking`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from s1ray.serving.http.dialects import openai_responses_output as output
from s1ray.serving.http.dialects.base import Dialect, Events, Route, ThinkingRequest
from s1ray.serving.http.dialects.openai_chat import ChatRequest
from s1ray.serving.http.errors import RefusedError, json_response
from s1ray.serving.protocol.aliases import ALIASES, is_unknown
from s1ray.serving.protocol.engine_json import EngineJson

Json = dict[str, JsonValue]

STATELESS = "nothing is stored here; send the whole conversation as `input`"
NO_PLACE = "a response has no place for it here; use /v1/chat/completions"

UNSUPPORTED = {
    "previous_response_id": STATELESS,
    "conversation": STATELESS,
    "prompt": "no prompt templates are stored here; send `instructions` and `input`",
    "background": "responses are not stored, so none is made in the background; leave it out, and stream",
    "context_management": "conversations are not compacted here; leave it out",
    "moderation": "there is no moderation here; leave it out",
    "top_logprobs": NO_PLACE,
    "logprobs": NO_PLACE,
    "prompt_logprobs": NO_PLACE,
    "return_token_ids": NO_PLACE,
    "messages": "is a field of /v1/chat/completions; give `input`",
    "max_tokens": "is a field of /v1/chat/completions; give `max_output_tokens`",
    "max_completion_tokens": "is a field of /v1/chat/completions; give `max_output_tokens`",
    "response_format": "is a field of /v1/chat/completions; give `text.format`",
}
"""Fields that are refused unless they are empty, 0 or false, and why."""

PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
}
"""Fields of a chat completion to which the Responses API gives another name."""

REASONING_DEFAULTS = {"context": "auto", "mode": "standard"}
"""Fields of `reasoning` that have no other value here."""

TEXT_PARTS = ("input_text", "output_text", "text")

ROLES = ("user", "assistant", "system", "developer")


class TextFormat(BaseModel):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = "response"
    description: str | None = None
    schema_: Json | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextConfig(BaseModel):
    """`text`."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    """Accepted; it changes nothing."""


class ResponsesRequest(ThinkingRequest):
    """A request of the Responses API with our parameters. vLLM's own sampling parameters work as in a chat."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: str | list[Json]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = False
    stream_options: Json | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    store: bool | None = None
    """Accepted, but nothing is stored."""
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """Accepted, but a conversation that is too long is refused and never cut."""


class _Responses(Route[ResponsesRequest]):
    def to_engine(self, body: ResponsesRequest) -> ChatRequest:
        return ChatRequest.model_validate(_to_chat(body))

    def response(self, body: ResponsesRequest, whole: BaseModel) -> Response:
        chat: EngineJson = whole.model_dump(mode="json")  # type: ignore[assignment]  # vLLM's chat completion
        return json_response(output.response(chat, _shown(body), summarized=_summary(body) is not None))

    def stream(self, body: ResponsesRequest) -> Events:
        stream = output.ResponseStream(_shown(body), summarized=_summary(body) is not None)
        return lambda events: "".join(map(stream.rewrite, events))


class _InputTokens(_Responses):
    def response(self, body: ResponsesRequest, whole: BaseModel) -> Response:
        return json_response({"object": "response.input_tokens", "input_tokens": whole.model_dump()["count"]})


class OpenAIResponses(Dialect):
    """`/v1/responses` and `/v1/responses/input_tokens`."""

    routes = (
        _Responses("/v1/responses", "chat", ResponsesRequest),
        _InputTokens("/v1/responses/input_tokens", "count_tokens", ResponsesRequest),
    )

    def error(self, error: RefusedError) -> Mapping[str, JsonValue]:
        """OpenAI's form, with this API's names of fields."""
        param = PARAMS.get(error.param, error.param) if error.param else error.param
        return RefusedError(error.status, error.message, param=param, kind=error.kind).body()


def _refuse(field: str, problem: str) -> NoReturn:
    raise RefusedError(400, f"{field}: {problem}", param=field)


def _to_chat(body: ResponsesRequest) -> dict[str, object]:
    """The fields of the chat completion request.

    Raises:
        RefusedError: a field is wrong, or not supported.
    """
    extra = body.model_extra or {}
    for name, why in UNSUPPORTED.items():
        if extra.get(name):
            _refuse(name, why)
    if extra.get("n") not in (None, 1):
        _refuse("n", "there is one response to a request; send several requests")
    if "message.output_text.logprobs" in (body.include or ()):
        _refuse("include", f"message.output_text.logprobs: {NO_PLACE}")
    fields = {name: value for name, value in extra.items() if name in ChatRequest.model_fields or is_unknown(name)}
    fields |= {name: getattr(body, name, None) for name in {*ALIASES, *ThinkingRequest.model_fields}}
    fields |= {
        "model": body.model,
        "messages": _messages(body),
        "stream": bool(body.stream),
        "stream_options": {"include_usage": True} if body.stream else None,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "user": body.user,
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning": _reasoning(body.reasoning),
        "response_format": _response_format(body),
        **_tools(body),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _reasoning(given: object) -> object:
    """`reasoning` without the fields of which there is only one value here."""
    if not isinstance(given, dict):
        return given
    for name, default in REASONING_DEFAULTS.items():
        if given.get(name) not in (None, default):
            _refuse(f"reasoning.{name}", f"{given[name]!r} is not supported, only {default!r} is")
    return {name: value for name, value in given.items() if name not in REASONING_DEFAULTS}


def _summary(body: ResponsesRequest) -> JsonValue:
    """The kind of summary that is asked for. All kinds are the thinking itself."""
    given = body.reasoning if isinstance(body.reasoning, dict) else {}
    kind: JsonValue = given.get("summary") or given.get("generate_summary")
    return None if kind == "none" else kind


def _response_format(body: ResponsesRequest) -> Json | None:
    wanted = body.text.format if body.text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    if wanted.schema_ is None:
        _refuse("text.format.schema", "is missing")
    schema: Json = {"name": wanted.name, "schema": wanted.schema_}
    optional = {"description": wanted.description, "strict": wanted.strict}
    schema |= {name: value for name, value in optional.items() if value is not None}
    return {"type": "json_schema", "json_schema": schema}


def _tools(body: ResponsesRequest) -> dict[str, object]:
    tools = []
    for index, tool in enumerate(body.tools or ()):
        where = f"tools.{index}"
        if tool.get("type") != "function":
            _refuse(f"{where}.type", f"{tool.get('type')!r} is not supported; only functions of the client's own are")
        if not isinstance(tool.get("name"), str):
            _refuse(f"{where}.name", "must be a string")
        known = ("name", "description", "parameters", "strict")
        function = {name: tool[name] for name in known if tool.get(name) is not None}
        tools.append({"type": "function", "function": function})
    choice = body.tool_choice
    if isinstance(choice, dict):
        if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
            _refuse("tool_choice", 'must be "none", "auto", "required", or {"type": "function", "name": ...}')
        choice = {"type": "function", "function": {"name": choice["name"]}}
    if tools:
        return {"tools": tools, "tool_choice": choice or "auto"}
    # Clients send these with every request.
    return {"tool_choice": None if choice in ("auto", "none") else choice}


def _messages(body: ResponsesRequest) -> list[dict[str, Any]]:
    """The conversation as a chat's messages."""
    conversation = _Conversation(body.instructions)
    if isinstance(body.input, str):
        conversation.messages.append({"role": "user", "content": body.input})
    else:
        for index, item in enumerate(body.input):
            conversation.add(item, f"input.{index}")
    if not conversation.messages and not conversation.system:
        _refuse("input", "is empty; give a text or a list of items")
    # Chat templates want a system message to come first.
    system = [{"role": "system", "content": "\n\n".join(conversation.system)}] if conversation.system else []
    return system + conversation.messages


class _Conversation:
    """Collects a chat's messages from items; one message of the assistant may be several items."""

    def __init__(self, instructions: str | None) -> None:
        self.system = [instructions] if instructions else []
        self.messages: list[dict[str, Any]] = []

    def add(self, item: Json, where: str) -> None:
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            self._message(item, where)
        elif kind == "reasoning":
            # What another server has encrypted cannot be read, and is left out.
            parts = item.get("content") or item.get("summary") or []
            if text := _text(parts, f"{where}.content", ("reasoning_text", "summary_text", "text"), ""):
                self._assistant("content", "tool_calls", "reasoning")["reasoning"] = text
        elif kind == "function_call":
            call_id, name, arguments = (_string(item, field, where) for field in ("call_id", "name", "arguments"))
            try:
                json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                _refuse(f"{where}.arguments", "are no JSON; leave out calls that were cut off")
            call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            self._assistant().setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            content = _text(item.get("output"), f"{where}.output", TEXT_PARTS, "\n")
            call_id = _string(item, "call_id", where)
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        else:
            known = "message, reasoning, function_call and function_call_output"
            _refuse(f"{where}.type", f"{kind!r} is not supported; items are {known}")

    def _message(self, item: Json, where: str) -> None:
        role = item.get("role")
        if role not in ROLES:
            _refuse(f"{where}.role", f"must be one of {', '.join(ROLES)}, not {role!r}")
        if role == "assistant":
            text = _text(item.get("content"), f"{where}.content", (*TEXT_PARTS, "refusal"), "")
            self._assistant("content", "tool_calls")["content"] = text
            return
        text = _text(item.get("content"), f"{where}.content", TEXT_PARTS, "\n")
        if role == "user":
            self.messages.append({"role": "user", "content": text})
        else:
            self.system.append(text)

    def _assistant(self, *unless: str) -> dict[str, Any]:
        """The assistant's message that goes on; a new one where the last is not its own, or has one of these fields."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or any(field in last for field in unless):
            last = {"role": "assistant"}
            self.messages.append(last)
        return last


def _text(content: JsonValue, where: str, kinds: tuple[str, ...], separator: str) -> str:
    """The text of a string, or of a list of parts of these types."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _refuse(where, "must be a string or a list of parts")
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            _refuse(f"{where}.{index}", "must be an object")
        if part.get("type") not in kinds:
            _refuse(
                f"{where}.{index}.type", f"{part.get('type')!r} is not supported; only text ({', '.join(kinds)}) is"
            )
        texts.append(_string(part, "refusal" if part["type"] == "refusal" else "text", f"{where}.{index}"))
    return separator.join(texts)


def _string(item: Json, field: str, where: str) -> str:
    value = item.get(field)
    if not isinstance(value, str):
        _refuse(f"{where}.{field}", "must be a string")
    return value


def _shown(body: ResponsesRequest) -> Json:
    """The request's fields that its response repeats."""
    reasoning = body.reasoning if isinstance(body.reasoning, dict) else {}
    text = (body.text.format if body.text is not None else None) or TextFormat()
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": dict(body.metadata or {}),
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {
            "effort": reasoning.get("effort") or body.reasoning_effort,
            "summary": _summary(body),
        },
        "store": False,
        "temperature": body.temperature,
        "text": {"format": text.model_dump(by_alias=True, exclude_unset=True) | {"type": text.type}},
        "tool_choice": body.tool_choice or "auto",
        "tools": list(body.tools or ()),
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }
