"""Streams of a scripted replica: how they begin, what fills their silence, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from s1ray.serving.http import responses
from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.admission import Admission, Ticket
from s1ray.serving.http.dialects import DIALECTS
from s1ray.serving.http.dialects.anthropic import MessageStream
from s1ray.serving.http.dialects.base import Events
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.replica_call import ReplicaCall
from s1ray.serving.http.responses import EventStream, Part, is_lost
from s1ray.serving.ray_llm import ErrorInfo, ErrorResponse
from tests.support.attempts import Attempt

COMMENT = ": keep-alive\n\n"
DONE = "data: [DONE]\n\n"
KEEP_S = 0.05

together: Events = "".join


def context() -> RequestContext:
    ticket = Admission().enter(None)
    assert isinstance(ticket, Ticket)
    return RequestContext(ticket)


def error(code: int, message: str = "no") -> ErrorResponse:
    return ErrorResponse(error=ErrorInfo(message=message, type="kind", param="n", code=code))


class Client:
    """What a server tells an application of its client, and what the client gets."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        # As a socket whose buffer is full.
        await asyncio.sleep(0)
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message["more_body"]:
            # As uvicorn says when the response is complete.
            self.gone.set()
            await asyncio.sleep(0.001)

    def texts(self) -> list[str]:
        """The texts of a response that is complete."""
        start, *bodies, end = self.messages
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert (start["type"], start["status"]) == ("http.response.start", 200)
        assert headers == {
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            "content-type": "text/event-stream; charset=utf-8",
        }
        assert end == {"type": "http.response.body", "body": b"", "more_body": False}
        assert all(body["more_body"] for body in bodies)
        return [body["body"].decode() for body in bodies]


class Stream:
    """A stream of one attempt, read to its end."""

    def __init__(self, *parts: Any, rewrite: Events = together, keep_alive_s: float | None = KEEP_S, **limits: Any):
        self.attempt, self.context = Attempt(*parts), context()
        asyncio.run(self._read(rewrite, keep_alive_s, limits))

    async def _read(self, rewrite: Events, keep_alive_s: float | None, limits: dict[str, Any]) -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: self.attempt, is_lost=is_lost, pause_s=0, **limits)
        response = EventStream(call, rewrite, self.context, keep_alive_s=keep_alive_s, silence=COMMENT)
        client = Client()
        try:
            await response({"type": "http"}, client.receive, client.send)
        finally:
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        self.texts = client.texts()

    @property
    def said(self) -> list[Any]:
        return [text for text in self.texts if text != COMMENT]

    @property
    def comments(self) -> int:
        return self.texts.count(COMMENT)


def test_a_stream_that_is_never_silent_has_no_comments() -> None:
    stream = Stream(["a", "b"], ["c"], 0.01, [DONE])
    assert stream.texts == ["ab", "c", DONE]
    assert stream.context.outcome is None
    assert not stream.attempt.cancelled


def test_comments_fill_the_time_in_the_queue_and_between_events() -> None:
    stream = Stream(0.22, ["a"], 0.22, ["b"], [DONE])
    before, after = stream.texts.index("a"), stream.texts.index("b")
    assert stream.texts[0] == COMMENT
    assert 3 <= before <= 5
    assert 3 <= after - before - 1 <= 5
    assert stream.said == ["a", "b", DONE]


def test_events_that_the_client_does_not_see_are_silence() -> None:
    hidden: list[Any] = []
    for _ in range(22):
        hidden += [["x"], 0.01]
    stream = Stream(["a"], *hidden, ["b"], rewrite=lambda events: "".join(events).replace("x", ""))
    assert stream.said == ["a", "b"]
    assert 3 <= stream.comments <= 5


def test_silence_is_kept_where_no_comments_are_wanted() -> None:
    assert Stream(0.15, ["a"], 0.15, ["b"], keep_alive_s=None).texts == ["a", "b"]


@pytest.mark.parametrize("part", [error(429), [error(429)]])
def test_what_comes_in_time_has_a_status(part: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        Stream(0.01, part)
    assert (caught.value.status, caught.value.param) == (429, "n")
    with pytest.raises(ValueError, match="ours"):
        Stream(0.01, ValueError("ours"))


@pytest.mark.parametrize(
    ("parts", "limits", "code", "outcome"),
    [
        ((error(400),), {}, 400, "invalid"),
        (([error(429)],), {}, 429, "limited"),
        ((ValueError("ours"),), {}, 500, "failed"),
        ((9.0, ["a"]), {"first_s": 0.15}, 503, "late"),
    ],
)
def test_what_comes_later_is_an_error_event(
    parts: tuple[Any, ...], limits: dict[str, Any], code: int, outcome: str
) -> None:
    stream = Stream(0.1, *parts, **limits)
    assert stream.comments >= 1
    (last,) = stream.said
    event, done, rest = last.split("\n\n")
    assert json.loads(event.removeprefix("data: "))["error"]["code"] == code
    assert (done, rest) == ("data: [DONE]", "")
    assert stream.context.outcome == outcome


def test_an_error_in_place_of_an_event_ends_the_stream_and_is_not_lost() -> None:
    stream = Stream(["a"], ["b", error(500, "the engine said no"), "c"], ["d"])
    first, second, last = stream.texts
    assert (first, second) == ("a", "b")
    assert "the engine said no" in last
    assert last.endswith(DONE)
    assert stream.context.outcome == "failed"
    assert stream.attempt.cancelled


def test_an_error_that_is_an_event_is_passed_on() -> None:
    told = f"data: {json.dumps({'error': {'message': 'no', 'code': 500}})}\n\n"
    stream = Stream(["a"], [told], [DONE])
    assert stream.texts == ["a", told, DONE]
    assert stream.context.outcome == "failed"


def leave(parts: tuple[Any, ...], after_s: float, how: str) -> tuple[Attempt, RequestContext]:
    """Leave a stream: the client is gone, or the server ends the task of its request."""
    attempt, begun = Attempt(*parts), context()

    async def run() -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: attempt, is_lost=is_lost, pause_s=0)
        response = EventStream(call, together, begun, keep_alive_s=KEEP_S, silence=COMMENT)
        client = Client()
        coroutine = response({"type": "http"}, client.receive, client.send)
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)
        await asyncio.sleep(after_s)
        if how in ("client", "both"):
            client.gone.set()
        if how in ("server", "both"):
            if how == "both":
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() == (how != "client")
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    return attempt, begun


@pytest.mark.parametrize("how", ["client", "server", "both"])
@pytest.mark.parametrize(("parts", "after_s"), [((9.0, ["a"]), 0.01), ((9.0, ["a"]), 0.1), ((["a"], 9.0), 0.1)])
def test_a_client_that_leaves_stops_the_replica(parts: tuple[Any, ...], after_s: float, how: str) -> None:
    attempt, begun = leave(parts, after_s, how)
    assert attempt.cancelled
    assert begun.outcome == "cancelled"


def test_a_client_that_reads_nothing_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "UNREAD_S", 0.05)
    attempt, begun = Attempt(["a"], ["b"], ["c"]), context()

    class Full(Client):
        async def send(self, message: Any) -> None:
            if len(self.messages) == 2:
                await asyncio.sleep(9)
            await super().send(message)

    async def run() -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: attempt, is_lost=is_lost)
        client = Full()
        response = EventStream(call, together, begun, keep_alive_s=0.02, silence=COMMENT)
        await response({"type": "http"}, client.receive, client.send)
        assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.body"]

    asyncio.run(asyncio.wait_for(run(), 5))
    assert attempt.cancelled
    assert begun.outcome == "cancelled"


def test_a_stream_of_which_the_client_sees_nothing_begins_and_ends() -> None:
    assert Stream(["x"], ["x"], rewrite=lambda events: "").texts == []


def test_headers_come_with_the_first_events_even_if_those_are_not_shown() -> None:
    seen: list[int] = []

    async def run() -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: Attempt(["x"], 9.0), is_lost=is_lost)
        response = EventStream(call, lambda events: "", context(), keep_alive_s=None, silence=COMMENT)
        client = Client()
        task = asyncio.create_task(response({"type": "http"}, client.receive, client.send))
        await asyncio.sleep(0.05)
        seen.append(client.messages[0]["status"])
        client.gone.set()
        await task

    asyncio.run(run())
    assert seen == [200]


def message_events(events: Any) -> str:
    stream = MessageStream()
    return "".join(map(stream.rewrite, events))


@pytest.mark.parametrize(
    ("path", "rewrite", "silence", "kind"),
    [
        ("/v1/chat/completions", together, COMMENT, "data: {"),
        ("/v1/completions", together, COMMENT, "data: {"),
        ("/v1/messages", message_events, 'event: ping\ndata: {"type": "ping"}\n\n', "event: error\n"),
    ],
)
def test_silence_and_errors_have_the_dialects_form(
    path: str, rewrite: Callable[..., str], silence: str, kind: str
) -> None:
    (route,) = [route for dialect in DIALECTS for route in dialect.routes if route.path == path]
    assert route.silence == silence
    last = Stream(0.1, error(400), rewrite=rewrite).said[0]
    assert last.startswith(kind)


def sdk_events(text: str) -> list[Any]:
    """The events that OpenAI's client finds in a stream."""
    from openai._streaming import SSEDecoder

    decoder = SSEDecoder()
    return [event.data for event in map(decoder.decode, text.splitlines()) if event is not None]


def test_openais_client_passes_over_comments() -> None:
    stream = Stream(0.12, ['data: {"a": 1}\n\n'], 0.12, [DONE])
    assert stream.comments >= 2
    assert sdk_events("".join(stream.texts)) == ['{"a": 1}', "[DONE]"]
