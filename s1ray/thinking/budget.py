"""What one request may ask of its thinking.

The s1 paper (section 3.1) controls test-time compute by a maximum (end the thinking by force) and a minimum (suppress
the end, optionally with "Wait"). The names its evaluation harness uses: `max_tokens_thinking` is `max_tokens` here,
`min_tokens_thinking` is `min_tokens`, `thinking_n_ignore` is `waits`, `thinking_n_ignore_str` is `wait_text`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

Tokens = Annotated[StrictInt, Field(ge=0, le=2**31)]

MAX_BANS = 64
"""Texts that a request may ban."""

WaitText = Annotated[StrictStr, Field(max_length=500)]
EndText = Annotated[StrictStr, Field(max_length=4000)]
BannedText = Annotated[StrictStr, Field(max_length=200)]
"""Texts of a request, in characters: each is read token by token, and compared with the others."""


class ThinkingBudget(BaseModel):
    """How long one response thinks. The default asks for nothing: the model decides.

    Only tokens that the request itself generates count; thinking that the prompt already holds does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: Tokens | Literal["auto"] | None = None
    """Thinking tokens at most, injected waits included. 0: answer at once. "auto": what the context and
    `answer_reserve` allow. None: not said; a server's default, or as "auto"."""
    min_tokens: Tokens = 0
    """Thinking tokens at least: until then every attempt to stop is suppressed (and turned into a wait, where a wait
    text is set and the maximum leaves room for it)."""
    waits: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    """How many attempts to stop are swallowed."""
    wait_text: WaitText | Annotated[list[WaitText], Field(max_length=64)] | None = "Wait"
    """Written in place of a swallowed stop. A list is cycled. None or "": the stop is only suppressed."""
    end_text: EndText | None = None
    """Written at the maximum in place of the format's own end. Must contain the format's end delimiter once: what
    stands before it hands over ("Time is up."), what stands after it begins the answer."""
    grace: Tokens = 0
    """Soft landing: among the last `grace` tokens before the maximum, the thinking is cut at the first line's end
    already. The maximum itself stays where it is."""
    ban: BannedText | Annotated[tuple[BannedText, ...], Field(max_length=MAX_BANS)] = ()
    """Texts that are never written while thinking, each as the tokenizer writes it at a word's beginning, with and
    without a space before (NoWait, arXiv 2506.08343, bans "Wait", "Hmm", ...)."""
    answer_reserve: Tokens | None = None
    """Tokens of the response that are kept for the answer: the thinking is cut early enough for the end text and this
    many more. None: an eighth of what the response may have, at most 1,024."""
    answer_max_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    """Tokens of the answer at most; at this number its end is forced. None: what the response has left."""
    reopen: Literal["forbid", "allow"] = "forbid"
    """Whether the model may think again once its answer has begun (interleaved thinking). Further blocks draw on the
    same budget, count as thinking and are no part of the answer. "forbid": the start delimiter cannot be written."""
    scope: Literal["response", "turn"] = "response"
    """What `max_tokens` and `min_tokens` cover. "turn": thinking that the request carries in the assistant's messages
    since the last user message is taken off first."""
    stop: StrictBool = False
    """Whether the request's stop strings act on the thinking, too, and not on the answer only."""
    loops: Annotated[StrictInt, Field(le=1024)] = 0
    """The thinking is cut when it ends in this many copies of one passage in a row (at least 32 tokens in all, and a
    passage of at most 1,024), whatever waits or minimum the request asks for. 0: never."""
    effort: StrictStr | None = None
    """In place of `max_tokens`: a name that the server maps to a number ("low", "medium", "high")."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.max_tokens, int):
            if self.min_tokens > self.max_tokens:
                raise ValueError(f"min_tokens: {self.min_tokens} is more than max_tokens ({self.max_tokens})")
            if self.grace > self.max_tokens:
                raise ValueError(f"grace: {self.grace} is more than max_tokens ({self.max_tokens})")
        if self.max_tokens == 0 and self.waits:
            raise ValueError(f"waits: {self.waits} waits cannot happen when max_tokens is 0; leave one of them out")
        if isinstance(self.wait_text, list):
            if not self.wait_text:
                raise ValueError("wait_text: the list is empty; give at least one text, or null to only suppress")
            if not all(self.wait_text):
                raise ValueError("wait_text: a listed text must not be empty; give null alone to only suppress")
        if self.end_text == "":
            raise ValueError("end_text: must not be empty; leave it out for the format's own")
        if not all(self.ban_texts) or (isinstance(self.ban, str) and not self.ban):
            raise ValueError("ban: a banned text must not be empty")
        if self.loops < 0 or self.loops == 1:
            raise ValueError(f"loops: must be 0 (never) or at least 2 copies, got {self.loops}")
        if self.effort is not None and self.max_tokens is not None:
            raise ValueError("effort: it stands for a max_tokens; give one of the two")
        return self

    def less(self, spent: int) -> ThinkingBudget:
        """What is left of the budget when this many thinking tokens are taken off it."""
        if not spent:
            return self
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        fields["min_tokens"] = max(0, self.min_tokens - spent)
        if isinstance(self.max_tokens, int):
            fields["max_tokens"] = left = max(0, self.max_tokens - spent)
            fields["grace"] = min(self.grace, left)
            fields["waits"] = self.waits if left else 0
        return ThinkingBudget.model_validate(fields)

    @property
    def wait_texts(self) -> tuple[str, ...]:
        """The wait texts in the order of use; empty where stops are only suppressed."""
        if not self.wait_text:
            return ()
        return (self.wait_text,) if isinstance(self.wait_text, str) else tuple(self.wait_text)

    @property
    def ban_texts(self) -> tuple[str, ...]:
        """The banned texts."""
        return (self.ban,) if isinstance(self.ban, str) else tuple(self.ban)
