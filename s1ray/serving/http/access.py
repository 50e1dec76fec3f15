"""Access middleware of an HTTP worker: API keys, body limits, and one count per request.

Routes find the request's `RequestContext` in `request.state.context`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastapi import HTTPException
from starlette.requests import Request

from s1ray.serving.config import Access, Limits
from s1ray.serving.http.admission import Admission, Refusal, Ticket
from s1ray.serving.http.errors import RefusedError, error_response
from s1ray.serving.http.keys import KeyStore, presented_key
from s1ray.serving.http.preparing import Preparations, prepared
from s1ray.serving.metrics import count_request, outcome_of
from s1ray.serving.playground import PATH as PLAYGROUND

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("ray.serve")

HEALTH = "/health"

OPEN = (HEALTH, PLAYGROUND)
"""Paths that need no key, nor do paths below them: they reveal nothing and cost nothing."""


class RequestContext:
    """One request in an HTTP worker, from its headers to the last byte of the response."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.arrived = time.time()
        self.model = ""
        """The requested model, once it is known to exist."""
        self.outcome: str | None = None
        """The outcome where the HTTP status does not tell: one of `s1ray.serving.metrics.OUTCOMES`."""
        self._deferred: list[Callable[[], object]] = []

    def defer(self, action: Callable[[], object]) -> None:
        """Run an action when the request ends, in whatever way; the last one deferred runs first."""
        self._deferred.append(action)

    def end(self, status: int | None) -> None:
        """Run the deferred actions, release the ticket and count the request."""
        for action in reversed(self._deferred):
            action()
        self.ticket.leave()
        outcome = self.outcome or ("failed" if status is None else outcome_of(status))
        count_request(self.model, self.ticket.name, outcome)


class AccessMiddleware:
    """ASGI middleware that admits a request or refuses it.

    Args:
        app: the wrapped application.
        access: where the keys are.
        limits: of a single request.
        secret: the text of a key file, from the environment.
        workers: how many processes share the traffic now.
        preparations: of the requests for an engine in this process. None: there is none.

    Raises:
        ConfigError: the keys cannot be read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        limits: Limits,
        secret: str | None = None,
        workers: Callable[[], int] = lambda: 1,
        preparations: Preparations | None = None,
    ) -> None:
        self._app, self._limits, self._preparations = app, limits, preparations
        self._keys = KeyStore(access.keys_file, secret)
        self._admission = Admission(workers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on, or answer it with an error."""
        if scope["type"] != "http" or is_open(scope["path"].removeprefix(scope.get("root_path", ""))):
            await self._app(scope, receive, send)
            return
        try:
            context = RequestContext(self._admit(scope["headers"]))
        except RefusedError as refused:
            count_request("", refused.client, outcome_of(refused.status))
            await error_response(Request(scope), refused)(scope, receive, send)
            return
        scope.setdefault("state", {})["context"] = context
        status: int | None = None

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # Whatever came of it: how long it is sent is up to the client.
                prepared()
            await send(message)

        try:
            if (size := _content_length(scope["headers"])) is not None and size > self._limits.request_bytes:
                await error_response(Request(scope), self._too_large())(scope, receive, send_and_note_status)
            else:
                await self._app(scope, self._bounded(receive, context), send_and_note_status)
        except asyncio.CancelledError:
            context.outcome = context.outcome or "cancelled"
            raise
        finally:
            context.end(status)

    def _admit(self, headers: Sequence[tuple[bytes, bytes]]) -> Ticket:
        key = None
        if self._keys.required:
            secret = presented_key(headers)
            if secret is None:
                raise RefusedError(401, "an API key is required, as a bearer token or in the header x-api-key")
            key = self._keys.find(secret)
            if key is None:
                raise RefusedError(401, "unknown API key")
        ticket = self._admission.enter(key)
        if isinstance(ticket, Refusal):
            client = key.name if key is not None else ""
            raise RefusedError(429, ticket.message, retry_after_s=ticket.retry_after_s, client=client)
        return ticket

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is larger than {self._limits.request_bytes} bytes")

    def _bounded(self, receive: Receive, context: RequestContext) -> Receive:
        """`receive` with the limits on the size and the time of the request body; after it, preparation begins."""
        taken, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._limits.request_timeout_s

        async def bounded() -> Message:
            nonlocal taken, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                seconds = self._limits.request_timeout_s
                raise HTTPException(408, f"the request's body was not complete after {seconds:g} s") from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if taken > self._limits.request_bytes:
                    raise HTTPException(413, self._too_large().message)
                if complete and self._preparations is not None:
                    context.defer((await self._preparations.begin()).end)
            return message

        return bounded


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return any(path == opened or path.startswith(f"{opened}/") for opened in OPEN)


def _content_length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return None
