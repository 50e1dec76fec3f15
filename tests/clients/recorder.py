"""A proxy that passes requests on as they are and keeps what the server said of them.

The checks ask it for the server's own account of their requests, and compare that with what their client shows.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

RECORDED = "/-/recorded"
"""GET: what was recorded since the last GET."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


def account(body: str) -> dict[str, Any]:
    """What a response says of itself: `output` and `thinking` tokens, and its `error`; None where it says nothing.

    Args:
        body: JSON, or the events of a stream.
    """
    lines = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
    found: dict[str, Any] = {"output": None, "thinking": None, "error": None}
    for text in lines or [body]:
        with contextlib.suppress(ValueError):
            for part in _objects(json.loads(text)):
                usage = part.get("usage")
                if isinstance(usage, dict):
                    found["output"] = usage.get("completion_tokens", usage.get("output_tokens"))
                if "thinking_tokens" in part:
                    found["thinking"] = part["thinking_tokens"]
                found["error"] = part.get("error") or found["error"]
    return found


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


@contextlib.contextmanager
def recording(upstream: str) -> Iterator[str]:
    """Run the proxy in front of the server at this URL; gives the proxy's URL."""
    records: list[dict[str, Any]] = []
    # A client may have its answer before the proxy has written down what it passed on.
    idle, busy = threading.Condition(), [0]
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == RECORDED:
                with idle:
                    idle.wait_for(lambda: not busy[0], timeout=20)
                    body = json.dumps(records).encode()
                    records.clear()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)
            else:
                self.forward(b"")

        def do_POST(self) -> None:
            self.forward(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def forward(self, body: bytes) -> None:
            with idle:
                busy[0] += 1
            try:
                self.pass_on(body)
            finally:
                with idle:
                    busy[0] -= 1
                    idle.notify_all()

        def pass_on(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=300)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            # Compressed, the response could not be read here.
            headers = {name: value for name, value in headers.items() if name.lower() != "accept-encoding"}
            connection.request(self.command, f"{target.path}{self.path}", body, headers)
            response = connection.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            parts = []
            while part := response.read1(65536):
                parts.append(part)
                self.wfile.write(part)
                self.wfile.flush()
            connection.close()
            if self.command == "POST":
                said = account(b"".join(parts).decode())
                records.append({"path": self.path, "status": response.status, **said})

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
