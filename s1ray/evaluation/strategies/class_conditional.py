"""Class-conditional control (s1, section 3.1): ask for a short or a long thought, in words."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from s1ray.evaluation.strategies.conditional import Conditional
from s1ray.evaluation.strategies.labels import one_line

PROMPTS = {
    "short": "Answer after a short amount of thinking. Do not spend excessive time double-checking your work.",
    "long": (
        "Answer after a long amount of thinking. If you feel like you are finished early, spend the extra time trying "
        "to double-check your work until you are absolutely sure that you have the correct answer."
    ),
}
"""s1's texts (the variables PROMPTSHORT and PROMPTLONG of its evaluation harness)."""


class ClassConditional(Conditional):
    """Ask for a short or a long thought, or for anything else, in words. No training is needed.

    Control compares with the same model without the instruction: "short" must think less than that, "long" more.
    """

    strategy: str = "class_conditional"
    length: Literal["short", "long"] | None = None
    """What the instruction asks for. None: neither, so that there is no Control to measure."""
    prompt: str | None = Field(default=None, min_length=1)
    """Appended to the question after an empty line. None: s1's text for the `length`."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens, by force. None: nothing is forced."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.length is None and self.prompt is None:
            raise ValueError("give `length` (short, long), or a `prompt` of your own")
        return self

    @property
    def instruction(self) -> str:
        """The prompt of one's own, or s1's."""
        if self.prompt is not None:
            return self.prompt
        assert self.length is not None, "the validator wants one of them"
        return PROMPTS[self.length]

    @property
    def forced_tokens(self) -> int | None:
        """The maximum."""
        return self.max_tokens

    def describe(self) -> str:
        """For example "short max=4096"."""
        parts: list[str] = [self.length or "prompt"]
        if self.max_tokens is not None:
            parts.append(f"max={self.max_tokens}")
        if self.prompt is not None:
            parts.append(f"({one_line(self.prompt)})")
        return " ".join(parts)

    def obeyed(self, tokens: float, default: float) -> bool | None:
        """Whether the model did as it was asked.

        Args:
            tokens: mean thinking tokens with the instruction.
            default: and without.

        Returns:
            None: neither short nor long was asked for.
        """
        if self.length is None:
            return None
        return tokens < default if self.length == "short" else tokens > default
