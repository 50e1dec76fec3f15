"""Eval runs in tests: without an endpoint, or finished ones with invented rows."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable
from pathlib import Path

from s1ray.config import validate_config
from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.loading import QUESTIONS, RESULTS, STAGE, load_results
from s1ray.evaluation.measure import Engines
from s1ray.evaluation.runner import evaluate, work
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.tasks import stored_row
from s1ray.runs import Run
from s1ray.schemas import Evaluation, Question, question_id, to_table, write_table
from s1ray.storage import Location, local_copy

MODELS = [{"label": "base", "name": "base"}, {"label": "sft", "name": "sft"}]


def run_eval(config: EvalConfig, *, force: bool = False, engines: Engines | None = None) -> Run:
    """The eval stage, answered by generators of a test."""
    stage = dataclasses.replace(evaluate, work=functools.partial(work, engines=engines))
    return stage(config, force=force)


def measured(folder: Location, model: str, arm: str) -> ArmResult:
    """One measurement of a finished run."""
    result = load_results([folder]).find(model, arm)
    assert result is not None
    return result


def finished_run(
    root: Path,
    name: str = "run",
    *,
    questions: int = 40,
    samples: int = 1,
    share: Callable[[str, str], float] = lambda model, arm: 0.5,
    change: Callable[[Evaluation], dict[str, object]] = lambda row: {},
    text: str = "What is 1 + {}?",
    **config: object,
) -> Path:
    """Write a run in which `share(model, arm)` of the answers are right; `change(row)` gives fields to replace."""
    data = {
        "output": str(root / name),
        "benchmark": "miniature",
        "models": MODELS,
        "sweep": {"max_tokens": [0, 16, 64], "waits": [1, 2]},
        "sampling": {"samples": samples, "temperature": 1.0},
    } | config
    resolved = validate_config(EvalConfig, data, "test")
    asked = sorted(
        (
            Question(id=question_id(q), question=q, answer=str(i + 1), domain=f"domain {i % 3}")
            for i, q in enumerate(text.format(i) for i in range(questions))
        ),
        key=lambda q: q.id,
    )
    rows = []
    with Run(STAGE, resolved) as run:
        for model in resolved.models:
            for arm in resolved.arms_of(model):
                right = round(share(model.label, arm.name) * questions)
                draw = random.Random(f"{model.label} {arm.name}").sample(asked, right)
                for q in asked:
                    for sample in range(samples):
                        row = _row(model.label, arm, q, sample, q in draw)
                        rows.append(stored_row(vars(row) | change(row)))
        write_table(to_table(rows, Evaluation), run.path / RESULTS)
        write_table(to_table(asked, Question), run.path / QUESTIONS)
        run.rows = {"questions": questions, "evaluations": len(rows)}
    return local_copy(run.path)


def _row(model: str, arm: Strategy, question: Question, sample: int, correct: bool) -> Evaluation:
    assert question.answer is not None
    answer, most, asked = question.answer if correct else "no idea", arm.limits[1], arm.budget.waits
    return Evaluation(
        id=f"{question.id}-{sample}",
        question_id=question.id,
        sample=sample,
        model=model,
        arm=arm.name,
        max_thinking_tokens=most,
        waits_asked=asked,
        domain=question.domain,
        gold=question.answer,
        extracted=answer,
        correct=correct,
        graded_by="exact",
        thinking=f"step\n{'Wait, once more.' * asked}\nso {answer}" if most else "",
        answer=f"Final Answer: {answer}",
        thinking_tokens=9 if most is None else most,
        answer_tokens=4,
        waits=asked,
        end_forced="budget",
        wait_spans=[place for i in range(asked) for place in (5 + 16 * i, 9 + 16 * i)] if most and asked else None,
    )
