"""The source and the benchmark of examples/own_questions."""

from __future__ import annotations

import re

from s1ray.benchmarks import load_benchmark
from s1ray.config import load_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.pipeline import curate
from s1ray.grading import grade
from s1ray.schemas import question_id

CONFIG = "examples/own_questions/curate.yaml"


def test_the_config_plans() -> None:
    lines = curate.plan(load_config(CurationConfig, CONFIG))
    assert any("clock" in line for line in lines)
    assert any("200 questions by diverse" in line for line in lines)


def test_the_questions_are_repeatable_and_right() -> None:
    (source,) = load_config(CurationConfig, CONFIG).sources
    rows = list(source.rows())
    assert len(rows) > 1900
    assert rows == list(source.rows())
    for row in rows[:50]:
        assert row.id == question_id(row.question)
        hours, minutes, *steps = (int(number) for number in re.findall(r"[+-]?\d+", row.question))
        total = hours * 60 + minutes + sum(steps)
        assert row.answer == f"{total // 60 % 24:02}:{total % 60:02}"
        assert row.solution is not None
        assert row.solution.endswith(row.answer)


def test_the_benchmark_is_held_out_and_can_be_graded() -> None:
    held_out = load_benchmark("clock")
    (source,) = load_config(CurationConfig, CONFIG).sources
    assert len(held_out) == 200
    assert not {question.id for question in held_out} & {row.id for row in source.rows()}
    assert all(question.answer for question in held_out)
    assert grade("16:05", "Final Answer: 16:05", kind="text").correct
    assert not grade("16:05", "Final Answer: 16:50", kind="text").correct
