"""What a teacher costs: its price list, and the calls, tokens and money of a run."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr

from s1ray.config import Config, PlainText
from s1ray.generation.base import Usage
from s1ray.teachers.tally import Tally

MILLION = 1_000_000
MOST_MONEY = 1e12
"""Of a price, and of a limit."""


class Prices(Config):
    """Money for a million tokens, as the provider's price list says."""

    prompt: float = Field(ge=0, le=MOST_MONEY)
    cached_prompt: float | None = Field(default=None, ge=0, le=MOST_MONEY)
    """Of prompt tokens that were read from a cache. None: they cost the same."""
    cache_write: float | None = Field(default=None, ge=0, le=MOST_MONEY)
    """Of prompt tokens that were written to a cache. None: they cost the same."""
    completion: float = Field(ge=0, le=MOST_MONEY)
    """Reasoning included."""
    currency: PlainText = "USD"
    _share: float = PrivateAttr(1.0)

    @property
    def share(self) -> float:
        """Of the price list's prices."""
        return self._share

    def times(self, share: float) -> Prices:
        """A share of each price."""
        scaled = {name: None if price is None else price * share for name, price in self if name != "currency"}
        prices = self.model_copy(update=scaled)
        prices._share = self._share * share
        return prices

    def money(
        self, prompt_tokens: int, cached_tokens: int, completion_tokens: int, cache_write_tokens: int = 0
    ) -> float:
        """What tokens cost.

        Args:
            prompt_tokens: all of them.
            cached_tokens: of the prompt, read from a cache.
            completion_tokens: reasoning included.
            cache_write_tokens: of the prompt, written to a cache.
        """
        read, written = (self.prompt if price is None else price for price in (self.cached_prompt, self.cache_write))
        fresh = prompt_tokens - cached_tokens - cache_write_tokens
        prompt = fresh * self.prompt + cached_tokens * read + cache_write_tokens * written
        return (prompt + completion_tokens * self.completion) / MILLION

    def of(self, usage: Usage) -> float:
        """What one answer cost."""
        return self.money(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.cache_write_tokens)

    def money_at_most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What tokens can cost, whatever a cache does."""
        dearest = max(self.prompt, self.cached_prompt or 0, self.cache_write or 0)
        return (prompt_tokens * dearest + completion_tokens * self.completion) / MILLION

    def spent(self, tally: Tally) -> float:
        """What the calls whose tokens the provider counted cost."""
        return self.money(tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens, tally.cache_write_tokens)

    def spent_at_most(self, tally: Tally, max_tokens: int) -> float:
        """With what lost calls and answers without a count can have cost.

        Args:
            tally: calls and tokens.
            max_tokens: of one response.
        """
        prompts = tally.lost_prompt_tokens + tally.unmetered_prompt_tokens
        return self.spent(tally) + self.money_at_most(prompts, (tally.lost + tally.unmetered) * max_tokens)


def bill(tally: Tally, prices: Prices | None, max_tokens: int | None) -> dict[str, Any]:
    """What the manifest says about calls, tokens and money.

    Args:
        tally: of all starts of the run.
        prices: None: money is left out.
        max_tokens: of one response. None: not limited.

    Returns:
        `calls` by outcome, `tokens` by kind, `answers_without_a_count`, and with prices `money`: `counted` is what the
        provider's counts cost; besides it, calls without an answer can have cost `lost_at_most`, and answers without a
        count `without_a_count_at_most` (null: not known).
    """
    calls = {name: getattr(tally, name) for name in ("sent", "answered", "retried", "failed", "lost")}
    kinds = ("prompt", "cached", "cache_write", "completion", "reasoning")
    tokens = {kind: getattr(tally, f"{kind}_tokens") for kind in kinds}
    found: dict[str, Any] = {"calls": calls, "tokens": tokens, "answers_without_a_count": tally.unmetered}
    if prices is None:
        return found

    def at_most(count: int, prompt_tokens: int) -> float | None:
        if count and max_tokens is None:
            return None
        return round(prices.money_at_most(prompt_tokens, count * (max_tokens or 0)), 6)

    money = {
        "counted": round(prices.spent(tally), 6),
        "lost_at_most": at_most(tally.lost, tally.lost_prompt_tokens),
        "without_a_count_at_most": at_most(tally.unmetered, tally.unmetered_prompt_tokens),
        "currency": prices.currency,
    }
    if prices.share != 1:
        money["share_of_list_price"] = prices.share
    return found | {"money": money}
