"""Connections that are each a pool of their own, to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from s1ray.generation.connections import Connections


class Server:
    """Answers "/<seconds>" after so many seconds, and "/drop" never; counts its connections."""

    def __init__(self) -> None:
        self.made = self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made, self.open = self.made + 1, self.open + 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1][1:]
                if path == b"drop":
                    break
                await asyncio.sleep(float(path))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
                await writer.drain()
        self.open -= 1
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, httpx.AsyncClient, str]]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(transport=Connections(())) as client:
            yield server, client, f"http://127.0.0.1:{port}"
    finally:
        listening.close()


async def _closed(server: Server, count: int) -> None:
    async with asyncio.timeout(60):
        while server.open > count:
            await asyncio.sleep(0.01)


def test_connections_are_used_again_and_never_shared_and_closed_at_the_end() -> None:
    async def run() -> None:
        async with serving() as (server, client, url):
            for _ in range(3):
                assert (await client.get(f"{url}/0")).text == "done"
            assert server.made == 1
            for _ in range(2):
                answers = await asyncio.gather(*(client.get(f"{url}/0.1") for _ in range(5)))
                assert [answer.text for answer in answers] == ["done"] * 5
            assert server.made == 5
            await client.aclose()
            await _closed(server, 0)

    asyncio.run(run())


def test_a_request_that_is_cancelled_or_dropped_takes_its_connection_with_it_and_no_other() -> None:
    async def run() -> None:
        async with serving() as (server, client, url):
            hanging = asyncio.create_task(client.get(f"{url}/60"))
            assert (await client.get(f"{url}/0.1")).text == "done"
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{url}/drop")
            assert (await client.get(f"{url}/0")).text == "done"
            assert server.made == 3

    asyncio.run(run())


def test_an_answer_that_is_not_read_to_its_end_does_not_spoil_the_next() -> None:
    async def run() -> None:
        async with serving() as (_, client, url):
            for _ in range(2):
                async with client.stream("GET", f"{url}/0") as response:
                    assert response.status_code == 200
            assert (await client.get(f"{url}/0")).text == "done"

    asyncio.run(run())
