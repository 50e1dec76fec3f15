from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import JsonValue

from s1ray.evaluation.loading import load_results
from s1ray.runs import RunError
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun
from tests.support.evaluations import measured


def by_arm(model: str, arm: str) -> float:
    return {"max=0": 0.1, "max=16": 0.3, "max=64": 0.6, "max=64 waits=1": 0.7, "max=64 waits=2": 0.65}[arm] - (
        0.1 if model == "base" else 0.0
    )


def test_arms_are_summed_up_per_model(make_run: MakeRun) -> None:
    run = make_run(share=by_arm)
    assert load_results([run]).models == ["base", "sft"]
    largest = measured(run, "sft", "max=64")
    assert (largest.accuracy.value, largest.accuracy.n, largest.longest) == (0.6, 40, 64)
    assert largest.accuracy.low < 0.6 < largest.accuracy.high
    assert measured(run, "sft", "max=64 waits=2").waits == 2.0
    assert dict(largest.ends) == {"budget": 40}


def test_control_scaling_and_performance_of_a_known_run(make_run: MakeRun) -> None:
    base, base_all, sft, sft_all = load_results([make_run(share=by_arm)]).methods()
    assert (sft.series, sft_all.series) == ("growing maximum", "all of budget forcing")
    assert sft.control_runs == sft.control_samples == 1.0
    assert sft.scaling == pytest.approx(30 / 2), "16 to 64 tokens are two doublings and 30 points"
    assert sft.performance == 0.6
    assert sft_all.performance == 0.7
    assert base.performance == 0.5
    assert base_all.samples == 5 * 40


def test_control_of_samples_sees_what_the_mean_hides(make_run: MakeRun) -> None:
    def uneven(row: Evaluation) -> dict[str, object]:
        # Mean 16: half of the samples think 8, the other half 24.
        return {"thinking_tokens": 24 if int(row.id[0], 16) % 2 else 8} if row.arm == "max=16" else {}

    result = measured(make_run(change=uneven), "sft", "max=16")
    over = sum(row.thinking_tokens > 16 for row in result.rows)
    assert over > 0
    assert result.obeying == 40 - over


def test_failed_requests_count_as_wrong_but_not_as_short_thinking(make_run: MakeRun) -> None:
    def fail_first(row: Evaluation) -> dict[str, object]:
        failed: dict[str, object] = {
            "error": "timeout",
            "correct": False,
            "extracted": None,
            "thinking_tokens": 0,
            "answer_tokens": 0,
        }
        return failed if row.arm == "max=64" and row.id < "4" else {}

    result = measured(make_run(share=lambda *_: 1.0, change=fail_first), "sft", "max=64")
    assert 0 < result.errors < 40
    assert result.accuracy.value == pytest.approx(1 - result.errors / 40)
    assert result.thinking_tokens.value == 64
    assert result.unread == 0


def test_comparisons_are_paired_and_signed(make_run: MakeRun) -> None:
    results = load_results([make_run(share=by_arm)])
    between = {c.after.arm: c.difference.value for c in results.between_models()}
    assert between == pytest.approx(dict.fromkeys(between, 0.1))
    assert len(between) == 5
    waits = {(c.after.model, c.after.setting.budget.waits): c.difference.value for c in results.between_waits()}
    assert waits == pytest.approx({("base", 1): 0.1, ("base", 2): 0.05, ("sft", 1): 0.1, ("sft", 2): 0.05})
    assert [c.difference.value for c in results.between_extremes()] == pytest.approx([0.5, 0.5])


def test_two_runs_of_different_models_make_one_report(make_run: MakeRun) -> None:
    first = make_run("a", models=[{"label": "base", "name": "b"}])
    second = make_run("b", models=[{"label": "sft", "name": "s"}])
    assert load_results([first, second]).models == ["base", "sft"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, "is in another given run too"),
        ({"models": [{"label": "new", "name": "n"}], "text": "What is 2 + {}?"}, "asked other questions"),
        (
            {"models": [{"label": "new", "name": "n"}], "sweep": None, "arms": [{"label": "max=16", "max_tokens": 32}]},
            "has other settings",
        ),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(
    make_run: MakeRun, second: dict[str, JsonValue], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        load_results([make_run("a"), make_run("b", **second)])


def test_folders_without_a_finished_eval_run_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        load_results([tmp_path])
    run = make_run()
    manifest = run / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"complete"', '"running"'))
    with pytest.raises(RunError, match="is unfinished"):
        load_results([run])
    manifest.write_text(text.replace('"stage": "eval"', '"stage": "train"'))
    with pytest.raises(RunError, match="'train' run, not one of eval"):
        load_results([run])


def test_an_arm_result_does_not_depend_on_the_order_of_its_rows(make_run: MakeRun) -> None:
    result = measured(make_run(samples=3), "sft", "max=64")
    turned = dataclasses.replace(result, rows=result.rows[::-1])
    assert (turned.accuracy, turned.thinking_tokens) == (result.accuracy, result.thinking_tokens)
