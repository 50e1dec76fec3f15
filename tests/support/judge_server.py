"""A judge behind HTTP on this machine, whose answer follows from the question, and which notes what it was asked."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, int], str | None]
"""From a question, and the seed of the request, to what the judge says; None: an error."""
QUESTION = re.compile(r"=== question (\w+) begins ===\n(.*)\n=== question \1 ends ===", re.DOTALL)


@dataclass
class JudgeServer:
    """What was asked."""

    url: str
    delay_s: float = 0.0
    """Seconds that an answer takes."""
    bodies: list[Any] = field(default_factory=list)
    """Of all requests."""
    answered: Counter[str] = field(default_factory=Counter)
    """Question -> how often an answer was sent in whole."""


@contextmanager
def running_judge(answer: Answer) -> Iterator[JudgeServer]:
    """A judge that speaks OpenAI's chat completions until the end of the block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found = QUESTION.search(body["messages"][0]["content"])
            assert found is not None
            with lock:
                judge.bodies.append(body)
            time.sleep(judge.delay_s)
            said = answer(found[2], body["seed"])
            status, content = (500, {"error": {"message": "no luck"}}) if said is None else (200, _body(said))
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            with lock:
                judge.answered[found[2]] += said is not None

        def handle(self) -> None:
            # A client that is killed leaves its connection as it is.
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge = JudgeServer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _body(said: str) -> dict[str, Any]:
    return {
        "model": "judge-1",
        "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4000}},
    }
