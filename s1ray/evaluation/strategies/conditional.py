"""Conditional control (s1, sections 3.1 and 5.2): the prompt says how long to think, and the model may heed it.

What the three kinds have in common. The prompts' default texts are the paper's own (its public evaluation harness), as
the results depend on them word by word. Without forcing, a budget only opens the thinking, and Control says how often
the model kept to what it was told; with forcing, the same length is the thinking's maximum.
"""

from __future__ import annotations

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.labels import one_line
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget


class Conditional(Strategy):
    """Base of the kinds: one request, with an instruction behind the question."""

    @property
    def instruction(self) -> str:
        """What is appended to the question after an empty line."""
        raise NotImplementedError

    @property
    def asked_tokens(self) -> int | None:
        """Thinking tokens that the instruction allows. None: it names no number."""
        return None

    @property
    def forced_tokens(self) -> int | None:
        """Thinking tokens at which the end is forced. None: it is the model's."""
        raise NotImplementedError

    @property
    def budget(self) -> ThinkingBudget:
        """The maximum, where it is forced."""
        return ThinkingBudget(max_tokens=self.forced_tokens)

    @property
    def limits(self) -> tuple[int, int | None]:
        """What the instruction allows, forced or not."""
        return 0, self.forced_tokens if self.asked_tokens is None else self.asked_tokens

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        key = f"{question.id}-{sample}"
        request = ask(question, sampling, seed, key=key, budget=self.budget, instruction=self.instruction)
        return await generator.complete(request)

    def labelled(self, what: str, prompt: str, *, forced: bool) -> str:
        """A label: what is asked, whether it is forced, and a prompt of the user's own."""
        own = [] if prompt == type(self).model_fields["prompt"].default else [f"({one_line(prompt)})"]
        return " ".join([what, *(["forced"] if forced else []), *own])


def with_number(prompt: str, placeholder: str) -> str:
    """The prompt, if a number can be put into it.

    Raises:
        ValueError: it does not have the placeholder.
    """
    if placeholder not in prompt:
        raise ValueError(f"must contain {placeholder}, where the number goes; got {prompt!r}")
    return prompt
