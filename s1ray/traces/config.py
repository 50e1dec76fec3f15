"""The trace stage's config: the questions, the teacher, and what happens to wrong, cut and failed traces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from s1ray.config import StageConfig
from s1ray.grading import RULES, GraderName
from s1ray.models import ModelPath
from s1ray.registry import TEACHERS, registered
from s1ray.traces.teachers import Teacher


class TracesConfig(StageConfig):
    """The trace stage: questions -> teacher -> grading -> traces."""

    incidental: ClassVar[frozenset[str]] = frozenset({"output", "questions", "shard_rows", "max_failed_share"})

    questions: str
    """Parquet file or folder of Question rows."""
    teacher: Annotated[SerializeAsAny[Teacher], registered(TEACHERS, Teacher)]
    """Who writes the traces; `kind` names a registered teacher, and its other fields are that teacher's."""
    tokenizer: ModelPath
    """The student's tokenizer (a folder or Hub id with a `tokenizer.json`): lengths are counted in its tokens."""
    samples: int = Field(default=1, ge=1)
    """Traces per question."""
    limit: int | None = Field(default=None, ge=1)
    """Only this many questions, the first by id."""
    grader: GraderName = RULES
    """Grades the attempts: a registered grader, or "module:attribute"."""
    wrong: Literal["keep", "drop"] = "keep"
    """Traces whose answer is wrong. s1 keeps them: nearly half of its thousand are wrong, and they still teach."""
    truncated: Literal["keep", "drop"] = "drop"
    """Traces that the teacher's token limit cut: they teach the student to stop in mid-sentence. Refusals, and traces
    that are incomplete for other reasons, are dropped in any case."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longer traces (thinking and attempt, in the student's tokens) are dropped."""
    shard_rows: int = Field(default=256, ge=1)
    """Traces that are counted and graded together."""
    max_failed_share: float = Field(default=0.02, ge=0, le=1)
    """Share of requests that may have failed three times; above it, the run fails, and the next one repeats them. Below
    it, they are dropped."""
