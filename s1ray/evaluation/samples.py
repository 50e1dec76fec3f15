"""Which samples the report shows, and which parts of them budget forcing wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.loading import evaluations
from s1ray.evaluation.results import EvalResults
from s1ray.evaluation.strategies.base import Strategy
from s1ray.schemas import Evaluation


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of generated text."""

    text: str
    forced: bool
    """Written by budget forcing."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One response to show, and why."""

    reason: str
    row: Evaluation
    """The Evaluation row, texts included."""
    question: str
    thinking: list[Piece]
    answer: list[Piece]

    @property
    def verdict(self) -> str:
        """Right, wrong or undecided."""
        return _verdict(self.row.correct)


def choose_samples(results: EvalResults, questions: dict[str, str], count: int = 6) -> list[Sample]:
    """Telling samples of the last model (and the first, to compare), picked by rule so that nobody can cherry-pick.

    The first of each kind is taken by question id; where a kind does not occur, further samples of the others are.

    Args:
        results: what was measured.
        questions: question id -> text.
        count: how many, at most.
    """
    kinds = [list(kind) for kind in _kinds(results)]
    chosen: dict[tuple[str, str, str], tuple[str, Evaluation]] = {}
    while len(chosen) < count and any(kinds):
        for kind in kinds:
            while kind:
                reason, result, row = kind.pop(0)
                key = (result.model, result.arm, row.id)
                if key not in chosen:
                    chosen[key] = (reason, _with_texts(results, result, row))
                    break
            if len(chosen) == count:
                break
    samples = []
    formats = {model.label: model.thinking_format for config in results.configs for model in config.models}
    for (model, arm, _), (reason, row) in chosen.items():
        measured = results.find(model, arm)
        assert measured is not None
        samples.append(
            Sample(
                reason=reason,
                row=row,
                question=questions.get(row.question_id, "(the question's text is not in the run folder)"),
                thinking=_mark_waits(row, measured.setting),
                answer=_mark_final_answer(row, formats[model].final_answer),
            )
        )
    return samples


Candidate = tuple[str, ArmResult, Evaluation]


def _kinds(results: EvalResults) -> Iterable[Iterable[Candidate]]:
    first, last = results.models[0], results.models[-1]
    maxima = results.maxima(last) or results.of(last)
    largest = maxima[-1]
    right = [row for row in largest.answered if row.correct and row.thinking_tokens]
    # A question that the smallest maximum gets wrong and the largest right shows best what thinking does.
    cut = next((r for r in maxima if r is not largest and r.thinking_tokens.value > 0), None)
    missed = {row.id for row in cut.answered if row.correct is False} if cut else set()
    right.sort(key=lambda row: (row.id not in missed, row.end_forced is not None, row.id))
    yield ((f"{last} with {largest.arm}: thinks, then answers right", largest, row) for row in right[:3])
    if cut is not None:
        by_id = {row.id: row for row in cut.answered}
        yield ((f"the same question with {cut.arm}", cut, by_id[row.id]) for row in right[:3] if row.id in by_id)
    if first != last and (other := results.find(first, largest.arm)) is not None:
        by_id = {row.id: row for row in other.answered}
        yield (
            (f"the same question, {first} with {largest.arm}", other, by_id[row.id])
            for row in right[:3]
            if row.id in by_id
        )
    for series in results.wait_series(last)[:1]:
        before, waited = {row.id: row for row in series[0].answered}, series[-1]
        for was, now in ((False, True), (True, False)):
            yield (
                (f"{_verdict(was)} without a wait, {_verdict(now)} with {waited.setting.budget.waits}", waited, row)
                for row in waited.answered
                if row.id in before and row.waits and (before[row.id].correct, row.correct) == (was, now)
            )
    yield ((f"{last} with {largest.arm}: wrong", largest, row) for row in largest.answered if row.correct is False)
    yield ((f"{last} with {largest.arm}: right", largest, row) for row in largest.answered if row.correct)
    yield ((f"{last} with {largest.arm}: undecided", largest, row) for row in largest.answered if row.correct is None)


def _verdict(correct: bool | None) -> str:
    return {True: "right", False: "wrong", None: "undecided"}[correct]


def _with_texts(results: EvalResults, result: ArmResult, row: Evaluation) -> Evaluation:
    table = results.tables[(result.model, result.arm)]
    (whole,) = evaluations(table.slice(result.rows.index(row), 1))
    return whole


def _mark_waits(row: Evaluation, setting: Strategy) -> list[Piece]:
    """The thinking with its first `waits` occurrences of a wait text marked.

    Inserted waits are counted from ids in the same way: a text of the model's own where one could have been inserted
    looks the same.
    """
    texts = setting.budget.wait_texts
    pieces, rest = [], row.thinking
    for _ in range(row.waits):
        found = [(rest.index(text), text) for text in texts if text in rest]
        if not found:
            break
        begin, text = min(found)
        pieces += [Piece(rest[:begin], False), Piece(text, True)]
        rest = rest[begin + len(text) :]
    return [piece for piece in [*pieces, Piece(rest, False)] if piece.text]


def _mark_final_answer(row: Evaluation, final_answer: str) -> list[Piece]:
    if row.end_forced and final_answer and row.answer.startswith(final_answer):
        return [Piece(final_answer, True), Piece(row.answer.removeprefix(final_answer), False)]
    return [Piece(row.answer, False)]
