"""Calls and tokens, summed over the events of a ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1ray.generation.base import Usage

ENDINGS = ("answered", "retried", "failed", "lost")
"""Outcomes of a call."""
TOLD = 0
"""In place of a call's number: the answer of a call that has been told as retried or failed, and counted, is kept after
all, as the last one there was (an aborted response, say)."""


@dataclass
class Tally:
    """Calls and tokens, summed."""

    sent: int = 0
    answered: int = 0
    retried: int = 0
    failed: int = 0
    lost: int = 0
    """Those of killed processes included."""
    unmetered: int = 0
    """Answers without a count of tokens."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    lost_prompt_tokens: int = 0
    """Of lost calls, at most."""
    unmetered_prompt_tokens: int = 0
    """Of answers without a count, at most."""

    def end(self, outcome: str, usage: Mapping[str, int | None] | None, prompt: int) -> None:
        """Count a call that has ended.

        Args:
            outcome: one of `ENDINGS`.
            usage: the provider's count, as `Usage`'s fields.
            prompt: tokens of its prompt at most.
        """
        setattr(self, outcome, getattr(self, outcome) + 1)
        if usage is not None:
            for name in (field.name for field in dataclasses.fields(Usage)):
                setattr(self, name, getattr(self, name) + (usage.get(name) or 0))
        elif outcome == "answered":
            self.unmetered += 1
            self.unmetered_prompt_tokens += prompt
        if outcome == "lost":
            self.lost_prompt_tokens += prompt


class CallCount:
    """Counts calls, event by event."""

    def __init__(self) -> None:
        self._ended = Tally()
        self._open: dict[tuple[str, str, int | None], int] = {}
        """Source, ask and number of calls that were sent and have not ended -> tokens of the prompt at most."""
        self._keys: set[str] = set()
        """Of calls that are counted."""

    def take(self, event: Mapping[str, Any], source: str = "") -> None:
        """Count an event; those that are not of a call change nothing.

        Args:
            event: as in the ledger.
            source: the writer that it is from. Each numbers the calls of an ask for itself.

        Raises:
            KeyError, TypeError, ValueError: the event is damaged.
        """
        name, ask, number = event["event"], event["id"], event.get("call")
        if name == "sent":
            prompt = int(event["prompt"])
            if (source, ask, number) in self._open:  # numbers begin again when an ask is asked again
                self._ended.end("lost", None, self._open[source, ask, number])
            self._ended.sent += 1
            self._open[source, ask, number] = prompt
        elif name in ENDINGS:
            self._end(event, (source, ask, number))

    def tally(self, *, closed: bool) -> Tally:
        """Calls and tokens so far.

        Args:
            closed: nobody is asking, so that calls which have not ended are lost.
        """
        total = dataclasses.replace(self._ended)
        if closed:
            for prompt in self._open.values():
                total.end("lost", None, prompt)
        return total

    def _end(self, event: Mapping[str, Any], call: tuple[str, str, int | None]) -> None:
        usage = event["usage"]
        if (key := event.get("key")) is not None:
            if key in self._keys:
                return
            self._keys.add(key)
        if call[-1] is None:
            self._ended.sent += 1
        if call[-1] != TOLD:
            self._ended.end(event["event"], usage, self._open.pop(call, event.get("prompt", 0)))
