"""The trace stage's config: the questions, the teacher, and what happens to wrong, cut and failed traces."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from s1ray.config import NodeLabels, StageConfig
from s1ray.grading import RULES, GraderName
from s1ray.models import ModelPath
from s1ray.registry import TEACHERS, registered
from s1ray.teachers.base import Teacher

MANY = 1_000_000
"""Samples of a question, and rows of a shard, at most."""
MOST = 2**53
"""Of counts that nothing else limits."""
PerQuestion = Literal["all", "first", "shortest", "longest", "best"]


class TracesConfig(StageConfig):
    """The trace stage: questions -> teacher -> grading -> traces."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"output", "questions", "shard_rows", "max_failed_share", "responses_from", "node_labels"}
    )

    questions: Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
    """Parquet file or folder of Question rows."""
    teacher: Annotated[SerializeAsAny[Teacher], registered(TEACHERS, Teacher)]
    """Who writes the traces; `kind` names a registered teacher, and its other fields are that teacher's."""
    tokenizer: ModelPath
    """The student's tokenizer (a folder or Hub id with a `tokenizer.json`): lengths are counted in its tokens."""
    samples: int = Field(default=1, ge=1, le=MANY)
    """Traces per question."""
    max_samples: int | None = Field(default=None, ge=1, le=MANY)
    """A question with a reference answer that has no correct trace to keep is asked again, `samples` more a round, up
    to so many in all. An undecided attempt is not a correct one. None: every question is asked `samples` times."""
    limit: int | None = Field(default=None, ge=1, le=MOST)
    """Only this many questions, the first by id."""
    grader: GraderName = RULES
    """Grades the attempts: a registered grader, or "module:attribute"."""
    judge: Annotated[SerializeAsAny[Teacher] | None, registered(TEACHERS, Teacher)] = None
    """A language model that is asked about attempts which the grader leaves undecided or unparsable although there is a
    reference answer; its fields are a teacher's. It is first asked for the answer that the attempt states, without the
    reference. None: such attempts stay as they are."""
    majority_answers: bool = False
    """Where a question has no reference answer, the one that more than half of its whole attempts give, at least two,
    takes its place; `answer_source` says so."""
    wrong: Literal["keep", "drop"] = "keep"
    """Traces whose answer is wrong. s1 keeps them: nearly half of its thousand are wrong, and they still teach."""
    ungraded: Literal["keep", "drop"] = "keep"
    """Traces of which nobody can say whether they are right: undecided, or nothing to compare them with."""
    truncated: Literal["keep", "drop"] = "drop"
    """Traces that the teacher's token limit cut: they teach the student to stop in mid-sentence. Refusals, and traces
    that are incomplete for other reasons, are dropped in any case."""
    max_tokens: int | None = Field(default=None, ge=1, le=MOST)
    """Longer traces (thinking and attempt, in the student's tokens) are dropped."""
    per_question: PerQuestion = "all"
    """Which of a question's traces stay, of those that are left after all that is above: all, or one. Lengths are those
    of `max_tokens`. "best": a correct one before an undecided or ungraded one before a wrong one; then one whose answer
    most attempts give; then the shortest."""
    responses_from: Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)] | None = None
    """Run folder of another traces run with the same teacher and seed, whose answers are not asked for again: to change
    what is kept, graded or judged, or to ask for more samples. They stay in that run's bill. None: none."""
    shard_rows: int = Field(default=256, ge=1, le=MANY)
    """Traces that are counted and graded together; more where one question has more."""
    max_failed_share: float = Field(default=0.02, ge=0, le=1)
    """Share of requests that may have failed three times; above it, the run fails, and the next one repeats them. Below
    it, they are dropped. The judge may fail for the same share of the traces, which then stay as they are."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that count and grade the traces; teacher and judge have a `node_labels` of their own. None:
    any node."""

    @model_validator(mode="after")
    def _judge_knows_its_field(self) -> TracesConfig:
        if self.judge is not None:
            self.judge.held_by("judge")
        return self

    @model_validator(mode="after")
    def _has_enough_samples(self) -> TracesConfig:
        if self.max_samples is not None and self.max_samples <= self.samples:
            raise ValueError(f"max_samples: must be more than samples ({self.samples}), got {self.max_samples}")
        if self.majority_answers and self.samples < 2:
            raise ValueError("majority_answers: needs samples of 2 or more, as one attempt is no majority")
        return self
