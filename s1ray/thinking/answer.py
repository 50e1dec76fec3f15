"""What may be written into an answer: the rules that hold behind the end delimiter, token by token.

Delimiters and headers stay out of it, it is not empty, and it has a maximum. A model that may think again does so by
writing the start delimiter, where there is room for another block. Like the forcer it belongs to, this knows ids only.
"""

from __future__ import annotations

from s1ray.thinking.actions import Bans, RowAction, id_set
from s1ray.thinking.plan import ForcingPlan

MAX_BLANKS = 4
"""Tokens of white space that an answer may begin with."""


class AnswerRules:
    """Follows the answer of one response, all its parts.

    Args:
        plan: the request's format and budget in ids.
        triggers: ids that end the response or belong to a delimiter; none of them is an answer's first word, except
            one that begins a tool call.
        room: tokens that the whole response may have. None: no limit known.

    Attributes:
        action: what has to happen to the next token's distribution; None: nothing.
        tokens: answer tokens so far.
        full: the answer has reached its maximum without an end of its own.
        ended: its last token ended the response.
    """

    def __init__(self, plan: ForcingPlan, triggers: frozenset[int], room: int | None) -> None:
        self._plan, self._room = plan, room
        self._ends = triggers.difference(plan.tool_calls)
        self._first = tuple(sorted(self._ends))
        self._bans = Bans(plan.answer_ban)
        self._again = Bans((plan.reopen,) if plan.reopen else ())
        self._blank_ids = id_set(plan.blank_ids)
        self._actions: dict[tuple[bool, bool, bool], RowAction | None] = {}
        self._reopen_until = -1
        """Last position at which the model may open another block of thinking."""
        self._wordless = True
        self._blanks = 0
        self.action: RowAction | None = None
        self.tokens = 0
        self.full = self.ended = False

    @property
    def settled(self) -> bool:
        """Whether the action stays as it is, whatever comes."""
        plan = self._plan
        return not (self._wordless or plan.reopen or plan.answer_max_tokens is not None or self._bans.has_sequences)

    def begin(self, position: int, reopen_until: int) -> None:
        """A part of the answer begins: all that was written for the model stands before it.

        Args:
            position: of the part's first token in the output.
            reopen_until: last position at which the model may open another block of thinking; -1: at none.
        """
        self._reopen_until, self._wordless, self._blanks = reopen_until, True, 0
        self._bans.clear()
        self._again.clear()
        self._decide(position)

    def observe(self, token_id: int, position: int) -> bool:
        """Take a token of the answer.

        Args:
            token_id: the id that came.
            position: of the next token.

        Returns:
            Whether it opens another block of thinking. The opening ids are then no part of the answer.
        """
        self.tokens += 1
        plan, opening = self._plan, bool(self._plan.reopen) and self._again.completed_by(token_id)
        if opening:
            self.tokens -= len(plan.reopen)
            return True
        self._bans.observe(token_id)
        self._again.observe(token_id)
        if token_id in self._blank_ids:
            self._blanks += 1
        else:
            self._wordless = False
        self.ended = token_id in self._ends
        most = plan.answer_max_tokens
        self.full = most is not None and self.tokens >= most and not self.ended
        self._decide(position)
        return False

    def _decide(self, position: int) -> None:
        again = position <= self._reopen_until
        action = self._base(self._wordless, self._wordless and self._needs_word(position), again)
        action = self._bans.added_to(action)
        self.action = action if again else self._again.added_to(action)

    def _needs_word(self, position: int) -> bool:
        """Whether more white space would leave the answer without a word."""
        most = self._plan.answer_max_tokens
        last = (self._room is not None and position >= self._room - 1) or (most is not None and self.tokens >= most - 1)
        return last or self._blanks >= MAX_BLANKS

    def _base(self, wordless: bool, needs_word: bool, again: bool) -> RowAction | None:
        """The action, bans of longer texts aside."""
        key = (wordless, needs_word, again)
        if key not in self._actions:
            exclude = {*self._bans.always, *(() if again else self._again.always)}
            exclude |= self._blank_ids if needs_word else set()
            ban = self._first if wordless else ()
            action = RowAction(ban=ban, exclude=tuple(sorted(exclude))) if ban or exclude else None
            self._actions[key] = action
        return self._actions[key]
