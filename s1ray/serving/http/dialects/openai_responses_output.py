"""What a response of OpenAI's Responses API says: its items and the events of its stream, from a chat completion.

A whole response is made by the same steps as a stream, from one part that holds everything. So a stream's last event
holds what the whole response would be. Only where the model thinks again after its answer has begun does a stream show
more: its items are in the order in which they were written, which a whole chat completion does not say.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from s1ray.serving.protocol.engine_json import Choice, EngineJson, Error, Message, ToolCall, Usage
from s1ray.serving.protocol.refusals import FIELD

Json = dict[str, JsonValue]

Status = Literal["in_progress", "completed", "incomplete", "failed"]

DELTAS = {
    "reasoning": "response.reasoning_text",
    "message": "response.output_text",
    "function_call": "response.function_call_arguments",
}
"""Events of an item's text, without their endings, by the item's type."""

ERROR_CODES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}
"""OpenAI's codes for HTTP's; "server_error" for all others."""


def response(chat: EngineJson, shown: Mapping[str, JsonValue], *, summarized: bool = False) -> Json:
    """A response from a chat completion's JSON.

    Args:
        chat: the chat completion, with one choice.
        shown: the request's fields that the response repeats.
        summarized: reasoning has its text as a summary, too.
    """
    stream = ResponseStream(shown, summarized=summarized)
    parts: list[Choice] = [choice | {"delta": choice["message"]} for choice in chat["choices"]]
    for _ in stream.take(chat | {"choices": parts}):
        pass
    return stream.finish()[-1]["response"]  # type: ignore[return-value]  # the last event has the response


@dataclass
class _Item:
    """An item of the output whose text is not complete."""

    kind: Literal["reasoning", "message", "function_call"]
    id: str
    call: Json = field(default_factory=dict)
    """A function call's `call_id` and `name`."""
    text: list[str] = field(default_factory=list)

    def part(self, text: str) -> Json:
        """Its content part; a function call has none."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def to_json(self, status: Status, *, summarized: bool) -> Json:
        """The item as far as it goes; in progress it has no text."""
        text, item = "".join(self.text), Json(id=self.id, type=self.kind, status=status)
        if self.kind == "function_call":
            return item | self.call | {"arguments": text}
        begun = status != "in_progress"
        item |= {"content": [self.part(text)] if begun else []}
        if self.kind == "message":
            return item | {"role": "assistant"}
        return item | {"summary": [_summary(text)] if begun and summarized else []}


class ResponseStream:
    """Turns the parts of a chat completion into the events of a response.

    Items follow one another: reasoning, a message, function calls. Text that comes after a call is a message of its
    own, and blank text around calls is dropped: it is what stands between them in the model's format.

    Args:
        shown, summarized: as for `response`.
    """

    def __init__(self, shown: Mapping[str, JsonValue], *, summarized: bool = False) -> None:
        self._shown, self._summarized = shown, summarized
        self._chat: EngineJson = {}
        """The first part, which says what all of them share."""
        self._items: list[Json] = []
        """Those that are complete."""
        self._open: _Item | None = None
        self._call: int | None = None
        """Index of the last function call."""
        self._blank = ""
        """Blank text, until it is known what follows."""
        self._last: Choice = {}
        """The choice's last part."""
        self._usage: Usage | None = None
        self._ended = False
        self._events = 0

    def rewrite(self, event: str) -> str:
        """Take one event of the engine's stream ("data: ...") and give those that the client gets; empty: none."""
        payload = event.removeprefix("data:").strip()
        if payload == "[DONE]":
            events = self.finish()
        elif payload.startswith("{"):
            events = list(self.take(json.loads(payload)))
        else:
            return ""
        return "".join(f"event: {event['type']}\ndata: {_dump(event)}\n\n" for event in events)

    def take(self, data: EngineJson) -> Iterator[Json]:
        """Take the next part and give its events. A failure ends the response."""
        if self._ended:
            return
        if "error" in data:
            yield from self._fail(data["error"])
            return
        if not self._chat:
            self._chat = {"id": data["id"], "model": data["model"], "created": data.get("created", int(time.time()))}
            for kind in ("created", "in_progress"):
                yield self._event(f"response.{kind}", response=self._response("in_progress"))
        self._usage = data.get("usage") or self._usage
        for choice in data.get("choices") or ():
            yield from self._delta(choice.get("delta") or {})
            if choice.get("finish_reason") is not None:
                self._last = choice

    def finish(self) -> list[Json]:
        """The events after the last part; of a response that failed: none."""
        return [] if self._ended or not self._chat else list(self._finish())

    def _finish(self) -> Iterator[Json]:
        reason = self._last.get("finish_reason")
        if reason is None:
            yield from self._fail({"message": "the response ended before it was complete", "code": 500})
            return
        status: Status = "incomplete" if reason == "length" else "completed"
        said = self._open or self._items
        if self._blank and self._call is None:
            yield from self._add("message", self._blank)
        elif not said and status == "completed":
            yield from self._add("message", "")
        yield from self._close(status)
        self._ended = True
        yield self._event(f"response.{status}", response=self._response(status))

    def _delta(self, delta: Message) -> Iterator[Json]:
        if reasoning := delta.get("reasoning"):
            yield from self._add("reasoning", reasoning)
        if content := delta.get("content"):
            if self._open is None or self._open.kind != "message":
                content, self._blank = self._blank + content, ""
                if not content.strip():
                    self._blank, content = content, ""
            if content:
                yield from self._add("message", content)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._tool(call, call.get("index", position))

    def _tool(self, call: ToolCall, index: int) -> Iterator[Json]:
        function = call.get("function") or {}
        if index != self._call and (name := function.get("name")):
            self._call, self._blank = index, ""
            call_id = call.get("id") or f"call_{uuid.uuid4().hex}"
            yield from self._begin(_Item("function_call", self._new_id("fc"), {"call_id": call_id, "name": name}))
        if (arguments := function.get("arguments")) and index == self._call:
            yield from self._add("function_call", arguments)

    def _add(self, kind: Literal["reasoning", "message", "function_call"], text: str) -> Iterator[Json]:
        """Add text to the item of this type, which is begun unless it is open."""
        if self._open is None or self._open.kind != kind:
            yield from self._begin(_Item(kind, self._new_id("rs" if kind == "reasoning" else "msg")))
        assert self._open is not None
        if not text:
            return
        self._open.text.append(text)
        yield self._of_item(f"{DELTAS[kind]}.delta", delta=text)
        if self._summarizes:
            yield self._of_item("response.reasoning_summary_text.delta", delta=text, summary_index=0)

    def _begin(self, item: _Item) -> Iterator[Json]:
        yield from self._close("completed")
        self._open = item
        begun = item.to_json("in_progress", summarized=self._summarized)
        yield self._event("response.output_item.added", output_index=len(self._items), item=begun)
        if item.kind != "function_call":
            yield self._of_item("response.content_part.added", part=item.part(""))
        if self._summarizes:
            yield self._of_item("response.reasoning_summary_part.added", part=_summary(""), summary_index=0)

    def _close(self, status: Status) -> Iterator[Json]:
        """Complete the item that is open, if there is one."""
        if self._open is None:
            return
        item, text = self._open, "".join(self._open.text)
        name = "arguments" if item.kind == "function_call" else "text"
        yield self._of_item(f"{DELTAS[item.kind]}.done", **{name: text})
        if item.kind != "function_call":
            yield self._of_item("response.content_part.done", part=item.part(text))
        if self._summarizes:
            yield self._of_item("response.reasoning_summary_text.done", text=text, summary_index=0)
            yield self._of_item("response.reasoning_summary_part.done", part=_summary(text), summary_index=0)
        complete = item.to_json(status, summarized=self._summarized)
        yield self._event("response.output_item.done", output_index=len(self._items), item=complete)
        self._items.append(complete)
        self._open = None

    def _fail(self, error: Error) -> Iterator[Json]:
        self._ended = True
        code, message = ERROR_CODES.get(error.get("code") or 500, "server_error"), error["message"]
        yield self._event("error", code=code, message=message, param=error.get("param"))
        if self._chat:
            if self._open is not None:
                self._items.append(self._open.to_json("incomplete", summarized=self._summarized))
            failed = self._response("failed") | {"error": {"code": code, "message": message}}
            yield self._event("response.failed", response=failed)

    @property
    def _summarizes(self) -> bool:
        """Whether the item that is open has a summary."""
        return self._summarized and self._open is not None and self._open.kind == "reasoning"

    def _of_item(self, kind: str, **fields: JsonValue) -> Json:
        """An event of the item that is open."""
        assert self._open is not None
        where = Json(item_id=self._open.id, output_index=len(self._items))
        if self._open.kind != "function_call" and "summary_index" not in fields:
            where["content_index"] = 0
        if kind.startswith(DELTAS["message"]):
            where["logprobs"] = []
        return self._event(kind, **where, **fields)

    def _event(self, kind: str, **fields: JsonValue) -> Json:
        self._events += 1
        return {"type": kind, "sequence_number": self._events - 1, **fields}

    def _new_id(self, prefix: str) -> str:
        """The id of the item that begins after the one that is open."""
        return f"{prefix}_{self._base}_{len(self._items) + (self._open is not None)}"

    @property
    def _base(self) -> str:
        return self._chat["id"].removeprefix("chatcmpl-")

    def _response(self, status: Status) -> Json:
        """The response as far as it goes."""
        accounting = self._last.get(FIELD)
        return {
            "id": f"resp_{self._base}",
            "object": "response",
            "created_at": self._chat["created"],
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self._chat["model"],
            "output": list(self._items),
            **self._shown,
            "usage": _usage(self._usage) if self._usage is not None and status != "in_progress" else None,
            **({} if accounting is None else {FIELD: accounting}),
        }


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _usage(usage: Usage) -> Json:
    read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def _dump(event: Json) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
