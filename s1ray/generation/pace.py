"""When the calls to a provider start: so many requests and so many tokens a minute, and common pauses.

Requests start evenly spread, in the order in which they came. Each takes its share of a minute's requests and tokens
before it starts. How many tokens that will be is an estimate: the bytes of its body stand for the prompt's, and the
answers so far for the completion's. When its answer comes, the provider's count takes the estimate's place, so that a
wrong estimate delays or hastens what follows, and then is forgotten.

All requests pause together after a 429, and where the provider's headers say that nothing is left until a time. Then
they go on one after the other, not all at once.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic, time

from s1ray.generation.base import Usage

SPREAD = 5.0
"""Seconds within which requests go on after a common pause."""
POLL_S = 1.0
"""Seconds after which a request that waits for its share looks again, as corrections may have hastened it."""
BYTES_PER_TOKEN = 3
"""Of a request's body: few tokenizers make more tokens of prose, formulas and the JSON around them."""
UNKNOWN_COMPLETION = 4096
"""Tokens of the first completions, where the request sets no maximum."""
MEMORY = 100
"""Completions that the mean of their tokens looks back on."""
MAX_RESET = 60.0
"""Seconds that requests pause at most because a header says that nothing is left: limits are by the minute. A provider
that wants longer answers with a 429."""

REMAINING = (
    *((f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset")
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
"""Headers: how much is left, and when it is filled up again (OpenAI's and Anthropic's)."""
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
"""As OpenAI writes it: "1s", "6m0s", "12ms"."""


class Pace:
    """The pace of one provider's account: of every generator that shares it.

    Args:
        requests_per_minute: started at most. None: not limited.
        tokens_per_minute: of prompts and completions together. None: not limited.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._requests = None if requests_per_minute is None else _Rate(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Rate(tokens_per_minute)
        self._line = asyncio.Lock()
        self._pause_ends = 0.0
        self._completions, self._mean = 0, 0.0

    async def turn(self, body_bytes: int, max_tokens: int | None) -> Turn:
        """Wait until a request may start.

        Args:
            body_bytes: length of its body.
            max_tokens: of its completion. None: not limited.
        """
        await self._pause_over()
        if self._requests is None and self._tokens is None:
            return Turn(self, 0.0)
        async with self._line:
            while (wait := max(rate.wait() for rate in (self._requests, self._tokens) if rate is not None)) > 0:
                await asyncio.sleep(min(wait, POLL_S))
                await self._pause_over()
            tokens = body_bytes / BYTES_PER_TOKEN + self._completion(max_tokens)
            if self._requests is not None:
                self._requests.take(1)
            if self._tokens is not None:
                self._tokens.take(tokens)
        return Turn(self, tokens)

    @property
    def is_paused(self) -> bool:
        """Whether no request may start now."""
        return self._pause_ends > monotonic()

    def pause(self, seconds: float) -> None:
        """Let no request start for some time."""
        self._pause_ends = max(self._pause_ends, monotonic() + seconds)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Pause if an answer's headers say that nothing is left."""
        if seconds := reset_wait(headers):
            self.pause(min(seconds, MAX_RESET))

    def _completion(self, max_tokens: int | None) -> float:
        expected = self._mean if self._completions else float(max_tokens or UNKNOWN_COMPLETION)
        return expected if max_tokens is None else min(expected, max_tokens)

    def _count(self, estimate: float, tokens: float, completion: int | None) -> None:
        if self._tokens is not None:
            self._tokens.take_back(estimate - tokens)
        if completion is not None:
            self._completions += 1
            self._mean += (completion - self._mean) / min(self._completions, MEMORY)

    async def _pause_over(self) -> None:
        # While one waits, another may be told to wait longer.
        until = 0.0
        while until < self._pause_ends and (left := self._pause_ends - monotonic()) > 0:
            until = self._pause_ends
            await asyncio.sleep(left + random.uniform(0, min(left, SPREAD)))


class Turn:
    """A request that has started."""

    def __init__(self, pace: Pace, estimate: float) -> None:
        """With the tokens that it was taken to need."""
        self._pace, self._estimate = pace, estimate

    def end(self, usage: Usage | None, *, counts: bool) -> None:
        """Count what it needed.

        Args:
            usage: the provider's count. None: there is none.
            counts: whether the provider counts something all the same, so that the estimate stays.
        """
        if usage is not None:
            used = usage.prompt_tokens + usage.completion_tokens
            self._pace._count(self._estimate, used, usage.completion_tokens)
        elif not counts:
            self._pace._count(self._estimate, 0, None)


class _Rate:
    """An amount a minute, evenly spread: taking some delays what follows."""

    def __init__(self, per_minute: float) -> None:
        self._seconds_each = 60 / per_minute
        self._free_at = 0.0

    def wait(self) -> float:
        return self._free_at - monotonic()

    def take(self, amount: float) -> None:
        self._free_at = max(self._free_at, monotonic()) + amount * self._seconds_each

    def take_back(self, amount: float) -> None:
        self._free_at -= amount * self._seconds_each


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms`, or by `retry-after` (seconds or a date). None: nothing that can be read.

    Args:
        headers: of an answer, with names that are found in lower case.
    """
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return max(0.0, seconds / scale)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def reset_wait(headers: Mapping[str, str]) -> float:
    """Seconds until there is something left of every limit that is used up; 0: something is left of all."""
    waits = [0.0]
    for remaining, reset in REMAINING:
        left = _number(headers.get(remaining, ""))
        if left is not None and left <= 0:
            waits.append(_until(headers.get(reset, "")) or 0.0)
    return max(waits)


def _until(value: str) -> float | None:
    """Seconds until a reset: a number of them, a duration, or a time (RFC 3339)."""
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    if value and (found := DURATION.fullmatch(value)):
        numbers = [_number(part or "0") for part in found.groups()]
        scales = (86400, 3600, 60, 1, 0.001)
        return sum((number or 0) * scale for number, scale in zip(numbers, scales, strict=True))
    try:
        then = datetime.fromisoformat(value)
    except ValueError:
        return None
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    return max(0.0, then.timestamp() - time())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
