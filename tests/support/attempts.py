"""A scripted response of a replica, part by part."""

from __future__ import annotations

import asyncio
from typing import Any


class Attempt:
    """Gives its parts one by one: a number is a pause in seconds, an exception is raised."""

    def __init__(self, *parts: Any) -> None:
        self._parts = list(parts)
        self.cancelled = False

    async def __anext__(self) -> Any:
        while self._parts:
            part = self._parts.pop(0)
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif isinstance(part, BaseException):
                raise part
            else:
                return part
        raise StopAsyncIteration

    def cancel(self) -> None:
        assert not self.cancelled
        self.cancelled = True
