"""What every test-time strategy has in common.

A strategy is a config class in the registry `STRATEGIES`: one element of `arms:` in a config is validated with the
class that its `strategy` names, and is called once per question and sample. A new strategy is one file:

    class Direct(Strategy):
        async def __call__(self, generator, question, sample, sampling, seed) -> Completion: ...

It is used as `strategy: my_module:Direct`, or under a name of its own with an entry point (`s1ray/registry.py`).
"""

from __future__ import annotations

from pydantic import Field

from s1ray.config import LABEL_PATTERN, Config
from s1ray.evaluation.strategies.sampling import Sampling
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

__all__ = ["Sampling", "Strategy"]


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
    def forces(self) -> bool:
        """Whether the requests carry a budget. Where no arm's do, anything that speaks OpenAI's API may serve."""
        return True

    @property
    def outside(self) -> bool:
        """Whether its responses can be forced call by call (driver: segmented): it asks the server for nothing else."""
        return True

    def temperature_of(self, sampling: Sampling) -> float:
        """The temperature of its requests; 0: the same question gets the same answer.

        Args:
            sampling: of the run.
        """
        return sampling.temperature

    @property
    def requests(self) -> int:
        """Requests for one answer at most."""
        return 1

    @property
    def at_once(self) -> int:
        """Those of them that are in flight together: an answer waits until there are so many free places."""
        return 1

    @property
    def limits(self) -> tuple[int, int | None]:
        """Fewest and most thinking tokens of one answer (None: no maximum), all requests for it together.

        The results are checked against them. The default: the budget's minimum, which one response has at least, and
        its maximum for each of the requests.
        """
        most = self.budget.max_tokens
        return self.budget.min_tokens, self.requests * most if isinstance(most, int) else None

    @property
    def kept_limits(self) -> tuple[int, int | None] | None:
        """Of the response that is kept, where Control and Scaling are of that alone. None: they are of all requests."""
        return None

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer a question once, with as many requests as the strategy needs.

        Args:
            generator: the model, which counts what is asked of it.
            question: the question; its answer is for the grader.
            sample: which of several answers to the question.
            sampling: how to draw tokens.
            seed: of the run.

        Returns:
            The response that is the answer, as the generator gave it. The runner counts every request (`.cost`).

        Raises:
            GenerationError: no completion could be had.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")
