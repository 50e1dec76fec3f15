"""Anthropic's Messages API, with all of `thinking`.

A message is a chat completion in other words: requests become chat requests, responses and streams are rewritten from
those of a chat. The accounting of the thinking is the message's `usage.output_tokens_details`, the one place that
survives in the client's `get_final_message()` of a stream.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, from_json
from starlette.responses import Response
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages

from s1ray.serving.http.dialects.anthropic_unsupported import keeps_thinking, unsupported
from s1ray.serving.http.dialects.base import Dialect, Events, Route, ThinkingRequest, reading
from s1ray.serving.http.dialects.openai_chat import ChatRequest
from s1ray.serving.http.errors import RefusedError, json_response
from s1ray.serving.protocol.aliases import ALIASES, SHOWN, is_unknown
from s1ray.serving.protocol.engine_json import Choice, EngineJson, FunctionCall, Message, Usage
from s1ray.serving.protocol.refusals import FIELD

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

PARAMS = {"stop": "stop_sequences", "response_format": "output_config.format", "max_completion_tokens": "max_tokens"}
"""Fields of a chat completion to which the Messages API gives another name."""


WITHOUT_EFFECT = ("user", "stream_options", "request_id", "session_id", "priority", "service_tier")
"""Fields of a chat completion that may stand in a message's request."""


class _Supported(BaseModel):
    """A request of which nothing is dropped that would change the answer."""

    @model_validator(mode="before")
    @classmethod
    def _check_supported(cls, data: object) -> object:
        for where, problem in unsupported(data) if isinstance(data, dict) else ():
            kind = PydanticCustomError("unsupported", "{problem}", {"problem": problem})
            detail = InitErrorDetails(type=kind, loc=where, input=None)
            raise ValidationError.from_exception_data(cls.__name__, [detail])
        return data


class MessagesRequest(ThinkingRequest, _Supported, AnthropicMessagesRequest):  # type: ignore[misc]  # vLLM is untyped here
    """A request of Anthropic's Messages API with our parameters."""

    model_config = ConfigDict(extra="allow")


class CountTokensRequest(ThinkingRequest, _Supported, AnthropicCountTokensRequest):  # type: ignore[misc]  # vLLM is untyped here
    """A request of Anthropic's token counting. Fields about thinking do not change the count."""


class _Messages(Route[MessagesRequest]):
    silence = 'event: ping\ndata: {"type": "ping"}\n\n'

    def to_engine(self, body: MessagesRequest) -> ChatRequest:
        for name, value in (body.model_extra or {}).items():
            field = ChatRequest.model_fields.get(name)
            if (
                field is not None
                and name not in (*ALIASES, SHOWN, *WITHOUT_EFFECT)
                and value not in (None, field.default)
            ):
                raise RefusedError(400, f"{name}: is a field of /v1/chat/completions; leave it out", param=name)
        chat = _to_chat(body)
        # vLLM has made a `reasoning_effort` of it, which a client would not recognize in an error.
        chat.reasoning_effort = None
        unknown = filter(is_unknown, body.model_extra or {})
        for name in {*ALIASES, SHOWN, *unknown}:
            if (value := getattr(body, name, None)) is not None:
                setattr(chat, name, value)
        if keeps_thinking(getattr(body, "context_management", None)) and isinstance(body.thinking, dict | None):
            chat.thinking = {"keep": "all"} | (body.thinking or {})
        if body.output_config is not None:
            chat.output_config = {"effort": body.output_config.effort}
        return chat

    def response(self, body: MessagesRequest, whole: BaseModel) -> Response:
        chat: EngineJson = whole.model_dump(mode="json")  # type: ignore[assignment]  # vLLM's chat completion
        return json_response(message(chat, omitted=_omits_thinking(body)))

    def stream(self, body: MessagesRequest) -> Events:
        stream = MessageStream(omitted=_omits_thinking(body))
        return lambda events: "".join(map(stream.rewrite, events))


class _CountTokens(Route[CountTokensRequest]):
    def to_engine(self, body: CountTokensRequest) -> ChatRequest:
        return _to_chat(body)

    def response(self, body: CountTokensRequest, whole: BaseModel) -> Response:
        return json_response({"input_tokens": whole.model_dump()["count"]})


class Anthropic(Dialect):
    """`/v1/messages` and `/v1/messages/count_tokens`."""

    routes = (
        _Messages("/v1/messages", "chat", MessagesRequest),
        _CountTokens("/v1/messages/count_tokens", "count_tokens", CountTokensRequest),
    )

    def error(self, error: RefusedError) -> dict[str, JsonValue]:
        """Anthropic's form; `param` is ours."""
        return error_body(error.status, error.message, error.param)


def _omits_thinking(body: MessagesRequest) -> bool:
    """Whether the client wants blocks of thinking without their text."""
    return isinstance(body.thinking, dict) and body.thinking.get("display") == "omitted"


def _to_chat(request: MessagesRequest | CountTokensRequest) -> ChatRequest:
    # Chat templates want a system message to come first.
    convert = AnthropicServingMessages.to_chat_completion_request
    chat = reading(lambda: convert(request, merge_inline_system=True))
    return ChatRequest.model_construct(_fields_set=set(chat.model_fields_set), **dict(chat)).with_lists_read()


def error_body(status: int, message: str, param: str | None = None) -> dict[str, JsonValue]:
    """An error as Anthropic's clients know it; `param` is ours."""
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    param = PARAMS.get(param, param) if param else param
    return {"type": "error", "error": {"type": kind, "message": message, "param": param}}


def message(chat: EngineJson, *, omitted: bool = False) -> dict[str, JsonValue]:
    """A message from a chat completion's JSON.

    Args:
        chat: the chat completion, with one choice.
        omitted: blocks of thinking have no text (`display: "omitted"`).
    """
    choice = chat["choices"][0]
    said = choice["message"]
    blocks: list[JsonValue] = []
    if said.get("reasoning") or (omitted and _thought(choice)):
        blocks.append({"type": "thinking", "thinking": said.get("reasoning") or "", "signature": _signature()})
    if said.get("content"):
        blocks.append({"type": "text", "text": said["content"]})
    for call in said.get("tool_calls") or ():
        function = call["function"] or {}
        name = function.get("name")
        blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": _input(function)})
    return {
        "id": _message_id(chat["id"]),
        "type": "message",
        "role": "assistant",
        "model": chat["model"],
        "content": blocks or [{"type": "text", "text": ""}],
        **_stop(choice, called=bool(said.get("tool_calls"))),
        "usage": _usage(chat["usage"] or {}, choice),
    }


class MessageStream:
    """Turns the events of one chat completion's stream into those of a message's, one by one.

    Args:
        omitted: as for `message`.
    """

    def __init__(self, *, omitted: bool = False) -> None:
        self._omitted = omitted
        self._started = self._ended = self._called = False
        self._blocks = 0
        self._open: str | None = None
        """Type of the block that is open."""
        self._held: list[str] = []
        """Text that came while a tool's input was open."""
        self._last: Choice = {}
        """The choice's last chunk."""
        self._usage: Usage = {}

    def rewrite(self, event: str) -> str:
        """Take one event ("data: ...") and give those that the client gets; empty: none."""
        payload = event.removeprefix("data:").strip()
        if payload == "[DONE]":
            return "".join(self._finish())
        if not payload.startswith("{"):
            return ""
        return "".join(self._convert(json.loads(payload)))

    def _convert(self, data: EngineJson) -> Iterator[str]:
        if "error" in data:
            self._ended = True
            error = data["error"]
            body = error_body(error.get("code") or 500, error["message"], error.get("param"))
            yield _event("error", error=body["error"])
            return
        self._usage = data.get("usage") or self._usage
        if not self._started:
            self._started = True
            start: dict[str, JsonValue] = {
                "id": _message_id(data["id"]),
                "type": "message",
                "role": "assistant",
                "model": data["model"],
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": _usage(self._usage),
            }
            yield _event("message_start", message=start)
        for choice in data.get("choices") or ():
            yield from self._delta(choice.get("delta") or {})
            if choice.get("finish_reason") is not None:
                self._last = choice

    def _delta(self, delta: Message) -> Iterator[str]:
        if reasoning := delta.get("reasoning"):
            yield from self._enter("thinking", thinking="", signature="")
            yield self._add("thinking_delta", thinking=reasoning)
        if content := delta.get("content"):
            if self._open == "tool_use":
                self._held.append(content)
            else:
                yield from self._text(content)
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            if call.get("id") and function.get("name"):
                yield from self._close()
                yield from self._enter("tool_use", id=call["id"], name=function["name"], input={})
                self._called = True
            if (arguments := function.get("arguments")) and self._open == "tool_use":
                yield self._add("input_json_delta", partial_json=arguments)

    def _text(self, text: str) -> Iterator[str]:
        yield from self._enter("text", text="")
        yield self._add("text_delta", text=text)

    def _enter(self, kind: str, **block: JsonValue) -> Iterator[str]:
        """Open a block of this type, if it is not open."""
        if self._open == kind:
            return
        yield from self._close()
        if self._omitted and not self._blocks and kind != "thinking":
            yield from self._enter("thinking", thinking="", signature="")
            yield from self._close()
        yield _event("content_block_start", index=self._blocks, content_block={"type": kind, **block})
        self._open = kind

    def _add(self, kind: str, **delta: JsonValue) -> str:
        return _event("content_block_delta", index=self._blocks, delta={"type": kind, **delta})

    def _close(self) -> Iterator[str]:
        if self._open is None:
            return
        if self._open == "thinking":
            yield self._add("signature_delta", signature=_signature())
        yield _event("content_block_stop", index=self._blocks)
        self._open = None
        self._blocks += 1
        held, self._held = "".join(self._held), []
        if held:
            yield from self._text(held)
            yield from self._close()

    def _finish(self) -> Iterator[str]:
        if self._ended or not self._started:
            return
        self._ended = True
        if not self._blocks and self._open is None:
            yield from self._enter("text", text="")
        yield from self._close()
        delta = _stop(self._last, called=self._called)
        yield _event("message_delta", delta=delta, usage=_usage(self._usage, self._last))
        yield _event("message_stop")


def _event(kind: str, **fields: JsonValue) -> str:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n"


def _message_id(chat_id: str) -> str:
    return f"msg_{chat_id.removeprefix('chatcmpl-')}"


def _signature() -> str:
    """Clients expect one; nothing is signed here."""
    return uuid.uuid4().hex


def _thought(choice: Choice) -> bool:
    return bool((choice.get(FIELD) or {}).get("thinking_tokens"))


def _input(function: FunctionCall) -> dict[str, JsonValue]:
    """A tool's input; where it was cut off (at the response's limit), the part that there is."""
    try:
        arguments = from_json(function.get("arguments") or "{}", allow_partial=True)
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _stop(choice: Choice, *, called: bool) -> dict[str, JsonValue]:
    """Why a message ended.

    Args:
        choice: its end.
        called: it has a call of a tool. vLLM says "stop" for one that was forced by name.
    """
    reason, at = choice.get("finish_reason"), choice.get("stop_reason")
    if reason == "stop" and isinstance(at, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": at}
    if reason == "stop" and called:
        reason = "tool_calls"
    return {"stop_reason": STOP_REASONS.get(reason or "stop", "end_turn"), "stop_sequence": None}


def _usage(usage: Usage, choice: Choice | None = None) -> dict[str, JsonValue]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    result: dict[str, JsonValue] = {
        "input_tokens": max(0, usage.get("prompt_tokens", 0) - (cached or 0)),
        "output_tokens": usage.get("completion_tokens") or 0,
    }
    if cached is not None:
        result["cache_read_input_tokens"] = cached
    accounting = (choice or {}).get(FIELD)
    return result | {"output_tokens_details": accounting} if accounting is not None else result
