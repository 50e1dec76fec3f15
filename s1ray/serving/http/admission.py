"""How much of the server each key may have at a time: a pure account of requests and of the thinking that they ask for.

Nothing here waits: a request is let in, or refused with the seconds after which it is worth another try. There are two
steps, because what a request asks for is known only when its body has been read: `enter` at the door (rate and number),
`reserve` behind it (thinking tokens). Where several HTTP workers share the traffic, each grants its share of every cap,
rounded up.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from s1ray.serving.http.keys import ApiKey

WINDOW_S = 60.0
"""What `requests_per_minute` counts in."""

RETRY_S = 2
"""Seconds to wait for one of one's own requests to end; nobody knows when it will."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in."""

    message: str
    retry_after_s: int


@dataclass
class _Account:
    """What one key has now."""

    entered: deque[float] = field(default_factory=deque)
    """When the requests of the last minute came, the oldest first."""
    running: int = 0
    thinking: int = 0


class Ticket:
    """A request that was let in; `leave` when it is over, however it ends."""

    def __init__(self, admission: Admission, key: ApiKey | None, account: _Account) -> None:
        self.key = key
        self._admission, self._account, self._thinking, self._left = admission, account, 0, False

    @property
    def name(self) -> str:
        """The key's name; empty where no keys are asked for."""
        return self.key.name if self.key is not None else ""

    def reserve(self, thinking_tokens: int) -> Refusal | None:
        """Ask for the thinking that the request may need; None: granted, until it leaves."""
        whole = self.key.outstanding_thinking_tokens if self.key is not None else None
        if whole is not None and thinking_tokens > whole:
            message = f"{thinking_tokens} thinking tokens are more than this key's cap of {whole} at a time"
            return Refusal(f"{message}; ask for less", 0)
        share, had = self._admission.share(whole), self._account.thinking
        # One that is larger than the share fits nowhere but where nothing runs.
        if share is not None and had + thinking_tokens > share and had > 0:
            message = f"this key's requests have {had} thinking tokens outstanding, of {share} at a time"
            return Refusal(f"{message}; another {thinking_tokens} must wait", RETRY_S)
        self._thinking += thinking_tokens
        self._account.thinking += thinking_tokens
        return None

    def leave(self) -> None:
        """Give everything back; more than once does no harm."""
        if not self._left:
            self._left = True
            self._account.running -= 1
            self._account.thinking -= self._thinking


class Admission:
    """The account of all keys in one HTTP worker.

    Args:
        workers: HTTP workers that share the traffic.
        clock: seconds, for tests.
    """

    def __init__(self, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers, self._clock = workers, clock
        self._accounts: dict[str, _Account] = defaultdict(_Account)

    def share(self, cap: int | None) -> int | None:
        """The part of a cap that is granted here."""
        return None if cap is None else math.ceil(cap / self._workers)

    def enter(self, key: ApiKey | None) -> Ticket | Refusal:
        """Let a request in, or not. Without a key it is."""
        if key is None:
            # One account for all, without caps.
            account = self._accounts[""]
            account.running += 1
            return Ticket(self, None, account)
        account, now = self._accounts[key.name], self._clock()
        rate, most = self.share(key.requests_per_minute), self.share(key.concurrent_requests)
        if rate is not None:
            while account.entered and account.entered[0] <= now - WINDOW_S:
                account.entered.popleft()
            if len(account.entered) >= rate:
                # The cap may have been lowered: as many must have grown old as leave room for one more.
                wait = account.entered[len(account.entered) - rate] + WINDOW_S - now
                return Refusal(f"more than {key.requests_per_minute} requests in a minute", max(1, math.ceil(wait)))
        if most is not None and account.running >= most:
            return Refusal(f"more than {key.concurrent_requests} requests at a time", RETRY_S)
        if rate is not None:
            account.entered.append(now)
        account.running += 1
        return Ticket(self, key, account)

    @property
    def running(self) -> int:
        """Requests that have entered and not left."""
        return sum(account.running for account in self._accounts.values())
