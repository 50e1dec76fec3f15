"""A server with OpenAI's and Anthropic's batch APIs, and scripts for what goes wrong. It counts what it would bill."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answered = tuple[int, dict[str, str], bytes]
"""Status, headers and body. Status 0: the connection breaks in the middle of the body."""


@dataclass
class Batch:
    """One batch, at work until it was looked at as often as `looks` says."""

    id: str
    requests: list[tuple[str, dict[str, Any]]]
    looks: int
    created: float = field(default_factory=time.time)
    status: str = ""
    """What it ends with, in OpenAI's words; "" as its results say."""
    metadata: dict[str, str] = field(default_factory=dict)
    file: str = ""
    endpoint: str = ""
    lines: list[bytes] | None = None
    """Of its results, once it has ended."""
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.lines is not None


@dataclass
class BatchServer:
    """`url` ends in `/v1`. Everything else may be set while it runs."""

    url: str = ""
    looks: int = 2
    """Looks at a batch until it has ended."""
    result: Callable[[str, int], object] = lambda question, times: "4"
    """What a question gets when it is asked for the n-th time: a text; `error`, `filtered`, `unusable`, `expired`,
    `missing`, `damaged`."""
    before: Callable[[str, str], Answered | None] = lambda method, path: None
    """Called before a request is looked at; what it gives is the answer."""
    after: Callable[[str, str], Answered | None] = lambda method, path: None
    """Called when a request has been carried out; what it gives is the answer in place of the right one."""
    ended: Callable[[Batch], None] = lambda batch: None
    """May change a batch that has just ended."""
    refuse: Callable[[Batch], list[dict[str, Any]]] = lambda batch: []
    """Errors for which a batch fails its validation."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """Questions, by how often they were in a batch that was created."""
    answered: Counter[str] = field(default_factory=Counter)
    """Questions, by how often they were answered: of use or not, that is billed."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    """API keys that came."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def handle(self, method: str, path: str, headers: Any, body: bytes) -> Answered:
        """Carry a request out."""
        address = urlsplit(path)
        with self.lock:
            self.calls[f"{method} {re.sub('(batch|file)_[0-9a-f]+', '*', address.path)}"] += 1
            self.keys.add(headers.get("authorization") or headers.get("x-api-key") or "")
        if (instead := self.before(method, address.path)) is not None:
            return instead
        with self.lock:
            answer = self._carry_out(method, address.path.removeprefix("/v1"), parse_qs(address.query), headers, body)
        return self.after(method, address.path) or answer

    def _carry_out(self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes) -> Answered:
        anthropic = path.startswith("/messages")
        path = path.removeprefix("/messages")
        if (method, path) == ("POST", "/files"):
            return self._upload(headers, body)
        if (method, path) == ("POST", "/batches"):
            return self._create(json.loads(body), anthropic)
        if path == "/batches":
            return self._list(query, anthropic)
        if (found := re.fullmatch(r"/files/(\w+)", path)) and found[1] in self.files:
            return _json({"id": found[1], "object": "file", "purpose": "batch"})
        if found := re.fullmatch(r"/files/(\w+)/content", path):
            return _content(self.files.get(found[1]))
        if (found := re.fullmatch(r"/batches/(\w+)/results", path)) and found[1] in self.batches:
            lines = self.batches[found[1]].lines
            return _content(None if lines is None else b"".join(lines))
        if (found := re.fullmatch(r"/batches/(\w+)", path)) and found[1] in self.batches:
            batch = self.batches[found[1]]
            self._work(batch, anthropic)
            return _json(_anthropic(batch) if anthropic else self._openai(batch))
        return _json({"error": {"message": f"no {path}", "type": "not_found_error"}}, 404)

    def _upload(self, headers: Any, body: bytes) -> Answered:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)]
        (content,) = (value.removesuffix(b"\r\n") for head, _, value in parts if b'name="file"' in head)
        (purpose,) = (value.strip() for head, _, value in parts if b'name="purpose"' in head)
        assert purpose == b"batch"
        name = f"file_{uuid.uuid4().hex}"
        self.files[name] = content
        return _json({"id": name, "object": "file", "purpose": "batch"})

    def _create(self, body: dict[str, Any], anthropic: bool) -> Answered:
        batch = Batch(f"batch_{uuid.uuid4().hex}", [], self.looks)
        if anthropic:
            batch.requests = [(request["custom_id"], request["params"]) for request in body["requests"]]
            assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name, _ in batch.requests)
        else:
            assert body["completion_window"] == "24h"
            batch.metadata, batch.file, batch.endpoint = body["metadata"], body["input_file_id"], body["endpoint"]
            for line in self.files[batch.file].splitlines():
                request = json.loads(line)
                assert (request["method"], request["url"]) == ("POST", body["endpoint"])
                batch.requests.append((request["custom_id"], request["body"]))
        assert len({name for name, _ in batch.requests}) == len(batch.requests)
        batch.errors = self.refuse(batch)
        if batch.errors:
            batch.status, batch.lines = "failed", []
        else:
            self.asked.update(question_of(request) for _, request in batch.requests)
        self.batches[batch.id] = batch
        return _json(_anthropic(batch) if anthropic else self._openai(batch))

    def _list(self, query: dict[str, list[str]], anthropic: bool) -> Answered:
        found = sorted(self.batches.values(), key=lambda batch: -batch.created)
        after = query.get("after_id" if anthropic else "after")
        if after:
            found = found[[batch.id for batch in found].index(after[0]) + 1 :]
        for batch in found:
            self._work(batch, anthropic)
        page = found[:2]  # less than was asked for: what reads the list must read all pages
        entries = [_anthropic(batch) if anthropic else self._openai(batch) for batch in page]
        return _json({"data": entries, "has_more": len(found) > len(page)})

    def _work(self, batch: Batch, anthropic: bool) -> None:
        batch.looks -= 1
        if batch.looks >= 0 or batch.ended:
            return
        batch.lines = []
        for custom_id, body in reversed(batch.requests):
            question = question_of(body)
            result = self.result(question, self.asked[question])
            line = self._line(custom_id, body, result, anthropic)
            if line is not None:
                batch.lines.append(line)
        self.ended(batch)

    def _line(self, custom_id: str, body: dict[str, Any], result: object, anthropic: bool) -> bytes | None:
        question = question_of(body)
        if result in ("error", "filtered"):
            error = {"message": "the server had an error", "type": "api_error"}
            if result == "filtered":
                error = {"message": "Output blocked by content filtering policy", "type": "invalid_request_error"}
            errored = {"type": "errored", "error": {"type": "error", "error": error}}
            response = {"status_code": 500, "body": {"error": error}}
            return _line(custom_id, {"result": errored} if anthropic else {"response": response, "error": None})
        if result == "expired":
            error = {"code": "batch_expired", "message": "it could not be executed in time"}
            told = {"result": {"type": "expired"}} if anthropic else {"response": None, "error": error}
            return _line(custom_id, told)
        tokens = len(question), 7 + len(question) % 5
        self.answered[question] += 1
        self.prompt_tokens, self.completion_tokens = self.prompt_tokens + tokens[0], self.completion_tokens + tokens[1]
        if result == "missing":
            return None
        if result == "damaged":
            return b'{"custom_id": "' + custom_id.encode() + b'", \xff\n'
        text = 4 if result == "unusable" else result
        answer = answer_to(body, f"thinking of {question}", text, tokens)
        if anthropic:
            return _line(custom_id, {"result": {"type": "succeeded", "message": answer}})
        return _line(custom_id, {"response": {"status_code": 200, "body": answer}, "error": None})

    def _openai(self, batch: Batch) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": batch.id,
            "status": batch.status or "completed" if batch.ended else "in_progress",
            "metadata": batch.metadata,
            "input_file_id": batch.file,
            "created_at": int(batch.created),
            "object": "batch",
            "completion_window": "24h",
            "endpoint": batch.endpoint,
            "request_counts": {"total": len(batch.requests), "completed": 0, "failed": 0},
            "errors": {"data": batch.errors},
        }
        lines = batch.lines or []
        good = [line for line in lines if b'"status_code": 200' in line or b"\xff" in line]
        found["request_counts"] |= {"completed": len(good), "failed": len(lines) - len(good)}
        for name, content in (("output", good), ("error", [line for line in lines if line not in good])):
            if content:
                self.files[f"file_{name}_{batch.id}"] = b"".join(content)
                found[f"{name}_file_id"] = f"file_{name}_{batch.id}"
        return found


def question_of(body: dict[str, Any]) -> str:
    """The question in a request of any format."""
    messages = body.get("messages") or body["input"]
    content = messages[-1]["content"] if isinstance(messages, list) else messages
    return str(content if isinstance(content, str) else content[0]["text"])


def answer_to(body: dict[str, Any], thinking: str, text: object, tokens: tuple[int, int]) -> dict[str, Any]:
    """A response in the request's format."""
    prompt, completion = tokens
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    if "input" in body:
        items = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": thinking}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        ]
        usage = {"input_tokens": prompt, "output_tokens": completion}
        return {"status": "completed", "model": "m-1", "output": items, "usage": usage}
    if "max_tokens" in body and "thinking" in body:
        blocks = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": text}]
        usage = {"input_tokens": prompt, "output_tokens": completion}
        return {"type": "message", "model": "m-1", "content": blocks, "stop_reason": "end_turn", "usage": usage}
    message = {"role": "assistant", "reasoning_content": thinking, "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"choices": [choice], "model": "m-1", "usage": usage}


@contextmanager
def batch_server() -> Iterator[BatchServer]:
    """A server on this machine, until the block ends."""
    state = BatchServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            try:
                status, headers, content = state.handle(self.command, self.path, self.headers, body)
                self.send_response(status or 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) + (status == 0)))
                self.close_connection = status == 0
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            # Clients are killed.
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at_first(server: BatchServer, method: str, end: str, answer: Answered) -> Callable[[str, str], Answered | None]:
    """An answer for the first request of its kind."""
    times = iter([answer])
    return lambda asked, path: next(times, None) if asked == method and path.endswith(end) else None


def _anthropic(batch: Batch) -> dict[str, Any]:
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    counts["succeeded" if batch.ended else "processing"] = len(batch.requests)
    created, expires = (
        datetime.fromtimestamp(batch.created + seconds, UTC).isoformat().replace("+00:00", "Z")
        for seconds in (0, 86400)
    )
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.ended else "in_progress",
        "created_at": created,
        "expires_at": expires,
        "request_counts": counts,
        "results_url": "http://elsewhere.invalid/results" if batch.ended else None,
    }


def _json(value: object, status: int = 200) -> Answered:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _content(content: bytes | None) -> Answered:
    if content is None:
        return _json({"error": {"message": "no such results"}}, 404)
    return 200, {"Content-Type": "application/octet-stream"}, content


def _line(custom_id: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": custom_id, **fields}).encode() + b"\n"
