"""What the miniature adds to s1ray's registries: a source, a benchmark and a teacher (`pyproject.toml` names them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from pydantic import Field

from s1ray.curation.sources import Source
from s1ray.errors import InputError
from s1ray.generation.base import OnCall, request_seed
from s1ray.miniature.pool import build_benchmark, build_pool
from s1ray.miniature.teacher import ProceduralTeacher as Procedure
from s1ray.schemas import Question
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher


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
        """Nothing can be missing: the pool is generated."""
        return f"source {self.label}: {self.size:,} rows, generated"

    def rows_at_most(self) -> int:
        """Its size, or the limit."""
        return min(self.size, self.limit or self.size)


def benchmark() -> list[Question]:
    """The held-out questions, always all of them: the pool excludes exactly these."""
    return build_benchmark()


class ProceduralTeacher(Teacher):
    """Works the miniature's questions out by rule, with slips and re-checks."""

    kind: str = "procedural"

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        """The teacher; there is nothing to start."""
        return _Procedural(seed)


class _Procedural:
    """Sample k of a question is the trace of the procedure with the teacher's k-th seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            yield ask, self._respond(ask)

    def close(self) -> None:
        pass

    def _respond(self, ask: Ask) -> Response:
        seed = self._seed if ask.sample == 0 else request_seed(self._seed, str(ask.sample))
        try:
            thinking, attempt = Procedure(seed=seed).solve(ask.question)
        except InputError as error:
            # Not a question of the miniature.
            return Response(finish_reason="error", error=str(error))
        return Response(thinking, attempt)
