"""Models against one of them over several seeds: pairing, intervals, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s1ray.errors import InputError
from s1ray.evaluation.ablation import ablation
from s1ray.evaluation.crossed import crossed_mean
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.method_table import method_rows
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.report import write_report
from s1ray.grading.interval import Z
from s1ray.pipelines.config import AblationConfig, MethodsConfig
from s1ray.pipelines.tables import measures, write_ablation, write_methods
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun

SHARES = {"curated": 0.6, "random": 0.4}


def seeds(make_run: MakeRun, *numbers: int) -> list[Path]:
    """A run for each seed, in which the seed adds to the accuracy of both models."""
    return [
        make_run(
            f"seed={seed}",
            seed=seed,
            models=[{"label": label, "name": label} for label in SHARES],
            sweep=None,
            arms=[{"max_tokens": 64}],
            share=lambda model, arm, seed=seed: SHARES[model] + 0.05 * seed,
        )
        for seed in numbers
    ]


def test_differences_are_paired_by_seed_and_question(make_run: MakeRun) -> None:
    (table,) = ablation(seeds(make_run, 0, 1, 2), "curated")
    assert (table.benchmark, table.arm, table.questions, table.seeds) == ("miniature", "max=64", 40, [0, 1, 2])
    curated, random = table.rows
    assert (curated.model, curated.difference) == ("curated", None)
    assert random.by_seed == {0: pytest.approx(0.4), 1: pytest.approx(0.45), 2: pytest.approx(0.5)}
    assert random.accuracy.value == pytest.approx(0.45)
    assert random.difference is not None
    assert random.difference.value == pytest.approx(-0.2)
    # What the seeds have in common is no noise of the difference.
    assert random.difference.low < -0.2 < random.difference.high < 0.05
    assert (random.thinking_tokens, random.examples, random.steps) == (64, [], [])


def test_two_runs_of_one_seed_and_a_baseline_that_is_not_there_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    runs = seeds(make_run, 0)
    with pytest.raises(InputError, match="measured in another run of seed 0 too"):
        ablation([*runs, *runs], "curated")
    assert measures(runs[0], "curated")
    assert not measures(runs[0], "full")
    with pytest.raises(InputError, match="no run measured the baseline 'full'; there are curated, random"):
        ablation(runs, "full")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"grader": "s1ray.grading.grade:grade"}, "graded by s1ray.grading.grade:grade, and .*seed=0 by rules"),
        ({"change": lambda row: {"gold": row.gold + "0"}}, r"40 question\(s\) have another reference answer than in"),
    ],
)
def test_repetitions_that_were_graded_in_different_ways_are_refused(
    make_run: MakeRun, other: dict[str, object], message: str
) -> None:
    models = [{"label": label, "name": label} for label in SHARES]
    second = make_run("other", seed=1, models=models, sweep=None, arms=[{"max_tokens": 64}], **other)
    with pytest.raises(InputError, match=message):
        ablation([*seeds(make_run, 0), second], "curated")


def test_the_table_is_written_beside_what_was_published(make_run: MakeRun, tmp_path: Path) -> None:
    published = {"source": "a paper, table 2", "rows": {"random": {"AIME24": "36.7 [-26.7, -3.3]"}}}
    config = AblationConfig.model_validate({"baseline": "curated", "published": published})
    text, file = write_ablation(config, seeds(make_run, 0, 1), tmp_path)
    assert file.read_text() == text + "\n"
    assert "| random |  |  | 42.5 [" in text
    assert "**Published, not measured here**: a paper, table 2" in text
    written = json.loads((tmp_path / "ablation.json").read_text())
    assert [row["model"] for row in written["tables"][0]["rows"]] == ["curated", "random"]
    assert written["published"] == published


def test_nothing_but_right_answers_is_no_certainty(make_run: MakeRun) -> None:
    runs = [make_run(f"all-{seed}", seed=seed, share=lambda model, arm: float(model == "sft")) for seed in (0, 1)]
    (table, *_) = ablation(runs, "sft")
    right, wrong = (row.accuracy for row in sorted(table.rows, key=lambda row: -row.accuracy.value))
    assert (right.value, right.high, wrong.low, wrong.value) == (1, 1, 0, 0)
    assert 0.85 < right.low < 0.95
    assert wrong.high == pytest.approx(1 - right.low)


def test_methods_have_intervals_around_the_numbers_of_the_report(make_run: MakeRun, tmp_path: Path) -> None:
    arms: list[dict[str, object]] = [{"max_tokens": tokens} for tokens in (16, 32, 64)]
    arms += [{"strategy": "token_conditional", "tokens": tokens} for tokens in (16, 64)]
    arms += [{"strategy": "class_conditional", "length": "short"}]
    right = {"max=16": 0.2, "max=32": 0.4, "max=64": 0.6, "tokens=16": 0.5, "tokens=64": 0.5, "short": 0.3}
    models = [{"label": "sft", "name": "sft"}]
    run = make_run(models=models, sweep=None, arms=arms, share=lambda model, arm: right[arm], questions=60)
    rows = {row.method.series: row for row in method_rows(load_results([run]), resamples=500)}
    forced = rows["growing maximum"]
    assert forced.scaling is not None
    assert forced.scaling.value == pytest.approx(20)
    assert forced.scaling.low < 20 < forced.scaling.high
    assert forced.performance.low < 0.6 < forced.performance.high
    assert forced.control is not None
    assert (forced.control.low, forced.control.value, forced.control.high) == (1, 1, 1)
    assert rows["class_conditional"].control is None
    text, _ = write_methods(MethodsConfig(), [run], tmp_path)
    assert "| sft | token_conditional | 100.0 [100.0, 100.0] | 100.0 | +0.0 [" in text


def test_there_is_no_slope_between_arms_that_think_equally_long(make_run: MakeRun, tmp_path: Path) -> None:
    def chance(row: Evaluation) -> dict[str, object]:
        """Of two settings one question or another makes the one longer, by nothing on the whole; a third is shorter."""
        odd = (int(row.gold) + (row.arm == "tokens=64")) % 2
        return {"thinking_tokens": 20 if row.arm == "tokens=16" else 36 + odd * 8}

    arms = [{"strategy": "token_conditional", "tokens": tokens} for tokens in (16, 32, 64)]
    right = {"tokens=16": 0.3, "tokens=32": 0.5, "tokens=64": 0.6}
    models = [{"label": "sft", "name": "sft"}]
    run = make_run(models=models, sweep=None, arms=arms, change=chance, share=lambda _, arm: right[arm], questions=60)
    (row,) = method_rows(load_results([run]), resamples=500)
    assert row.level == (("tokens=32", "tokens=64"),)
    assert row.scaling is not None
    assert row.scaling.value == pytest.approx(25)
    assert row.scaling.low < 25 < row.scaling.high
    text, _ = write_methods(MethodsConfig(), [run], tmp_path)
    assert "Scaling leaves out 1 pair(s) of arms that think equally long" in text

    run = make_run("level", models=models, sweep=None, arms=arms[1:], change=chance, share=lambda _, arm: right[arm])
    (row,) = method_rows(load_results([run]), resamples=500)
    assert (row.scaling, row.level) == (None, (("tokens=32", "tokens=64"),))


def test_rejection_is_judged_by_the_thinking_that_was_kept(make_run: MakeRun, tmp_path: Path) -> None:
    """A small limit takes many tries, so the order by all thinking is the other way round."""
    tried, kept = {16: 400, 32: 200, 64: 60}, {16: 16, 32: 30, 64: 50}

    def spent(row: Evaluation) -> dict[str, object]:
        limit = int(row.arm.split()[2].rstrip(","))
        return {"thinking_tokens": tried[limit], "kept_thinking_tokens": kept[limit], "calls": 9}

    arms = [{"strategy": "rejection", "max_tokens": limit, "tries": 30} for limit in tried]
    right = {"reject over 16, 30 tries": 0.6, "reject over 32, 30 tries": 0.5, "reject over 64, 30 tries": 0.4}
    models = [{"label": "sft", "name": "sft"}]
    run = make_run(models=models, sweep=None, arms=arms, change=spent, share=lambda _, arm: right[arm])
    results = load_results([run])
    (method,), (row,) = results.methods(), method_rows(results, resamples=500)
    assert method.scaling is not None
    assert method.scaling < 0, "shorter thoughts are the better ones, as in the paper"
    assert row.scaling is not None
    assert row.scaling.value == pytest.approx(method.scaling)
    assert row.scaling.low < method.scaling < row.scaling.high
    assert (method.control_runs, method.control_samples) == (1, 1)
    text, _ = write_methods(MethodsConfig(), [run], tmp_path)
    assert "rejection: tokens are those of the responses that were kept" in text
    assert (
        "rejection: tokens are those of the responses that were kept"
        in write_report([run], tmp_path / "report.html").read_text()
    )

    def over(row: Evaluation) -> dict[str, object]:
        return spent(row) | {"kept_thinking_tokens": 17 if row.arm == "reject over 16, 30 tries" else 1}

    (beyond,) = load_results(
        [make_run("over", models=models, sweep=None, arms=arms, change=over, share=lambda _, arm: right[arm])]
    ).methods()
    assert beyond.control_runs == pytest.approx(2 / 3)
    assert beyond.control_samples == pytest.approx(2 / 3)


def test_a_method_whose_arms_share_no_decided_question_is_said(make_run: MakeRun) -> None:
    def doubt(row: Evaluation) -> dict[str, object]:
        odd = int(row.gold) % 2 == 1
        return {"correct": None, "verdict": "undecided"} if odd == (row.arm == "max=16") else {}

    run = make_run(sweep={"max_tokens": [16, 64]}, change=doubt)
    with pytest.raises(InputError, match="base, growing maximum: there is no question"):
        method_rows(load_results([run]), resamples=10)


def test_one_repetition_has_the_interval_of_its_questions() -> None:
    values = np.array([[1.0, 0.0, 1.0, 1.0] * 50])
    found = crossed_mean(values)
    assert (found.value, found.n) == (0.75, 200)
    assert found.high - found.value == pytest.approx(Z * values.std() / 200**0.5, rel=0.02)


def test_equal_repetitions_are_no_more_than_one() -> None:
    values = np.array([[1.0, 0.0, 1.0, 1.0] * 50])
    one, five = crossed_mean(values), crossed_mean(values.repeat(5, axis=0))
    assert (five.low, five.high) == pytest.approx((one.low, one.high))
    same = crossed_mean(np.ones((5, 20)))
    assert (same.low, same.value, same.high) == (1, 1, 1)


def test_a_single_value_says_nothing_of_others(make_run: MakeRun) -> None:
    assert crossed_mean(np.ones((1, 1)), low=-1, high=1) == Estimate(1, -1, 1, 1)
    (table, *_) = ablation([make_run(questions=1, share=lambda model, arm: float(model == "sft"))], "base")
    base, sft = table.rows
    assert sft.difference == Estimate(1, -1, 1, 1)
    assert (base.accuracy.low, sft.accuracy.high) == (0, 1)
    assert base.accuracy.high > 0.7
    assert sft.accuracy.low < 0.3


@pytest.mark.parametrize("of_seeds", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("questions", [30, 300])
@pytest.mark.parametrize(("seeds", "least"), [(2, 0.87), (3, 0.92), (5, 0.93)])
def test_the_interval_holds_for_other_seeds_and_other_questions(
    seeds: int, least: float, questions: int, of_seeds: float
) -> None:
    """Two models whose difference is none; at most too careful where seeds hardly matter."""
    random, hits, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        hard = random.normal(0, 0.25, (1, questions))
        sides = [
            random.random((seeds, questions)) < 0.5 + share * hard + random.normal(0, of_seeds, (seeds, 1))
            for share in (0.7, 1)
        ]
        found = crossed_mean(sides[1].astype(float) - sides[0])
        hits += found.low <= 0 <= found.high
    assert least <= hits / trials <= 0.995
