"""Conditional control: what is asked, what is forced, and what Control is measured against."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.evaluation import metrics
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.report import write_report
from s1ray.evaluation.runner import plan
from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.class_conditional import ClassConditional
from s1ray.evaluation.strategies.conditional import Conditional
from s1ray.evaluation.strategies.step_conditional import StepConditional
from s1ray.evaluation.strategies.token_conditional import TokenConditional
from s1ray.evaluation.summary import summary_table
from s1ray.generation import GenerationRequest
from s1ray.schemas import Evaluation
from s1ray.storage import Location
from s1ray.thinking.format import PRESETS
from tests.evaluation.conftest import MakeRun
from tests.evaluation.test_strategies import config
from tests.support.evaluations import measured, run_eval
from tests.support.priced import Priced, Said
from tests.support.scripted_model import Recorder, questions

QUESTION = questions(1)[0]
STEPS = "Step, {left} left:"


def asked(arm: Conditional) -> GenerationRequest:
    model = Priced([Said("1")])
    asyncio.run(arm(model, QUESTION, 0, Sampling(answer_tokens=100), seed=0))
    (request,) = model.seen
    return request


@pytest.mark.parametrize(
    ("arm", "instruction", "maximum", "limits"),
    [
        (TokenConditional(tokens=2048), "Think for up to 2048 tokens.", None, (0, 2048)),
        (TokenConditional(tokens=2048, forced=True), "Think for up to 2048 tokens.", 2048, (0, 2048)),
        (TokenConditional(tokens=9, prompt="At most {tokens}!"), "At most 9!", None, (0, 9)),
        (StepConditional(steps=16, delimiter=STEPS), "Think for up to 16 steps.", None, (0, 1600)),
        (StepConditional(steps=16, delimiter=STEPS, forced=True), "Think for up to 16 steps.", 1600, (0, 1600)),
        (
            StepConditional(steps=2, delimiter=STEPS, forced=True, tokens_per_step=8),
            "Think for up to 2 steps.",
            16,
            (0, 16),
        ),
        (
            ClassConditional(length="short"),
            "Answer after a short amount of thinking. Do not spend excessive time double-checking your work.",
            None,
            (0, None),
        ),
        (ClassConditional(length="long", prompt="Take your time.", max_tokens=50), "Take your time.", 50, (0, 50)),
    ],
)
def test_the_question_is_followed_by_the_instruction_and_the_length_is_forced_only_where_that_is_asked(
    arm: Conditional, instruction: str, maximum: int | None, limits: tuple[int, int | None]
) -> None:
    request = asked(arm)
    assert request.messages == [{"role": "user", "content": f"{QUESTION.question}\n\n{instruction}"}]
    assert request.budget is not None
    assert request.budget.max_tokens == maximum
    assert (request.budget.answer_max_tokens, request.budget.answer_reserve) == (100, 100)
    assert arm.limits == limits


def test_labels_tell_every_setting_apart() -> None:
    arms: list[Conditional] = [
        TokenConditional(tokens=8),
        TokenConditional(tokens=8, forced=True),
        TokenConditional(tokens=8, prompt="At most {tokens}"),
        StepConditional(steps=8, delimiter=STEPS),
        StepConditional(steps=8, delimiter=STEPS, forced=True),
        ClassConditional(length="short"),
        ClassConditional(length="long"),
        ClassConditional(length="long", max_tokens=0),
        ClassConditional(length="long", prompt="Long / please"),
        ClassConditional(prompt="Hm."),
    ]
    names = [arm.name for arm in arms]
    assert len(set(names)) == len(arms)
    assert names[2:5] == ["tokens=8 (At most {tokens})", "steps=8", "steps=8 forced"]
    assert names[-2] == "long (Long please)"


def run_with(tmp_path: Path, *arms: dict[str, JsonValue]) -> Location:
    models: JsonValue = [{"label": "sft", "name": "s"}]
    return run_eval(config(tmp_path, *arms, models=models), engines=lambda model: Recorder(model.label)).path


def test_control_counts_the_runs_that_kept_to_what_they_were_told_and_forcing_makes_all_of_them(tmp_path: Path) -> None:
    # Question i thinks 1 + i letters, whatever it is told: twelve questions, on average 6.5.
    told: list[dict[str, JsonValue]] = [{"strategy": "token_conditional", "tokens": n} for n in (2, 4, 8, 16)]
    run = run_with(tmp_path, *told, *({**arm, "forced": True} for arm in told))
    free, forced = load_results([run]).methods()
    assert (free.series, forced.series) == ("token_conditional", "token_conditional, forced")
    assert (free.control_runs, forced.control_runs) == (0.5, 1.0)
    assert free.control_samples == pytest.approx((2 + 4 + 8 + 12) / 48)
    assert forced.control_samples == 1.0
    results = load_results([run])
    assert (results.controlled, results.obeying) == (48, 48), "only forced arms say whether forcing works"
    assert measured(run, "sft", "tokens=4 forced").longest == 4
    assert measured(run, "sft", "tokens=4").longest == 12


def test_the_plan_promises_no_maximum_where_it_is_only_asked_for(tmp_path: Path) -> None:
    forced: dict[str, JsonValue] = {"strategy": "token_conditional", "tokens": 4, "forced": True}
    assert "at most 96 thinking tokens" in plan(config(tmp_path, forced))[-2]
    assert "up to the context" in plan(config(tmp_path, {**forced, "forced": False}))[-2]


def test_control_of_classes_compares_with_the_model_without_the_instruction(make_run: MakeRun, tmp_path: Path) -> None:
    # The paper's AIME24 figures: short 8,033 (more than without!), long 9,651, none 6,109: Control 50 %.
    tokens = {"short": 8033, "long": 9651, "max=none": 6109, "prompt (Hm.)": 1}

    def thinking(row: Evaluation) -> dict[str, object]:
        return {"thinking_tokens": tokens[row.arm]}

    arms: list[dict[str, JsonValue]] = [
        {"strategy": "class_conditional", "length": "short"},
        {"strategy": "class_conditional", "length": "long"},
        {"strategy": "class_conditional", "prompt": "Hm."},
    ]
    run = make_run(sweep=None, arms=[{}, *arms], change=thinking)
    method = load_results([run]).methods()[1]
    assert (method.series, method.control_runs, method.control_samples) == ("class_conditional", 0.5, None)
    alone = make_run("alone", sweep=None, arms=arms, change=thinking)
    assert load_results([alone]).methods()[0].control_runs is None
    assert summary_table([alone]).title == "40 questions; intervals are 95 %"
    assert "class_conditional" in write_report([alone], tmp_path / "report.html").read_text()


def test_the_papers_control_of_instructed_lengths_comes_out() -> None:
    def control(tokens: list[int], arms: list[Conditional]) -> float:
        return metrics.control(tokens, [arm.limits for arm in arms])

    told = [TokenConditional(tokens=n) for n in (1024, 2048, 4096, 8192, 16384)]
    assert control([7939, 7158, 8263, 7108, 7500], [*told]) == 0.4
    steps = [StepConditional(steps=n, delimiter=STEPS) for n in (16, 32, 64, 128, 256)]
    assert control([7252, 6277, 5396, 5552, 7551], [*steps]) == 0.6


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"strategy": "token_conditional"}, "arms.0.tokens"),
        ({"strategy": "token_conditional", "tokens": 4, "prompt": "Be brief."}, "must contain {tokens}"),
        ({"strategy": "step_conditional", "steps": 4}, "arms.0.delimiter"),
        ({"strategy": "step_conditional", "steps": 4, "delimiter": "Step"}, "must contain {left}"),
        (
            {"strategy": "step_conditional", "steps": 4, "delimiter": "<|im_start|>{left} steps left"},
            "'steps=4' for model 'base': each step opens with '<|im_start|>', but so does '<|im_start|>answer'",
        ),
        ({"strategy": "class_conditional"}, "give `length` (short, long), or a `prompt`"),
        ({"strategy": "class_conditional", "length": "medium"}, "arms.0.length"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arm: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, arm)
    assert message in str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_steps_of_ordinary_text_fit_every_format_and_those_of_special_tokens_some(name: str) -> None:
    fmt = PRESETS[name]
    StepConditional(steps=1, delimiter=STEPS).check_format(fmt)
    StepConditional(steps=1, delimiter="<step {left}>").check_format(fmt)
    special = StepConditional(steps=1, delimiter="<|im_start|>{left} steps left")
    if "<|im_start|>" in fmt.end_triggers + fmt.headers:
        with pytest.raises(ValueError, match="opens with"):
            special.check_format(fmt)
    else:
        special.check_format(fmt)
