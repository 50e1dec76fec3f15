"""Admission control: the caps of each API key on requests per minute, concurrent requests and thinking tokens.

Nothing here waits: a request is admitted, or refused with the number of seconds after which to retry. It takes two
steps, because what a request asks for is known only once its body has been read: `enter` checks the rate and the number
of requests, `reserve` the thinking tokens. With several HTTP workers, each grants its share of every cap, rounded up.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from s1ray.serving.http.keys import ApiKey

WINDOW_S = 60.0
"""The window of `requests_per_minute`."""

RETRY_S = 2
"""`Retry-After` when a key must wait for one of its own requests to end; when that will be is unknown."""


@dataclass(frozen=True)
class Refusal:
    """Why a request was not admitted."""

    message: str
    retry_after_s: int


@dataclass
class _Account:
    """Current usage of one key."""

    entered: deque[float] = field(default_factory=deque)
    """Arrival times of the requests of the last minute, oldest first."""
    running: int = 0
    thinking: int = 0


class Ticket:
    """An admitted request; call `leave` when it ends, in whatever way."""

    def __init__(self, admission: Admission, key: ApiKey | None, account: _Account) -> None:
        self.key = key
        self._admission, self._account, self._thinking, self._left = admission, account, 0, False

    @property
    def name(self) -> str:
        """The key's name; empty if the server needs no keys."""
        return self.key.name if self.key is not None else ""

    def reserve(self, thinking_tokens: int) -> Refusal | None:
        """Reserve the thinking tokens that the request may need, until it leaves. None: granted."""
        cap = self.key.outstanding_thinking_tokens if self.key is not None else None
        if cap is not None and thinking_tokens > cap:
            message = f"{thinking_tokens} thinking tokens exceed this key's cap of {cap} at a time"
            return Refusal(f"{message}; ask for less", 0)
        share, reserved = self._admission.share(cap), self._account.thinking
        # A request larger than the share is admitted only while the key has nothing else running here.
        if share is not None and reserved + thinking_tokens > share and reserved > 0:
            message = f"this key's requests have {reserved} thinking tokens outstanding, of {share} at a time"
            return Refusal(f"{message}; another {thinking_tokens} must wait", RETRY_S)
        self._thinking += thinking_tokens
        self._account.thinking += thinking_tokens
        return None

    def leave(self) -> None:
        """Release everything; calling it again does nothing."""
        if not self._left:
            self._left = True
            self._account.running -= 1
            self._account.thinking -= self._thinking


class Admission:
    """Admission control of one HTTP worker.

    Args:
        workers: how many processes share the traffic now.
        clock: seconds, for tests.
    """

    def __init__(self, workers: Callable[[], int] = lambda: 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers, self._clock = workers, clock
        self._accounts: dict[str, _Account] = defaultdict(_Account)

    def share(self, cap: int | None) -> int | None:
        """The share of a cap that this worker grants."""
        return None if cap is None else math.ceil(cap / max(1, self._workers()))

    def enter(self, key: ApiKey | None) -> Ticket | Refusal:
        """Admit a request or refuse it. Without a key it is always admitted."""
        if key is None:
            # One account for everyone, without caps.
            account = self._accounts[""]
            account.running += 1
            return Ticket(self, None, account)
        account, now = self._accounts[key.name], self._clock()
        rate, concurrent = self.share(key.requests_per_minute), self.share(key.concurrent_requests)
        if rate is not None:
            while account.entered and account.entered[0] <= now - WINDOW_S:
                account.entered.popleft()
            if len(account.entered) >= rate:
                # The cap may have been lowered, so that more than one request must leave the window first.
                wait = account.entered[len(account.entered) - rate] + WINDOW_S - now
                return Refusal(f"more than {key.requests_per_minute} requests in a minute", max(1, math.ceil(wait)))
        if concurrent is not None and account.running >= concurrent:
            return Refusal(f"more than {key.concurrent_requests} requests at a time", RETRY_S)
        if rate is not None:
            account.entered.append(now)
        account.running += 1
        return Ticket(self, key, account)

    @property
    def running(self) -> int:
        """Requests that have entered and not yet left."""
        return sum(account.running for account in self._accounts.values())
