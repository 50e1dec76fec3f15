"""How a prompt leaves the thinking of the response that follows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum


class PromptState(Enum):
    """How a prompt leaves the thinking of the response that follows it."""

    ABSENT = "absent"
    """No thinking block belongs to the response yet."""
    OPEN = "open"
    """The prompt ends inside a thinking block."""
    CLOSED = "closed"
    """The prompt ends behind an end delimiter (a closed block, or a begun answer): the response is all answer."""


def prompt_state(
    start: Sequence[int], end: Sequence[int], end_triggers: Collection[int], prompt_ids: Sequence[int]
) -> PromptState:
    """Read off a prompt's ids whether thinking is open: its last delimiter or trigger decides (a trigger is an earlier
    turn's EOS, or s1's beginning of this one).
    """
    start, end = list(start), list(end)
    for stop in range(len(prompt_ids), 0, -1):
        last = prompt_ids[stop - 1]
        if last == end[-1] and list(prompt_ids[max(0, stop - len(end)) : stop]) == end:
            return PromptState.CLOSED
        if last == start[-1] and list(prompt_ids[max(0, stop - len(start)) : stop]) == start:
            return PromptState.OPEN
        if last in end_triggers:
            return PromptState.ABSENT
    return PromptState.ABSENT
