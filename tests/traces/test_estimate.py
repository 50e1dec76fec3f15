"""What a run will take, told from some of its answers."""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.generation.base import Usage
from s1ray.teachers.base import Teacher
from s1ray.teachers.ledger import Answer
from s1ray.traces.config import TracesConfig
from s1ray.traces.estimate import FEWEST, estimate, first_answers, rounded, run_line
from s1ray.traces.probe import spread

DRAWS = 2000


def teacher(**fields: JsonValue) -> Teacher:
    api: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    data: dict[str, JsonValue] = {"output": "unused", "questions": "unused.parquet", "tokenizer": "unused"}
    return validate_config(TracesConfig, data | {"teacher": api | fields}, "test").teacher


def answer(tokens: int | None, seconds: float | None = None) -> Answer:
    usage = None if tokens is None else Usage(100, 0, tokens)
    return Answer("t", "4", "stop", None, None, usage, seconds)


@pytest.mark.parametrize("sigma", [0.3, 0.6, 0.9, 1.2])
@pytest.mark.parametrize("n", [5, 10, 30])
def test_the_mean_of_skewed_lengths_is_in_the_interval_as_often_as_it_says(n: int, sigma: float) -> None:
    draw = random.Random(f"{n}/{sigma}")
    true = math.exp(sigma**2 / 2)
    found = [estimate([draw.lognormvariate(0, sigma) for _ in range(n)]) for _ in range(DRAWS)]
    assert sum(each.low <= true <= each.high for each in found) / DRAWS > 0.91
    assert sum(each.low > true for each in found) / DRAWS < 0.06


def test_the_mean_of_cut_lengths_is_in_the_interval_as_often_as_it_says() -> None:
    draw, most = random.Random(0), 4.0
    true = statistics.fmean(min(most, draw.lognormvariate(0, 1)) for _ in range(200_000))
    found = [estimate([min(most, draw.lognormvariate(0, 1)) for _ in range(10)], most) for _ in range(DRAWS)]
    assert sum(each.low <= true <= each.high for each in found) / DRAWS > 0.93
    assert max(each.high for each in found) <= most


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_the_mean_is_within_its_interval(values: list[float]) -> None:
    found = estimate(values, 1e6)
    assert 0 <= found.low <= found.mean * (1 + 1e-9)
    assert found.mean <= found.high * (1 + 1e-9) <= 1e6 * (1 + 1e-8)


def test_too_few_values_say_nothing_of_how_far_off_they_are() -> None:
    found = estimate([5.0] * (FEWEST - 1), 9)
    assert (found.mean, found.low, found.high) == (5, 0, 9)
    assert estimate([5.0]).high == math.inf
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_a_line_says_tokens_money_and_hours_of_the_whole_run() -> None:
    prices: JsonValue = {"prompt": 1000, "completion": 1000, "currency": "EUR"}
    api = teacher(prices=prices, concurrency=4, max_tokens=2000)
    same = [answer(900, 8.0) for _ in range(5)]
    # 7,200 traces of 900 tokens; a thousand tokens for 1 EUR; 2 s each with four at a time.
    assert run_line(same, api, 7200) == (
        "as sampled from 5 answers: about 6,480,000 (6,480,000 to 6,480,000) tokens generated, "
        "7,200 (7,200 to 7,200) EUR, 4.00 (4.00 to 4.00) hours"
    )
    slow = teacher(concurrency=4, requests_per_minute=10)
    assert "12.0 (12.0 to 12.0) hours" in str(run_line(same, slow, 7200))
    assert "6.00 (6.00 to 6.00) minutes" in str(run_line(same, api, 180))
    assert "40.0 (40.0 to 40.0) seconds" in str(run_line(same, api, 20))
    spread_out = run_line([answer(tokens) for tokens in (100, 500, 900, 1900, 2000)], api, 1000)
    assert "1,080,000 (32,300 to 2,000,000) tokens generated, 1,180 (132 to 2,100) EUR" in str(spread_out)


def test_nothing_is_said_where_nobody_counted() -> None:
    assert run_line([], teacher(), 10) is None
    assert run_line([answer(None)], teacher(), 10) is None
    uncounted = run_line([answer(None)] * 3, teacher(), 10, [9, 9, 9])
    assert uncounted == "as sampled from 3 answers: about 90.0 (90.0 to 90.0) tokens of the student's generated"
    # How long an engine of our own takes when it is full, a few requests cannot tell.
    assert "hours" not in str(run_line([answer(5, 1.0)], Teacher(kind="any"), 10))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.012345, "0.0123"), (3.14159, "3.14"), (99.96, "100"), (41_234_567, "41,200,000")]
)
def test_numbers_have_the_digits_that_they_are_worth(value: float, text: str) -> None:
    assert rounded(value) in (text, f"{text}.0")


@given(st.integers(1, 200), st.integers(1, 5000))
def test_places_are_spread_evenly(count: int, total: int) -> None:
    places = spread(count, total)
    assert len(set(places)) == len(places) == min(count, total)
    assert all(0 <= place < total for place in places)
    steps = [after - before for before, after in itertools.pairwise(places)]
    assert not steps or max(steps) - min(steps) <= 1


def test_answers_of_a_ledger_are_read_as_far_as_they_are_whole(tmp_path: Path) -> None:
    event: dict[str, object] = {
        "event": "answered",
        "thinking": "t",
        "attempt": "4",
        "finish_reason": "stop",
        "raw_finish_reason": None,
    }
    event |= {"model_version": None, "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "seconds": 1.5}
    lines = [json.dumps(event | {"id": f"q-{n}"}) for n in (0, 1, 1, 2, 3)]
    lines[3] = lines[3][:30]
    (tmp_path / "1.jsonl").write_text("\n".join(['{"event": "sent", "id": "q-0"}', "[]", *lines]) + "\n")
    assert len(first_answers(tmp_path)) == 3
    assert len(first_answers(tmp_path, at_most=2)) == 2
    assert first_answers(tmp_path)[0].seconds == 1.5
    assert first_answers(tmp_path / "absent") == []
