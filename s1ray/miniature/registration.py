"""What the miniature adds to s1ray's registries: a source, a benchmark and a teacher (`pyproject.toml` names them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from pydantic import Field

from s1ray.curation.sources import Source
from s1ray.miniature.pool import build_benchmark, build_pool
from s1ray.schemas import Question


class MiniatureSource(Source):
    """The miniature's seeded pool of procedural questions, with known flaws mixed in."""

    kind: str = "miniature"
    size: int = Field(default=20_000, ge=1)
    """Questions in the pool."""
    seed: int = Field(default=0, ge=0)
    """Seed of the pool: another one gives other questions."""

    def rows(self) -> Iterator[Question]:
        """The pool's questions."""
        for question in build_pool(self.size, self.seed):
            yield dataclasses.replace(question, source=f"{self.label}/{question.domain}")

    def check(self, require: Collection[str]) -> str:
        """Nothing can be missing."""
        return f"source {self.label}: {self.size:,} rows, generated"


def benchmark() -> list[Question]:
    """The held-out questions. Always all of them: the pool keeps clear of these and of no others."""
    return build_benchmark()
