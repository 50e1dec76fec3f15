"""Strategies: budget forcing's arms, and one of a stranger's package, from the config to the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError, load_config, validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.recount import Recount
from s1ray.evaluation.report import write_report
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.budget_forcing import BudgetForcing
from s1ray.generation import GenerationRequest, Generator
from s1ray.recipes import find_recipe
from s1ray.registry import STRATEGIES
from s1ray.schemas import Completion, Evaluation, Question, read_table, to_table, write_table
from s1ray.thinking import ThinkingBudget
from tests.support.evaluations import measured, run_eval
from tests.support.scripted_model import FORMAT, Recorder, questions


class Retry(Strategy):
    """A stranger's strategy, which no file of s1ray's knows: thinks freely, several times."""

    tries: int = 1

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        message = {"role": "user", "content": question.question}
        cost = 0
        for number in range(self.tries):
            request = GenerationRequest(id=f"{question.id}-{number}", messages=[message], budget=ThinkingBudget())
            completion = await generator.complete(request)
            cost += completion.thinking_tokens
        return dataclasses.replace(completion, thinking_tokens=cost, output_ids=None)


OTHER = f"{__name__}:Retry"


def config(tmp_path: Path, *arms: dict[str, JsonValue], **changes: JsonValue) -> EvalConfig:
    file = tmp_path / "questions.parquet"
    write_table(to_table(questions(12), Question), file)
    data: dict[str, JsonValue] = {"output": str(tmp_path / "run"), "benchmark": str(file), "arms": [*arms]}
    data["models"] = [{"label": "base", "name": "b"}, {"label": "sft", "name": "s"}]
    return validate_config(EvalConfig, data | changes, "test")


def test_a_strangers_strategy_without_limits_runs_and_is_reported_as_a_method(tmp_path: Path) -> None:
    sweep: JsonValue = {"max_tokens": [0, 64], "waits": [1]}
    arms: list[dict[str, JsonValue]] = [{"strategy": OTHER}, {"strategy": OTHER, "tries": 3}]
    resolved = config(tmp_path, *arms, sweep=sweep)
    assert [arm.name for arm in resolved.all_arms()][3:] == ["Retry", "Retry tries=3"]
    run = run_eval(resolved, engines=lambda model: Recorder(model.label))
    rows = [Evaluation(**row) for row in read_table(run.path / "evaluations.parquet", Evaluation).to_pylist()]
    assert {row.max_thinking_tokens for row in rows if row.arm.startswith("Retry")} == {None}
    results = load_results([run.path])
    series = ["growing maximum", "all of budget forcing", "Retry"]
    assert [(m.model, m.series) for m in results.methods()] == [(m, s) for m in ("base", "sft") for s in series]
    assert [result.arm for result in results.maxima("sft")] == ["max=0", "max=64"]
    page = write_report([run.path], tmp_path / "report.html").read_text()
    assert "sft, Retry" in page


def test_thinking_is_counted_again_in_each_of_a_strategys_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(completion: Completion) -> Completion:
        return dataclasses.replace(completion, thinking_tokens=0)

    monkeypatch.setattr(Recount, "of_model", lambda weights, thinking_format: Recount(FORMAT))
    models: JsonValue = [{"label": "sft", "name": "s", "weights": "miniature-base"}]
    resolved = config(tmp_path, {"strategy": OTHER}, {"strategy": OTHER, "tries": 3}, models=models)
    run = run_eval(resolved, engines=lambda model: Recorder(model.label, change=lie))
    once, thrice = (measured(run.path, "sft", arm).thinking_tokens.value for arm in ("Retry", "Retry tries=3"))
    assert thrice == 3 * once > 0


def test_a_run_of_strangers_strategies_alone_makes_a_report_too(tmp_path: Path) -> None:
    run = run_eval(config(tmp_path, {"strategy": OTHER}), engines=lambda model: Recorder(model.label))
    assert "Retry" in write_report([run.path], tmp_path / "report.html").read_text()


def test_the_config_says_again_what_it_was_given(tmp_path: Path) -> None:
    resolved = config(tmp_path, {"max_tokens": 8}, {"strategy": OTHER, "tries": 2, "label": "mine"})
    assert [type(arm) for arm in resolved.arms] == [BudgetForcing, Retry]
    assert validate_config(EvalConfig, resolved.model_dump(mode="json"), "again") == resolved


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"strategy": "budget-forcing"}, "did you mean 'budget_forcing'"),
        ({"strategy": OTHER, "max_tokens": 3}, "arms.0.max_tokens: unknown field"),
        ({"strategy": OTHER, "label": "a/b"}, "arms.0.label"),
        ({"max_tokens": -1}, "arms.0.max_tokens"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arm: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, arm)
    assert message in str(error.value)


@pytest.mark.parametrize("arm", [{}, {"max_tokens": 0}, {"max_tokens": 64}, {"max_tokens": 64, "waits": 2}])
def test_an_answer_has_the_same_limit_in_every_arm_and_room_for_it(arm: dict[str, int]) -> None:
    request = BudgetForcing.model_validate(arm).request(questions(1)[0], 0, Sampling(answer_tokens=100), seed=0)
    assert request.budget is not None
    assert (request.budget.answer_max_tokens, request.budget.answer_reserve) == (100, 100)
    if "max_tokens" in arm:
        # Two delimiters of s1's format and "Final Answer:" are fewer than 32 tokens; one more ends the response.
        assert request.max_tokens == arm["max_tokens"] + 32 + 100 + 1
    else:
        assert request.max_tokens is None


def test_one_recipe_has_all_strategies_without_a_reward_model() -> None:
    arms = load_config(EvalConfig, find_recipe("strategies", "eval")).all_arms()
    own = {
        name: strategy for name in STRATEGIES.names() if (strategy := STRATEGIES.get(name)).__module__[:6] == "s1ray."
    }
    assert {arm.strategy for arm in arms} == {name for name in own if "reward" not in own[name].model_fields}


def test_arm_labels_tell_every_setting_apart() -> None:
    arms = [
        BudgetForcing(),
        BudgetForcing(max_tokens=0),
        BudgetForcing(max_tokens=64, min_tokens=8),
        BudgetForcing(max_tokens=64, waits=2),
        BudgetForcing(max_tokens=64, waits=2, wait_text="Hmm"),
        BudgetForcing(max_tokens=64, waits=2, wait_text=None),
        BudgetForcing(max_tokens=64, waits=2, wait_text=["Wait", "Hmm"]),
    ]
    assert len({arm.name for arm in arms}) == len(arms)
