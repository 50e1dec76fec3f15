"""What the miniature adds to s1ray's registries: a source, a benchmark and a teacher (`pyproject.toml` names them)."""

from __future__ import annotations

from s1ray.miniature.pool import build_benchmark
from s1ray.schemas import Question


def benchmark() -> list[Question]:
    """The held-out questions. Always all of them: the pool keeps clear of these and of no others."""
    return build_benchmark()
