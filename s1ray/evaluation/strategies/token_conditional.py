"""Token-conditional control (s1, section 3.1): "Think for up to N tokens." behind the question."""

from __future__ import annotations

from pydantic import Field, field_validator

from s1ray.evaluation.strategies.conditional import Conditional, with_number

PLACEHOLDER = "{tokens}"


class TokenConditional(Conditional):
    """Tell the model how many tokens to think at most.

    s1 fine-tuned a model of its own for it (token-conditional-control), with each trace's length rounded up to a power
    of two; a model that never saw such numbers hardly heeds them.
    """

    strategy: str = "token_conditional"
    tokens: int = Field(ge=1)
    """Thinking tokens that the prompt allows, and Control is measured against."""
    forced: bool = False
    """End the thinking at `tokens` by force."""
    prompt: str = "Think for up to {tokens} tokens."
    """Appended to the question after an empty line, with the number in place of {tokens}. Default: s1's text."""

    @field_validator("prompt")
    @classmethod
    def _has_the_number(cls, prompt: str) -> str:
        return with_number(prompt, PLACEHOLDER)

    @property
    def instruction(self) -> str:
        """The prompt with its number."""
        return self.prompt.replace(PLACEHOLDER, str(self.tokens))

    @property
    def asked_tokens(self) -> int:
        """The number."""
        return self.tokens

    @property
    def forced_tokens(self) -> int | None:
        """The number, where it is forced."""
        return self.tokens if self.forced else None

    def describe(self) -> str:
        """For example "tokens=2048 forced"."""
        return self.labelled(f"tokens={self.tokens}", self.prompt, forced=self.forced)
