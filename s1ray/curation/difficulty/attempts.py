"""Attempts of a model at questions: where the texts are, as workers read them, and their grading, block by block.

The driver knows ids and places. An actor that asks reads its questions from the parts of the rows; a worker that grades
reads the reference answers from there, and the attempts from the model's ledger.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s1ray.curation.funnel import Rows
from s1ray.curation.parts import read_rows, write_part
from s1ray.errors import InputError
from s1ray.grading import grade_by, kind_of
from s1ray.schemas import arrow_schema
from s1ray.storage import Location
from s1ray.teachers.asks import ASKED, Asks, asks_of
from s1ray.teachers.base import Ask
from s1ray.teachers.ledger import Answer, Ledger, Place, read_answers

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ATTEMPTS = 256
"""That a worker grades together; more where one question has more."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A model's attempt at a question."""

    id: str
    """Of the question."""
    model: str
    """Its label in the config."""
    sample: int
    answer: str
    """What is graded: the text after the thinking."""
    tokens: int | None = None
    """Generated, thinking included. None: nobody counted."""
    finish_reason: str = "stop"
    """"length": it was cut."""
    error: str | None = None
    """Why the request failed."""
    extracted: str | None = None
    correct: bool | None = None
    """None: the request failed, the question has no reference answer, or grading came to its limits."""
    verdict: str | None = None
    """One of `s1ray.grading.Verdict`. None: not graded."""
    graded_by: str | None = None
    """None: not graded."""


@dataclass(frozen=True)
class Texts:
    """Where the texts of a pool's rows are."""

    parts: Sequence[Location]
    """On storage that every node sees."""
    starts: npt.NDArray[np.int64]
    """Position of each part's first row, and at the end the number of rows."""

    def read(self, rows: Rows, columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows.

        Args:
            rows: positions, ascending.
            columns: their names.
        """
        return read_rows(self.parts, self.starts, rows, columns)


@dataclass(frozen=True)
class Asked:
    """The Q questions that every model is asked."""

    texts: Texts
    rows: Rows
    """Positions of the questions, ascending; shape (Q,)."""
    ids: Sequence[str]
    """Of the questions, in the same order. Rows with one text and several answers have the same."""

    def asks(self, samples: int) -> Asks:
        """All asks of a model, each once, by id: in no order of the sources, so that the first are like the others."""
        import pyarrow as pa

        place_of = {question: place for place, question in reversed([*enumerate(self.ids)])}
        ids = sorted(place_of)
        rows = self.rows[[place_of[question] for question in ids]]
        table = pa.table({"id": pa.array(ids, pa.string()), "row": pa.array(rows)})
        every = [(place, sample) for place in range(len(ids)) for sample in range(samples)]
        return Asks(table, every, functools.partial(read_asks, texts=self.texts))

    def blocks(self, ledger: Ledger, samples: int, folder: Location) -> list[Location]:
        """Write which attempts there are and where, as files of some questions each, in the order of the rows.

        A file's name tells its content, so that what was graded before is known again.
        """
        import pyarrow as pa

        schema = pa.schema([("row", pa.int64()), ("attempts", pa.list_(_attempt_type()))])
        each, files = max(1, BLOCK_ATTEMPTS // samples), list[Location]()
        for begin in range(0, len(self.rows), each):
            rows, ids = self.rows[begin : begin + each].tolist(), self.ids[begin : begin + each]
            records = [
                {"row": row, "attempts": list(_attempts(ledger, question, samples))}
                for row, question in zip(rows, ids, strict=True)
            ]
            digest = hashlib.sha256(json.dumps(records).encode()).hexdigest()[:16]
            files.append(folder / f"{len(files):06d}-{digest}.parquet")
            write_part(pa.Table.from_pylist(records, schema=schema), files[-1])
        return files


def _attempts(ledger: Ledger, question: str, samples: int) -> Iterator[dict[str, Any]]:
    for sample in range(samples):
        key = f"{question}-{sample}"
        place = ledger.answers.get(key)
        error = None if place is not None else ledger.failures[key]
        yield {"sample": sample, "error": error, "place": place and place._asdict()}


def _attempt_type() -> pa.DataType:
    import pyarrow as pa

    place = pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
    return pa.struct([("sample", pa.int64()), ("error", pa.string()), ("place", place)])


def read_asks(rows: pa.Table, *, texts: Texts) -> list[Ask]:
    """The asks of a part of `Asked.asks`, with their texts.

    Args:
        rows: with `row` and `samples`, in any order.
        texts: of the pool.
    """
    import pyarrow as pa

    positions = rows.column("row").to_numpy()
    order = np.argsort(positions)
    questions = texts.read(positions[order], ["id", *ASKED]).take(pa.array(np.argsort(order)))
    return asks_of(questions.append_column("samples", rows.column("samples")))


def grade_block(rows: pa.Table, part: str, *, texts: Texts, ledger: Location, model: str, grader: str) -> pa.Table:
    """The attempts of a block of `Asked.blocks`, graded, as `Attempt`.

    Args:
        rows: the block.
        part: its file's name.
        texts: of the pool.
        ledger: folder of the model's.
        model: its label.
        grader: a registered grader, or "module:attribute".
    """
    import pyarrow as pa

    questions = texts.read(rows.column("row").to_numpy(), ["id", "answer", "metadata"]).to_pylist()
    attempts = rows.column("attempts").to_pylist()
    places = [Place(**each["place"]) for of_one in attempts for each in of_one if each["place"] is not None]
    answers = iter(read_answers(ledger, places))
    found = [
        _graded(question, _attempt(question["id"], model, each, answers), grader)
        for question, of_one in zip(questions, attempts, strict=True)
        for each in of_one
    ]
    return pa.Table.from_pylist([vars(attempt) for attempt in found], schema=arrow_schema(Attempt))


def _attempt(question: str, model: str, asked: Mapping[str, Any], answers: Iterator[Answer]) -> Attempt:
    sample = asked["sample"]
    if asked["place"] is None:
        return Attempt(id=question, model=model, sample=sample, answer="", finish_reason="error", error=asked["error"])
    answer = next(answers)
    tokens = None if answer.usage is None else answer.usage.completion_tokens
    return Attempt(
        id=question,
        model=model,
        sample=sample,
        answer=answer.attempt,
        tokens=tokens,
        finish_reason=answer.finish_reason,
    )


def _graded(question: Mapping[str, Any], attempt: Attempt, grader: str) -> Attempt:
    gold = (question["answer"] or "").strip()
    if attempt.error is not None or not gold:
        return attempt
    where = f"sample {attempt.sample} of question {attempt.id!r}"
    try:
        grade = grade_by(grader, gold, attempt.answer, kind=kind_of(question["metadata"]), where=where)
    except InputError:
        # There is nothing to grade against after all ("."): not measured, like a question without an answer.
        return attempt
    return dataclasses.replace(
        attempt, extracted=grade.extracted, correct=grade.correct, verdict=grade.verdict, graded_by=grade.graded_by
    )
