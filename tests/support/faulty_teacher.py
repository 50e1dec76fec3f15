"""A teacher behind HTTP that goes wrong in every way that teachers do, in a process of its own.

    python -m tests.support.faulty_teacher FOLDER SEED KEY

It serves OpenAI's chat completions on a free port of 127.0.0.1, which it writes to FOLDER/port. What goes wrong with a
call follows from SEED, the question, the request's own seed and how often it was asked before. FOLDER/journal.jsonl has
a line for each call that came and one for its end: what was billed (None: nothing), and whether the whole response
could be sent.
"""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAIRS_REFUSED = 3
"""Of a thousand requests, those that are answered with 400 however often they are asked."""
WEIGHTS = {
    # Of a thousand calls; the others are answered, in one of `FORMS`.
    **{"429 for a second": 2, "429 until a date": 1, "429": 1},
    **{"500": 5, "500 with the key": 3, "503 for a second": 2, "200 with an error": 5},
    **{"dropped": 4, "dropped unbilled": 3, "cut": 4, "undecompressable": 4, "malformed": 4, "not UTF-8": 3},
    **{"a page": 3, "no choices": 3, "content is a number": 4, "content is a list of numbers": 3},
    **{"reasoning is an object without text": 3, "the count is text": 3},
    **{"surrogate in the reasoning": 4, "surrogate in the content": 4, "aborted": 5},
    **{"hang": 2, "slow": 6, "compressed": 20, "without a count": 8, "refusal": 8, "content filter": 5, "length": 10},
    "no finish reason": 5,
}
FORMS = ("reasoning_content", "reasoning", "reasoning_details", "reasoning object", "thinking parts", "think tags")
"""Where the reasoning is."""
USABLE = frozenset(
    {*FORMS, "slow", "compressed", "without a count", "refusal", "content filter", "length", "no finish reason"}
)
"""Kinds of calls whose answer a client should keep."""
UNBILLED = frozenset(
    {
        *("429 for a second", "429 until a date", "429", "500", "500 with the key", "503 for a second"),
        *("200 with an error", "dropped unbilled", "400"),
    }
)
UNCOUNTED = frozenset(
    {
        *("dropped", "cut", "undecompressable", "malformed", "not UTF-8", "a page", "the count is text", "hang"),
        "without a count",
    }
)
"""Kinds of calls that are billed and whose count does not reach the client."""
SECONDS = (0.05, 0.35)
"""That an answer takes."""


@dataclass(frozen=True)
class Billed:
    """A call in the journal."""

    number: int
    question: str
    seed: int
    kind: str
    began: float
    ended: float
    """Infinite: it has not."""
    usage: dict[str, int] | None
    """What was billed."""
    sent: bool
    """The whole response went out."""


class Journal:
    """What the server did, read from its file."""

    def __init__(self, folder: Path) -> None:
        began: dict[int, dict[str, Any]] = {}
        ended: dict[int, dict[str, Any]] = {}
        with (folder / "journal.jsonl").open() as lines:
            for line in lines:
                if line.endswith("\n"):
                    event = json.loads(line)
                    (began if event["event"] == "came" else ended)[event["call"]] = event
        self.calls = [self._call(event, ended.get(number)) for number, event in sorted(began.items())]

    @staticmethod
    def _call(came: Mapping[str, Any], ended: Mapping[str, Any] | None) -> Billed:
        end: Mapping[str, Any] = {"at": float("inf"), "usage": None, "sent": False} if ended is None else ended
        return Billed(
            number=came["call"],
            question=came["question"],
            seed=came["seed"],
            kind=came["kind"],
            began=came["at"],
            ended=end["at"],
            usage=end["usage"],
            sent=end["sent"],
        )

    def kinds(self) -> dict[str, int]:
        """How often each kind of call was made."""
        return dict(sorted(Counter(call.kind for call in self.calls).items()))


class Answered:
    """Counts the calls that have ended, as they do."""

    def __init__(self, folder: Path) -> None:
        self._path, self._position, self._count = folder / "journal.jsonl", 0, 0

    def count(self) -> int:
        """How many there are by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                new = file.read()
            self._position += len(new)
            self._count += new.count(b'"event": "ended"')
        return self._count


@contextmanager
def faulty_teacher(folder: Path, seed: int, key: str) -> Iterator[str]:
    """A running server; its address with `/v1`."""
    folder.mkdir(parents=True, exist_ok=True)
    # A session of its own: what kills the run's processes must not reach it.
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), str(seed), key],
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        until = time.monotonic() + 60
        while not (port := folder / "port").exists():
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text()}/v1"
    finally:
        server.kill()
        server.wait()


class _Server:
    def __init__(self, folder: Path, seed: int, key: str) -> None:
        self._seed, self._key = seed, key
        self._journal = os.open(folder / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._tries: Counter[tuple[str, int]] = Counter()
        self._calls = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after another, until one side closes."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                length = next(int(value) for name, value in fields.items() if name.lower() == "content-length")
                body = json.loads(await reader.readexactly(length))
                key = next((value for name, value in fields.items() if name.lower() == "authorization"), "")
                assert key == f"Bearer {self._key}", "a request without the key"
                if not await self._answer(body, reader, writer):
                    break
        writer.close()

    async def _answer(
        self, body: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one call; True if the connection stays open."""
        question, seed = body["messages"][0]["content"], body["seed"]
        self._tries[question, seed] += 1
        self._calls += 1
        number, tries = self._calls, self._tries[question, seed]
        draw = random.Random(f"{self._seed}/{question}/{seed}/{tries}")
        kind = _kind(random.Random(f"{self._seed}/{question}/{seed}"), draw)
        self._note("came", number, question=question, seed=seed, kind=kind)
        answer = _Answer(question, kind, tries, draw)
        sent = False
        try:
            await asyncio.sleep(draw.uniform(*SECONDS) if kind not in UNBILLED else 0.02)
            if kind == "hang":
                # Until the client has left.
                await reader.read(1)
            elif kind not in ("dropped", "dropped unbilled"):
                await self._send(answer, writer)
                sent = True
        except ConnectionError:
            pass
        finally:
            self._note("ended", number, usage=None if kind in UNBILLED else answer.usage, sent=sent)
        return sent and kind != "cut"

    async def _send(self, answer: _Answer, writer: asyncio.StreamWriter) -> None:
        status, headers, content = answer.response(self._key)
        lines = [f"HTTP/1.1 {status} Fault", "content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if answer.kind == "cut":
            content = content[: len(content) // 2]
        if answer.kind == "slow":
            for begin in range(0, len(content), max(1, len(content) // 8)):
                writer.write(content[begin : begin + max(1, len(content) // 8)])
                await writer.drain()
                await asyncio.sleep(0.3)
        else:
            writer.write(content)
        await writer.drain()

    def _note(self, event: str, number: int, **fields: object) -> None:
        line = json.dumps({"event": event, "call": number, "at": time.time(), **fields}) + "\n"
        os.write(self._journal, line.encode())


@dataclass(frozen=True)
class _Answer:
    question: str
    kind: str
    tries: int
    draw: random.Random

    @property
    def usage(self) -> dict[str, int]:
        """The same whenever it is read."""
        digest = hashlib.sha256(f"{self.question}/{self.kind}/{self.tries}/{self.thinking}".encode()).digest()
        prompt, completion = 20 + digest[0] % 40, 50 + (digest[1] << 8 | digest[2]) % 400
        return {"prompt": prompt, "cached": digest[3] % 20, "completion": completion, "reasoning": completion // 2}

    @property
    def thinking(self) -> str:
        """Names the kind and the try, so that a row tells which answer was kept."""
        return f"{self.question} [{self.kind}, {self.tries}] " + "two and two " * (1 + len(self.question) % 7)

    @property
    def attempt(self) -> str:
        a, b = (int(word) for word in self.question.rstrip("?").split() if word.isdecimal())
        return f"Final Answer: {a + b}"

    def response(self, key: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if self.kind == "429 for a second":
            return 429, {"retry-after": "1"}, _error("slow down")
        if self.kind == "429 until a date":
            return 429, {"retry-after": email.utils.formatdate(time.time() + 2, usegmt=True)}, _error("slow down")
        if self.kind == "503 for a second":
            return 503, {"retry-after": "1"}, _error("busy")
        if self.kind in ("429", "500", "400"):
            return int(self.kind), {}, _error("no luck")
        if self.kind == "500 with the key":
            return 500, {}, _error(f"failed on Bearer {key}")
        if self.kind == "200 with an error":
            return 200, {}, _error(f"overloaded; your key is {key}", "overloaded_error")
        if self.kind == "a page":
            return 200, {"x-cache": "miss"}, b"<html><body>Please wait</body></html>"
        content = json.dumps(self._body()).encode()
        if self.kind == "undecompressable":
            return 200, {"content-encoding": "gzip"}, content
        if self.kind == "compressed":
            return 200, {"content-encoding": "gzip"}, gzip.compress(content)
        if self.kind == "malformed":
            return 200, {}, content[: 3 * len(content) // 4]
        if self.kind == "not UTF-8":
            return 200, {}, content.replace(b"two and", b"t\xff\xfeo and")
        return 200, {}, content

    def _body(self) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": self.usage["prompt"],
            "completion_tokens": self.usage["completion"],
            "prompt_tokens_details": {"cached_tokens": self.usage["cached"]},
            "completion_tokens_details": {"reasoning_tokens": self.usage["reasoning"]},
        }
        if self.kind == "the count is text":
            usage["completion_tokens"] = "many"
        reasons = {"aborted": "abort", "length": "length", "content filter": "content_filter", "no finish reason": None}
        choice = {"index": 0, "message": self._message(), "finish_reason": reasons.get(self.kind, "stop")}
        choices = None if self.kind == "no choices" else [choice]
        body = {"id": "x", "object": "chat.completion", "model": "faulty-0529", "choices": choices}
        return body if self.kind == "without a count" else body | {"usage": usage}

    def _message(self) -> dict[str, Any]:
        thinking, attempt = self.thinking, self.attempt
        form = self.kind if self.kind in FORMS else FORMS[self.draw.randrange(len(FORMS))]
        if self.kind == "surrogate in the reasoning":
            thinking += "\ud83d"
        if self.kind == "surrogate in the content":
            attempt += "\udc00"
        messages: dict[str, dict[str, Any]] = {
            "reasoning_content": {"reasoning_content": thinking, "content": attempt},
            "reasoning": {"reasoning": thinking, "reasoning_content": None, "content": attempt},
            "reasoning_details": {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": thinking[:9]},
                    {"type": "reasoning.text", "text": thinking[9:]},
                ],
                "content": attempt,
            },
            "reasoning object": {"reasoning": {"content": thinking}, "content": attempt},
            "thinking parts": {
                "content": [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": attempt}]
            },
            "think tags": {"content": f"<think>\n{thinking}\n</think>\n\n{attempt}"},
        }
        odd: dict[str, dict[str, Any]] = {
            "content is a number": {"content": 7},
            "content is a list of numbers": {"content": [4, 2]},
            "reasoning is an object without text": {"reasoning": {"steps": {"a": 1}}, "content": attempt},
            "refusal": {"content": None, "refusal": f"I will not. [{self.kind}, {self.tries}]"},
        }
        return {"role": "assistant"} | odd.get(self.kind, messages[form])


def _kind(pair: random.Random, draw: random.Random) -> str:
    if pair.random() * 1000 < PAIRS_REFUSED:
        return "400"
    kinds = [*WEIGHTS, ""]
    (kind,) = draw.choices(kinds, [*WEIGHTS.values(), 1000 - sum(WEIGHTS.values())])
    return kind or draw.choice(FORMS)


def _error(message: str, kind: str = "server_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind}}).encode()


async def _serve(folder: Path, seed: int, key: str) -> None:
    served = await asyncio.start_server(_Server(folder, seed, key).connection, "127.0.0.1", 0)
    port = folder / "port.tmp"
    port.write_text(str(served.sockets[0].getsockname()[1]))
    port.rename(folder / "port")
    await served.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
