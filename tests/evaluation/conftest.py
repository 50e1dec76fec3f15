"""Finished benchmark runs with invented rows: for everything that only reads results."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from s1ray.config import validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.results import QUESTIONS, RESULTS, STAGE
from s1ray.runs import Run
from s1ray.schemas import Evaluation, Question, question_id, to_table, write_table

MODELS = [{"label": "base", "name": "base"}, {"label": "sft", "name": "sft"}]
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a finished run into the test's own folder; see `finished_run`."""
    return functools.partial(finished_run, tmp_path)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with nothing special about it, to read only."""
    return finished_run(tmp_path_factory.mktemp("plain"))


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
                        rows.append(row if not (fields := change(row)) else Evaluation(**(vars(row) | fields)))
        write_table(to_table(rows, Evaluation), run.path / RESULTS)
        write_table(to_table(asked, Question), run.path / QUESTIONS)
        run.rows = {"questions": questions, "evaluations": len(rows)}
    return run.path


def _row(model, arm, question, sample, correct) -> Evaluation:
    answer = question.answer if correct else "no idea"
    waits = "".join("Wait, once more.\n" for _ in range(arm.waits))
    return Evaluation(
        id=f"{question.id}-{sample}",
        question_id=question.id,
        sample=sample,
        model=model,
        arm=arm.name,
        max_thinking_tokens=arm.max_tokens,
        waits_asked=arm.waits,
        domain=question.domain,
        gold=question.answer,
        extracted=answer,
        correct=correct,
        graded_by="exact",
        thinking=f"step\n{waits}so {answer}" if arm.max_tokens else "",
        answer=f"Final Answer: {answer}",
        thinking_tokens=arm.max_tokens,
        answer_tokens=4,
        waits=arm.waits,
        end_forced="budget",
    )
