"""Connections that are each a pool of their own: taking one costs the same however many there are.

httpcore's pool looks at all of its connections for each of them whenever a request begins or ends. With 32 requests in
flight that is half of a client's processor time, and with hundreds nearly all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import httpx

ALONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)


class Connections(httpx.AsyncBaseTransport):
    """As many connections to each origin as there are requests in flight to it; who asks limits them.

    Args:
        socket_options: of each.
    """

    def __init__(self, socket_options: Iterable[Any]) -> None:
        self._options = list(socket_options)
        self._verify = httpx.create_ssl_context()
        self._idle: dict[tuple[bytes, bytes, int | None], list[httpx.AsyncHTTPTransport]] = {}
        self._open = set[httpx.AsyncHTTPTransport]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on the connection that was used last, or on a new one."""
        url = request.url
        idle = self._idle.setdefault((url.raw_scheme, url.raw_host, url.port), [])
        connection = idle.pop() if idle else self._another()
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await self._close(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Stream(response.stream, lambda: idle.append(connection))
        return response

    async def aclose(self) -> None:
        """Close all."""
        for connection in list(self._open):
            await self._close(connection)
        self._idle.clear()

    def _another(self) -> httpx.AsyncHTTPTransport:
        connection = httpx.AsyncHTTPTransport(verify=self._verify, limits=ALONE, socket_options=self._options)
        self._open.add(connection)
        return connection

    async def _close(self, connection: httpx.AsyncHTTPTransport) -> None:
        self._open.discard(connection)
        await connection.aclose()


class _Stream(httpx.AsyncByteStream):
    """A body, whose connection is free when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, free: Callable[[], None]) -> None:
        self._stream, self._free = stream, free

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        """Close it. A body that was not read to its end takes its connection with it; the next request opens one."""
        await self._stream.aclose()
        self._free()
