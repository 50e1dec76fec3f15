"""A limit on what a teacher may cost in a run (`max_spend`).

Whatever a provider bills is known only afterwards, so a call counts with the most that it can cost (its prompt at most,
and `max_tokens`) until its answer says what it did; and for good where no answer came, or one without a count. What
could then exceed the limit is not sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from s1ray.config import ConfigError
from s1ray.manifests import RunError
from s1ray.teachers.base import Ask, Teacher
from s1ray.teachers.bill import Prices
from s1ray.teachers.tally import Tally

ROUNDING = 1e-9
"""Share of a sum that is lost in adding it up."""


MANY = 1 << 60


class SpendingError(RunError):
    """A call is not made, as it could cost more than is left."""


@dataclass(frozen=True)
class Allowance:
    """Money that calls may cost."""

    money: float
    prices: Prices
    max_tokens: int
    """Of one response."""

    def at_most(self, prompt_tokens: int) -> float:
        """What one call can cost."""
        return self.prices.money_at_most(prompt_tokens, self.max_tokens)

    def left(self, tally: Tally) -> float:
        """What is left after some calls, with those that are open at their most (as lost)."""
        return self.money * (1 + ROUNDING) - self.prices.spent_at_most(tally, self.max_tokens)

    def after(self, tally: Tally) -> Allowance:
        """What is left of it."""
        return Allowance(self.left(tally), self.prices, self.max_tokens)

    def times(self, factor: float) -> Allowance:
        """So many times as much."""
        return Allowance(self.money * factor, self.prices, self.max_tokens)

    def calls(self) -> int:
        """How many calls fit, their prompts aside."""
        most = self.at_most(0)
        return int(max(0.0, self.money * (1 + ROUNDING)) / most) if most else MANY

    def that_fit(
        self, asks: Sequence[Ask], teacher: Teacher, tally: Tally, under_way: Collection[str] = ()
    ) -> list[Ask]:
        """The first asks that fit together; one that does not is passed over, so that others need not wait for it.

        Where the teacher tells of every call before it goes out, calls are held back one by one. Asks count there with
        what answers have cost so far, and one more than fits is chosen; elsewhere they count with their most.

        Args:
            asks: in the order in which they are chosen.
            teacher: who is asked.
            tally: calls so far.
            under_way: ids of asks that are paid for in any case: where one does not fit, nothing after it does.
        """
        rest = left = self.left(tally)
        tells, answers = teacher.tells_before_sending, tally.answered
        mean = self.prices.spent(tally) / answers if answers and tells else None
        chosen = []
        for ask in asks:
            most = self.at_most(teacher.prompt_tokens_at_most(ask.question.question))
            if most > (left if tells else rest):
                if ask.id in under_way:
                    break
                continue
            chosen.append(ask)
            rest -= mean or most
            if rest < 0:
                break
        return chosen


@dataclass(frozen=True)
class HeldBack:
    """Asks that were not asked, as they could cost more than is left."""

    count: int = 0
    example: str | None = None
    """The id of the one with the shortest prompt. None: not known."""
    prompt: int = 0
    """Tokens of its prompt at most."""

    @classmethod
    def among(cls, asks: Sequence[Ask], teacher: Teacher) -> HeldBack:
        """Of some asks, all of which were held back."""
        prompts = [(teacher.prompt_tokens_at_most(ask.question.question), ask.id) for ask in asks]
        prompt, example = min(prompts, default=(0, None))
        return cls(len(asks), example, prompt)

    def __add__(self, other: HeldBack) -> HeldBack:
        """These and others."""
        known = [one for one in (self, other) if one.example is not None]
        shortest = min(known, key=lambda one: one.prompt, default=self)
        return HeldBack(self.count + other.count, shortest.example, shortest.prompt)


def allowance(teacher: Teacher) -> Allowance | None:
    """What a teacher may cost in a run. None: anything.

    Raises:
        ConfigError: `max_spend` is set, and nothing says what a call can cost.
    """
    if teacher.spending_limit is None:
        return None
    if teacher.price_list is None:
        raise ConfigError(
            f"{teacher.config_field}.max_spend: nobody knows what this teacher costs; give its `prices`, or leave "
            "max_spend out"
        )
    if teacher.max_response_tokens is None:
        raise ConfigError(
            f"{teacher.config_field}.max_spend: a response of this teacher can have any length, and cost anything; "
            "give its max_tokens, or leave max_spend out"
        )
    return Allowance(teacher.spending_limit, teacher.price_list, teacher.max_response_tokens)


def exhausted(what: str, allowed: Allowance, tally: Tally, answered: int, total: int, held_back: HeldBack) -> RunError:
    """What is said where some asks could cost more than is left.

    Args:
        what: begins the message.
        allowed: for the whole run.
        tally: of all starts of the run.
        answered: asks that have an answer.
        total: asks of the run.
        held_back: those that were not asked.
    """
    prices, currency = allowed.prices, allowed.prices.currency
    spent = prices.spent(tally)
    unknown = prices.spent_at_most(tally, allowed.max_tokens) - spent
    maybe = f" (and up to {unknown:,.4f} by calls whose cost nobody knows)" if unknown else ""
    another = f"another call, whose answer alone can cost {allowed.at_most(0):,.4f},"
    if held_back.example is not None:
        answer, both = allowed.at_most(0), allowed.at_most(held_back.prompt)
        another = (
            f"another call (for {held_back.example!r}, say, whose prompt can cost {both - answer:,.4f} and whose "
            f"answer {answer:,.4f})"
        )
    return RunError(
        f"{what}: {answered:,} of {total:,} are answered for {spent:,.4f} {currency}{maybe}, and {another} could "
        f"exceed max_spend ({allowed.money:,.4f}); everything is kept: raise max_spend and run again to ask for the "
        "rest"
    )
