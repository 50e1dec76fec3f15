"""Questions of your own: a source to curate from, and a benchmark to measure on.

The questions are arithmetic on a clock, made by a small program. Read yours from wherever they are: a database, an API,
another format of file. For Parquet, JSON, CSV and the like, `kind: files` of s1ray is enough.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from pydantic import Field

from s1ray.curation.sources import Source
from s1ray.schemas import Question, question_id

HELD_OUT_SEED = 1_000_003


class ClockSource(Source):
    """Questions that ask for a time of day; the fields are what a config may say."""

    kind: str = "clock"
    size: int = Field(default=2000, ge=1)
    """Questions in the pool."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives other questions."""

    def rows(self) -> Iterator[Question]:
        """The questions, always in the same order."""
        held_out = {question.id for question in benchmark()}
        yield from (question for question in clock_questions(self.size, self.seed) if question.id not in held_out)

    def check(self, require: Collection[str]) -> str:
        """The line of `--dry-run`. Raise an `S1rayError` here for what would keep `rows` from working."""
        return f"source {self.label}: up to {self.size:,} rows, generated"


def benchmark() -> list[Question]:
    """200 held-out questions, each with the answer that responses are graded against."""
    return list({question.id: question for question in clock_questions(250, HELD_OUT_SEED)}.values())[:200]


def clock_questions(size: int, seed: int) -> Iterator[Question]:
    """Questions with working and answer. `length` may stay None: curation counts the working's words, or its tokens
    where the config names a `length.tokenizer`.
    """
    draw = random.Random(seed)
    for _ in range(size):
        time, steps = draw.randrange(24 * 60), [draw.randint(-300, 300) for _ in range(draw.randint(1, 6))]
        text = f"A clock shows {_clock(time)}. Move it by {' '.join(f'{step:+}' for step in steps)} minutes."
        working = []
        for step in steps:
            working.append(f"{_clock(time)} {step:+} = {_clock(time + step)}")
            time += step
        yield Question(
            id=question_id(text),
            question=text,
            solution="\n".join(working),
            answer=_clock(time),
            source="clock",
            domain=f"{len(steps)} steps",
            metadata='{"answer_kind": "text"}',
        )


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"
