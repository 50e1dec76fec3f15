"""When to stop thinking early: trial answers while the model thinks, and what they decide.

At some points of the thinking a *probe* asks the model for its answer now: the thinking so far, the end of thinking,
the beginning of an answer, and a few greedy tokens. Two kinds of evidence end the thinking:

    confidence  DEER (arXiv 2504.15895, section 3): the geometric mean of the probabilities of the trial answer's tokens
                is above a threshold. Probed where the thinking turns ("Wait")
    stability   Dynasor's Certaindex (arXiv 2412.20993, section 4): so many trial answers in a row are the same. Probed
                every so many tokens

This module knows ids, probabilities and answers; the requests are made elsewhere (`s1ray.serving.replica.early_exit`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from s1ray.thinking.format import ThinkingFormat, TokenizedFormat

WORDS = ("Wait", "Alternatively", "Hmm")
"""Where confidence is probed by default: the words at which DEER takes the thinking to turn."""

EVERY = 32
"""How often stability is probed by default, in thinking tokens; the default of Dynasor's server."""

BOXED = "\n**Final Answer**\n\\boxed{"
"""Begins a trial answer where the format says nothing: DEER's."""


class EarlyExit(BaseModel):
    """What a request says of its early exit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["confidence", "stability"] = "confidence"
    """What ends the thinking."""
    threshold: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    """For confidence: above this mean probability. None: 0.95, as in DEER."""
    stable: Annotated[StrictInt, Field(ge=2, le=64)] | None = None
    """For stability: equal answers in a row. None: 2, as Dynasor's server."""
    words: (
        Annotated[
            tuple[Annotated[StrictStr, Field(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=64)
        ]
        | None
    ) = None
    """Probe where the thinking writes one of these, as the tokenizer writes it at a word's beginning, with and without
    a space before; the trial answer follows what stands before it. None: for confidence "Wait", "Alternatively" and
    "Hmm", unless `every` is given."""
    every: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    """Probe after every so many thinking tokens. None: for stability 32, unless `words` are given."""
    min_tokens: Annotated[StrictInt, Field(ge=0, le=2**31)] = 0
    """Thinking tokens before the first probe."""
    max_probes: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    """Probes at most. None: as many as there are points. DEER stops after 10."""
    answer_prefix: Annotated[StrictStr, Field(min_length=1, max_length=500)] | None = None
    """Begins a trial answer, behind the end of thinking. Where it ends in "{", the answer goes to the brace that closes
    it, otherwise to the end of the line. None: the format's own ("Final Answer:"), or DEER's box."""
    probe_tokens: Annotated[StrictInt, Field(ge=1, le=256)] = 20
    """Tokens of a trial answer at most; one that is longer is none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stable is not None and self.kind != "stability":
            raise ValueError('stable: goes with kind "stability"; for confidence give a threshold')
        if self.threshold is not None and self.kind != "confidence":
            raise ValueError('threshold: goes with kind "confidence"; for stability give `stable`')
        return self

    @property
    def probed_words(self) -> tuple[str, ...]:
        """The words at which probes are made."""
        if self.words is not None:
            return self.words
        return WORDS if self.kind == "confidence" and self.every is None else ()

    @property
    def probed_every(self) -> int | None:
        """Thinking tokens between probes."""
        if self.every is not None:
            return self.every
        return EVERY if self.kind == "stability" and self.words is None else None

    def prefix(self, fmt: ThinkingFormat) -> str:
        """What a trial answer begins with, behind the end delimiter."""
        if self.answer_prefix is not None:
            return self.answer_prefix
        return fmt.answer_separator + fmt.final_answer if fmt.final_answer else BOXED


class ProbePoints:
    """Says, token by token, where the thinking of a response is probed.

    Args:
        settings: the request's.
        tokenized: the model's format.
    """

    def __init__(self, settings: EarlyExit, tokenized: TokenizedFormat) -> None:
        words = [tokenized.encode(text) for word in settings.probed_words for text in (word, f" {word}")]
        self._words = frozenset(ids for ids in words if ids)
        self._lengths = sorted({len(ids) for ids in self._words}, reverse=True)
        self._every, self._least = settings.probed_every, settings.min_tokens
        self._tail: deque[int] = deque(maxlen=max(self._lengths, default=0))
        self._count = self._last = 0

    def observe(self, token_id: int) -> int | None:
        """Take a thinking token.

        Returns:
            How many thinking tokens come before the trial answer; None: this is no point.
        """
        self._tail.append(token_id)
        self._count += 1
        at = self._point()
        if at is None or at <= self._last or at < self._least:
            return None
        self._last = at
        return at

    def _point(self) -> int | None:
        if self._every is not None and self._count % self._every == 0:
            return self._count
        tail = tuple(self._tail)
        found = next((n for n in self._lengths if tail[len(tail) - n :] in self._words), None)
        return None if found is None else self._count - found


@dataclass(frozen=True)
class Trial:
    """A trial answer."""

    at: int
    """Thinking tokens before it."""
    answer: str | None
    """None: it did not come to an end."""
    confidence: float | None
    """Geometric mean of the probabilities of its tokens, the one that ends it included. None: it has none."""
    prompt_tokens: int
    """Of the probe."""
    tokens: int
    """That the probe generated."""


def trial_answer(text: str, *, boxed: bool, ended: bool) -> str | None:
    """The answer in a probe's text.

    Args:
        text: what the model wrote behind the prefix.
        boxed: it ends at the brace that closes the prefix's, and otherwise at the end of its first line.
        ended: the model has ended its response.

    Returns:
        None where the answer is not complete, or empty.
    """
    if boxed:
        depth = 1
        for at, character in enumerate(text):
            depth += (character == "{") - (character == "}")
            if not depth:
                return text[:at].strip() or None
        return None
    text = text.lstrip()
    line, found, _ = text.partition("\n")
    return (line.strip() or None) if found or ended else None


def mean_probability(logprobs: Sequence[float]) -> float | None:
    """The geometric mean of probabilities, given as natural logarithms. None: there are none."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else None


def exits(
    settings: EarlyExit, trials: Sequence[Trial], classes: Callable[[Sequence[str | None]], Sequence[int | None]]
) -> bool:
    """Whether the thinking ends after these trial answers.

    Args:
        settings: the request's.
        trials: all so far, in order.
        classes: numbers equal answers alike; None for no answer.
    """
    if settings.kind == "confidence":
        threshold = 0.95 if settings.threshold is None else settings.threshold
        last = trials[-1]
        return last.answer is not None and last.confidence is not None and last.confidence > threshold
    stable = 2 if settings.stable is None else settings.stable
    answers = [trial.answer for trial in trials[-stable:]]
    if len(answers) < stable or None in answers:
        return False
    return len(set(classes(answers))) == 1
