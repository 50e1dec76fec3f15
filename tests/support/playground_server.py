"""The playground in front of a scripted model that streams like the real server.

For tests of the page, and for working on it: `python -m tests.support.playground_server 8123`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from s1ray.serving.playground import add_playground

KEY = "correct-horse"
THOUGHTS = (
    "Start at 17. Add 5: 17 + 5 = 22. Take away 8: 22 - 8 = 14. Add 9: 14 + 9 = 23. So the result is 23.",
    ", let me check the signs. It says plus 5, minus 8, plus 9, which is 5 - 8 + 9 = 6 in all, and 17 + 6 = 23.",
    ", once more from the other end. 23 - 9 = 14, 14 + 8 = 22, 22 - 5 = 17. That is where we began.",
)
ANSWER = "Final Answer: <b>23</b>, because 17 + 5 - 8 + 9 = 23."
CARDS: dict[str, dict[str, Any]] = {
    "s1-miniature": {
        "max_request_context_length": 2048,
        "max_model_len": 2048,
        "default_thinking_tokens": 256,
        "maximum_thinking_tokens": 1536,
        "effort": {"none": 0, "low": 128, "high": "auto"},
    },
    "ponder": {"max_request_context_length": 512, "default_thinking_tokens": None, "maximum_thinking_tokens": None},
}


@dataclass
class StandIn:
    """The scripted server: its requests, and how it behaves."""

    url: str = ""
    delay_s: float = 0.0
    """Pause before each token."""
    needs_key: bool = False
    busy: bool = False
    answer: str = ANSWER
    end_forced: str | None = None
    """Why the thinking was cut, where its budget does not say."""
    fails_after: int | None = None
    """Tokens after which a stream ends with an error."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    disconnected: int = 0
    """Streams that the client left before the end."""

    def app(self) -> FastAPI:
        app = FastAPI()
        add_playground(app)

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            if refused := self._refuse(request):
                return refused
            return JSONResponse({"data": [{"id": name, "metadata": card} for name, card in CARDS.items()]})

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            if refused := self._refuse(request):
                return refused
            body = await request.json()
            self.requests.append(body)
            if self.busy:
                return _error(429, "all replicas are busy and the queue is full; try again", {"Retry-After": "2"})
            if body["thinking"].get("min_tokens", 0) > _budget(body):
                return _error(400, "thinking.min_tokens: 9 is more than max_tokens (8)")
            return StreamingResponse(self._events(body), media_type="text/event-stream")

        return app

    def _refuse(self, request: Request) -> Response | None:
        if self.needs_key and request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "the API key is missing or unknown")
        return None

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        requested = body["thinking"]
        limit, waits = _budget(body), requested.get("waits", 0)
        text = requested.get("wait_text", "Wait")
        thoughts = _tokens(THOUGHTS[0])
        for index in range(waits):
            thoughts += [f"\n{text}", *_tokens(THOUGHTS[1 + index % 2])] if text else _tokens(THOUGHTS[1])
        cut = len(thoughts) > limit
        thoughts = thoughts[:limit]
        used = sum(token == f"\n{text}" for token in thoughts)
        prompt = sum(len(_tokens(message["content"])) for message in body["messages"])
        answer = _tokens(self.answer)
        longest = requested.get("answer_max_tokens")
        answer_cut = longest is not None and len(answer) > longest
        answer = answer[:longest]
        pieces = [("reasoning", token) for token in thoughts] + [("content", token) for token in answer]
        complete = False
        try:
            yield _event({"role": "assistant", "content": ""}, (prompt, 0, 0))
            for number, (name, token) in enumerate(pieces, start=1):
                await asyncio.sleep(self.delay_s)
                if number == self.fails_after:
                    yield f"data: {json.dumps({'error': {'message': 'the engine died', 'code': 500}})}\n\n"
                    complete = True
                    return
                yield _event({name: token}, (prompt, min(number, len(thoughts)), number))
            budget = {"waits": waits, "wait_text": text, "max_tokens": limit, "answer_max_tokens": longest}
            thinking = {
                "thinking_tokens": len(thoughts),
                "answer_tokens": len(answer),
                "answer_cut": answer_cut,
                "waits": used,
                "end_forced": self.end_forced or ("budget" if cut else None),
                "limit": limit,
                "budget": budget,
            }
            reason = "length" if answer_cut else "stop"
            yield _event({}, (prompt, len(thoughts), len(pieces)), finish_reason=reason, thinking=thinking)
            yield "data: [DONE]\n\n"
            complete = True
        finally:
            self.disconnected += not complete


def _budget(body: dict[str, Any]) -> int:
    """The thinking tokens that a request asks for, by number or by an effort of the first card."""
    requested = body["thinking"]
    card = CARDS["s1-miniature"]
    tokens = card["effort"][requested["effort"]] if "effort" in requested else requested["max_tokens"]
    return int(card["maximum_thinking_tokens"] if tokens == "auto" else tokens)


def _tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _event(delta: dict[str, str], counts: tuple[int, int, int], **choice: object) -> str:
    """One event; `counts`: tokens of the prompt, of the thinking and of the response so far."""
    prompt, thinking, tokens = counts
    details = {"completion_tokens_details": {"reasoning_tokens": thinking}}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens} | details
    choice = {"index": 0, "delta": delta, "finish_reason": None} | choice
    return f"data: {json.dumps({'choices': [choice], 'usage': usage})}\n\n"


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status, headers)


@contextlib.contextmanager
def standing_in(port: int = 0) -> Iterator[StandIn]:
    """The scripted server on the loopback interface, for the duration of the block."""
    stand_in = StandIn()
    server = uvicorn.Server(uvicorn.Config(stand_in.app(), log_level="error", timeout_graceful_shutdown=1))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield stand_in
        finally:
            server.should_exit = True
            thread.join(timeout=10)


if __name__ == "__main__":
    with standing_in(int(sys.argv[1])) as shown:
        shown.delay_s = 0.03
        print(f"{shown.url}/playground")
        threading.Event().wait()
