"""What a benchmark is: where its questions are, which column holds what, and how they are asked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from s1ray.config import LABEL_PATTERN, Config, PlainText
from s1ray.grading.choices import CHOICES
from s1ray.reading.fields import parse_expression
from s1ray.reading.where import WhereConfig

QUESTION = "{question}"
"""Stands for the question in a prompt."""
COLUMNS = ("question", "answer", "answer_after", "solution", "domain", "metadata", "options", "where", "answer_kind")
"""The fields that say how records are read."""


class Benchmark(Config):
    r"""A benchmark: a name, where its questions are (`path`, `hub` or `function`), and which column holds what.

    A column may also be a place in one ("reward_model.ground_truth", "options[0]") or a template that joins several
    ("{passage}\n{question}\n{choices:letters}"); `s1ray.reading.fields` has all of it.
    """

    name: str = Field(pattern=LABEL_PATTERN)
    """Its name in results and reports. In a config, a registered name brings that benchmark's other fields along, and
    those that are given replace them."""
    path: str | None = None
    """A file, folder or glob of rows, in any format that a source of curation reads."""
    hub: str | None = None
    """A data set of the Hugging Face Hub ("openai/gsm8k")."""
    function: str | None = None
    """A function without arguments that gives `Question` rows: registered, or "module:attribute"."""
    subset: str | None = None
    """Of the data set on the Hub."""
    split: str = "test"
    """Of the data set on the Hub."""
    revision: str | None = None
    """Commit or tag of the data set on the Hub. None: the newest."""
    where: WhereConfig = Field(default_factory=dict)
    """Which rows belong to it (`split: test`, `level: {ge: 4}`). Empty: all."""
    question: str | None = None
    """Column. None: `question`. Where no field says how rows are read, they may also be `Question` rows, with an id."""
    answer: str | None = None
    """Column of the reference answer. None: `answer`."""
    answer_after: str | None = Field(default=None, min_length=1)
    """The reference answer is what follows the last of these texts in its column ("####")."""
    solution: str | None = None
    """Column of the reference working. Of a list the first element."""
    domain: str | None = None
    """Column of the subject, by which reports are split. Of a list the first element."""
    metadata: list[str] = Field(default_factory=list)
    """Columns that come along as metadata."""
    options: list[str] | None = Field(default=None, min_length=2, max_length=len(CHOICES))
    """Columns with the options of a multiple-choice question, the right one first. They are asked in an order that is
    drawn for each question, as lines "A) ...", and the reference answer is the right one's letter."""
    options_seed: int = Field(default=0, ge=0)
    """Of the options' order, which depends on this, the question and the options alone."""
    answer_kind: Literal["number", "choice", "math", "text"] | None = None
    """Kind of the reference answers. None: grading tells it from each answer, or from `answer_kind` in the metadata."""
    prompt: PlainText = QUESTION
    r"""How a question is asked; "{question}" stands for its text and options. The default is the question as it is, as
    in s1's evaluation. Another one: "{question}\n\nPut the answer in \\boxed{}"."""
    system_prompt: PlainText | None = None
    """System message of every request. None: none is sent; a chat template may have one of its own."""
    limit: int | None = Field(default=None, ge=1)
    """Questions to ask: the first by id, which is a hash, so a fixed random choice. None: the run's `limit`."""
    private_text: bool = False
    """Its questions are not to be published: run folders and reports hold ids and answers, but not the questions' text,
    and reports show no samples."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        places = [name for name in ("path", "hub", "function") if getattr(self, name) is not None]
        if not places:
            raise ValueError(f"benchmark {self.name!r}: where are its questions? Give `path` (a file) or `hub`")
        if len(places) > 1:
            raise ValueError(f"benchmark {self.name!r}: give one of {' and '.join(places)}, not both")
        unused = [name for name in COLUMNS if self.function is not None and getattr(self, name)]
        unused += [name for name in ("subset", "revision") if self.hub is None and getattr(self, name) is not None]
        if unused:
            raise ValueError(f"{unused[0]}: has no effect on the benchmark {self.name!r}, read from `{places[0]}`")
        return self

    @model_validator(mode="after")
    def _has_sound_columns(self) -> Self:
        single = ((name, getattr(self, name)) for name in ("question", "answer", "solution", "domain"))
        lists = ((name, text) for name in ("metadata", "options") for text in getattr(self, name) or ())
        for field, text in (*single, *lists):
            try:
                _ = text is None or parse_expression(text)
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from None
        if self.options is not None:
            if self.answer is not None or self.answer_after is not None:
                raise ValueError("answer: with `options` the first of them is the answer; leave it out")
            if self.answer_kind not in (None, "choice"):
                raise ValueError(f"answer_kind: is choice where there are `options`, not {self.answer_kind}")
            if self.question is None:
                raise ValueError("question: `options` need its column")
        return self

    @model_validator(mode="after")
    def _asks_the_question(self) -> Self:
        if QUESTION not in self.prompt:
            raise ValueError(f'prompt: must hold "{QUESTION}", where the question goes')
        return self
