"""Streams of a scripted replica: how they begin, what fills their silence, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.admission import Admission, Ticket
from s1ray.serving.http.dialects import DIALECTS
from s1ray.serving.http.dialects.anthropic import MessageStream
from s1ray.serving.http.dialects.base import Events
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.replica_call import ReplicaCall
from s1ray.serving.http.responses import Part, is_lost, streamed
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


class Stream:
    """A stream of one attempt, read to its end."""

    def __init__(self, *parts: Any, rewrite: Events = together, keep_alive_s: float | None = KEEP_S, **limits: Any):
        self.attempt, self.context = Attempt(*parts), context()
        asyncio.run(self._read(rewrite, keep_alive_s, limits))

    async def _read(self, rewrite: Events, keep_alive_s: float | None, limits: dict[str, Any]) -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: self.attempt, is_lost=is_lost, pause_s=0, **limits)
        response = await streamed(call, rewrite, self.context, keep_alive_s=keep_alive_s, silence=COMMENT)
        assert response.media_type == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        self.texts = [str(text) async for text in response.body_iterator]

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


def leave(parts: tuple[Any, ...], after_s: float, read: bool) -> tuple[Attempt, RequestContext]:
    """Leave a stream that has begun, reading it or before."""
    attempt, begun = Attempt(*parts), context()

    async def run() -> None:
        call: ReplicaCall[Part] = ReplicaCall(lambda: attempt, is_lost=is_lost, pause_s=0)
        begun.defer(call.cancel)
        response = await streamed(call, together, begun, keep_alive_s=KEEP_S, silence=COMMENT)

        async def consume() -> None:
            async for _ in response.body_iterator:
                pass

        if read:
            task = asyncio.create_task(consume())
            await asyncio.sleep(after_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for action in reversed(begun._deferred):
            action()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    return attempt, begun


@pytest.mark.parametrize(("parts", "after_s"), [((9.0, ["a"]), 0.01), ((9.0, ["a"]), 0.1), ((["a"], 9.0), 0.1)])
def test_a_client_that_leaves_stops_the_replica(parts: tuple[Any, ...], after_s: float) -> None:
    attempt, begun = leave(parts, after_s, read=True)
    assert attempt.cancelled
    assert begun.outcome == "cancelled"
    attempt, _ = leave(parts, after_s, read=False)
    assert attempt.cancelled


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
