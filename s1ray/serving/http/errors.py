"""Refusals, in the form of the API that a request came by."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from s1ray.serving.http import anthropic

MESSAGES = "/v1/messages"
"""Below it errors have Anthropic's form."""

BUSY_S = 2
"""Seconds after which a full server is worth another try."""


class RefusedError(Exception):
    """A request that is not answered, or not now.

    Args:
        status: of HTTP.
        message: for the client.
        param: the request's field that is at fault.
        kind: the error's `type` in OpenAI's form.
        retry_after_s: seconds after which another try may succeed.
        outcome: what metrics count it as, where the status does not say.
        client: the name of the API key that it came with, where it is refused at the door.
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

    def body(self) -> dict[str, Any]:
        """OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def busy() -> RefusedError:
    """All replicas are full and the queue is, too."""
    message = "all replicas are busy and the queue is full; try again"
    return RefusedError(429, message, retry_after_s=BUSY_S, outcome="overloaded")


def lost() -> RefusedError:
    """The replica died, and another try did no better."""
    message = "the replica that had this request was lost; it is being replaced, try again"
    return RefusedError(503, message, retry_after_s=BUSY_S, outcome="lost")


def late(seconds: float, *, begun: bool) -> RefusedError:
    """A limit of time has passed."""
    if begun:
        return RefusedError(504, f"the response was not complete after {seconds:g} s", outcome="late")
    message = f"no response had begun after {seconds:g} s; the server is busy, try again"
    return RefusedError(503, message, retry_after_s=BUSY_S, outcome="late")


def json_response(body: dict[str, Any], status: int = 200) -> Response:
    """A response in ASCII: what a client sent may come back in an error, and need not be encodable."""
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def error_response(request: Request, error: RefusedError) -> Response:
    """An error in the form of the route's API, and on the record of the request's context."""
    context = request.scope.get("state", {}).get("context")
    if context is not None and error.outcome is not None:
        context.outcome = error.outcome
    if MESSAGES in request.scope["path"]:
        body = anthropic.error_body(error.status, error.message, error.param)
    else:
        body = error.body()
    response = json_response(body, error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
