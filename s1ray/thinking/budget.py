"""What one request may ask of its thinking.

The s1 paper (section 3.1) controls test-time compute by a maximum (end the thinking by force) and a minimum (suppress
the end, optionally with "Wait"). The names its evaluation harness uses: `max_tokens_thinking` is `max_tokens` here,
`min_tokens_thinking` is `min_tokens`, `thinking_n_ignore` is `waits`, `thinking_n_ignore_str` is `wait_text`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

Tokens = Annotated[StrictInt, Field(ge=0, le=2**31)]


class ThinkingBudget(BaseModel):
    """How long one response thinks. The default asks for nothing: the model decides.

    Only tokens that the request itself generates count; thinking that the prompt already holds does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: Tokens | None = None
    """Thinking tokens at most, injected waits included. 0: answer at once. None: no cap but the context's."""
    min_tokens: Tokens = 0
    """Thinking tokens at least: until then every attempt to stop is suppressed (and turned into a wait, where a wait
    text is set and the maximum leaves room for it)."""
    waits: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    """How many attempts to stop are swallowed."""
    wait_text: StrictStr | list[StrictStr] | None = "Wait"
    """Written in place of a swallowed stop. A list is cycled. None or "": the stop is only suppressed."""
    end_text: StrictStr | None = None
    """Written at the maximum in place of the format's own end. Must contain the format's end delimiter once: what
    stands before it hands over ("Time is up."), what stands after it begins the answer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is more than max_tokens ({self.max_tokens})")
        if self.max_tokens == 0 and self.waits:
            raise ValueError(f"waits: {self.waits} waits cannot happen when max_tokens is 0; leave one of them out")
        if isinstance(self.wait_text, list):
            if not self.wait_text:
                raise ValueError("wait_text: the list is empty; give at least one text, or null to only suppress")
            if not all(self.wait_text):
                raise ValueError("wait_text: a listed text must not be empty; give null alone to only suppress")
        if self.end_text == "":
            raise ValueError("end_text: must not be empty; leave it out for the format's own")
        return self

    @property
    def wait_texts(self) -> tuple[str, ...]:
        """The wait texts in the order of use; empty where stops are only suppressed."""
        if not self.wait_text:
            return ()
        return (self.wait_text,) if isinstance(self.wait_text, str) else tuple(self.wait_text)
