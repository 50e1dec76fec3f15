import pytest

from s1ray.config import ConfigError
from s1ray.evaluation.benchmarks import load_questions
from s1ray.schemas import Question, question_id, to_table, write_table


def question(text: str, **fields) -> Question:
    return Question(**({"id": question_id(text), "question": text, "answer": "1"} | fields))


def written(path, questions):
    write_table(to_table(questions, Question), path)
    return str(path)


def test_a_limit_takes_the_same_questions_whatever_their_order_in_the_file(tmp_path):
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
def test_a_benchmark_that_cannot_be_graded_is_refused(tmp_path, questions, limit, message):
    with pytest.raises(ConfigError, match=message):
        load_questions(written(tmp_path / "a.parquet", questions), limit)


def test_the_miniature_benchmark_is_the_part_that_is_held_out_of_the_pool():
    from s1ray.miniature.pool import build_benchmark

    assert {q.id for q in load_questions("miniature", 50)} <= {row.id for row in build_benchmark()}
    assert len({q.domain for q in load_questions("miniature", 500)}) >= 10
