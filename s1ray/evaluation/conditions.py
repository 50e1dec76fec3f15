"""How a run asked a benchmark's questions and graded the answers: results of other conditions are not put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from s1ray.benchmarks import Benchmark
from s1ray.schemas import Evaluation

WORDS = ("prompt", "system_prompt", "options_seed")
"""Fields of a benchmark that decide how its questions are asked."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Of one run on one benchmark."""

    words: Mapping[str, object]
    """Field of `WORDS` -> value."""
    grader: str
    """By name."""
    golds: Mapping[str, str]
    """Question id -> reference answer."""

    @classmethod
    def of(cls, definition: Benchmark | None, grader: str, golds: Mapping[str, str]) -> Conditions:
        """Those of a run.

        Args:
            definition: the benchmark's. None: the defaults.
            grader: the run's.
            golds: question id -> reference answer.
        """
        words = {
            field: Benchmark.model_fields[field].default if definition is None else getattr(definition, field)
            for field in WORDS
        }
        return cls(words, grader, golds)

    def conflict(self, other: Conditions, where: object) -> str | None:
        """Why results under `other` do not belong to those under these conditions; None: they do.

        Args:
            other: conditions of another run.
            where: names the run of these conditions, for the message.
        """
        for field in WORDS:
            if self.words[field] != other.words[field]:
                return f"asked with another {field} than {where}"
        if self.grader != other.grader:
            return f"graded by {other.grader}, and {where} by {self.grader}"
        if changed := changed_golds(self.golds, other.golds):
            first = changed[0]
            return (
                f"{len(changed)} question(s) have another reference answer than in {where}, {first} first: "
                f"{other.golds[first]!r} and {self.golds[first]!r}"
            )
        return None


def golds_of(rows: Iterable[Evaluation]) -> dict[str, str]:
    """Question id -> reference answer."""
    return {row.question_id: row.gold for row in rows}


def changed_golds(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Ids of the questions that both have, with different reference answers."""
    return sorted(key for key in first.keys() & second.keys() if first[key] != second[key])
