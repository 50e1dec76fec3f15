"""The model's server as the HTTP application in the same process calls it. Imports ray.serve.llm and vLLM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import BaseModel

from s1ray.serving.protocol.request_info import RequestInfo
from s1ray.serving.replica.places import Places


class Request(BaseModel):
    stream: bool = True
    text: str = "hi"


class Server:
    """Answers with parts, and notes how each answer ended."""

    def __init__(self, *parts: Any) -> None:
        self.parts, self.ended, self.seen = parts, list[str](), list[Any]()

    async def chat(self, request: Any, info: RequestInfo) -> AsyncGenerator[Any]:
        self.seen.append(request)
        request.text = "changed"
        return self._answer()

    tokenize = chat

    async def _answer(self) -> AsyncGenerator[Any]:
        try:
            for part in self.parts:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                else:
                    yield part
            self.ended.append("complete")
        except GeneratorExit:
            self.ended.append("closed")
            raise
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise


def backend(server: Server, running: int = 1) -> tuple[Any, Places]:
    from s1ray.serving.replica.backend import LocalBackend

    places = Places(running, 1)
    return LocalBackend(server, places), places


def info() -> RequestInfo:
    return RequestInfo(headers={}, client="", arrived=0.0, deadline=1.0)


def test_the_server_changes_its_own_copy_and_gives_its_place_back() -> None:
    async def run() -> None:
        server, request = Server("a", "b"), Request()
        local, places = backend(server)
        attempt = local.call("m", "chat", request, info())
        assert [await attempt.__anext__(), places.running, await attempt.__anext__()] == ["a", 1, "b"]
        with pytest.raises(StopAsyncIteration):
            await attempt.__anext__()
        assert (request.text, places.running, server.ended) == ("hi", 0, ["complete"])
        attempt.cancel()

    asyncio.run(run())


def test_a_whole_response_ends_with_its_only_part() -> None:
    async def run() -> None:
        server = Server("whole")
        local, places = backend(server)
        attempt = local.call("m", "chat", Request(stream=False), info())
        assert await attempt.__anext__() == "whole"
        await asyncio.sleep(0.01)
        assert (places.running, server.ended) == (0, ["closed"])

    asyncio.run(run())


@pytest.mark.parametrize("read", [0, 1])
def test_cancelling_between_two_parts_ends_the_servers_work(read: int) -> None:
    async def run() -> None:
        server = Server("a", "b")
        local, places = backend(server)
        attempt = local.call("m", "chat", Request(), info())
        for _ in range(read):
            await attempt.__anext__()
        attempt.cancel()
        attempt.cancel()
        await asyncio.sleep(0.01)
        assert (places.running, server.ended) == (0, ["closed"] * read)

    asyncio.run(run())


def test_cancelling_while_a_part_is_awaited_ends_the_servers_work() -> None:
    async def run() -> None:
        server = Server("a", 10.0, "b")
        local, places = backend(server)
        attempt = local.call("m", "chat", Request(), info())
        await attempt.__anext__()
        part = asyncio.create_task(attempt.__anext__())
        await asyncio.sleep(0.01)
        attempt.cancel()
        part.cancel()
        await asyncio.gather(part, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert (places.running, server.ended) == (0, ["cancelled"])

    asyncio.run(run())


def test_only_requests_that_generate_need_a_place() -> None:
    async def run() -> None:
        server = Server("a", 10.0)
        local, places = backend(server)
        attempt = local.call("m", "chat", Request(), info())
        await attempt.__anext__()
        assert await local.call("m", "tokenize", Request(stream=False), info()).__anext__() == "a"
        waiting = asyncio.create_task(local.call("m", "chat", Request(), info()).__anext__())
        await asyncio.sleep(0.01)
        assert (places.running, places.waiting) == (1, 1)
        attempt.cancel()
        assert await waiting == "a"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("parts", "others_retry", "late", "held"),
    [([], True, False, True), (["a"], True, False, False), ([], False, False, False), ([], True, True, False)],
)
def test_a_request_without_an_answer_is_left_to_haproxy(
    monkeypatch: pytest.MonkeyPatch, parts: list[str], others_retry: bool, late: bool, held: bool
) -> None:
    """Where the engine is lost: it is not answered, so that another replica gets it, unless its stream has begun."""
    from s1ray.serving.replica import backend as module
    from s1ray.serving.replica.watchdog import EngineLostError

    class Lost(Server):
        async def _answer(self) -> AsyncGenerator[Any]:
            for part in self.parts:
                yield part
            raise EngineLostError("gone")

    monkeypatch.setattr(module, "ENDS_S", 0.2)
    local = module.LocalBackend(Lost(*parts), Places(1, 1), others_retry=others_retry, keep_alive_s=10)

    async def run() -> bool:
        arrived = time.time() - (20 if late else 0)
        info = RequestInfo(headers={}, client="", arrived=arrived, deadline=1.0)
        attempt: Any = local.call("m", "chat", Request(), info)
        began = time.monotonic()
        assert [await attempt.__anext__() for _ in parts] == parts
        with pytest.raises(EngineLostError):
            await attempt.__anext__()
        return time.monotonic() - began > 0.15

    assert asyncio.run(run()) == held
