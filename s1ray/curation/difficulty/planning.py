"""What measuring difficulty would do and cost, and what it reads."""

from __future__ import annotations

from collections.abc import Iterator

from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.config import DifficultyBounds, GivenDifficulty, ModelDifficulty
from s1ray.curation.difficulty.takeover import check_takeover
from s1ray.curation.sources import rows_at_most
from s1ray.teachers.base import Teacher
from s1ray.teachers.costs import costs_at_most

THOUSAND = 1000


def difficulty_plan(config: CurationConfig) -> list[str]:
    """What the plan says; starts nothing.

    Args:
        config: the stage's.

    Raises:
        S1rayError: a model cannot be asked, or the answers of another run are not those of this one.
    """
    difficulty = config.difficulty
    if difficulty is None:
        return []
    bounds = f"difficulty: {_bounds(difficulty)}"
    if not isinstance(difficulty, ModelDifficulty):
        return [f"{bounds}, by the sources' labels"]
    for teacher in difficulty.models.values():
        teacher.check()
    rows, models = rows_at_most(config.sources), sorted(difficulty.models.items())
    lines = [_model_line(*model, difficulty.samples, rows, config.cap_per_domain) for model in models]
    return [bounds, *lines, *check_takeover(difficulty, config.output, config.seed)]


def _bounds(bounds: DifficultyBounds) -> str:
    most = f"in more than {bounds.max_pass_rate:g} of its attempts" if bounds.max_pass_rate else "once"
    line = f"a question that a model gets right {most} is too easy"
    if bounds.max_pass_rate == 1:
        line = "nothing is too easy"
    if bounds.min_pass_rate:
        line += f", and too hard where none gets it right in {bounds.min_pass_rate:g} of them"
    return line


def _model_line(label: str, teacher: Teacher, samples: int, rows: int | None, cap: int | None) -> str:
    most = "every row that is left" if rows is None else f"at most {rows:,} rows"
    if cap is not None:
        most = f"at most {cap:,} rows of each domain" + ("" if rows is None else f", and {rows:,} in all")
    line = f"difficulty: {label} ({teacher.label}) answers {most}, {samples} sample(s) each"
    costs = costs_at_most(teacher, (THOUSAND if rows is None else rows) * samples)
    if not costs:
        return line
    return f"{line}: {'for every 1,000 rows ' if rows is None else ''}{'; '.join(costs)}"


def difficulty_inputs(difficulty: GivenDifficulty | ModelDifficulty | None) -> Iterator[tuple[str, str]]:
    """Names and paths of the local files and folders that decide what the models answer."""
    if isinstance(difficulty, ModelDifficulty):
        for label, teacher in difficulty.models.items():
            for name, path in teacher.inputs().items():
                yield f"difficulty.{label} {name}", path
