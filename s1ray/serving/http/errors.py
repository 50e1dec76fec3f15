"""Requests that are refused, and the responses that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

BUSY_S = 2
"""Seconds after which a full server is worth another try."""

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class RefusedError(Exception):
    """A request that is not answered, or not now. It ends as an HTTP response or as an event of a stream.

    Args:
        status: of HTTP.
        message: for the client.
        param: the request's field that is at fault.
        kind: the error's `type` in OpenAI's form.
        retry_after_s: seconds after which another try may succeed.
        outcome: what metrics count it as, where the status does not say.
        client: the name of the API key that it came with, where the access middleware refuses it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: int | None = None,
        outcome: str | None = None,
        client: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.kind = kind or KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.retry_after_s, self.outcome, self.client = retry_after_s, outcome, client

    def body(self) -> dict[str, JsonValue]:
        """OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


ErrorForm = Callable[[str, RefusedError], Mapping[str, JsonValue]]
"""From a request's path and its error to the body of the response. An application has it as `app.state.error_form`;
without one, errors have OpenAI's form."""


def busy() -> RefusedError:
    """All replicas are full, and so is the queue."""
    message = "all replicas are busy and the queue is full; try again"
    return RefusedError(429, message, retry_after_s=BUSY_S, outcome="overloaded")


def lost() -> RefusedError:
    """The replica died, and another attempt did no better."""
    message = "the replica that had this request was lost; it is being replaced, try again"
    return RefusedError(503, message, retry_after_s=BUSY_S, outcome="lost")


def late(seconds: float, *, begun: bool) -> RefusedError:
    """A time limit has passed."""
    if begun:
        return RefusedError(504, f"the response was not complete after {seconds:g} s", outcome="late")
    message = f"no response had begun after {seconds:g} s; the server is busy, try again"
    return RefusedError(503, message, retry_after_s=BUSY_S, outcome="late")


def failed() -> RefusedError:
    """Our own fault."""
    return RefusedError(500, "the server failed to answer; its log says why", kind="server_error")


def json_response(body: Mapping[str, JsonValue], status: int = 200) -> Response:
    """A response in ASCII: what a client sent may come back in an error, and may not be encodable."""
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def error_response(request: Request, error: RefusedError) -> Response:
    """An error in the form of the request's API; its outcome is noted in the request's context."""
    context = request.scope.get("state", {}).get("context")
    if context is not None and error.outcome is not None:
        context.outcome = error.outcome
    form: ErrorForm | None = getattr(request.app.state, "error_form", None)
    body = error.body() if form is None else form(request.scope["path"], error)
    response = json_response(body, error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
