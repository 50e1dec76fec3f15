"""One request to the replicas of a model: retried where its replica was lost before it said anything, limited in time,
and cancelled when the client leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

PAUSE_S = 1.0
"""Between two attempts: the time in which a replica whose engine has died goes out of service."""


PartT = TypeVar("PartT")
PartT_co = TypeVar("PartT_co", covariant=True)


class Attempt(Protocol[PartT_co]):
    """What one attempt gives: Serve's streaming response."""

    async def __anext__(self) -> PartT_co:
        """The next part of the response."""

    def cancel(self) -> None:
        """Stop the replica's work on the request."""


class LostError(Exception):
    """The replica was lost: in every attempt before the response began, or once after it had begun."""


class LateError(Exception):
    """A time limit has passed.

    Args:
        seconds: the limit.
        begun: whether the response had begun.
    """

    def __init__(self, seconds: float, *, begun: bool) -> None:
        super().__init__(f"after {seconds:g} s")
        self.seconds, self.begun = seconds, begun


class ReplicaCall(Generic[PartT]):
    """One request and its response. Call `begin` once, iterate over the rest, and `cancel` at the end in any case.

    Args:
        start: sends the request to some replica.
        is_lost: whether an error means that the replica is gone, and not that the request is at fault.
        attempts: how often the request is sent at most.
        first_s: seconds until the response must begin. None: no limit.
        total_s: seconds until it must be complete. None: no limit.
        pause_s: seconds before another attempt.
    """

    def __init__(
        self,
        start: Callable[[], Attempt[PartT]],
        *,
        is_lost: Callable[[BaseException], bool],
        attempts: int = 2,
        first_s: float | None = None,
        total_s: float | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._start, self._is_lost, self._pause_s = start, is_lost, pause_s
        self._attempts = attempts
        self._first_s, self._total_s = first_s, total_s
        self._attempt: Attempt[PartT] | None = None
        self._begun = self._over = False
        self._deadline: float | None = None
        self.attempts = 0

    async def begin(self) -> PartT:
        """Send the request and give the first part of its response.

        Raises:
            LostError, LateError: and whatever the request itself is refused with.
        """
        now = asyncio.get_running_loop().time()
        self._deadline = None if self._total_s is None else now + self._total_s
        first_by = None if self._first_s is None else now + self._first_s
        if first_by is None or (self._deadline is not None and self._deadline < first_by):
            first_by, seconds = self._deadline, self._total_s
        else:
            seconds = self._first_s
        while True:
            self.attempts += 1
            self._attempt = self._start()
            try:
                part = await self._next(first_by, seconds)
            except LostError:
                self.cancel()
                if self.attempts >= self._attempts:
                    raise
                self._over = False
                await asyncio.sleep(self._pause_s)
                continue
            except BaseException:
                self.cancel()
                raise
            self._begun = True
            return part

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PartT:
        try:
            return await self._next(self._deadline, self._total_s)
        except BaseException:
            self.cancel()
            raise

    def complete(self) -> None:
        """The response is complete: there is nothing to cancel."""
        self._over = True

    def cancel(self) -> None:
        """Stop the work on the request, if there is any."""
        if not self._over:
            self._over = True
            if self._attempt is not None:
                self._attempt.cancel()

    async def _next(self, by: float | None, seconds: float | None) -> PartT:
        assert self._attempt is not None
        task = asyncio.current_task()
        ended = 0 if task is None else task.cancelling()
        try:
            async with asyncio.timeout_at(by) as limit:
                part = await self._attempt.__anext__()
            # vLLM takes a cancelled task for a client that left, and gives an answer for it.
            if limit.expired():
                raise TimeoutError
            if task is not None and task.cancelling() > ended:
                raise asyncio.CancelledError
            return part
        except StopAsyncIteration:
            self._over = True
            if not self._begun:
                raise LostError("the response ended before it began") from None
            raise
        except TimeoutError:
            raise LateError(seconds or 0.0, begun=self._begun) from None
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling():
                raise
            # Not our own cancellation: the replica was stopped.
            raise LostError("the replica was stopped") from error
        except Exception as error:
            if self._is_lost(error):
                raise LostError(str(error)) from error
            raise
