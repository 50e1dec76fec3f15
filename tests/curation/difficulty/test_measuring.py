"""Measuring: what is asked and graded, how often, and what a run that was killed asks again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError
from s1ray.curation.difficulty import measuring
from s1ray.curation.difficulty.attempts import Asked, Texts, read_asks
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.curation.difficulty.measuring import DIFFICULTY, Measured, measure
from s1ray.curation.difficulty.rates import FITS, TOO_EASY, UNKNOWN
from s1ray.curation.difficulty.takeover import ANSWERS
from s1ray.curation.parts import write_part
from s1ray.curation.tasks import StagedRow
from s1ray.grading import Grade
from s1ray.schemas import to_table
from s1ray.teachers.asking import ask_all
from s1ray.teachers.asks import Asks
from s1ray.teachers.base import Teacher
from s1ray.teachers.ledger import Ledger
from tests.support.difficulty import ASKED, SPEAKER, Killed, difficulty


def longest(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Right is whatever is longer than the reference."""
    return Grade("correct" if len(text) > len(gold) else "incorrect", text, f"longest {kind}")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking and grading without Ray."""

    def collect(
        asks: Asks, teacher: Teacher, ledger: Ledger, *, seed: int, max_failed: int, what: str = "traces"
    ) -> None:
        ledger.read()
        ids = asks.ids()
        wanted = [place for place, ask in enumerate(ids) if ask not in ledger.answers]
        if wanted:
            ask_all(teacher.start(seed, ledger.folder), teacher, asks.read(asks.part(wanted)), ledger.folder)
            ledger.read()

    def map_parts(
        what: str, function: Callable[..., Any], parts: Sequence[Path], folder: Path, **common: object
    ) -> list[Path]:
        import pyarrow.parquet as pq

        for part in parts:
            if not (folder / part.name).exists():
                write_part(function(pq.read_table(part), part.name, **common), folder / part.name)
        return [folder / part.name for part in parts]

    monkeypatch.setattr(measuring, "collect", collect)
    monkeypatch.setattr(measuring, "map_parts", map_parts)
    ASKED.clear()


Row = tuple[str, str, str | None]
"""Id, question and answer."""


def asked(folder: Path, rows: Sequence[Row], part_rows: int = 16) -> Asked:
    """Rows in parts of some rows each; every second row of the pool is not asked."""
    whole = [row for each in rows for row in (each, (f"{each[0]}x", "Say nothing", "1"))]
    parts = []
    for begin in range(0, len(whole), part_rows):
        chosen = enumerate(whole[begin : begin + part_rows], begin)
        made = [
            StagedRow(
                id=key,
                question=text,
                answer=answer,
                metadata=json.dumps({"answer_kind": "proof"}) if answer == "long" else "{}",
                order=order,
                source_index=0,
            )
            for order, (key, text, answer) in chosen
        ]
        parts.append(folder / "rows" / f"{begin:05d}.parquet")
        write_part(to_table(made, StagedRow), parts[-1])
    starts = np.array([*range(0, len(whole), part_rows), len(whole)], np.int64)
    return Asked(Texts(parts, starts), np.arange(0, len(whole), 2), [row[0] for row in rows])


def measured(folder: Path, config: ModelDifficulty, *rows: Row) -> tuple[Measured, list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    found = measure(asked(folder, rows), config, folder, folder / "work", seed=0)
    return found, pq.read_table(folder / DIFFICULTY).to_pylist()


def test_attempts_are_graded_where_there_is_something_to_grade(tmp_path: Path) -> None:
    found, attempts = measured(
        tmp_path,
        difficulty(grader="rules", max_failed_share=1.0),
        ("right", "Say 12", "12"),
        ("wrong", "Say 13", "12"),
        ("open", "Say 13", None),
        ("empty", "Say 13", "."),
        ("failed", "Say never", "12"),
    )
    correct = {row["id"]: row["correct"] for row in attempts}
    assert correct == {"right": True, "wrong": False, "open": None, "empty": None, "failed": None}
    assert [row["id"] for row in attempts] == ["right", "wrong", "open", "empty", "failed"], "in the rows' order"
    assert (attempts[0]["answer"], attempts[0]["tokens"], attempts[0]["graded_by"]) == ("12", 3, "exact")
    assert (attempts[0]["verdict"], attempts[0]["finish_reason"]) == ("correct", "stop")
    assert (attempts[4]["error"], attempts[4]["finish_reason"]) == ("no luck", "error")
    figures = found.figures["small"]
    assert figures["bill"]["calls"] == {"sent": 4, "answered": 4, "retried": 0, "failed": 0, "lost": 0}
    del figures["bill"]
    assert figures == {"answered": 4, "right": 1, "wrong": 1, "undecided": 0, "cut": 0, "failed": 1}
    assert found.rates.texts(0, 5) == ['{"small": 1.0}', '{"small": 0.0}', None, None, None]
    assert found.rates.solved_by(0, 5) == [["small"], [], None, None, None]


def test_a_grader_is_chosen_by_name_and_gets_the_kind_of_the_answer(tmp_path: Path) -> None:
    _, (row,) = measured(tmp_path, difficulty(grader=f"{__name__}:longest"), ("q", "Say 10000", "long"))
    assert (row["correct"], row["graded_by"]) == (True, "longest proof")
    with pytest.raises(ConfigError, match=r"grader: no grader is called 'judge'\. There are rules"):
        difficulty(grader="judge")


def test_a_question_is_not_hard_because_grading_ran_out_of_time(tmp_path: Path) -> None:
    config = difficulty(samples=2)
    rows = ("open", "Say 13 tower", "12"), ("solved", "Say tower 12", "12"), ("hard", "Say 13 14", "12")
    found, _ = measured(tmp_path, config, *rows)
    assert found.rates.judged(config).tolist() == [UNKNOWN, TOO_EASY, FITS]
    assert found.rates.solved_by(0, 3) == [None, ["small"], []]
    assert found.rates.texts(0, 3) == ['{"small": 0.0}', '{"small": 1.0}', '{"small": 0.0}']
    assert found.figures["small"]["undecided"] == 2


def test_a_failed_request_is_no_attempt(tmp_path: Path) -> None:
    config = difficulty(samples=2, max_pass_rate=0.5, max_failed_share=1.0)
    found, _ = measured(tmp_path, config, ("q", "Say never 12", "12"), ("none", "Say never", "12"))
    assert found.rates.texts(0, 2) == ['{"small": 1.0}', None]
    assert found.rates.judged(config).tolist() == [TOO_EASY, UNKNOWN]


def test_attempts_that_a_limit_cut_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = difficulty(models={"small": {"kind": SPEAKER, "finish_reason": "length"}})
    found, (row,) = measured(tmp_path, cut, ("q", "Say 13", "12"))
    assert (row["finish_reason"], found.figures["small"]["cut"]) == ("length", 1)
    assert "1 of 1 attempts are cut, and count as wrong" in caplog.text


def test_one_text_with_two_answers_is_asked_once_and_graded_twice(tmp_path: Path) -> None:
    rows = ("same", "Say 12 13", "12"), ("other", "Say 1", "2"), ("same", "Say 12 13", "14")
    found, attempts = measured(tmp_path, difficulty(samples=2), *rows)
    assert set(ASKED.values()) == {1}
    assert [row["id"] for row in attempts] == ["same", "same", "other", "other", "same", "same"]
    assert found.rates.texts(0, 3) == ['{"small": 0.5}', '{"small": 0.0}', '{"small": 0.0}']


def test_every_sample_of_every_model_is_asked_once(tmp_path: Path) -> None:
    rows = [(f"{number:02d}", f"Say {number} 12", "12") for number in range(30)]
    config = difficulty(samples=3, models={"b": {"kind": SPEAKER}, "a": {"kind": SPEAKER, "tokens": 5}})
    found, attempts = measured(tmp_path, config, *rows)
    keys = [(row["model"], row["id"], row["sample"]) for row in attempts]
    assert keys == [(model, key, sample) for model in ("a", "b") for key, _, _ in rows for sample in range(3)]
    assert set(ASKED.values()) == {2}
    assert {row["tokens"] for row in attempts if row["model"] == "a"} == {5}
    assert found.rates.texts(0, 1) == ['{"a": 0.333333, "b": 0.333333}']
    assert found.rates.texts(12, 13) == ['{"a": 1.0, "b": 1.0}']


@pytest.mark.parametrize("limit", [0, 17, 60, 119])
def test_a_killed_run_asks_for_what_is_missing_and_ends_with_the_same_bytes(tmp_path: Path, limit: int) -> None:
    rows = [(f"{number:02d}", f"Say {number} 12", "12") for number in range(30)]
    models = {"b": {"kind": SPEAKER}, "a": {"kind": SPEAKER}}
    measured(tmp_path / "undisturbed", difficulty(samples=2, models=models), *rows)
    ASKED.clear()
    dying = {label: model | {"limit": limit} for label, model in models.items()}
    with pytest.raises(Killed):
        measured(tmp_path / "killed", difficulty(samples=2, models=dying), *rows)
    assert ASKED.total() == limit
    assert not (tmp_path / "killed" / DIFFICULTY).exists()
    measured(tmp_path / "killed", difficulty(samples=2, models=models), *rows)
    assert set(ASKED.values()) == {2}, "once by each model"
    first, second = ((tmp_path / name / DIFFICULTY).read_bytes() for name in ("undisturbed", "killed"))
    assert first == second
    measured(tmp_path / "killed", difficulty(samples=2, models=models), *rows)
    assert ASKED.total() == 120
    assert sorted(path.name for path in (tmp_path / "killed" / ANSWERS).iterdir()) == ["a", "b"]


def test_an_answer_that_comes_late_is_graded(tmp_path: Path) -> None:
    config = difficulty(max_failed_share=1.0)
    before, _ = measured(tmp_path, config, ("q", "Say never", "12"), ("r", "Say 12", "12"))
    assert before.rates.texts(0, 2) == [None, '{"small": 1.0}']
    after, attempts = measured(tmp_path, config, ("q", "Say 12", "12"), ("r", "Say 12", "12"))
    assert after.rates.texts(0, 2) == ['{"small": 1.0}', '{"small": 1.0}']
    assert [row["error"] for row in attempts] == [None, None]


@given(order=st.permutations(range(7)), part_rows=st.integers(1, 5))
def test_an_actor_reads_the_texts_of_its_asks(
    order: list[int], part_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(f"{order[place]}", f"Say {place}", "12") for place in range(7)]
    questions = asked(tmp_path_factory.mktemp("asked"), rows, part_rows)
    asks = questions.asks(2)
    assert asks.ids() == [f"{number}-{sample}" for number in range(7) for sample in range(2)]
    wanted = [1, 4, 5, 10, 13]
    found = read_asks(asks.part(wanted), texts=questions.texts)
    assert [ask.id for ask in found] == [asks.ids()[place] for place in wanted]
    texts = {key: text for key, text, _ in rows}
    assert all(ask.question.question == texts[ask.question.id] for ask in found)
