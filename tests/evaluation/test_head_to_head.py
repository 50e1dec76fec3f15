from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.evaluation.breakdowns import repeated
from s1ray.evaluation.head_to_head import head_to_head, repetitions, win_rate
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.report import write_report
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun
from tests.support.evaluations import measured

accuracies = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=8)


@settings(deadline=None)
@given(accuracies, accuracies)
def test_wins_of_both_sides_add_up_and_equal_ones_count_half(first: list[float], second: list[float]) -> None:
    there, back = (win_rate(*sides, resamples=200) for sides in ((first, second), (second, first)))
    assert there.value + back.value == pytest.approx(1)
    assert there.low - 1e-9 <= there.value <= there.high + 1e-9
    pairs = [(a > b) + 0.5 * (a == b) for a in first for b in second]
    assert there.value == pytest.approx(sum(pairs) / len(pairs))


def test_a_win_rate_needs_repetitions() -> None:
    with pytest.raises(ValueError, match="needs a repetition"):
        win_rate([], [0.5])


def as_repeats(row: Evaluation) -> dict[str, object]:
    """Samples as repetitions; "max=64" is right in all of them but the last."""
    right = row.arm != "max=0" and not (row.sample == 3 and row.arm == "max=64")
    return {
        "repeat": row.sample,
        "correct": right,
        "verdict": "correct" if right else "incorrect",
        "extracted": row.gold if right else "7",
    }


def test_repetitions_of_a_run_are_set_against_each_other(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(questions=6, samples=4, change=as_repeats)
    assert repetitions(measured(run, "sft", "max=64")) == [1, 1, 1, 0]
    arms = [measured(run, "sft", arm) for arm in ("max=0", "max=16", "max=64")]
    found = head_to_head(arms)
    assert found is not None
    rates = [[None if each is None else each.value for each in row] for row in found.rates]
    assert rates == [[None, 0, 0.125], [1, None, 0.625], [0.875, 0.375, None]]
    assert "Head to head" in write_report([run], tmp_path / "report.html").read_text()


def test_one_repetition_has_no_win_rates(plain_run: Path, tmp_path: Path) -> None:
    assert head_to_head([measured(plain_run, "sft", arm) for arm in ("max=0", "max=64")]) is None
    assert "Head to head" not in write_report([plain_run], tmp_path / "report.html").read_text()


def test_curves_over_samples_have_intervals_and_votes_of_some(make_run: MakeRun) -> None:
    def two_of_three(row: Evaluation) -> dict[str, object]:
        right = row.sample != 1
        return {
            "correct": right,
            "verdict": "correct" if right else "incorrect",
            "extracted": row.gold if right else "x",
        }

    (row, *_) = repeated(load_results([make_run(samples=3, change=two_of_three)]))
    passes, votes = dict(row.pass_at), dict(row.majority_at)
    assert passes[1].value == pytest.approx(2 / 3)
    assert passes[2].value == 1
    assert votes[1].value == pytest.approx(2 / 3), "a vote of one is that sample"
    assert 0.6 < votes[2].value < 1, "ties go to the first drawn"
    assert all(share.low <= share.value <= share.high for share in (*passes.values(), *votes.values()))
    assert row.majority is not None
    assert row.majority.value == 1
