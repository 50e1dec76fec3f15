"""What a teacher costs: its price list, and the calls, tokens and money of a run."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from s1ray.config import Config
from s1ray.traces.ledger import Tally

MILLION = 1_000_000


class Prices(Config):
    """Money for a million tokens, as the provider's price list says."""

    prompt: float = Field(ge=0)
    cached_prompt: float | None = Field(default=None, ge=0)
    """Of prompt tokens that were read from a cache. None: they cost the same."""
    completion: float = Field(ge=0)
    """Reasoning included."""
    currency: str = "USD"

    def money(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """What tokens cost.

        Args:
            prompt_tokens: cached ones included.
            cached_tokens: of the prompt.
            completion_tokens: reasoning included.
        """
        cached_price = self.prompt if self.cached_prompt is None else self.cached_prompt
        fresh = (prompt_tokens - cached_tokens) * self.prompt
        return (fresh + cached_tokens * cached_price + completion_tokens * self.completion) / MILLION

    def spent(self, tally: Tally) -> float:
        """What the calls whose tokens the provider counted cost."""
        return self.money(tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens)


def bill(tally: Tally, prices: Prices | None, max_tokens: int | None) -> dict[str, Any]:
    """What the manifest says about calls, tokens and money.

    Args:
        tally: of all starts of the run.
        prices: None: money is left out.
        max_tokens: of one response. None: not limited.

    Returns:
        `calls` by outcome, `tokens` by kind, `answers_without_a_count`, and with prices `money`: `counted` is what the
        provider's counts cost, `lost_at_most` what calls without an answer can have cost besides (null: not known).
    """
    calls = {name: getattr(tally, name) for name in ("sent", "answered", "retried", "failed", "lost")}
    kinds = ("prompt", "cached", "completion", "reasoning")
    tokens = {kind: getattr(tally, f"{kind}_tokens") for kind in kinds}
    found: dict[str, Any] = {"calls": calls, "tokens": tokens, "answers_without_a_count": tally.unmetered}
    if prices is None:
        return found
    at_most = None
    if max_tokens is not None or not tally.lost:
        at_most = round(prices.money(tally.lost_prompt_tokens, 0, tally.lost * (max_tokens or 0)), 6)
    money = {"counted": round(prices.spent(tally), 6), "lost_at_most": at_most, "currency": prices.currency}
    return found | {"money": money}
