"""What pass rates and labels mean for a question, and which questions are left after them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty import step
from s1ray.curation.difficulty.attempts import Asked
from s1ray.curation.difficulty.config import DifficultyBounds
from s1ray.curation.difficulty.measuring import Measured
from s1ray.curation.difficulty.rates import FITS, TOO_EASY, TOO_HARD, UNKNOWN, PassRates, judged_labels
from s1ray.runs import Run
from tests.support.curation import filtered
from tests.support.difficulty import VLLM

COUNTS = st.integers(0, 3)


@given(
    models=st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=2),
    ends=st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]), min_size=2, max_size=2).map(sorted),
)
def test_a_question_is_judged_where_undecided_attempts_cannot_change_it(
    models: list[tuple[int, int, int]], ends: list[float]
) -> None:
    bounds = DifficultyBounds(min_pass_rate=ends[0], max_pass_rate=ends[1])

    def possible(right: int, wrong: int, undecided: int) -> list[float]:
        total = right + wrong + undecided
        return [(right + lucky) / total for lucky in range(undecided + 1)] if total else [0.0, 1.0]

    largest = [max(each) for each in itertools.product(*(possible(*model) for model in models))]
    codes = {
        TOO_EASY if rate > bounds.max_pass_rate else TOO_HARD if rate < bounds.min_pass_rate else FITS
        for rate in largest
    }
    counts = (np.array([each]) for each in zip(*models, strict=True))
    (code,) = PassRates([f"m{place}" for place in range(len(models))], *counts).judged(bounds).tolist()
    assert code == (codes.pop() if len(codes) == 1 else UNKNOWN)


def test_labels_of_sources_are_judged_like_attempts() -> None:
    solved_by = [None, [], ["a"], ["a"], None, ["a"]]
    rates = [None, None, None, '{"a": 0.5, "b": 0.1}', '{"a": 0.9}', '{"a": 0.2}']
    assert judged_labels(solved_by, rates, DifficultyBounds()).tolist() == [UNKNOWN, FITS, *[TOO_EASY] * 4]
    bounds = DifficultyBounds(min_pass_rate=0.3, max_pass_rate=0.7)
    expected = [UNKNOWN, TOO_HARD, TOO_EASY, FITS, TOO_EASY, TOO_HARD]
    assert judged_labels(solved_by, rates, bounds).tolist() == expected


@pytest.mark.parametrize(
    ("bounds", "left"), [({}, ["1"]), ({"max_pass_rate": 1}, ["1", "2", None, " "])], ids=["s1", "all"]
)
def test_a_question_without_an_answer_is_not_asked(
    bounds: dict[str, object], left: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["1", "2", None, " "]
    pool = filtered(pool_config(tmp_path, answers, **bounds), tmp_path)

    def measured(asked: Asked, *_: object, **__: object) -> Measured:
        assert asked.rows.tolist() == [0, 1]
        right = np.array([[0], [1]])
        return Measured(asked.rows, PassRates(["m"], right, 1 - right, 0 * right), {})

    monkeypatch.setattr(step, "measure", measured)
    config = pool_config(tmp_path, answers, **bounds)
    step.find_difficulty(config, Run("curate", config), tmp_path, pool.parts, pool.features, pool.funnel)
    assert [answers[row] for row in pool.funnel.left.tolist()] == left
    reasons = [(each.reasons if each.stage == "difficulty" else {}) for each in pool.funnel.counts][-1]
    assert reasons == ({} if bounds else {"too easy": 1, "difficulty not measured": 2})


def test_questions_without_any_answer_are_refused_before_one_is_asked(tmp_path: Path) -> None:
    config = pool_config(tmp_path, [None, ""])
    pool = filtered(config, tmp_path)
    with pytest.raises(ConfigError, match=r"none of the 2 questions that are left has a reference answer.*columns\."):
        step.find_difficulty(config, Run("curate", config), tmp_path, pool.parts, pool.features, pool.funnel)


def pool_config(folder: Path, answers: Sequence[str | None], **bounds: object) -> CurationConfig:
    """Of a pool of a question for each answer."""
    names = ("Ann", "Ben", "Cleo", "Dan")
    rows = [
        {"question": f"Who is {name}?", "answer": a, "domain": "d"} for name, a in zip(names, answers, strict=False)
    ]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "files", "path": str(folder / "pool.jsonl"), "columns": {"answer": "answer", "domain": "domain"}}
    data = {
        "output": str(folder / "run"),
        "sources": [source],
        "quality": {"missing_solution": False},
        "difficulty": {"kind": "model", "models": {"m": VLLM}, **bounds},
    }
    return validate_config(CurationConfig, data, "test")
