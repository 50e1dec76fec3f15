"""What every test-time strategy has in common.

A strategy is a config class in the registry `STRATEGIES`: one element of `arms:` in a config is validated with the
class that its `strategy` names, and is called once per question and sample. A new strategy is one file:

    class Direct(Strategy):
        async def __call__(self, generator, question, sample, sampling, seed) -> Completion: ...

It is used as `strategy: my_module:Direct`, or under a name of its own with an entry point (`s1ray/registry.py`).
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from s1ray.config import Config
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

LABEL_PATTERN = r"^[^\s/\\][^/\\\n\r\t]{0,79}$"
"""Labels name columns, legends and files: one line, no slashes."""


class Sampling(Config):
    """How tokens are drawn, for thinking and answer alike."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    samples: int = Field(default=1, ge=1)
    """Samples per question; more than one needs a temperature above 0."""
    answer_tokens: int = Field(default=2048, ge=1)
    """Tokens of an answer at most, the same in every arm however long the thinking was: where thinking is forced to an
    end, a model may go on thinking in its answer. The default is about three times the mean answer of models of s1's
    size (655 to 755 tokens). The report says how many answers were cut, and warns above 1 %."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples is {self.samples}, but at temperature 0 they would all be the same")
        return self


class Strategy(Config):
    """Base of every strategy: one setting of it (an arm), measured on every question."""

    strategy: str
    """Name in the registry."""
    label: str | None = Field(default=None, pattern=LABEL_PATTERN)
    """Name in the results. None: made from the settings."""

    @property
    def name(self) -> str:
        """The label, given or made from the settings."""
        return self.label or self.describe()

    def describe(self) -> str:
        """A label made from the settings."""
        settings = self.model_dump(mode="json", exclude={"strategy", "label"}, exclude_defaults=True)
        return " ".join([self.strategy.rpartition(":")[2], *(f"{field}={value}" for field, value in settings.items())])

    @property
    def budget(self) -> ThinkingBudget:
        """What one response's thinking is held to. The default: nothing."""
        return ThinkingBudget()

    @property
    def limits(self) -> tuple[int, int | None]:
        """Fewest and most thinking tokens of one completion (None: no maximum), all requests for it together.

        The results are checked against them, and the dry run adds up the maxima. The default is `budget`'s; a strategy
        of several requests gives its own.
        """
        most = self.budget.max_tokens
        return self.budget.min_tokens, most if isinstance(most, int) else None

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer a question once, with as many requests as the strategy needs.

        Args:
            generator: the model.
            question: the question; its answer is for the grader.
            sample: which of several answers to the question.
            sampling: how to draw tokens.
            seed: of the run.

        Returns:
            One completion; its token counts are what the answer cost.

        Raises:
            GenerationError: no completion could be had.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")
