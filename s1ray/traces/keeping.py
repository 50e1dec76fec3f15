"""Which traces are kept: why one is dropped by itself, and which of those that are left of a question stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1ray.grading import vote_classes
from s1ray.schemas import Trace

if TYPE_CHECKING:
    from s1ray.traces.config import PerQuestion, TracesConfig

REFUSED = frozenset({"refusal", "content_filter"})
"""Finish reasons of responses that the teacher or its provider would not give."""
RANKS = {True: 0, None: 1, False: 2}
"""Of `correct`, for `per_question: best`."""


def drop_reason(trace: Trace, error: str | None, config: TracesConfig) -> str | None:
    """Why a trace is dropped, whatever the others of its question are, or None.

    Args:
        trace: counted and graded.
        error: why its request failed. None: it did not.
        config: says what to drop.
    """
    if error is not None:
        return "request failed"
    if trace.finish_reason in REFUSED:
        return "refused"
    if trace.finish_reason not in ("stop", "length"):
        return "incomplete"
    if trace.finish_reason == "length" and config.truncated == "drop":
        return "truncated"
    if not trace.thinking.strip():
        return "no thinking"
    if not trace.attempt.strip():
        return "no answer"
    if config.max_tokens is not None and _tokens(trace) > config.max_tokens:
        return "longer than max_tokens"
    if config.wrong == "drop" and trace.correct is False:
        return "wrong"
    if config.ungraded == "drop" and trace.correct is None:
        return "ungraded"
    return None


def chosen(traces: Sequence[Trace], rule: PerQuestion, agrees: Sequence[bool]) -> list[int]:
    """The places of those that a rule keeps, of traces of one question.

    Args:
        traces: those that are left.
        rule: `per_question`. Of equals the one with the smallest sample number is kept.
        agrees: whether each trace's answer is the one that most attempts give; for "best".
    """
    if rule == "all" or not traces:
        return list(range(len(traces)))

    def order(place: int) -> tuple[int, ...]:
        trace, length = traces[place], _tokens(traces[place])
        if rule == "best":
            return RANKS[trace.correct], not agrees[place], length, trace.sample
        return {"first": 0, "shortest": length, "longest": -length}[rule], trace.sample

    return [min(range(len(traces)), key=order)]


@dataclass(frozen=True)
class Majority:
    """The answer that most attempts at a question give."""

    answer: str
    """As the first of them spells it."""
    votes: int
    of: int
    """Attempts, those without an answer included."""
    places: frozenset[int]
    """Those of the attempts that give it."""

    @property
    def is_absolute(self) -> bool:
        """More than half of the attempts give it."""
        return 2 * self.votes > self.of


def majority(answers: Sequence[str | None]) -> Majority | None:
    """The answer that more attempts give than any other, and at least two. None: there is none, or several.

    Args:
        answers: final answers. None: an attempt has none.
    """
    classes = vote_classes(answers)
    ranking = Counter(number for number in classes if number is not None).most_common(2)
    if not ranking or ranking[0][1] < 2 or (len(ranking) > 1 and ranking[1][1] == ranking[0][1]):
        return None
    winner, votes = ranking[0]
    places = [place for place, number in enumerate(classes) if number == winner]
    answer = answers[places[0]]
    assert answer is not None
    return Majority(answer, votes, len(answers), frozenset(places))


def _tokens(trace: Trace) -> int:
    return trace.thinking_tokens + trace.attempt_tokens
