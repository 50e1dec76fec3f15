"""AlphaOne's schedule of slow and fast thinking (arXiv 2505.24863, section 3): when waits are written.

The thinking phase is `alpha` times as long as the model's thinking is on average; its end is the *alpha moment*. Before
it, wherever the model has written a paragraph break, a wait text follows with a probability that changes linearly from
`p_start` to `p_end`: slow thinking at first, fast thinking later. Behind it no wait is written, and a slow-thinking
word that the model would write ends the thinking instead.

Which waits are written depends on the seed and on how many tokens were thought, on nothing else: whoever follows the
ids (the engine, the accounting, a driver outside) decides the same.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from s1ray.thinking.actions import Bans, RowAction
from s1ray.thinking.budget import WaitText

ALPHA = 1.4
"""The paper's value for its models; its table of alphas has the best between 1.2 and 1.6."""

MAX_WORDS = 64
"""Slow-thinking words that a request may name."""

Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Id = Annotated[int, Field(ge=0, le=2**31)]
SomeIds = Annotated[tuple[Id, ...], Field(min_length=1, max_length=4096)]


class Schedule(BaseModel):
    """What a request says of the schedule. The defaults are the paper's recommendation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)]
    """Tokens that the model thinks on average when nothing is forced, on questions like this one."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=1000)] = ALPHA
    """The thinking phase ends after `alpha * phase_tokens` thinking tokens."""
    p_start: Probability = 1.0
    """Probability of a wait after a paragraph break at the beginning of the thinking."""
    p_end: Probability = 0.0
    """The same at the alpha moment; it is linear in between. As high as `p_start`: constant. Higher: the paper's
    linear increase, from fast to slow."""
    wait_text: Annotated[WaitText, Field(min_length=1)] = "Wait"
    """What is written."""
    after: Annotated[StrictStr, Field(pattern=r"\n$", max_length=64)] = "\n\n"
    """Behind which text it may be written: as the tokenizer writes it, or at the end of one token. Ends in a line
    break."""
    slow_words: Annotated[
        tuple[Annotated[StrictStr, Field(min_length=1, max_length=200)], ...], Field(max_length=MAX_WORDS)
    ] = ("Wait",)
    """Words that end the thinking behind the alpha moment, each as the tokenizer writes it at a word's beginning, with
    and without a space before. None: it ends by itself."""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = None
    """Of the draws. None: the request's own seed, or one made from the prompt."""

    @property
    def moment(self) -> int:
        """The alpha moment: thinking tokens after which the thinking phase has ended."""
        return max(1, round(self.alpha * self.phase_tokens))


class SchedulePlan(BaseModel):
    """A schedule in token ids."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    moment: Annotated[int, Field(ge=1)]
    """Thinking tokens before the alpha moment."""
    p_start: Probability
    p_end: Probability
    wait: SomeIds
    """The wait text."""
    after: SomeIds
    """The break: these ids in a row."""
    after_ids: tuple[Id, ...] = ()
    """Or any of these."""
    slow_words: Annotated[tuple[SomeIds, ...], Field(max_length=2 * MAX_WORDS)] = ()
    seed: Annotated[int, Field(ge=0)] | None = None
    """None: made from the prompt."""

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """All ids, for checking them."""
        return self.wait, self.after, self.after_ids, *self.slow_words

    def check(self, triggers: set[int], banned: Sequence[tuple[int, ...]]) -> None:
        """Refuse what contradicts the rest of a plan.

        Raises:
            ValueError: a text contains an end trigger, or a slow-thinking word is banned.
        """
        if triggers.intersection(self.wait):
            raise ValueError("wait_text contains a token that ends the thinking")
        if any(triggers.intersection(word) for word in self.slow_words):
            raise ValueError("slow_words: one contains a token that ends the thinking")
        if set(banned).intersection(self.slow_words):
            raise ValueError("slow_words: one is banned, so it cannot end the thinking; leave it out in one place")

    @model_validator(mode="after")
    def _some_chance(self) -> Self:
        if not self.p_start and not self.p_end and not self.slow_words:
            raise ValueError("p_start: with p_end 0 and no slow_words the schedule does nothing")
        return self


class ScheduleFollower:
    """Follows the thinking of one response beside its forcer.

    Args:
        plan: the schedule in ids.
        end: the first id of the end delimiter, to which slow-thinking words are moved.
        prompt_ids: gives the seed where the plan has none.
    """

    def __init__(self, plan: SchedulePlan, end: int, prompt_ids: Sequence[int]) -> None:
        self.plan, self._end = plan, end
        self._seed = zlib.crc32(str(list(prompt_ids[-64:])).encode()) if plan.seed is None else plan.seed
        self._after_ids = frozenset(plan.after_ids)
        self._tail: deque[int] = deque(maxlen=len(plan.after))
        self._slow = Bans(plan.slow_words)
        self._actions: dict[tuple[int, tuple[int, ...]], RowAction] = {}
        self._at_break = False

    def clear(self) -> None:
        """A block of thinking begins."""
        self._tail.clear()
        self._slow.clear()
        self._at_break = False

    def observe(self, token_id: int) -> None:
        """Take a thinking token."""
        self._tail.append(token_id)
        self._at_break = token_id in self._after_ids or tuple(self._tail) == self.plan.after
        self._slow.observe(token_id)

    def waits(self, thinking_tokens: int) -> bool:
        """Whether a wait is written now, after so many thinking tokens."""
        plan = self.plan
        if not self._at_break or thinking_tokens >= plan.moment:
            return False
        chance = plan.p_start + (plan.p_end - plan.p_start) * thinking_tokens / plan.moment
        return drawn(self._seed, thinking_tokens) < chance

    def added_to(self, action: RowAction | None, thinking_tokens: int, *, may_end: bool) -> RowAction | None:
        """The action, with the slow-thinking words in it where they end the thinking.

        Args:
            action: what happens to an attempt to stop.
            thinking_tokens: so far.
            may_end: whether the next token may end the thinking; otherwise the words are impossible.
        """
        words = self._slow.completing
        if thinking_tokens < self.plan.moment or not words:
            return action
        key = (id(action), words)
        if key not in self._actions:
            base = action or RowAction()
            added = tuple(i for i in words if i not in base.ban)
            self._actions[key] = replace(base, ban=base.ban + added, move_to=self._end if may_end else base.move_to)
        return self._actions[key]


def drawn(seed: int, number: int) -> float:
    """A number in [0, 1) that follows from two others (SplitMix64's finalizer)."""
    mask = (1 << 64) - 1
    mixed = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xD1B54A32D192ED03) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)
