"""Confidence: values calculated by hand from the papers' definitions, and what holds for any response."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.voting import confidence

LOGPROBS = st.lists(st.floats(-30, 0), min_size=1, max_size=20)
CONFIDENCES = st.lists(st.floats(0, 40), min_size=1, max_size=60)
HALF, QUARTER = math.log(0.5), math.log(0.25)


def test_a_tokens_confidence_is_minus_the_mean_of_its_log_probabilities() -> None:
    # DeepConf, equation 2: -(1/3)(ln 1/2 + ln 1/4 + ln 1/4) = (1/3) ln 32
    assert confidence.token_confidence([HALF, QUARTER, QUARTER]) == pytest.approx(math.log(32) / 3)
    # The surer the token, the less is left for the others, and the higher the figure.
    assert confidence.token_confidence([math.log(0.98), math.log(0.01), math.log(0.01)]) > 3


def test_entropy_is_in_bits_over_the_tokens_given() -> None:
    assert confidence.token_entropy([HALF, QUARTER, QUARTER]) == pytest.approx(1.5)
    # Half of the probability is given, in equal parts: one bit.
    assert confidence.token_entropy([QUARTER, QUARTER]) == pytest.approx(1.0)
    assert confidence.token_entropy([0.0]) == 0
    assert confidence.inverse_entropy(0.25) == 4
    assert confidence.inverse_entropy(0.0) == pytest.approx(1e10)


def test_self_certainty_is_the_divergence_from_equal_probabilities() -> None:
    # KL(U || p) over three: -(1/3)(ln 3/2 + ln 3/4 + ln 3/4) = (1/3) ln(32/27)
    assert confidence.token_certainty([HALF, QUARTER, QUARTER]) == pytest.approx(math.log(32 / 27) / 3)
    assert confidence.token_certainty([QUARTER] * 4) == pytest.approx(0, abs=1e-12)


@given(LOGPROBS)
def test_figures_of_a_token_stay_in_their_ranges(logprobs: list[float]) -> None:
    count = len(logprobs)
    assert 0 <= confidence.token_entropy(logprobs) <= math.log2(count) + 1e-9
    assert confidence.token_certainty(logprobs) >= 0
    assert confidence.token_confidence(logprobs) >= 0
    # What self-certainty leaves out of the confidence is how much of the probability the candidates have.
    mass = math.log(math.fsum(map(math.exp, logprobs)))
    expected = confidence.token_confidence(logprobs) - math.log(count) + mass
    assert confidence.token_certainty(logprobs) == pytest.approx(max(0.0, expected), abs=1e-9)


@pytest.mark.parametrize("logprobs", [[], [0.5], [math.nan], ["-1"], [None], [True]])
def test_what_is_no_log_probability_is_refused(logprobs: list[float]) -> None:
    for figure in (confidence.token_confidence, confidence.token_certainty, confidence.token_entropy):
        with pytest.raises(ValueError, match="log-probability"):
            figure(logprobs)


def test_a_servers_stand_in_for_impossible_does_not_drown_the_rest() -> None:
    assert confidence.token_confidence([0.0, -9999.0]) == 50
    assert confidence.token_confidence([0.0, -math.inf]) == 50
    assert confidence.token_entropy([0.0, -math.inf]) == pytest.approx(0)


def test_groups_overlap_and_the_lowest_tenth_of_them_is_averaged() -> None:
    values = [4.0, 2.0, 6.0, 1.0, 3.0]
    groups = confidence.group_confidences(values, window=2)
    assert groups == [3.0, 4.0, 3.5, 2.0]
    assert confidence.lowest_share_mean(groups) == 2.0
    assert confidence.lowest_share_mean(groups, share=0.5) == 2.5
    assert confidence.lowest_share_mean([float(n) for n in range(20)]) == 0.5
    running = confidence.RunningConfidence(window=2)
    assert [running.add(value) for value in values] == [None, *groups]
    assert (running.mean, running.tail, running.lowest, running.lowest_group) == (3.2, 2.0, 2.0, 2.0)


def test_a_response_shorter_than_the_window_is_one_group() -> None:
    running = confidence.RunningConfidence(window=8)
    running.add(1.0)
    running.add(2.0)
    assert (running.lowest, running.lowest_group, running.tail) == (None, 1.5, 1.5)
    assert confidence.group_confidences([1.0, 2.0], window=8) == [1.5]
    assert confidence.group_confidences([], window=8) == []


@given(CONFIDENCES, st.integers(1, 70))
def test_the_running_figures_are_those_of_the_whole_response(values: list[float], window: int) -> None:
    running = confidence.RunningConfidence(window)
    for value in values:
        running.add(value)
    groups = [math.fsum(values[end - window : end]) / window for end in range(window, len(values) + 1)]
    groups = groups or [math.fsum(values) / len(values)]
    assert confidence.group_confidences(values, window) == pytest.approx(groups)
    assert running.lowest_group == pytest.approx(min(groups))
    assert running.mean == pytest.approx(math.fsum(values) / len(values))
    assert running.tail == pytest.approx(math.fsum(values[-window:]) / len(values[-window:]))
    lowest = confidence.lowest_share_mean(groups)
    assert min(groups) - 1e-9 <= lowest <= math.fsum(groups) / len(groups) + 1e-9


def test_a_long_response_does_not_drift() -> None:
    running = confidence.RunningConfidence(window=3)
    for value in [1e6, 1.0, 0.1] * 20_000:
        running.add(value)
    for _ in range(3):
        running.add(0.1)
    assert running.tail == pytest.approx(0.1, rel=1e-12)


def test_a_responses_figures_leave_out_what_was_forced() -> None:
    sure, even = [0.0, -20.0], [HALF, HALF]
    found = confidence.measure([sure, even, sure, even, even], window=2, forced={1})
    assert (found.tokens, found.forced_tokens) == (4, 1)
    assert found.mean == pytest.approx((20 + 2 * math.log(2)) / 4)
    assert (found.lowest_group, found.tail) == pytest.approx((math.log(2), math.log(2)))
    assert found.lowest_tenth == pytest.approx(math.log(2))
    assert found.entropy == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ValueError, match="no token"):
        confidence.measure([sure], forced={0})
