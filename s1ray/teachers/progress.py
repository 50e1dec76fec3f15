"""The live line of a run that asks: how many are answered, how fast, for how much, and how long it will take."""

from __future__ import annotations

from collections.abc import Collection

from s1ray.teachers.base import Teacher
from s1ray.teachers.ledger import Ledger


class Progress:
    """Follows a ledger. Rates are of this start of the run alone; money is of all."""

    def __init__(
        self, ledger: Ledger, wanted: Collection[str], total: int, teacher: Teacher, what: str = "traces"
    ) -> None:
        """Begin.

        Args:
            ledger: has been read.
            wanted: ids of the asks of this start, none of which has an answer.
            total: asks of the run.
            teacher: who is asked.
            what: begins the line.
        """
        self._ledger, self._wanted, self._total = ledger, wanted, total
        self._teacher, self._what = teacher, what
        self._tokens = ledger.tally(closed=False).completion_tokens
        self._idle_s = 0.0
        """Seconds before the first answer: a teacher's start is not its rate."""

    def line(self, seconds: float) -> str:
        """What to say.

        Args:
            seconds: since the beginning.
        """
        self._ledger.read()
        tally = self._ledger.tally(closed=False)
        came = sum(ask in self._ledger.answers for ask in self._wanted)
        left, done = len(self._wanted) - came, self._total - len(self._wanted) + came
        parts = [f"{self._what}: {done:,} of {self._total:,} after {seconds:.0f} s"]
        if not came:
            self._idle_s = seconds
        busy = seconds - self._idle_s
        if came and busy > 0:
            parts.append(f"{came * 60 / busy:,.1f} a minute")
            if tally.completion_tokens > self._tokens:
                parts.append(f"{(tally.completion_tokens - self._tokens) / busy:,.0f} tokens/s")
        parts += self._money()
        if came and busy > 0:
            parts.append(f"about {_duration(left * busy / came)} left")
        return ", ".join(parts)

    def _money(self) -> list[str]:
        prices, max_tokens = self._teacher.price_list, self._teacher.max_response_tokens
        if prices is None:
            return []
        tally = self._ledger.tally(closed=False)
        spent = prices.spent(tally)
        unknown = 0.0 if max_tokens is None else prices.spent_at_most(tally, max_tokens) - spent
        limit = self._teacher.spending_limit
        return [
            f"{spent:,.2f} {prices.currency} so far"
            + (f" (and up to {unknown:,.2f})" if unknown else "")
            + (f" of {limit:,.2f}" if limit is not None else "")
        ]


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"
