import asyncio
import dataclasses

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import ModelDifficulty
from s1ray.curation.difficulty import DifficultyWorker, count_undecided, fingerprint, solvers
from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.grading import Grade
from s1ray.models import EngineConfig
from s1ray.schemas import Completion, Question, to_table

ENGINE = EngineConfig(model="some/model")


def difficulty(**changes: object) -> ModelDifficulty:
    data = {"kind": "model", "models": {"small": {"model": "some/model"}}}
    return validate_config(ModelDifficulty, data | changes, "test")


def longest(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Right is whatever is longer than the reference."""
    return Grade("correct" if len(text) > len(gold) else "incorrect", text, f"longest {kind}")


class Echo:
    """Answers with the question's last word."""

    async def complete(self, request: GenerationRequest) -> Completion:
        assert request.messages is not None
        answer = request.messages[0]["content"].split()[-1]
        if answer == "never":
            raise GenerationError("no luck")
        return Completion(
            id=request.id, thinking="", answer=answer, prompt_tokens=1, thinking_tokens=2, answer_tokens=3
        )

    async def close(self) -> None:
        pass


def attempts(config: ModelDifficulty, *questions: Question) -> list[dict[str, object]]:
    worker = DifficultyWorker("small", ENGINE, config, 0, lambda engine: Echo())
    try:
        rows: list[dict[str, object]] = worker(to_table(questions, Question)).to_pylist()
    finally:
        worker.close()
    return rows


def test_attempts_are_graded_where_there_is_something_to_grade() -> None:
    rows = attempts(
        difficulty(),
        Question(id="right", question="Say 12", answer="12"),
        Question(id="wrong", question="Say 13", answer="12"),
        Question(id="open", question="Say 13"),
        Question(id="empty", question="Say 13", answer="."),
        Question(id="failed", question="Say never", answer="12"),
    )
    correct = {row["id"]: row["correct"] for row in rows}
    assert correct == {"right": True, "wrong": False, "open": None, "empty": None, "failed": None}
    assert (rows[0]["tokens"], rows[0]["graded_by"]) == (5, "exact")
    assert rows[-1]["error"] == "no luck"


def test_a_grader_is_chosen_by_name_and_decides_the_answers() -> None:
    named = difficulty(grader=f"{__name__}:longest")
    (row,) = attempts(named, Question(id="q", question="Say 100", answer="12", metadata='{"answer_kind": "proof"}'))
    assert (row["correct"], row["graded_by"]) == (True, "longest proof")
    assert fingerprint("small", ENGINE, named, 0) != fingerprint("small", ENGINE, difficulty(), 0)
    with pytest.raises(ConfigError, match=r"grader: no grader is called 'judge'\. There are rules"):
        difficulty(grader="judge")


def test_a_question_that_a_model_has_not_measured_is_unknown_unless_another_solved_it() -> None:
    import pyarrow as pa

    rows = [("a", "low", False), ("a", "high", True), ("b", "low", False), ("b", "high", None), ("c", "low", None)]
    rows += [("c", "high", True), ("d", "low", False), ("d", "high", False)]
    schema = pa.schema(
        [("id", pa.string()), ("model", pa.string()), ("correct", pa.bool_()), ("graded_by", pa.string())]
    )
    table = pa.Table.from_pylist(
        [{"id": i, "model": model, "correct": correct} for i, model, correct in rows], schema=schema
    )
    assert solvers(table) == {"a": ["high"], "b": None, "c": ["high"], "d": []}


def slow(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Runs out of time where the answer is "tower"; of other answers only "12" is right."""
    if text == "tower":
        return Grade("undecided", text, "out of time")
    return Grade("correct" if text == "12" else "incorrect", text, "slow")


def test_a_question_is_not_hard_because_grading_ran_out_of_time() -> None:
    import pyarrow as pa

    config, model = difficulty(grader=f"{__name__}:slow", samples=2, temperature=1.0), iter(range(100))

    class Alternating(Echo):
        """Each sample answers with the next of the question's words."""

        async def complete(self, request: GenerationRequest) -> Completion:
            assert request.messages is not None
            words = request.messages[0]["content"].split()
            completion = await super().complete(request)
            return dataclasses.replace(completion, answer=words[next(model) % 2])

    worker = DifficultyWorker("small", ENGINE, config, 0, lambda engine: Alternating())
    questions = [
        Question(id="open", question="13 tower", answer="12"),
        Question(id="solved", question="tower 12", answer="12"),
        Question(id="hard", question="13 14", answer="12"),
    ]
    try:
        graded = pa.concat_tables([worker(to_table([question], Question)) for question in questions])
    finally:
        worker.close()
    assert solvers(graded) == {"open": None, "solved": ["small"], "hard": []}
    assert count_undecided(graded) == 2


def test_an_engine_has_the_next_requests_before_there_is_a_place_for_them() -> None:
    class Busy(Echo):
        """Counts the requests that it has at once."""

        def __init__(self) -> None:
            self.now = self.most = 0

        async def complete(self, request: GenerationRequest) -> Completion:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return await super().complete(request)

    engine, config = Busy(), EngineConfig(model="some/model", max_num_seqs=3)
    worker = DifficultyWorker("small", config, difficulty(), 0, lambda config: engine)
    try:
        worker(to_table([Question(id=str(n), question="Say 1") for n in range(20)], Question))
    finally:
        worker.close()
    assert engine.most == 6
