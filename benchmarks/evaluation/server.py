"""A server that answers sums after a fixed time, in s1ray's wire format, and goes wrong as servers do if it is told to.

    python -m benchmarks.evaluation.server FOLDER [--latency-ms 50] [--faults SEED]

It listens on a free port of 127.0.0.1, which it writes to FOLDER/port. `GET /v1/count` says how many answers went out,
and what went wrong how often. Which calls go wrong follows from the seed, the request and how often it came before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

FAULTS = {"429": 20, "500": 40, "error in 200": 40, "dropped": 40, "hang": 5}
"""Of a thousand calls, those that go wrong, by what happens to them."""
RIGHT = 0.7
"""Share of the questions that are answered right under any budget."""


class Server:
    """Answers by the question alone.

    Args:
        latency: seconds of an answer.
        faults: seed of what goes wrong. None: nothing does.
    """

    def __init__(self, latency: float, faults: int | None) -> None:
        self._latency, self._faults = latency, faults
        self._came = Counter[bytes]()
        self._count = Counter[str]()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(found[1])) if found else b""
                if not await self._serve(head, body, writer):
                    break
        writer.close()

    async def _serve(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if head.startswith(b"GET"):
            models: Any = {"data": [{"id": "m"}]}
            _write(writer, 200, dict(self._count) if b"/count" in head else models)
            return True
        fault = self._fault(body)
        if fault:
            self._count[fault] += 1
        if fault == "429":
            _write(writer, 429, {"error": {"message": "slow down"}}, b"retry-after: 0.2\r\n")
        elif fault == "500":
            _write(writer, 500, {"error": {"message": "broken"}})
        elif fault == "error in 200":
            _write(writer, 200, {"error": {"message": "upstream went away"}})
        elif fault == "dropped":
            return False
        elif fault == "hang":
            await asyncio.sleep(3600)
        else:
            await asyncio.sleep(self._latency)
            _write(writer, 200, answer(json.loads(body)))
            await writer.drain()
            self._count["answered"] += 1
        return True

    def _fault(self, body: bytes) -> str | None:
        if self._faults is None or b"1 + 1 = ?" in body:
            return None
        key = hashlib.sha256(body).digest()
        self._came[key] += 1
        draw = random.Random(f"{self._faults} {key.hex()} {self._came[key]}")
        kinds = [*FAULTS, ""]
        (kind,) = draw.choices(kinds, [*FAULTS.values(), 1000 - sum(FAULTS.values())])
        return kind or None


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """The response to a request: a sum, right or one too many, and as much thinking as the budget allows."""
    question = body["messages"][-1]["content"]
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    draw = random.Random(question)
    total = sum(numbers) + (draw.random() > RIGHT)
    most = body.get("thinking", {}).get("max_tokens")
    tokens = min(draw.randrange(20, 60), 60 if most is None else most)
    thinking = " ".join(["so"] * tokens)
    return {
        "model": "m",
        "choices": [
            {
                "message": {"reasoning": thinking, "content": f"Final Answer: {total}"},
                "finish_reason": "stop",
                "thinking": {"thinking_tokens": tokens, "answer_tokens": 5, "waits": 0},
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": tokens + 5, "total_tokens": tokens + 14},
    }


def _write(writer: asyncio.StreamWriter, status: int, body: Any, headers: bytes = b"") -> None:
    content = json.dumps(body).encode()
    writer.write(
        b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s"
        % (status, headers, len(content), content)
    )


@contextmanager
def serving(
    folder: Path, *, latency_ms: float = 50, faults: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server in a process of its own until the end of the block: its address with `/v1`, and the process."""
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "benchmarks.evaluation.server", str(folder), "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(line if faults is None else [*line, "--faults", str(faults)])
    try:
        until = time.monotonic() + 60
        while not (folder / "port").exists():
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{(folder / 'port').read_text()}/v1", process
    finally:
        process.kill()
        process.wait()


def counts(url: str, client: httpx.Client | None = None) -> dict[str, int]:
    """What a server did so far. Who asks often has a client: making one reads all certificates."""
    found: dict[str, int] = (client or httpx).get(f"{url}/count", timeout=120).json()
    return found


def main(folder: Path, latency_ms: float = 50, faults: Annotated[int | None, typer.Option()] = None) -> None:
    """Serve until killed."""

    async def serve() -> None:
        server = await asyncio.start_server(Server(latency_ms / 1000, faults).connection, "127.0.0.1", 0, backlog=1024)
        temporary = folder / "port.tmp"
        temporary.write_text(str(server.sockets[0].getsockname()[1]))
        temporary.rename(folder / "port")
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    typer.run(main)
