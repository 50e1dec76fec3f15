"""The texts of a response that may think more than once, from its ids as they come.

vLLM's reasoning parsers know one block of thinking, at the beginning; for a response whose model may open further ones
(`thinking.reopen: "allow"`) its texts are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

from s1ray.thinking import BudgetForcer
from s1ray.thinking.forcer import Phase

if TYPE_CHECKING:
    from tokenizers import Tokenizer

JOINT = "\n\n"
"""Between the blocks of thinking, and between the parts of the answer."""


class _Text:
    """One of the two texts, part by part, without the line breaks around each part."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._begun = False
        self.open(first=True)

    def open(self, *, first: bool = False) -> None:
        """A part begins."""
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._held = JOINT if self._begun and not first else ""
        self._fresh = True

    def add(self, token_id: int) -> str:
        """The text that is certain now."""
        text = self._decoder.step(self._tokenizer, token_id) or ""
        if self._fresh:
            text = text.lstrip("\n")
        if not text:
            return ""
        self._fresh, self._begun = False, True
        text = self._held + text
        shown = text.rstrip("\n")
        self._held = text[len(shown) :]
        return shown


class LiveTexts:
    """Follows one choice beside its forcer.

    Args:
        forcer: of the choice, before its first token.
        tokenizer: the model's, of the `tokenizers` library.
    """

    def __init__(self, forcer: BudgetForcer, tokenizer: Tokenizer) -> None:
        self._forcer = forcer
        self._thinking, self._answer = _Text(tokenizer), _Text(tokenizer)
        self._answer_ids: list[int] = []
        """The last ids of the answer, which may turn out to open the thinking again."""

    def observe(self, token_ids: Sequence[int]) -> tuple[str, str]:
        """Take the next ids, which the forcer observes; give what they add to thinking and answer."""
        thinking = answer = ""
        for token_id in token_ids:
            forcer = self._forcer
            thought, answered, phase = forcer.thinking_tokens, forcer.answer_tokens, forcer.phase
            forcer.observe(token_id)
            if phase is Phase.ANSWER and forcer.phase not in (Phase.ANSWER, Phase.CLOSE):
                self._thinking.open()
                self._answer.open()
            if forcer.thinking_tokens > thought:
                thinking += self._thinking.add(token_id)
            if forcer.answer_tokens < answered:
                self._answer_ids.clear()
            elif forcer.answer_tokens > answered:
                self._answer_ids.append(token_id)
                if len(self._answer_ids) >= len(self._forcer.plan.reopen):
                    answer += self._answer.add(self._answer_ids.pop(0))
        return thinking, answer

    def finish(self) -> str:
        """What was held back of the answer."""
        held, self._answer_ids = self._answer_ids, []
        return "".join(map(self._answer.add, held))
