"""One model measured with one arm: accuracy, tokens, limits, waits, cuts and failures, from its Evaluation rows."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from s1ray.evaluation import metrics
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.strategies.budget_forcing import BUDGET_FORCING
from s1ray.schemas import Evaluation
from s1ray.thinking.format import ThinkingFormat

if TYPE_CHECKING:
    from s1ray.evaluation.count import ArmCount

T = TypeVar("T")

SHOWN = 5
"""Ids in a warning."""
MAX_CUT_SHARE = 0.01
"""Share of cut answers above which an arm's accuracy is that of its limit as much as of its thinking."""


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One model measured with one arm."""

    model: str
    setting: Strategy
    rows: list[Evaluation]
    """By id; thinking and answer are left out (empty), since they can take gigabytes."""
    seed: int = 0
    raw_markers: int = 0
    """Answers with raw markers (`raw_markers`)."""

    @property
    def arm(self) -> str:
        """The arm's label."""
        return self.setting.name

    @property
    def is_forced(self) -> bool:
        """Whether the arm is one of budget forcing."""
        return self.setting.strategy == BUDGET_FORCING

    @cached_property
    def questions(self) -> set[str]:
        """Ids of the questions that were asked."""
        return {row.question_id for row in self.rows}

    @cached_property
    def correct(self) -> dict[str, list[bool]]:
        """Question id -> whether each decided sample is right; failed requests and unreadable answers are wrong.

        Undecided samples are left out, and with them a question that has no other.
        """
        decided = [(row.question_id, row.correct) for row in self.rows if row.correct is not None]
        return grouped(decided)

    @cached_property
    def accuracy(self) -> Estimate:
        """Over the questions that have a decided sample."""
        return metrics.accuracy(self.correct)

    @cached_property
    def thinking_tokens(self) -> Estimate:
        """Mean thinking tokens per question; failed requests are left out."""
        return metrics.mean_estimate(by_question(self.answered, lambda row: row.thinking_tokens))

    @cached_property
    def answer_tokens(self) -> Estimate:
        """Mean answer tokens per question; failed requests are left out."""
        return metrics.mean_estimate(by_question(self.answered, lambda row: row.answer_tokens))

    @cached_property
    def total_tokens(self) -> Estimate:
        """Mean tokens of thinking and answer per question; failed requests are left out."""
        totals = by_question(self.answered, lambda row: row.thinking_tokens + row.answer_tokens)
        return metrics.mean_estimate(totals)

    @cached_property
    def calls(self) -> Estimate:
        """Mean requests per question, those whose response was thrown away included; failed answers are left out."""
        return metrics.mean_estimate(by_question(self.answered, lambda row: row.calls))

    @cached_property
    def method_tokens(self) -> dict[str, list[int]]:
        """Question id -> thinking tokens of each answer, on the axis of s1's three numbers: of all requests for it, or
        of the response that was kept where the strategy has `kept_limits`. Failed requests are left out.
        """

        def counted(row: Evaluation) -> int:
            kept = None if self.setting.kept_limits is None else row.kept_thinking_tokens
            return row.thinking_tokens if kept is None else kept

        return by_question(self.answered, counted)

    @property
    def method_limits(self) -> tuple[int, int | None]:
        """Fewest and most thinking tokens of an answer on that axis."""
        return self.setting.kept_limits or self.setting.limits

    @property
    def is_limited(self) -> bool:
        """Whether there is a minimum or a maximum; without, there is no Control to measure."""
        return self.method_limits != (0, None)

    @property
    def uncounted(self) -> int:
        """Requests whose tokens nobody has counted (cancelled, failed, answered without a count)."""
        return sum(row.uncounted_calls for row in self.rows)

    @property
    def unknown(self) -> int:
        """Answered samples whose thinking tokens are unknown; their answer tokens are of the whole response."""
        return sum(row.thinking_unknown for row in self.answered)

    @property
    def longest(self) -> int:
        """Thinking tokens of the longest sample, all requests together."""
        return max(row.thinking_tokens for row in self.rows)

    @cached_property
    def answered(self) -> list[Evaluation]:
        """Rows whose request did not fail."""
        return [row for row in self.rows if row.error is None]

    @property
    def obeying(self) -> int:
        """Answered samples whose thinking is known to be within the arm's limits."""
        counted = (row for row in self.answered if not row.thinking_unknown)
        return sum(metrics.within(row.thinking_tokens, *self.setting.limits) for row in counted)

    @property
    def outside(self) -> int:
        """Those whose thinking is known not to be."""
        return len(self.answered) - self.unknown - self.obeying

    @property
    def waits(self) -> float:
        """Waits inserted, mean over answered samples."""
        return sum(row.waits for row in self.answered) / len(self.answered)

    @property
    def ends(self) -> Counter[str]:
        """Samples by how their thinking ended: "own" or the reason why the end was forced."""
        return Counter(row.end_forced or "own" for row in self.answered)

    @property
    def cut(self) -> int:
        """Answered samples whose answer reached a limit before the model ended it."""
        # Rows of older runs say so in their finish reason only.
        return sum(row.answer_cut or row.finish_reason == "length" for row in self.answered)

    @property
    def cut_share(self) -> float:
        """The same as a share of the answered samples."""
        return self.cut / len(self.answered)

    @property
    def finishes(self) -> Counter[str]:
        """Answered samples by finish reason ("stop", "length")."""
        return Counter(row.finish_reason for row in self.answered)

    @property
    def left_out(self) -> list[str]:
        """Questions that have no decided answer."""
        return sorted(self.questions - self.correct.keys())

    @property
    def warnings(self) -> list[str]:
        """What to know, and to do, before the arm is compared with others; one line each."""
        return warnings_of(self)

    @property
    def errors(self) -> int:
        """Samples whose request failed for good."""
        return len(self.rows) - len(self.answered)

    @cached_property
    def verdicts(self) -> Counter[str]:
        """Samples by verdict."""
        return Counter(row.verdict for row in self.rows)

    @property
    def unparsable(self) -> int:
        """Answered samples from which no answer could be read."""
        return self.verdicts["unparsable"]

    @property
    def undecided(self) -> int:
        """Answered samples of which nobody can say whether they are right."""
        return sum(row.correct is None for row in self.rows)

    @property
    def judged(self) -> int:
        """Answered samples that a judge decided, not rules."""
        return sum("judge" in row.graded_by for row in self.answered)

    @property
    def graders(self) -> Counter[str]:
        """Samples by what graded them."""
        return Counter(row.graded_by for row in self.answered)

    @property
    def samples(self) -> int:
        """Most samples of any question."""
        return max(Counter(row.question_id for row in self.rows).values())

    def accuracy_of_domain(self, domain: str | None) -> Estimate | None:
        """Accuracy over the questions of one domain; None where there are none."""
        questions = {row.question_id for row in self.rows if row.domain == domain} & self.correct.keys()
        if not questions:
            return None
        return metrics.accuracy({key: self.correct[key] for key in questions})


def warnings_of(result: ArmResult | ArmCount) -> list[str]:
    """What to know, and to do, before an arm is compared with others; one line each."""
    where, answers, found = f"{result.model} with {result.arm}", result.verdicts.total() - result.errors, []
    if result.undecided:
        found.append(f"{where}: {result.undecided} of {answers} answers are undecided and count neither way")
    if left_out := result.left_out:
        shown = ", ".join(left_out[:SHOWN]) + (", ..." if len(left_out) > SHOWN else "")
        found.append(f"{where}: {len(left_out)} question(s) have no decided answer and are left out: {shown}")
    if result.outside:
        found.append(f"{where}: {result.outside} of {answers} responses think outside their limits")
    if result.cut > MAX_CUT_SHARE * answers:
        found.append(
            f"{where}: {result.cut} of {answers} answers were cut ({100 * result.cut / answers:.1f} %): "
            "sampling.answer_tokens is too small, or the model thinks on in its answers"
        )
    if result.unknown:
        found.append(
            f"{where}: thinking tokens of {result.unknown} of {answers} responses are unknown: the server does not "
            "tell them, so they count as answer tokens; compare the arm by all tokens"
        )
    if result.uncounted:
        found.append(
            f"{where}: the tokens of {result.uncounted} request(s) were not counted (cancelled, failed or without "
            "usage): its token counts are too low"
        )
    if result.raw_markers:
        found.append(
            f"{where}: {result.raw_markers} of {answers} answers have delimiters of the thinking format in their "
            "text; read them in evaluations.parquet"
        )
    return found


def account(arms: Sequence[ArmResult] | Sequence[ArmCount]) -> str:
    """What became of all samples, in one line."""
    samples = sum(result.verdicts.total() for result in arms)
    right = sum(result.verdicts["correct"] for result in arms)
    counts = {
        name: sum(getattr(result, name) for result in arms) for name in ("unparsable", "undecided", "cut", "errors")
    }
    line = (
        f"of {samples:,} responses {right:,} are right; from {counts['unparsable']:,} no answer could be read (wrong), "
        f"{counts['undecided']:,} are undecided (count neither way), {counts['cut']:,} were cut"
    )
    return line + (f", {counts['errors']:,} requests failed (wrong)" if counts["errors"] else "")


def raw_markers(answers: Iterable[str], thinking_format: ThinkingFormat) -> int:
    """How many of the answers have a marker of the format in their text: its start, its end, an end trigger or a
    header. There the model went on thinking after the end, or began another turn.

    Our server's answers hold special tokens as text; where answers were decoded without them, only markers that are
    ordinary text can be seen.
    """
    fmt = thinking_format
    markers = (fmt.start, fmt.end, *fmt.end_triggers, *fmt.headers)
    return sum(any(marker in answer for marker in markers) for answer in answers)


def by_question(rows: Iterable[Evaluation], value: Callable[[Evaluation], T]) -> dict[str, list[T]]:
    """Question id -> a value of each of its samples."""
    return grouped((row.question_id, value(row)) for row in rows)


def grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Key -> its values."""
    values: dict[str, list[T]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return dict(values)
