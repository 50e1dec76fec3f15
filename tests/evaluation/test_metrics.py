from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.evaluation import metrics
from s1ray.grading.interval import wilson_interval

verdicts = st.dictionaries(
    st.text("abcdef0123456789", min_size=1, max_size=6), st.lists(st.booleans(), min_size=1, max_size=4), min_size=1
)


@pytest.mark.parametrize(
    ("tokens", "limits", "expected"),
    [
        ([7939, 7158, 8263, 7108, 7500], [1024, 2048, 4096, 8192, 16384], 0.4),
        ([7252, 6277, 5396, 5552, 7551], [100 * n for n in (16, 32, 64, 128, 256)], 0.6),
        ([1024, 2048, 4031, 5664, 6330], [1024, 2048, 4096, 8192, 16384], 1.0),
        ([1517, 2963, 4636, 5409, 7551], [100 * n for n in (16, 32, 64, 128, 256)], 1.0),
    ],
    ids=["token-conditional", "step-conditional", "token-conditional forced", "step-conditional forced"],
)
def test_control_gives_the_papers_values(tokens: list[float], limits: list[float], expected: float) -> None:
    assert metrics.control(tokens, [(None, limit) for limit in limits]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "solved_of_30", "expected"),
    [
        ([7939, 7158, 8263, 7108, 7500], [8, 9, 10, 10, 12], -23.767),
        ([1024, 2048, 4031, 5664, 6330], [1, 9, 10, 10, 12], 13.158),
        ([7252, 6277, 5396, 5552, 7551], [10, 7, 10, 11, 10], 2.929),
        ([1517, 2963, 4636, 5409, 7551], [7, 7, 10, 11, 10], 6.410),
        ([8033, 9651], [9, 11], 25.182),
        ([500, 1000, 2000, 3933, 5302, 6655, 7322], [0, 4, 9, 13, 15, 16, 17], 14.813),
        ([2974, 3703, 4344, 4734, 5193, 5293], [12, 11, 10, 9, 8, 7], -28.617),
        ([3703, 4344, 4734, 5193, 5293], [11, 10, 9, 8, 7], -35.50),
    ],
    ids=["TCC", "TCC+BF", "SCC", "SCC+BF", "CCC", "BF", "RS", "RS without its first point"],
)
def test_scaling_gives_the_papers_values(tokens: list[float], solved_of_30: list[int], expected: float) -> None:
    assert metrics.scaling(tokens, [k / 30 for k in solved_of_30]) == pytest.approx(expected, abs=0.005)


def test_scaling_over_raw_tokens_is_points_a_token() -> None:
    assert metrics.scaling([100, 300], [0.2, 0.6], "raw") == pytest.approx(40 / 200)


def test_scaling_leaves_runs_without_thinking_out_of_the_log_axis_only() -> None:
    assert metrics.scaling([0, 16, 32], [0.0, 0.5, 0.6]) == pytest.approx(10.0)
    assert metrics.scaling([0, 10], [0.0, 0.5], "raw") == pytest.approx(5.0)


def test_scaling_needs_two_amounts_of_thinking() -> None:
    assert metrics.scaling([64, 64], [0.1, 0.9]) is None
    assert metrics.scaling([0, 64], [0.1, 0.9]) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 30)), min_size=2, max_size=7, unique_by=lambda p: p[0]),
    st.randoms(),
)
def test_scaling_does_not_depend_on_the_order_of_the_runs(points: list[tuple[int, int]], random: Random) -> None:
    shuffled = random.sample(points, len(points))
    slopes = [
        metrics.scaling([tokens for tokens, _ in order], [k / 30 for _, k in order]) for order in (points, shuffled)
    ]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(verdicts, st.randoms())
def test_accuracy_is_the_mean_over_questions_whatever_their_order(
    correct: dict[str, list[bool]], random: Random
) -> None:
    estimate = metrics.accuracy(correct)
    expected = sum(sum(samples) / len(samples) for samples in correct.values()) / len(correct)
    assert estimate.value == pytest.approx(expected)
    assert estimate.low - 1e-12 <= estimate.value <= estimate.high + 1e-12
    assert estimate.n == len(correct)
    keys = list(correct)
    random.shuffle(keys)
    assert metrics.accuracy({key: correct[key] for key in keys}) == estimate


def test_accuracy_of_repeated_samples_has_the_interval_of_questions_not_of_samples() -> None:
    once = metrics.accuracy({str(q): [q < 20] for q in range(40)})
    repeated = metrics.accuracy({str(q): [q < 20] * 16 for q in range(40)})
    assert repeated.value == once.value
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.15)


@settings(max_examples=30, deadline=None)
@given(verdicts, verdicts)
def test_paired_difference_changes_sign_with_its_sides(
    first: dict[str, list[bool]], second: dict[str, list[bool]]
) -> None:
    if not first.keys() & second.keys():
        with pytest.raises(ValueError, match="share none"):
            metrics.paired_difference(first, second)
        return
    there = metrics.paired_difference(first, second, resamples=200)
    back = metrics.paired_difference(second, first, resamples=200)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= there.low <= there.value + 1e-12
    assert there.value - 1e-12 <= there.high <= 1


def test_paired_difference_is_narrower_than_the_unpaired_one_when_the_same_questions_are_hard() -> None:
    base = {str(q): [q % 2 == 0] for q in range(400)}
    better = {str(q): [q % 2 == 0 or q % 40 == 1] for q in range(400)}
    difference = metrics.paired_difference(base, better)
    assert difference.value == pytest.approx(10 / 400)
    assert difference.low > 0, "ten questions gained and none lost is a clear gain, although both intervals overlap"
    assert metrics.accuracy(base).high > metrics.accuracy(better).low


def test_paired_difference_against_itself_is_nothing() -> None:
    side = {str(q): [q % 3 == 0] for q in range(50)}
    assert metrics.paired_difference(side, side) == metrics.Estimate(0.0, 0.0, 0.0, 50)


def test_paired_difference_covers_the_truth_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(7), 0
    for trial in range(200):
        before = {str(q): [bool(random.random() < 0.4)] for q in range(200)}
        after = {str(q): [bool(random.random() < 0.6)] for q in range(200)}
        estimate = metrics.paired_difference(before, after, seed=trial, resamples=500)
        covered += estimate.low <= 0.2 <= estimate.high
    assert 180 <= covered <= 199


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(4, 0, 0.125), (6, 0, 0.03125), (9, 1, 0.02148), (3, 3, 1.0), (0, 0, 1.0), (10, 25, 0.01667)],
)
def test_mcnemar_gives_the_binomials_two_sided_value(gained: int, lost: int, p: float) -> None:
    changes = [(False, True)] * gained + [(True, False)] * lost + [(True, True), (False, False)] * 10
    first, second = ({str(q): [change[side]] for q, change in enumerate(changes)} for side in (0, 1))
    found = metrics.mcnemar(first, second)
    assert found is not None
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(p, abs=5e-5)


@pytest.mark.parametrize(("gained", "lost"), [(4, 0), (0, 6), (9, 1), (3, 3), (0, 0), (10, 3), (10, 25), (400, 330)])
def test_the_sign_flip_test_of_one_sample_a_question_is_mcnemars(gained: int, lost: int) -> None:
    differences = np.array([1.0] * gained + [-1.0] * lost + [0.0] * 20)
    exact = metrics.mcnemar(
        {str(q): [change < 0] for q, change in enumerate(differences.tolist())},
        {str(q): [change > 0] for q, change in enumerate(differences.tolist())},
    )
    assert exact is not None
    few = gained + lost <= metrics.ENUMERATED
    assert metrics.sign_flip(differences) == pytest.approx(exact.p, abs=1e-12 if few else 0.005)


def test_the_sign_flip_test_counts_how_much_each_question_differs() -> None:
    # Of the eight choices of signs, only all alike are so far from zero.
    assert metrics.sign_flip(np.array([0.1, 0.2, 0.5])) == pytest.approx(2 / 8)
    # 1/3 + 1/3 + 1/3 - 1 is zero, whatever a computer makes of it.
    assert metrics.sign_flip(np.array([1 / 3, 1 / 3, 1 / 3, -1])) == 1.0
    assert metrics.sign_flip(np.array([1.0])) == 1.0, "one question says nothing of others"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=40), st.randoms())
def test_the_sign_flip_test_knows_no_order_and_no_direction(eighths: list[int], random: Random) -> None:
    differences = np.array(eighths) / 8
    p = metrics.sign_flip(differences, draws=200)
    assert 0 < p <= 1
    assert metrics.sign_flip(-differences, draws=200) == p
    assert metrics.sign_flip(np.array(random.sample(eighths, len(eighths))) / 8, draws=200) == p


def test_the_sign_flip_test_sees_a_difference_by_chance_as_often_as_it_says() -> None:
    """Fifty questions with four samples each, of the same chances on both sides."""
    random, trials = np.random.default_rng(3), 400
    chances = random.beta(0.5, 0.5, (trials, 50))
    sides = [random.binomial(4, chances) / 4 for _ in range(2)]
    found = [metrics.sign_flip(row, draws=500) for row in sides[1] - sides[0]]
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.08


def test_mcnemar_is_of_one_sample_a_question() -> None:
    assert metrics.mcnemar({"a": [True, False]}, {"a": [True]}) is None
    assert metrics.mcnemar({"a": [True]}, {"b": [True]}) is None


@settings(deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_equals_the_chance_that_a_draw_misses_every_correct_sample(case: tuple[int, int, int]) -> None:
    samples, correct, k = case
    miss = math.prod(max(0, samples - correct - i) / (samples - i) for i in range(k))
    assert metrics.pass_at_k(samples, correct, k) == pytest.approx(1 - miss)
    assert metrics.pass_at_k(samples, correct, 1) == pytest.approx(correct / samples)


def test_pass_at_k_refuses_more_draws_than_samples() -> None:
    with pytest.raises(ValueError, match="pass@5 of 4"):
        metrics.pass_at_k(4, 1, 5)


def test_mean_estimate_counts_questions_and_widens_with_spread() -> None:
    narrow = metrics.mean_estimate({str(q): [100.0 + q % 2] for q in range(100)})
    wide = metrics.mean_estimate({str(q): [100.0 * (q % 2)] for q in range(100)})
    assert (narrow.value, narrow.n) == (100.5, 100)
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_all_right_with_several_samples_is_no_certainty() -> None:
    every = metrics.accuracy({str(n): [True, True] for n in range(30)})
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(wilson_interval(30, 30)[0])
    none = metrics.accuracy({str(n): [False, False] for n in range(30)})
    assert none.high > 0.05
