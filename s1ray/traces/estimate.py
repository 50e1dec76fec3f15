"""What a whole run will take, told from some of its answers, and how far off that may be."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1ray.grading.interval import student
from s1ray.manifests import RunError
from s1ray.runs import Run
from s1ray.storage import Location
from s1ray.teachers.base import Teacher
from s1ray.teachers.events import event_of
from s1ray.teachers.ledger import Answer, answer_of, files_of, telling
from s1ray.traces.config import TracesConfig
from s1ray.traces.rounds import RESPONSES

SAMPLE = 500
"""Answers that an estimate is made from at most."""
UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
LARGEST_LOG = 700.0
"""Of a number that a float can hold."""
FEWEST = 3
"""Answers from which it can be said how far off an estimate may be."""


@dataclass(frozen=True)
class Estimate:
    """A mean, and between what the true one lies in 95 of 100 cases."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Of so many together."""
        return Estimate(self.mean * factor, self.low * factor, self.high * factor)


def estimate(values: Sequence[float], most: float | None = None) -> Estimate:
    """The mean of what values are a sample of.

    Lengths and prices of traces are skewed: a few long ones make much of the mean, and Student's interval ends too soon
    above. Cox's for the mean of a log-normal distribution (Olsson, Journal of Statistics Education 13, 2005, with
    Student's quantile) does not, and the larger of the two ends holds what it promises for log-normal, normal and cut
    lengths. What is so rare that it is not among the values is in neither.

    Args:
        values: one at least, none negative.
        most: no value can be larger. None: not known.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there are no values to estimate from")
    n, mean = len(values), statistics.fmean(values)
    if n < FEWEST:
        return Estimate(mean, 0.0, math.inf if most is None else most)
    quantile = student(n - 1)
    half = quantile * statistics.stdev(values) / math.sqrt(n)
    low, high = mean - half, mean + half
    if min(values) > 0:
        logs = [math.log(value) for value in values]
        variance = statistics.variance(logs)
        centre = statistics.fmean(logs) + variance / 2
        half = quantile * math.sqrt(variance / n + variance**2 / (2 * (n - 1)))
        high = max(high, math.exp(min(centre + half, LARGEST_LOG)))
    return Estimate(mean, max(low, 0.0), high if most is None else max(mean, min(high, most)))


def first_answers(folder: Location, at_most: int = SAMPLE) -> list[Answer]:
    """The first answers of a ledger; damaged lines are left out.

    Args:
        folder: of the ledger; it may not be there.
        at_most: so many.
    """
    found: dict[str, Answer] = {}
    for event in _events(folder):
        if event["event"] == "answered" and event["id"] not in found:
            found[event["id"]] = answer_of(event)
        if len(found) == at_most:
            break
    return list(found.values())


def _events(folder: Location) -> Iterator[dict[str, Any]]:
    for path in files_of(folder):
        with telling(path), path.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    yield event_of(line)


def sampled_line(config: TracesConfig, inputs: Mapping[str, str], asks: int) -> list[str]:
    """What a dry run says where the run's ledger already has answers; nothing is asked.

    Args:
        config: the stage's.
        inputs: of the run.
        asks: traces of the run.
    """
    try:
        run = Run("traces", config, inputs)
    except RunError:
        return []  # The folder holds another run; opening it will say so.
    line = run_line(first_answers(run.path / RESPONSES), config.teacher, asks) if run.resumed else None
    return [] if line is None else [line]


def run_line(
    answers: Sequence[Answer], teacher: Teacher, asks: int, lengths: Sequence[int] | None = None
) -> str | None:
    """What a whole run takes, as far as it can be said. None: nothing can.

    Args:
        answers: some of the run's.
        teacher: who gave them.
        asks: traces of the run.
        lengths: of the answers in the student's tokens, for a teacher that does not count. None: not known.
    """
    counted = [answer.usage for answer in answers if answer.usage is not None]
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    parts = []
    if counted:
        tokens = estimate([usage.completion_tokens for usage in counted], teacher.max_response_tokens)
        parts.append(f"{_span(tokens.times(asks))} tokens generated")
        if (prices := teacher.price_list) is not None:
            limit = teacher.max_response_tokens
            longest = max(usage.prompt_tokens for usage in counted)
            most = None if limit is None else prices.money_at_most(longest, limit)
            money = estimate([prices.of(usage) for usage in counted], most)
            parts.append(f"{_span(money.times(asks))} {prices.currency}")
    elif lengths:
        parts.append(f"{_span(estimate(lengths).times(asks))} tokens of the student's generated")
    if seconds:
        one = estimate(seconds)
        times = [teacher.duration(asks, each) or 0 for each in (one.mean, one.low, one.high)]
        if times[0]:
            seconds_each, unit = next(each for each in UNITS if times[0] >= each[0] or each[0] == 1)
            parts.append(f"{_span(Estimate(*times).times(1 / seconds_each))} {unit}")
    return f"as sampled from {len(answers):,} answers: about " + ", ".join(parts) if parts else None


def _span(value: Estimate) -> str:
    if math.isinf(value.high):
        return rounded(value.mean)
    return f"{rounded(value.mean)} ({rounded(value.low)} to {rounded(value.high)})"


def rounded(value: float) -> str:
    """A number with as many digits as an estimate is worth."""
    if value <= 0:
        return "0"
    digits = 2 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"
