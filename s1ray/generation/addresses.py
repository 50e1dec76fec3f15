"""Several addresses that serve the same models: which one gets the next call.

A call goes to the address with the fewest calls in flight, the calls of one request to the same address while it
answers (its cache holds the prompt). After a failure the request goes elsewhere. An address counts as down after
`FAILURES` calls in a row that failed for want of a server, or after one that found nobody listening; then it gets no
call for some time, and after that one at a time until one is answered. Where all are down, the one whose time ends
first is asked, as with a single address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from s1ray.generation.pace import Pace

FAILURES = 3
"""Calls in a row that fail before an address counts as down."""
DOWN_S = 5.0
"""Seconds that an address is left alone at first; doubled each time."""
MAX_DOWN_S = 60.0


@dataclass(eq=False)
class Address:
    """One of them."""

    url: str
    """With its `/v1`."""
    pace: Pace
    """When calls to it start."""
    in_flight: int = 0
    """Calls, those included that wait for their turn."""
    failures: int = 0
    """In a row."""
    down_until: float = 0.0
    used: int = 0
    """Of all calls, the number of the last one that it got."""

    def answered(self) -> None:
        """It is there."""
        self.failures, self.down_until = 0, 0.0

    def failed(self, *, unreachable: bool) -> None:
        """A call failed for want of a server.

        Args:
            unreachable: nobody listens.
        """
        self.failures = max(self.failures + 1, FAILURES if unreachable else 0)
        if self.failures >= FAILURES:
            self.down_until = monotonic() + min(MAX_DOWN_S, DOWN_S * 2.0 ** (self.failures - FAILURES))

    @property
    def is_up(self) -> bool:
        """It may get a call."""
        if self.failures < FAILURES:
            return True
        return monotonic() >= self.down_until and not self.in_flight


class Addresses:
    """All of them.

    Args:
        urls: at least one, with their `/v1`.
        pace: makes the pace of one.

    Raises:
        ValueError: there is none, or one comes twice.
    """

    def __init__(self, urls: Sequence[str], pace: Callable[[], Pace]) -> None:
        urls = [url.rstrip("/") for url in urls]
        if not urls or len(set(urls)) < len(urls):
            raise ValueError(f"base_url: give one address or several different ones, got {', '.join(urls) or 'none'}")
        self.all = [Address(url, pace()) for url in urls]
        self._calls = 0

    def choose(self, before: Address | None = None, *, failed: bool = False) -> Address:
        """The address of the next call.

        Args:
            before: that of the request's call before.
            failed: that call failed.
        """
        if before is not None and not failed and before.is_up:
            return before

        def rank(address: Address) -> tuple[bool, bool, bool, float, int, int]:
            is_down = not address.is_up
            again = failed and address is before
            return is_down, address.pace.is_paused, again, is_down * address.down_until, address.in_flight, address.used

        chosen = min(self.all, key=rank)
        self._calls += 1
        chosen.used = self._calls
        return chosen

    def has_other(self, address: Address) -> bool:
        """Whether another one can be asked at once."""
        return any(other.is_up and not other.pace.is_paused for other in self.all if other is not address)
