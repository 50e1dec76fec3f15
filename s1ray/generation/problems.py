"""What is wrong with a call over HTTP, and whether and when the same request is sent again."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import httpx

from s1ray.generation.answers import is_refusal
from s1ray.generation.base import Usage
from s1ray.generation.pace import reset_wait, told_wait

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of transient failures, unless the server's `x-should-retry` says otherwise."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""

FIRST_PAUSE_BUSY = 5.0
"""The same after a 429 that does not say how long: quotas are counted in minutes."""

MAX_PAUSE = 60.0
"""Most seconds between two attempts, where the server does not say how long to wait."""

MIN_WAIT = 1.0
"""Least seconds between two attempts after a 429, even where the server says that none need pass."""

MAX_WAIT = 3600.0
"""Seconds that one request waits in all because the server says so; then it fails, in words."""

EMPTY = ("insufficient_quota", "exceeded your current quota", "billing", "insufficient balance")
"""Words of a 429 that waiting does not help: the account is empty."""


@dataclass(frozen=True)
class Problem:
    """Why a call gave nothing of use."""

    why: str
    status: int | None = None
    transient: bool = True
    """The same call may succeed later."""
    usage: Usage | None = None
    lost: bool = False
    """The provider may have billed an answer, and its count cannot be read."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    unreachable: bool = False
    """Nobody listens at the address."""
    refused: bool = False
    """By a filter of the provider's."""


class Tries:
    """How often a request is sent."""

    def __init__(self, attempts: int) -> None:
        self._attempts, self._made, self._waited = attempts, 0, 0.0

    def after(self, problem: Problem) -> float | str:
        """Seconds before the request is sent again; or, where it is given up, the message, with {} for the problem."""
        if not problem.transient:
            return "{}"
        wait = problem.wait
        if wait is not None:
            wait = max(wait, MIN_WAIT) if problem.status == 429 else wait
            self._waited += wait
            if self._waited > MAX_WAIT:
                return f"{{}}; the server asks to wait {wait:,.0f} s, more than {MAX_WAIT:,.0f} s in all"
            if problem.status == 429:
                # Waiting as told costs no attempt: a busy hour must not fail the rows of that hour.
                return wait
        self._made += 1
        if self._made >= self._attempts:
            return f"gave up after {self._attempts} attempt{'s' * (self._attempts > 1)}: {{}}"
        if wait is not None:
            return wait
        first = FIRST_PAUSE_BUSY if problem.status == 429 else FIRST_PAUSE
        # Jitter, so that clients that failed together do not retry together.
        return min(MAX_PAUSE, first * 2.0 ** (self._made - 1) * random.uniform(0.5, 1.5))


def unsuccessful(status: int, headers: httpx.Headers, content: bytes) -> Problem:
    """What a status other than a success says."""
    error = _error(content)
    message = _message(error, content, status)
    empty = status == 429 and any(word in message.lower() for word in EMPTY)
    refused = 400 <= status < 500 and status not in RETRIED and is_refusal(error)
    told = headers.get("x-should-retry")
    transient = not refused and (told == "true" or (status in RETRIED and told != "false" and not empty))
    wait = told_wait(headers) if transient else None
    if wait is None and status == 429:
        wait = reset_wait(headers) or None
    # Behind a gateway that waits no longer the model goes on, and so does the bill.
    lost = status == 504
    return Problem(f"status {status}: {message}", status, transient, lost=lost, wait=wait, refused=refused)


def _error(content: bytes) -> object:
    """What the body of an error holds: its `error` where there is one, or all of it. None: no JSON."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body.get("error", body) if isinstance(body, dict) else body


def _message(error: object, content: bytes, status: int) -> str:
    """What the server says is wrong: the error's message where there is one, else the body's beginning."""
    if error is None:
        return content[:300].decode("utf-8", "replace") or httpx.codes.get_reason_phrase(status)
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    said = str(message if message is not None else error)[:1000]
    return f"{said} ({code})" if isinstance(code, str) and code not in said else said
