"""Step-conditional control (s1, section 3.1): "Think for up to N steps." behind the question."""

from __future__ import annotations

from pydantic import Field, field_validator

from s1ray.evaluation.strategies.conditional import Conditional, with_number
from s1ray.thinking.format import ThinkingFormat

PLACEHOLDER = "{steps}"
LEFT = "{left}"


class StepConditional(Conditional):
    """Tell the model how many steps to think at most.

    The model must have been trained on thinking that counts its steps down. s1's (step-conditional-control) opens each
    with "<|im_start|>", which ends the thinking in s1's own format: that one cannot be measured here, and is refused.
    Steps that are ordinary text between the format's delimiters can be.

    With forcing, the thinking ends at `steps` times `tokens_per_step` tokens. s1 forced it where the model wrote that
    no step is left, which takes a format that marks steps; both obey the limit that Control is measured against.
    """

    strategy: str = "step_conditional"
    steps: int = Field(ge=1)
    """Steps that the prompt allows."""
    delimiter: str
    """How the model opens a step, with {left} for the steps that are left ("Step, {left} left:")."""
    tokens_per_step: int = Field(default=100, ge=1)
    """Control is measured against this many thinking tokens a step, as in s1."""
    forced: bool = False
    """End the thinking at `steps` times `tokens_per_step` tokens by force."""
    prompt: str = "Think for up to {steps} steps."
    """Appended to the question after an empty line, with the number in place of {steps}. Default: s1's text."""

    @field_validator("prompt")
    @classmethod
    def _has_the_number(cls, prompt: str) -> str:
        return with_number(prompt, PLACEHOLDER)

    @field_validator("delimiter")
    @classmethod
    def _has_the_steps_left(cls, delimiter: str) -> str:
        return with_number(delimiter, LEFT)

    @property
    def instruction(self) -> str:
        """The prompt with its number."""
        return self.prompt.replace(PLACEHOLDER, str(self.steps))

    @property
    def asked_tokens(self) -> int:
        """At so many tokens a step."""
        return self.steps * self.tokens_per_step

    @property
    def forced_tokens(self) -> int | None:
        """The same, where it is forced."""
        return self.asked_tokens if self.forced else None

    def describe(self) -> str:
        """For example "steps=16 forced"."""
        return self.labelled(f"steps={self.steps}", self.prompt, forced=self.forced)

    def check_format(self, thinking_format: ThinkingFormat) -> None:
        """Look whether steps can be told from the end of the thinking.

        Raises:
            ValueError: a step opens as a delimiter does.
        """
        fmt, special = thinking_format, self.delimiter.startswith("<")
        opening = self.delimiter.partition(">")[0] + ">" if special else self.delimiter
        for text in (fmt.end, *fmt.end_triggers, fmt.start, *fmt.headers):
            if text.startswith(opening) or self.delimiter.startswith(text):
                raise ValueError(
                    f"each step opens with {opening!r}, but so does {text!r} of the thinking format {fmt.name!r}, so a "
                    "step would end the thinking; step-conditional control needs a model whose steps are ordinary "
                    "text between its format's delimiters (set `thinking_format` and `delimiter` to what it writes)"
                )
