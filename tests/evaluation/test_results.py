from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue

from s1ray.evaluation.arm_result import raw_markers
from s1ray.evaluation.loading import RESULTS, load_results
from s1ray.evaluation.method_table import method_rows
from s1ray.evaluation.summary import summary_table
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from s1ray.thinking.format import PRESETS
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


def test_control_is_of_arms_that_have_a_limit(make_run: MakeRun) -> None:
    def beyond(row: Evaluation) -> dict[str, object]:
        return {"thinking_tokens": 17} if row.arm == "max=16" else {}

    arms: list[dict[str, JsonValue]] = [{"max_tokens": 16}, {}, {"strategy": "plain"}, {"strategy": "majority"}]
    run = make_run(sweep=None, arms=arms, change=beyond, models=[{"label": "sft", "name": "s"}])
    results = load_results([run])
    assert (results.controlled, results.obeying) == (40, 0)
    assert {(method.series, method.control_runs, method.control_samples) for method in results.methods()} == {
        ("growing maximum", 0, 0),
        ("plain", None, None),
        ("majority", None, None),
    }
    assert {(row.method.series, row.control and row.control.value) for row in method_rows(results, resamples=9)} == {
        ("growing maximum", 0),
        ("plain", None),
        ("majority", None),
    }
    title = summary_table([run]).title
    assert isinstance(title, str)
    assert title.endswith("; Control 0 % of 40 responses")
    unbounded = load_results([make_run("free", sweep=None, arms=arms[1:])])
    assert unbounded.controlled == 0


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
    assert result.unparsable == 0


def test_comparisons_are_paired_and_signed(make_run: MakeRun) -> None:
    results = load_results([make_run(share=by_arm)])
    between = {c.after.arm: c.difference.value for c in results.between_models()}
    assert between == pytest.approx(dict.fromkeys(between, 0.1))
    assert len(between) == 5
    waits = {(c.after.model, c.after.setting.budget.waits): c.difference.value for c in results.between_waits()}
    assert waits == pytest.approx({("base", 1): 0.1, ("base", 2): 0.05, ("sft", 1): 0.1, ("sft", 2): 0.05})
    assert [c.difference.value for c in results.between_extremes()] == pytest.approx([0.5, 0.5])


def more_right(row: Evaluation) -> dict[str, object]:
    """Of eight samples a question, the first model has four right, the second five; with more budget, none and all."""
    right = row.sample < (5 if row.model == "sft" else 4) if row.arm == "max=16" else row.model == "sft"
    return {"correct": right, "verdict": "correct" if right else "incorrect"}


def test_with_several_samples_a_difference_is_one_only_where_its_test_agrees(make_run: MakeRun) -> None:
    sweep = {"max_tokens": [16, 64]}
    few, many = (
        load_results([make_run(str(n), questions=n, samples=8, sweep=sweep, change=more_right)]).between_models()
        for n in (1, 8)
    )
    assert [(c.test, c.p, c.direction) for c in few] == [(None, 1.0, "")] * 2
    assert few[0].difference.low > 0, "one question, drawn again and again, is always the same"
    assert [c.p for c in many] == [pytest.approx(2 / 2**8)] * 2
    assert {c.direction for c in many} == {"up"}
    assert many[0].sentence.endswith(f", n = 8, p = {2 / 2**8:.2g}")


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
        (
            {"models": [{"label": "new", "name": "n"}], "grader": "s1ray.grading.grade:grade"},
            "b: graded by s1ray.grading.grade:grade, and .*a by rules; report them apart",
        ),
        (
            {"models": [{"label": "new", "name": "n"}], "change": lambda row: {"gold": row.gold + "0"}},
            r"40 question\(s\) have another reference answer than in .*a, .* first: '\d+0' and '\d+'; report",
        ),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(make_run: MakeRun, second: dict[str, object], message: str) -> None:
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


def after_the_thinking(row: Evaluation) -> dict[str, object]:
    """Fields of a row that differ from row to row, some of them failed."""
    draw = random.Random(f"{row.arm} {row.id}")
    return {
        "thinking_tokens": draw.randrange(0, 16),
        "answer_tokens": draw.randrange(1, 90),
        "answer_cut": draw.random() < 0.2,
        "finish_reason": draw.choice(["stop", "stop", "length"]),
        "error": draw.choice([None, None, None, "timeout"]),
    }


def test_what_happens_after_the_thinking_is_counted_over_the_answered_samples(make_run: MakeRun) -> None:
    for result in load_results([make_run(samples=2, change=after_the_thinking)]).arms:
        sums: dict[str, list[int]] = {}
        finishes, cut, answered = Counter[str](), 0, 0
        for row in result.rows:
            if row.error is None:
                answered += 1
                cut += row.answer_cut or row.finish_reason == "length"
                finishes[row.finish_reason] += 1
                sums.setdefault(row.question_id, []).append(row.answer_tokens)
        assert 0 < answered < len(result.rows)
        assert (result.cut, result.cut_share) == (cut, cut / answered)
        assert result.finishes == finishes
        means = [sum(tokens) / len(tokens) for tokens in sums.values()]
        assert result.answer_tokens.value == pytest.approx(sum(means) / len(means))
        both = result.thinking_tokens.value + result.answer_tokens.value
        assert result.total_tokens.value == pytest.approx(both)
        assert result.total_tokens.n == len(sums)


def test_more_than_one_cut_answer_in_a_hundred_is_a_warning(make_run: MakeRun) -> None:
    def cut(row: Evaluation) -> dict[str, object]:
        return {"answer_cut": row.gold in {"max=16": ["1"], "max=64": ["1", "2"]}.get(row.arm, [])}

    results = load_results([make_run(questions=100, change=cut, models=[{"label": "sft", "name": "s"}])])
    assert [result.cut for result in results.arms] == [0, 1, 2, 0, 0]
    assert results.warnings == [
        "sft with max=64: 2 of 100 answers were cut (2.0 %): "
        "sampling.answer_tokens is too small, or the model thinks on in its answers"
    ]


@pytest.mark.parametrize(
    ("name", "answer", "found"),
    [
        ("s1", "Final Answer: 4", False),
        ("s1", "4\n<|im_start|>user", True),
        ("s1", "<|im_end|>", True),
        ("s1", "I think that <think> is a tag", False),
        ("qwen3", "I think that <think> is a tag", True),
        ("qwen3", "so it is 4.\n</think>\n\n4", True),
        ("qwen3", "<tool_call>{}</tool_call>", False),
    ],
)
def test_raw_markers_are_those_of_the_models_own_format(name: str, answer: str, found: bool) -> None:
    assert raw_markers([answer, "4"], PRESETS[name]) == found


def test_answers_with_raw_markers_are_counted_and_warned_of(make_run: MakeRun) -> None:
    def think_on(row: Evaluation) -> dict[str, object]:
        return {"answer": "hm</think>4"} if row.arm == "max=0" and row.gold in ("1", "2", "3") else {}

    models = [{"label": "sft", "name": "s", "thinking_format": "qwen3"}]
    results = load_results([make_run(change=think_on, models=models)])
    assert [result.raw_markers for result in results.arms] == [3, 0, 0, 0, 0]
    (warning,) = results.warnings
    assert warning.startswith("sft with max=0: 3 of 40 answers have delimiters of the thinking format")


def test_results_from_before_cut_answers_were_recorded_load_and_count_those_at_the_responses_limit(
    make_run: MakeRun,
) -> None:
    run = make_run(change=lambda row: {"finish_reason": "length"} if row.gold == "7" else {})
    file = run / RESULTS
    pq.write_table(pq.read_table(file).drop_columns(["answer_cut"]), file)
    assert [result.cut for result in load_results([run]).arms] == [1] * 10
