"""Which samples a reader of the report gets to see, and how their forced parts are marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from s1ray.evaluation.config import Arm
from s1ray.evaluation.results import ArmResult, BenchmarkResults


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
    row: dict[str, Any]
    """The Evaluation row, texts included."""
    question: str
    thinking: list[Piece]
    answer: list[Piece]


def choose_samples(results: BenchmarkResults, questions: dict[str, str], count: int = 6) -> list[Sample]:
    """Telling samples of the last model (and the first, to compare), picked by rule so that nobody can cherry-pick.

    Of each kind the first by question id is taken; kinds that do not occur are filled up with further ones of the rest.

    Args:
        results: what was measured.
        questions: question id -> text.
        count: how many, at most.
    """
    kinds = [list(kind) for kind in _kinds(results)]
    chosen: dict[tuple[str, str, str], tuple[str, dict[str, Any]]] = {}
    while len(chosen) < count and any(kinds):
        for kind in kinds:
            while kind:
                reason, result, row = kind.pop(0)
                key = (result.model, result.arm, row["id"])
                if key not in chosen:
                    chosen[key] = (reason, _with_texts(results, result, row))
                    break
            if len(chosen) == count:
                break
    samples = []
    for (model, arm, _), (reason, row) in chosen.items():
        measured = results.find(model, arm)
        assert measured is not None
        samples.append(
            Sample(
                reason=reason,
                row=row,
                question=questions.get(row["question_id"], "(the question's text is not in the run folder)"),
                thinking=_mark_waits(row, measured.setting),
                answer=_mark_final_answer(row),
            )
        )
    return samples


Candidate = tuple[str, ArmResult, dict[str, Any]]


def _kinds(results: BenchmarkResults) -> Iterable[Iterable[Candidate]]:
    first, last = results.models[0], results.models[-1]
    maxima = results.maxima(last) or results.of(last)
    largest = maxima[-1]
    right = [row for row in largest.answered if row["correct"] and row["thinking_tokens"]]
    # A question that the smallest maximum gets wrong and the largest right shows best what thinking does.
    cut = next((r for r in maxima if r is not largest and r.thinking_tokens.value > 0), None)
    missed = {row["id"] for row in cut.answered if not row["correct"]} if cut else set()
    right.sort(key=lambda row: (row["id"] not in missed, row["end_forced"] is not None, row["id"]))
    yield ((f"{last} with {largest.arm}: thinks, then answers right", largest, row) for row in right[:3])
    if cut is not None:
        by_id = {row["id"]: row for row in cut.answered}
        yield ((f"the same question with {cut.arm}", cut, by_id[row["id"]]) for row in right[:3] if row["id"] in by_id)
    if first != last and (other := results.find(first, largest.arm)) is not None:
        by_id = {row["id"]: row for row in other.answered}
        yield (
            (f"the same question, {first} with {largest.arm}", other, by_id[row["id"]])
            for row in right[:3]
            if row["id"] in by_id
        )
    for series in results.wait_series(last)[:1]:
        before, waited = {row["id"]: row for row in series[0].answered}, series[-1]
        for was, now in ((False, True), (True, False)):
            yield (
                (f"{_verdict(was)} without a wait, {_verdict(now)} with {waited.setting.waits}", waited, row)
                for row in waited.answered
                if row["id"] in before and row["waits"] and (before[row["id"]]["correct"], row["correct"]) == (was, now)
            )
    yield ((f"{last} with {largest.arm}: wrong", largest, row) for row in largest.answered if not row["correct"])
    yield ((f"{last} with {largest.arm}: right", largest, row) for row in largest.answered if row["correct"])


def _verdict(correct: bool) -> str:
    return "right" if correct else "wrong"


def _with_texts(results: BenchmarkResults, result: ArmResult, row: dict[str, Any]) -> dict[str, Any]:
    table = results.tables[(result.model, result.arm)]
    return table.slice(result.rows.index(row), 1).to_pylist()[0]


def _mark_waits(row: dict[str, Any], setting: Arm) -> list[Piece]:
    """The thinking with its first `waits` occurrences of a wait text marked.

    That is how inserted waits are counted from ids, too: a text of the model's own where one could have been inserted
    looks the same.
    """
    texts = setting.budget().wait_texts
    pieces, rest = [], row["thinking"]
    for _ in range(row["waits"]):
        found = [(rest.index(text), text) for text in texts if text in rest]
        if not found:
            break
        begin, text = min(found)
        pieces += [Piece(rest[:begin], False), Piece(text, True)]
        rest = rest[begin + len(text) :]
    return [piece for piece in [*pieces, Piece(rest, False)] if piece.text]


def _mark_final_answer(row: dict[str, Any]) -> list[Piece]:
    from s1ray.thinking.format import PRESETS

    answer = row["answer"]
    if row["end_forced"]:
        for text in sorted({preset.final_answer for preset in PRESETS.values()}):
            if text and answer.startswith(text):
                return [Piece(text, True), Piece(answer[len(text) :], False)]
    return [Piece(answer, False)]
