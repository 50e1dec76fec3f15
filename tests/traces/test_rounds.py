"""Which asks a run makes, round after round; the teacher answers at once, and blocks are worked on here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.schemas import Question, to_table
from s1ray.teachers.asks import ASKED, Asks, asks_of
from s1ray.teachers.base import Ask, Teacher
from s1ray.teachers.ledger import Ledger, Writer
from s1ray.traces import rounds
from s1ray.traces.config import TracesConfig
from s1ray.traces.judging import STATED
from s1ray.traces.rounds import Collection

Answers = Callable[[Ask], str | None]


def config(**changes: JsonValue) -> TracesConfig:
    data: dict[str, JsonValue] = {"output": "unused", "questions": "unused.parquet", "tokenizer": "miniature-base"}
    return validate_config(TracesConfig, data | {"teacher": {"kind": "procedural"}} | changes, "test")


def questions(*answers: str | None) -> pa.Table:
    rows = [Question(id=f"q{n}", question=f"{n}?", answer=answer) for n, answer in enumerate(answers)]
    return to_table(rows, Question).select(["id", *ASKED])


@contextlib.contextmanager
def local(teacher: Answers, judge: Answers = lambda ask: None) -> Iterator[list[tuple[str, str]]]:
    """Without Ray; gives what was asked, and by whom. None: the ask fails."""
    made: list[tuple[str, str]] = []

    def collect(asks: Asks, who: Teacher, ledger: Ledger, *, seed: int, max_failed: int, what: str = "traces") -> None:
        ledger.read()
        with contextlib.closing(Writer(ledger.folder)) as writer:
            for ask in asks.read(asks.part(range(len(asks.samples)))):
                if ask.id in ledger.answers:
                    continue
                made.append((what, ask.id))
                text = (judge if what == "judge" else teacher)(ask)
                if text is None:
                    writer.add("unanswered", ask.id, reason="503", details=None)
                    continue
                fields: dict[str, object] = {"finish_reason": "stop", "raw_finish_reason": None, "model_version": None}
                writer.add("answered", ask.id, call=None, usage=None, thinking="so", attempt=text, **fields)
        ledger.read()

    def in_workers(function: Callable[[pa.Table], pa.Table], blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        return map(function, blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "collect", collect)
        patch.setattr(rounds, "in_workers", in_workers)
        yield made


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=6),
    samples=st.integers(1, 3),
    more=st.integers(1, 7),
    block=st.integers(1, 5),
)
def test_a_question_is_asked_until_it_has_a_correct_trace(
    first: list[int | None], samples: int, more: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")

    def teacher(ask: Ask) -> str:
        return "Answer: 4" if ask.sample == first[int(ask.question.id[1:])] else "Answer: 5"

    chosen = config(samples=samples, max_samples=samples + more, shard_rows=block)
    with local(teacher) as made:
        collection = Collection(questions(*["4"] * len(first)), chosen, folder)
        collection.collect()
        expected = []
        for right in first:
            asked = samples
            while asked < samples + more and (right is None or right >= asked):
                asked = min(asked + samples, samples + more)
            expected.append(asked)
        assert collection.asked == expected
        assert len(made) == len(set(made)) == sum(expected)
        rows = pa.concat_tables(collection.finished())
        assert rows.select(["question_id", "sample"]).to_pylist() == [
            {"question_id": f"q{n}", "sample": sample} for n, times in enumerate(expected) for sample in range(times)
        ]
        made.clear()
        again = Collection(collection.questions, chosen, folder)
        again.collect()
        assert (again.asked, made) == (expected, [])


def test_what_is_correct_but_dropped_or_has_no_reference_is_no_correct_trace(tmp_path: Path) -> None:
    long, short = "because " * 50 + "Answer: 4", "Answer: 4"
    chosen = config(max_samples=3, max_tokens=100)
    with local(lambda ask: short if ask.sample == 2 or ask.question.id == "q1" else long):
        collection = Collection(questions("4", "4", None, " "), chosen, tmp_path)
        collection.collect()
    assert collection.asked == [3, 1, 1, 1]


def test_a_failed_ask_is_asked_again_in_the_next_round(tmp_path: Path) -> None:
    tries = []

    def teacher(ask: Ask) -> str | None:
        tries.append(ask.id)
        return None if len(tries) == 1 else "Answer: 4" if ask.question.id == "q1" else "Answer: 5"

    with local(teacher):
        collection = Collection(questions("4", "4"), config(max_samples=2), tmp_path)
        collection.collect()
    assert tries == ["q0-0", "q1-0", "q0-0", "q0-1"]


def test_an_answer_that_comes_late_is_graded_and_a_resumed_run_has_the_same_rows(tmp_path: Path) -> None:
    tries: list[str] = []

    def teacher(ask: Ask) -> str | None:
        tries.append(ask.id)
        return None if len(tries) <= 2 else "Answer: 4" if ask.sample in (0, 1) else "Answer: 5"

    chosen, found = config(samples=2, max_samples=7), []
    with local(teacher):
        for _ in range(2):
            collection = Collection(questions("4"), chosen, tmp_path)
            collection.collect()
            found.append(pa.concat_tables(collection.finished()).column("id").to_pylist())
    # The first two failed; they came with the second round, which makes a third one needless.
    assert tries == ["q0-0", "q0-1", "q0-0", "q0-1", "q0-2", "q0-3"]
    assert found == [["q0-0", "q0-1", "q0-2", "q0-3"]] * 2


def test_a_judge_that_fails_is_asked_once_and_leaves_the_attempt_as_it_is(tmp_path: Path) -> None:
    chosen = config(judge={"kind": "procedural"})
    with local(lambda ask: "5", lambda ask: None) as made:
        collection = Collection(questions("C", "4"), chosen, tmp_path)
        collection.collect()
        (rows,) = collection.finished()
    assert made == [("traces", "q0-0"), ("traces", "q1-0"), ("judge", f"q0-0-{STATED}")]
    assert rows.column("verdict").to_pylist() == ["unparsable", "incorrect"]


def test_the_judge_is_not_asked_about_what_is_dropped_anyway(tmp_path: Path) -> None:
    settings: list[dict[str, JsonValue]] = [{"max_tokens": 1}, {"wrong": "drop"}]
    asked = []
    for number, setting in enumerate(settings):
        with local(lambda ask: "who knows?", lambda ask: "Final Answer: C") as made:
            chosen = config(judge={"kind": "procedural"}, **setting)
            collection = Collection(questions("C"), chosen, tmp_path / str(number))
            collection.collect()
            (rows,) = collection.finished()
        asked.append(("judge", f"q0-0-{STATED}") in made)
        assert rows.column("reason").to_pylist() == [None if asked[-1] else "longer than max_tokens"]
    assert asked == [False, True]


def test_a_judgement_comes_before_another_round(tmp_path: Path) -> None:
    chosen = config(judge={"kind": "procedural"}, max_samples=4)
    with local(
        lambda ask: "who knows?", lambda ask: f"Final Answer: {'C' if ask.id.startswith('q1') else 'A'}"
    ) as made:
        collection = Collection(questions("C", "C"), chosen, tmp_path)
        collection.collect()
    assert collection.asked == [4, 1]
    assert sum(who == "judge" for who, _ in made) == 5


def test_texts_are_sent_once_to_each_actor() -> None:
    asks = Asks(questions("a", "b", "c"), [(row, sample) for row in range(3) for sample in range(4)])
    part = asks.part(range(0, 12, 2))
    assert part.column("id").to_pylist() == ["q0", "q1", "q2"]
    assert part.column("samples").to_pylist() == [[0, 2]] * 3
    assert [ask.id for ask in asks_of(part)] == [asks.ids()[place] for place in range(0, 12, 2)]
    assert len(asks.part([])) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 4, "max_samples": 4}, r"max_samples: must be more than samples \(4\), got 4"),
        ({"majority_answers": True}, "majority_answers: needs samples of 2 or more"),
        ({"judge": {"kind": "nobody"}}, "no teacher is called 'nobody'"),
        ({"per_question": "fastest"}, "per_question"),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)
