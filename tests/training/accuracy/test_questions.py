from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.config import ConfigError
from s1ray.schemas import Question, question_id, to_table, write_table
from s1ray.training.accuracy.questions import check_apart, choose_questions
from s1ray.training.config import AccuracyConfig


def questions(path: Path, answers: list[str | None]) -> str:
    texts = [f"What is {number} + 1?" for number in range(len(answers))]
    rows = [Question(id=question_id(t), question=t, answer=a) for t, a in zip(texts, answers, strict=True)]
    write_table(to_table(rows, Question), path)
    return str(path)


def test_the_seed_draws_some_of_them_in_their_order(tmp_path: Path) -> None:
    file = questions(tmp_path / "q.parquet", [str(number + 1) for number in range(30)])
    everything = choose_questions(AccuracyConfig(benchmark=file, size=None), seed=0)
    some = choose_questions(AccuracyConfig(benchmark=file, size=10), seed=0)
    assert len(everything) == 30
    assert len(some) == 10
    assert [q for q in everything if q in some] == some
    assert choose_questions(AccuracyConfig(benchmark=file, size=10), seed=0) == some
    assert choose_questions(AccuracyConfig(benchmark=file, size=10), seed=1) != some


def test_questions_without_an_answer_are_not_asked(tmp_path: Path) -> None:
    file = questions(tmp_path / "q.parquet", ["1", None, " "])
    assert [q.answer for q in choose_questions(AccuracyConfig(benchmark=file), seed=0)] == ["1"]
    none = questions(tmp_path / "none.parquet", [None])
    with pytest.raises(ConfigError, match=r"accuracy\.benchmark .*: none of its questions has a reference answer"):
        choose_questions(AccuracyConfig(benchmark=none), seed=0)


def test_what_is_trained_on_is_not_measured(tmp_path: Path) -> None:
    chosen = choose_questions(AccuracyConfig(benchmark=questions(tmp_path / "q.parquet", ["1", "2"])), seed=0)
    check_apart(chosen, ["What is 1 + 2?"], "b")
    with pytest.raises(ConfigError, match=r"accuracy\.benchmark b: 1 of its questions are among the traces"):
        check_apart(chosen, [" What is 1 + 1?\n"], "b")
