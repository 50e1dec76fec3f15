"""A provider's API on this machine that answers by script, and whole answers in each format."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAT = {
    "model": "chat-1",
    "choices": [{"message": {"reasoning_content": "two and two", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39},
}
MESSAGE = {
    "type": "message",
    "model": "claude-1",
    "content": [{"type": "thinking", "thinking": "two and two", "signature": "s"}, {"type": "text", "text": "4"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 30},
}
RESPONSE = {
    "object": "response",
    "status": "completed",
    "error": None,
    "model": "gpt-1",
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "two and two"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "4"}]},
    ],
    "usage": {"input_tokens": 9, "output_tokens": 30},
}


@dataclass
class Provider:
    """Gives its answers (status, headers, body) in order, and keeps what it was asked (path, headers, body)."""

    url: str
    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider that listens until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            provider.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, answer = provider.answers.pop(0)
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
