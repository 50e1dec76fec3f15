"""Which responses the report points to first."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from s1ray.evaluation.results import EvalResults
from s1ray.schemas import Evaluation


@dataclasses.dataclass(frozen=True)
class Sample:
    """One response to show, and why."""

    reason: str
    row: Evaluation
    other: Evaluation | None = None
    """The one to put beside it: the same question, measured otherwise."""

    @property
    def verdict(self) -> str:
        """Right, wrong or undecided."""
        return _verdict(self.row.correct)


def choose_samples(results: EvalResults, questions: Collection[str], count: int = 6) -> list[Sample]:
    """Telling samples of the last model (and the first, to compare), picked by rule so that nobody can cherry-pick.

    The first of each kind is taken by question id; where a kind does not occur, further samples of the others are.

    Args:
        results: what was measured.
        questions: ids of those whose responses can be shown.
        count: how many, at most.
    """
    kinds = [[sample for sample in kind if sample.row.question_id in questions] for kind in _kinds(results)]
    chosen: dict[tuple[str, str, str], Sample] = {}
    while len(chosen) < count and any(kinds):
        for kind in kinds:
            while kind:
                sample = kind.pop(0)
                key = (sample.row.model, sample.row.arm, sample.row.id)
                if key not in chosen:
                    chosen[key] = sample
                    break
            if len(chosen) == count:
                break
    return list(chosen.values())


def _kinds(results: EvalResults) -> Iterable[Iterable[Sample]]:
    first, last = results.models[0], results.models[-1]
    maxima = results.maxima(last) or results.of(last)
    largest = maxima[-1]
    right = [row for row in largest.answered if row.correct and row.thinking_tokens]
    # A question that the smallest maximum gets wrong and the largest right shows best what thinking does.
    cut = next((r for r in maxima if r is not largest and r.thinking_tokens.value > 0), None)
    missed = {row.id: row for row in cut.answered if row.correct is False} if cut else {}
    right.sort(key=lambda row: (row.id not in missed, row.end_forced is not None, row.id))
    what = f"{last} with {largest.arm}"
    if cut is not None:
        both = [row for row in right[:3] if row.id in missed]
        yield (Sample(f"{what}: right, where {cut.arm} is wrong", row, missed[row.id]) for row in both)
    yield (Sample(f"{what}: thinks, then answers right", row) for row in right[:3])
    if first != last and (other := results.find(first, largest.arm)) is not None:
        by_id = {row.id: row for row in other.answered}
        both = [row for row in right[:3] if row.id in by_id]
        yield (Sample(f"the same question, {first} with {largest.arm}", by_id[row.id], row) for row in both)
    from_none = [series for series in results.wait_series(last) if not series[0].setting.budget.waits]
    for series in from_none[:1]:
        before, waited = {row.id: row for row in series[0].answered}, series[-1]
        waits = [row for row in waited.answered if row.id in before and row.waits]
        for was, now in ((False, True), (True, False)):
            yield (
                Sample(
                    f"{_verdict(was)} without a wait, {_verdict(now)} with {waited.setting.budget.waits}",
                    row,
                    before[row.id],
                )
                for row in waits
                if (before[row.id].correct, row.correct) == (was, now)
            )
    for verdict in (False, True, None):
        yield (Sample(f"{what}: {_verdict(verdict)}", row) for row in largest.answered if row.correct is verdict)


def _verdict(correct: bool | None) -> str:
    return {True: "right", False: "wrong", None: "undecided"}[correct]
