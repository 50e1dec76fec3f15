"""What is counted of a response: its thinking and its answer, from token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Spans = tuple[tuple[int, int], ...]
"""Stretches of an output, as positions [begin, end)."""


@dataclass(frozen=True)
class Accounting:
    """What became of a budget, counted from ids."""

    thinking_tokens: int
    answer_tokens: int
    waits: int
    """Stops that were swallowed: waits inserted, or stops suppressed where there is no wait text; and waits that a
    schedule has written."""
    end_forced: str | None
    """Why the thinking was cut: "budget", "context", "loop" or "early_exit". None: the model ended it, or it has not
    ended."""
    answered: bool
    """The end delimiter is complete: what follows is the answer."""
    answer_cut: bool
    """The answer reached its maximum, or the response its room, before the model ended it."""
    thinking_spans: Spans
    """The thinking is `output_ids[begin:end]` of each; more than one where the model thought again."""
    answer_spans: Spans
    """The answer, likewise."""
    limit: int | None = None
    """Thinking tokens that there could have been, by the maximum and the room of the response. None: no limit known."""
    wait_spans: Spans = ()
    """Each inserted wait is `output_ids[begin:end]`; empty where a stop was suppressed and nothing written."""

    def thinking_of(self, output_ids: Sequence[int]) -> list[Sequence[int]]:
        """The ids of each block of thinking."""
        return [output_ids[begin:end] for begin, end in self.thinking_spans]

    def answer_of(self, output_ids: Sequence[int]) -> list[Sequence[int]]:
        """The ids of each part of the answer."""
        return [output_ids[begin:end] for begin, end in self.answer_spans]


def wait_spans(swallowed: Sequence[int], wait_texts: Sequence[Sequence[int]], position: int) -> Spans:
    """Where the texts stand that were written for swallowed stops, at these positions, up to a position."""
    lengths = [len(text) for text in wait_texts] or [0]
    return tuple(
        (begin, min(begin + lengths[number % len(lengths)], position)) for number, begin in enumerate(swallowed)
    )
