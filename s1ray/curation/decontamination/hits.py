"""What a search for benchmark questions finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from s1ray.curation.config import Tier

SHOWN = 400
"""Characters of a text that a hit shows."""


@dataclass(frozen=True)
class Hit:
    """A row's likeness to a benchmark question."""

    tier: Tier
    label: str
    """The benchmark question."""
    found: str
    """The row's text that matched."""
    asked: str
    """The benchmark's."""
    score: float = 1.0
    """1: the same; a share for likeness."""
    place: str = "question"
    """Where in the row: "question" or "solution"."""


@dataclass
class Finding:
    """What was found of one row."""

    drop: Hit | None = None
    """Why it has to go."""
    review: list[Hit] = field(default_factory=list)
    """What a person may look at; at most one hit of each tier."""


def shown(text: str) -> str:
    """A text as a hit shows it."""
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


REASONS: dict[str, str] = {
    "whole": "contains a benchmark question",
    "letters": "contains a benchmark question in another notation",
    "s1_ngrams": "shares words in a row with a benchmark question",
    "ngrams": "shares words in a row with a benchmark question, in normal form",
    "template": "a benchmark question with other numbers",
    "overlap": "shares most words with a benchmark question",
    "embedding": "means nearly the same as a benchmark question",
}
"""Tier -> what it finds."""


def leak_reason(hit: Hit) -> str:
    """Why a row is dropped, in words."""
    return REASONS[hit.tier] + (" (in its solution)" if hit.place == "solution" else "")
