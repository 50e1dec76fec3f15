from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.benchmarks import Benchmark, find_benchmark
from s1ray.config import ConfigError
from s1ray.evaluation.benchmarks import load_questions
from s1ray.schemas import Question, question_id, to_table, write_table


def question(text: str, answer: str | None = "1") -> Question:
    return Question(id=question_id(text), question=text, answer=answer)


def written(path: Path, questions: list[Question]) -> Benchmark:
    write_table(to_table(questions, Question), path)
    return find_benchmark(str(path))


def test_a_limit_takes_the_same_questions_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    questions = [question(f"q{i}") for i in range(30)]
    there = load_questions(written(tmp_path / "a.parquet", questions), 10)
    back = load_questions(written(tmp_path / "b.parquet", questions[::-1]), 10)
    assert there == back
    assert [q.id for q in there] == sorted(q.id for q in questions)[:10]


@pytest.mark.parametrize(
    ("questions", "limit", "message"),
    [
        ([question("a"), question("b", answer=None)], None, "has no answer"),
        ([question("a"), question("b", answer=" ")], None, "has no answer"),
        ([question("a"), question("a")], None, "comes more than once"),
        ([question("a")], 2, "limit: 2 questions asked for, but"),
        ([], None, "has no questions"),
    ],
)
def test_a_benchmark_that_cannot_be_graded_is_refused(
    tmp_path: Path, questions: list[Question], limit: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_questions(written(tmp_path / "a.parquet", questions), limit)
