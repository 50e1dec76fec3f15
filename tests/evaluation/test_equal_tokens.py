"""Two series of arms at equal tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.errors import InputError
from s1ray.evaluation.equal_tokens import Spent, at_equal_tokens
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.report import write_report
from s1ray.evaluation.summary import summary_markdown
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun


def arm(tokens: float, right: str, name: str = "arm") -> Spent:
    """Questions 0, 1, ... with as many tokens each; "10" has the first right and the second wrong."""
    return Spent(
        name,
        {str(i): [tokens] for i in range(len(right))},
        {str(i): [letter == "1"] for i, letter in enumerate(right)},
    )


def test_between_two_arms_accuracy_grows_with_the_logarithm_of_the_tokens() -> None:
    # 200 lies halfway between 100 and 400 on a logarithmic axis, where the first series has 0.5.
    found = at_equal_tokens([arm(100, "000000"), arm(400, "111111")], [arm(200, "111111")])
    assert (found.low, found.high, found.difference.n) == (200, 200, 6)
    assert found.difference.value == pytest.approx(0.5)
    assert found.p == pytest.approx(2 / 2**6), "all six questions gain"
    assert found.winner == "second"


@pytest.mark.parametrize(("gained", "same", "p"), [(4, 26, 0.125), (1, 0, 1.0)])
def test_few_questions_that_gain_make_no_winner(gained: int, same: int, p: float) -> None:
    """Although the interval of resampled questions leaves out zero."""
    before, after = "0" * gained + "01" * (same // 2), "1" * gained + "01" * (same // 2)
    found = at_equal_tokens([arm(50, before), arm(200, before)], [arm(100, after), arm(400, after)])
    assert found.difference.low > 0
    assert found.p == pytest.approx(p)
    assert found.winner == ""


def test_the_mean_is_over_the_common_range_on_a_logarithmic_axis() -> None:
    first = [arm(100, "00"), arm(1600, "00")]
    second = [arm(50, "00"), arm(200, "00"), arm(800, "11"), arm(6400, "11")]
    found = at_equal_tokens(first, second)
    assert (found.low, found.high) == pytest.approx((100, 1600))
    # Over four doublings: one at 0, two on the way from 0 to 1, one at 1.
    assert found.difference.value == pytest.approx((0 + 2 * 0.5 + 1) / 4)
    assert [(round(tokens), round(point.value, 6)) for tokens, point in found.points] == [
        (100, 0),
        (200, 0),
        (800, 1),
        (1600, 1),
    ]


def test_equal_series_differ_by_nothing_and_nobody_wins() -> None:
    series = [arm(10, "0101"), arm(40, "0111")]
    found = at_equal_tokens(series, series)
    assert found.difference == Estimate(0, 0, 0, 4), "questions are drawn for both at once"
    assert found.winner == ""


series = st.lists(st.tuples(st.integers(10, 1000), st.text("01", min_size=5, max_size=5)), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(series, series)
def test_the_other_way_round_is_the_same_with_the_sign_turned(
    one: list[tuple[int, str]], other: list[tuple[int, str]]
) -> None:
    # Both have an arm at 100 tokens, so that they overlap.
    first = [arm(100, "00110"), *(arm(*each) for each in one)]
    second = [arm(100, "01010"), *(arm(*each) for each in other)]
    there = at_equal_tokens(first, second, resamples=50)
    back = at_equal_tokens(second, first, resamples=50)
    a, b = there.difference, back.difference
    assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), abs=1e-9)
    assert there.p == back.p
    assert {there.winner, back.winner} in ({""}, {"first", "second"})
    assert there.low <= 100.0001
    assert there.high >= 99.9999


def test_arms_of_equal_tokens_count_as_their_mean() -> None:
    found = at_equal_tokens([arm(10, "0000"), arm(10, "1111"), arm(40, "1111")], [arm(10, "0000"), arm(40, "0000")])
    assert [point.value for _, point in found.points] == pytest.approx([-0.5, -1])


def test_only_questions_that_all_arms_decided_count() -> None:
    missing = arm(200, "111")
    missing = Spent(
        "missing", missing.tokens, {key: verdicts for key, verdicts in missing.correct.items() if key != "0"}
    )
    assert at_equal_tokens([arm(200, "000")], [missing]).difference.n == 2


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [arm(1, "1")], "at least one arm on either side"),
        ([arm(1, "1")], [Spent("other", {"x": [1]}, {"x": [True]})], "no question was decided by all of arm, other"),
        ([arm(0, "1")], [arm(1, "1")], "'arm' spent no tokens"),
        ([arm(10, "1"), arm(20, "1")], [arm(30, "1")], "no amount of tokens in common: 10 to 20 and 30 to 30"),
    ],
)
def test_what_cannot_be_compared_is_refused(first: list[Spent], second: list[Spent], message: str) -> None:
    with pytest.raises(InputError, match=message):
        at_equal_tokens(first, second)


def test_the_interval_holds_the_true_difference() -> None:
    """Questions of different difficulty, hard ones with longer thoughts; the truth is that of very many questions."""
    random = np.random.default_rng(0)

    def measured(questions: int) -> tuple[list[Spent], list[Spent]]:
        hard = random.random(questions)

        def spent(tokens: float, skill: float) -> Spent:
            used = tokens * (0.5 + hard) * random.lognormal(0, 0.3, questions)
            right = random.random(questions) < np.clip(skill - 0.6 * hard + 0.3, 0, 1)
            return Spent(
                "arm",
                {str(i): [used[i]] for i in range(questions)},
                {str(i): [bool(right[i])] for i in range(questions)},
            )

        return [spent(100, 0.2), spent(1000, 0.6)], [spent(200, 0.35), spent(800, 0.65)]

    truth = at_equal_tokens(*measured(20_000), resamples=1).difference.value
    runs = [at_equal_tokens(*measured(60), resamples=300).difference for _ in range(100)]
    covered = sum(run.low <= truth <= run.high for run in runs) / len(runs)
    assert 0.86 <= covered <= 1.0, f"{covered} of the intervals hold {truth}"


VOTES: list[dict[str, JsonValue]] = [{"strategy": "majority", "votes": n, "max_tokens": 16} for n in (2, 4)]


def test_the_report_says_who_is_better_at_equal_tokens(make_run: MakeRun, tmp_path: Path) -> None:
    def share(model: str, arm: str) -> float:
        return {"max=0": 0.0, "max=16": 0.1, "max=64": 0.3}.get(arm, 0.9)

    run = make_run(sweep={"max_tokens": [0, 16, 64]}, arms=VOTES, share=share)
    base, sft = load_results([run]).at_equal_tokens()
    assert (base.model, sft.model, sft.first, sft.second) == ("base", "sft", "budget forcing", "majority")
    assert sft.result is not None
    # 16 thinking tokens each, and 4 of the answer.
    assert (sft.result.low, sft.result.high) == pytest.approx((36, 68))
    assert sft.result.winner == "second"
    table = summary_markdown([run])
    assert "sft: majority against budget forcing at equal tokens (36 to 68, n = 40): +6" in table
    assert f"p = {sft.result.p:.2g}; better: majority" in table
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "better: majority" in page
    assert "At equal tokens" in page


def test_an_arm_whose_tokens_were_not_all_counted_is_not_compared(make_run: MakeRun) -> None:
    def lose(row: Evaluation) -> dict[str, object]:
        return {"uncounted_calls": 1} if row.arm.startswith("vote of 4") else {}

    comparison = load_results([make_run(sweep={"max_tokens": [0, 64]}, arms=VOTES, change=lose)]).at_equal_tokens()[0]
    assert comparison.result is None
    assert "not comparable: 'vote of 4 max=16' of 'base' has 40 request(s) whose tokens" in comparison.sentence
