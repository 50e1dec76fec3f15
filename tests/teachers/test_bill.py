from __future__ import annotations

import pytest

from s1ray.teachers.bill import Prices, bill
from s1ray.teachers.tally import Tally

PRICES = Prices(prompt=2, cached_prompt=0.5, completion=8)
TALLY = Tally(
    sent=5,
    answered=3,
    retried=1,
    lost=1,
    unmetered=1,
    prompt_tokens=1_000_000,
    cached_tokens=400_000,
    completion_tokens=500_000,
    reasoning_tokens=300_000,
    lost_prompt_tokens=1_000,
    unmetered_prompt_tokens=500,
)


def test_cached_tokens_have_a_price_of_their_own() -> None:
    assert PRICES.spent(TALLY) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8)
    assert Prices(prompt=2, completion=8).spent(TALLY) == pytest.approx(2 + 4)
    dear = Prices(prompt=2, cache_write=2.5, completion=8)
    assert dear.money(1_000_000, 0, 0, cache_write_tokens=400_000) == pytest.approx(0.6 * 2 + 0.4 * 2.5)
    assert dear.money_at_most(1_000_000, 0) == 2.5


def test_the_bill_says_what_was_counted_and_what_lost_calls_can_have_cost() -> None:
    found = bill(TALLY, PRICES, max_tokens=10_000)
    assert found["calls"] == {"sent": 5, "answered": 3, "retried": 1, "failed": 0, "lost": 1}
    tokens = {"prompt": 1_000_000, "cached": 400_000, "cache_write": 0, "completion": 500_000, "reasoning": 300_000}
    assert found["tokens"] == tokens
    assert found["answers_without_a_count"] == 1
    at_most = {"lost_at_most": 0.082, "without_a_count_at_most": 0.081}
    assert found["money"] == {"counted": 5.4, **at_most, "currency": "USD"}
    assert PRICES.spent_at_most(TALLY, 10_000) == pytest.approx(5.4 + 0.082 + 0.081)


def test_what_nobody_knows_is_not_given_a_number() -> None:
    assert bill(TALLY, PRICES, max_tokens=None)["money"]["lost_at_most"] is None
    assert bill(TALLY, PRICES, max_tokens=None)["money"]["without_a_count_at_most"] is None
    assert bill(Tally(sent=1, answered=1), PRICES, max_tokens=None)["money"]["lost_at_most"] == 0
    assert "money" not in bill(TALLY, None, max_tokens=10)
