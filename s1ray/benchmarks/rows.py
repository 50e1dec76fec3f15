"""Records of a benchmark as questions. None may be lost, so a record that cannot be used ends the reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from s1ray.benchmarks.definition import Benchmark
from s1ray.benchmarks.options import letters, ordered
from s1ray.config import ConfigError
from s1ray.grading.choices import choice_letter
from s1ray.reading.fields import ABSENT, ColumnPath, Expression, Template, cell_text, opened_json, parse_expression
from s1ray.reading.items import Record, Unusable, close_names
from s1ray.reading.records import matching
from s1ray.schemas import Question, question_id

OPTIONS, ANSWER_KIND = "options_asked", "answer_kind"
"""Fields of a question's metadata: its options in the order in which they are asked, and what grading goes by."""


class RowReader:
    """Makes questions of a benchmark's records.

    Args:
        benchmark: which column holds what.
        origin: of the records; begins messages.
    """

    def __init__(self, benchmark: Benchmark, origin: str) -> None:
        self._benchmark, self._origin = benchmark, origin
        self._question = parse_expression(benchmark.question or "question")
        self._answer = parse_expression(benchmark.answer or "answer")
        self._optional: dict[str, Expression] = {
            name: parse_expression(text)
            for name in ("solution", "domain")
            if (text := getattr(benchmark, name)) is not None
        }
        self._options = [parse_expression(text) for text in benchmark.options or ()]
        self._metadata = [ColumnPath.parse(name) for name in benchmark.metadata]
        used = [self._question, *self._optional.values(), *self._options, *self._metadata]
        if not self._options:
            used.append(self._answer)
        self._absent = {path.name: path for expression in used for path in _paths(expression)}
        self._names: set[str] = set()
        self._number = 0

    def questions(self, records: Iterable[Record]) -> list[Question]:
        """All questions, in the records' order.

        Raises:
            ConfigError: there is no such column, or a record has no question, no answer, or asks what another asks.
        """
        rows: list[Question] = []
        numbers: dict[str, int] = {}
        for record in matching(self._counted(records), self._benchmark.where, self._origin):
            try:
                row = self._row(record)
            except Unusable as error:
                raise self._error(error.bad.reason) from None
            if row.id in numbers:
                raise self._error(f"asks the same question as record {numbers[row.id]}; drop one of them")
            numbers[row.id] = self._number
            rows.append(row)
        if rows and self._absent:
            raise ConfigError(f"{self._origin}: {close_names(next(iter(self._absent)), self._names)}")
        return rows

    def _counted(self, records: Iterable[Record]) -> Iterator[Record]:
        for number, record in enumerate(records, start=1):
            self._number = number
            yield record

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self._origin}: record {self._number}: {problem}")

    def _row(self, record: Record) -> Question:
        if self._absent:
            self._names.update(record)
            self._absent = {name: path for name, path in self._absent.items() if path.find(record) is ABSENT}
        metadata = {path.name: value for path in self._metadata if (value := path.find(record)) is not ABSENT}
        question = self._needed(record, "question", self._question)
        if self._options:
            options = [self._needed(record, f"option {i}", each) for i, each in enumerate(self._options, start=1)]
            metadata[OPTIONS], answer = ordered(question, options, self._benchmark.options_seed)
        else:
            answer = self._reference(record)
        kind = "choice" if self._options else self._benchmark.answer_kind
        if kind is not None:
            metadata[ANSWER_KIND] = kind
        if kind == "choice" and choice_letter(answer) is None:
            raise self._error(f"the answer {answer!r:.80} names no option; it must be a letter A to J")
        return Question(
            id=question_id(question),
            question=question,
            solution=self._text(record, "solution"),
            answer=answer,
            source=self._benchmark.hub or self._benchmark.name,
            domain=self._text(record, "domain"),
            metadata=json.dumps(metadata, ensure_ascii=False, sort_keys=True, default=str),
        )

    def _text(self, record: Record, field: str) -> str | None:
        expression = self._optional.get(field)
        return None if expression is None else _text(record, expression, first=True)

    def _reference(self, record: Record) -> str:
        answer, after = self._needed(record, "answer", self._answer), self._benchmark.answer_after
        if after is None:
            return answer
        if after not in answer:
            raise self._error(f"the answer has no {after!r}, behind which the final answer stands (answer_after)")
        final = answer.rpartition(after)[2].strip()
        if not final:
            raise self._error(f"there is nothing after {after!r} in the answer (answer_after)")
        return final

    def _needed(self, record: Record, field: str, expression: Expression) -> str:
        text = (_text(record, expression, first=False) or "").strip()
        if text:
            return text
        absent = [path.name for path in _paths(expression) if path.find(record) is ABSENT]
        if absent:
            raise self._error(f"{close_names(absent[0], record)}; the benchmark's `{field.split()[0]}` names a column")
        raise self._error(f"has no {field}; every question of a benchmark needs one")


def asked_text(question: Question) -> str:
    """A question's text, with its options below it where it has some ("A) ...")."""
    if OPTIONS not in question.metadata:
        return question.question
    metadata = opened_json(question.metadata)
    given = metadata.get(OPTIONS) if isinstance(metadata, dict) else None
    if not isinstance(given, list):
        return question.question
    lines = [f"{letter}) {option}" for letter, option in zip(letters(len(given)), given, strict=True)]
    return question.question.rstrip() + "\n\n" + "\n".join(lines)


def _text(record: Record, expression: Expression, *, first: bool) -> str | None:
    if isinstance(expression, Template):
        return expression.text(record)
    return cell_text(expression.find(record), expression.name, first=first)


def _paths(expression: Expression) -> list[ColumnPath]:
    return expression.paths if isinstance(expression, Template) else [expression]
