"""Budget forcing as a pure state machine over token ids (s1, arXiv 2501.19393, section 3.1).

`BudgetForcer` follows one response. Before each token it says what has to happen to the next token's distribution
(`action`), and it is told which token came (`observe`). It knows ids and nothing else: no text, no tensors, no engine.
The in-engine processor, the drivers outside an engine and the accounting all use this one machine. A token costs the
same however long the history is.

States, in order:

    START     the format's start ids are forced, unless the prompt already ends inside thinking
    THINK     the model thinks; banned texts are kept out of it. What happens to its attempts to stop (the end triggers:
              the first id of the end delimiter, EOS, ...) depends on the budget. While waits are left, or the minimum
              is not reached, an attempt is *swallowed*: the triggers' probability moves to the first id of the wait
              text, which is what sampling a trigger and replacing it would give. Without a wait text, or where the
              maximum leaves no room for one, triggers are only banned. Otherwise every trigger moves to the first id of
              the end delimiter, so that a response which would stop dead (EOS inside thinking) gets its answer all the
              same.
    WAIT      the rest of a wait text is forced, or all of one that the plan's schedule writes (`schedule.py`); then
              triggers stay banned for one token, or small models would answer every "Wait" by stopping again (s1's
              harness: min_tokens=1)
    END       the rest of the end delimiter is forced: after a trigger that the model sampled, what is missing of the
              delimiter; at the maximum, a line break where the thinking lacks one and the plan's whole `cut`
    ANSWER    triggers are banned until the answer has a first word, so that no answer is empty (a tool call may begin
              one). Delimiters and the format's headers never get into it: each is kept from coming to be. Where the
              plan lets the model think again, its start delimiter leads back to THINK, on the same budget, as long as
              there is room for another block, its end and the answer
    CLOSE     the answer has reached its maximum: EOS is forced

What cuts the thinking: the maximum ("budget"; within its grace the first line's end does), the end of what the
response may have, less the forced end and what is kept for the answer ("context"), a passage repeated over and over
("loop"), and whoever drives the forcer (`end_now`). A cut comes before waits and minimum.

What counts: thinking tokens are the ids between start and end, injected waits included, delimiters and the forced end
excluded; the maximum is never exceeded by one, all blocks of a response together. Answer tokens are all ids after an
end delimiter, the forced beginning of the answer and the model's own final EOS included, a forced one excluded.

A response without room for all of that drops what it can do without: first the line break and the forced beginning of
the answer, then the thinking itself (unless the prompt has opened it), so that one token is left for the answer.

Whose Wait was it? When the first id of the wait text is sampled while triggers move onto it, the model may have meant a
"Wait" of its own. The driver tells `observe` which `share` of that id's probability came from triggers, and the forcer
attributes the token by that chance, with a number drawn from the ids seen so far: the outcome is distributed as if the
token had been sampled first and replaced afterwards, and every tensor-parallel rank decides the same. Without a share
(a replay that has only the ids) the wait counts as inserted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from s1ray.thinking.actions import Bans, RowAction, id_set
from s1ray.thinking.answer import AnswerRules
from s1ray.thinking.counts import Accounting, wait_spans
from s1ray.thinking.phase import Phase as Phase
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.prompt import PromptState, prompt_state
from s1ray.thinking.repetition import LoopDetector
from s1ray.thinking.room import fitting_end, reserve_of
from s1ray.thinking.schedule import ScheduleFollower

_MASK = (1 << 64) - 1


class BudgetForcer:
    """Follows one response.

    Args:
        plan: the request's format and budget in ids.
        prompt_ids: the prompt; only its tail is looked at, to see whether thinking is already open.
        room: tokens that the whole response may have (the request's own limit and what the context leaves). None: no
            limit known.
        stop_ids: further ids that would end the response while thinking (the request's own stop tokens). They count as
            end triggers.
        seed: varies the attribution of ambiguous waits between requests.
        from_ids: the response exists already, and its ids are all that is known of it.

    Attributes:
        action: what has to happen to the next token's distribution; None: nothing.
        phase: where the response is.
        limit: thinking tokens at most, by the plan and the room. None: no limit known.
    """

    def __init__(
        self,
        plan: ForcingPlan,
        prompt_ids: Sequence[int] = (),
        *,
        room: int | None = None,
        stop_ids: Collection[int] = (),
        seed: int = 0,
        from_ids: bool = False,
    ) -> None:
        self.plan = plan
        self._from_ids = from_ids
        self._room, self._stop_ids, self._seed = room, stop_ids, seed
        # A stop id that a forced text contains would end the response in the middle of it: such ids stay what they are.
        self._triggers = frozenset(plan.end_triggers).union(frozenset(stop_ids) - plan.written)
        self._newlines = id_set(plan.newline_ids)
        triggers = tuple(sorted(self._triggers))
        first = plan.end[0]
        bans = Bans((*plan.ban, *plan.end_spellings))
        self._bans = bans if plan.ban or plan.end_spellings else None
        self._ban = RowAction(ban=triggers, exclude=bans.always)
        others = tuple(i for i in triggers if i != first)
        self._to_end = RowAction(ban=others, exclude=bans.always, move_to=first) if others or bans.always else None
        self._suppress = RowAction(ban=triggers, exclude=bans.always, wants_share=True)
        self._to_wait = [
            RowAction(ban=triggers, exclude=bans.always, move_to=text[0], wants_share=True) for text in plan.wait_texts
        ]
        self._loop = LoopDetector(plan.loops) if plan.loops else None
        self._schedule = ScheduleFollower(plan.schedule, first, prompt_ids) if plan.schedule else None
        self._forces: dict[int, RowAction] = {}

        self.phase = Phase.START
        self.action: RowAction | None = None
        self.thinking_tokens = 0
        self.swallowed: list[int] = []
        """Positions in the output (0 is its first token) at which a stop was swallowed."""
        self.scheduled: list[int] = []
        """Positions at which the schedule wrote a wait; they follow from the ids."""
        self.end_forced: str | None = None
        self._position = 0
        self._hash = (seed * 2 + 1) & _MASK
        self._forced: tuple[int, ...] = plan.start
        self._forced_at = 0
        self._answer_from = 0
        self._answer_open = False
        self._at_newline = bool(prompt_ids) and prompt_ids[-1] in self._newlines
        self._cooling = False
        self._guessed = False
        self._unsure = False
        self._thinking_spans: list[tuple[int, int]] = []
        self._answer_spans: list[tuple[int, int]] = []
        """The last one is open while the answer is."""

        state = prompt_state(plan.start, plan.end, self._triggers, prompt_ids)
        if state is PromptState.ABSENT and plan.begun_answer:
            state = PromptState.CLOSED
        begun = len(plan.start) if state is PromptState.ABSENT else 0
        self._newline, self._cut_ids, self._answer_at = fitting_end(plan, begun, room)
        if state is PromptState.ABSENT and room is not None and room <= begun + len(self._cut_ids):
            state = PromptState.CLOSED  # no room to think and to answer
        self._reserve = 0 if room is None else reserve_of(plan, room)
        self._set_limit(begun)
        self._answer = AnswerRules(plan, self._triggers, room)
        if state is PromptState.OPEN:
            self._begin_thinking()
        elif state is PromptState.CLOSED:
            self._open_answer()
            self._begin_answer()
        else:
            self.action = self._force(plan.start[0])

    @property
    def done(self) -> bool:
        """True once the action stays as it is, whatever comes."""
        return self.phase is Phase.ANSWER and self._answer.settled

    @property
    def answer_tokens(self) -> int:
        """Answer tokens observed."""
        return self._answer.tokens

    @property
    def position(self) -> int:
        """Tokens observed."""
        return self._position

    @property
    def _out_of_room(self) -> bool:
        return self._room is not None and self._position >= self._room

    def observe(self, token_id: int, share: float | None = None) -> None:
        """Take the token that came.

        Any id is accepted in any state: an engine may override a forced token (a grammar does), and then it is forced
        again at the next step.

        Args:
            token_id: the sampled id.
            share: where `action.wants_share` was set, the probability in [0, 1] that this token stands for a swallowed
                stop: for the first id of a wait text, how much of its probability came from triggers; without a wait
                text, how much probability the triggers had. None: not known.
        """
        self._position += 1
        self._hash = (self._hash * 6364136223846793005 + token_id + 1442695040888963407) & _MASK
        if self.phase is Phase.THINK:
            self._observe_thinking(token_id, share)
        elif self.phase is Phase.ANSWER:
            self._observe_answer(token_id)
        elif self.phase is Phase.END:
            self._observe_end(token_id, share)
        elif self.phase is Phase.WAIT:
            if self._guessed and token_id != self._forced[self._forced_at]:
                self._take_back(token_id, share)
                return
            self._think_token(token_id)
            self._forced_at += token_id == self._forced[self._forced_at]
            if self._forced_at == len(self._forced):
                self.phase, self._cooling = Phase.THINK, True
            self._decide()
        elif self.phase is Phase.CLOSE:
            if token_id != self.plan.eos:
                self._answer_token()  # an engine that overrides the forced end
        elif self.phase is Phase.START:
            self._at_newline = token_id in self._newlines
            self._forced_at += token_id == self._forced[self._forced_at]
            self._continue_start()

    def end_now(self, reason: str) -> None:
        """Cut the thinking here, for a reason that lies outside: what is written at the maximum follows.

        Raises:
            ValueError: the response is not thinking.
        """
        if self.phase not in (Phase.THINK, Phase.WAIT):
            raise ValueError(f"the thinking cannot be ended in phase {self.phase.value!r}")
        self._cut(reason)

    def rewound(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> BudgetForcer:
        """The forcer as it was after `output_ids`, a prefix of what it has observed: the rest was thrown away."""
        forcer = BudgetForcer(self.plan, prompt_ids, room=self._room, stop_ids=self._stop_ids, seed=self._seed)
        swallowed = frozenset(self.swallowed)
        for position, token_id in enumerate(output_ids):
            forcer.observe(token_id, float(position in swallowed))
        return forcer

    def accounting(self) -> Accounting:
        """What was counted so far."""
        # A plan has waits or a schedule, not both.
        texts = self.plan.wait_texts if self.plan.schedule is None else (self.plan.schedule.wait,)
        return Accounting(
            thinking_tokens=self.thinking_tokens,
            answer_tokens=self.answer_tokens,
            waits=len(self.swallowed) + len(self.scheduled),
            end_forced=self.end_forced,
            answered=bool(self._answer_spans),
            answer_cut=self._answer.full or (self._out_of_room and not self._answer.ended),
            thinking_spans=tuple(self._thinking_spans),
            answer_spans=tuple(self._answer_spans),
            limit=self.limit,
            wait_spans=wait_spans(self.swallowed or self.scheduled, texts, self._position),
        )

    def _observe_thinking(self, token_id: int, share: float | None) -> None:
        action = self.action
        self._cooling = False
        if token_id in self._triggers:
            self._end_naturally(token_id)
            return
        if action is not None and action.wants_share:
            if action.move_to is None:
                if self._drawn(share, unknown=False):
                    self.swallowed.append(self._position - 1)
            elif token_id == action.move_to and self._drawn(share, unknown=True):
                self._forced = self.plan.wait_texts[len(self.swallowed) % len(self.plan.wait_texts)]
                self._forced_at, self._guessed = 1, share is None
                self.swallowed.append(self._position - 1)
                self._cooling = len(self._forced) == 1
                self.phase = Phase.THINK if self._cooling else Phase.WAIT
        self._think_token(token_id)
        self._decide()

    def _take_back(self, token_id: int, share: float | None) -> None:
        """A replay took the model's own first word for an inserted text's, but the text does not go on."""
        self.swallowed.pop()
        self.phase, self._guessed = Phase.THINK, False
        self._decide()
        # Without the inserted text in its way, a loop's cut may have come first.
        if self.phase is Phase.THINK:
            self._observe_thinking(token_id, share)
        else:
            self._observe_end(token_id, share)

    def _take_cut_back(self, token_id: int, share: float | None) -> None:
        """A replay, which had counted the model's own wait as an inserted one, took the line break of a wait that was
        inserted after it for the thinking's, and so for a cut. A loop's cut may go wrong likewise.
        """
        self.end_forced, self.phase = None, Phase.THINK
        self._go_on()
        self._observe_thinking(token_id, share)

    def _think_token(self, token_id: int) -> None:
        self.thinking_tokens += 1
        self._thinking_spans[-1] = self._thinking_spans[-1][0], self._position
        self._at_newline = token_id in self._newlines
        if self._bans is not None:
            self._bans.observe(token_id)
        if self._loop is not None:
            self._loop.observe(token_id)
        if self._schedule is not None:
            self._schedule.observe(token_id)

    def _continue_start(self) -> None:
        if self._forced_at == len(self._forced):
            self._begin_thinking()
        else:
            self.phase, self.action = Phase.START, self._force(self._forced[self._forced_at])

    def _begin_thinking(self) -> None:
        # A further block thinks one token at least, or blocks of none would never use up the budget.
        self.phase, self._cooling = Phase.THINK, bool(self._thinking_spans)
        self._thinking_spans.append((self._position, self._position))
        if self._bans is not None:
            self._bans.clear()
        if self._schedule is not None:
            self._schedule.clear()
        self._decide()

    def _decide(self) -> None:
        """Set the action for the next thinking token."""
        plan, count = self.plan, self.thinking_tokens
        room = None if self.limit is None else self.limit - count
        if room is not None and room <= 0:
            self._cut(self._limited_by)
        elif self.phase is Phase.WAIT:
            self.action = self._force(self._forced[self._forced_at])
        elif self._loop is not None and self._loop.found:
            self._cut("loop", unsure=self._from_ids)
        elif room is not None and room <= plan.grace and self._at_newline and count >= max(1, plan.min_tokens):
            self._cut(self._limited_by, unsure=self._from_ids)
        elif self._schedule is not None and self._is_wait_due(self._schedule, room):
            self.scheduled.append(self._position)
            self.phase, self._forced, self._forced_at, self._guessed = Phase.WAIT, self._schedule.plan.wait, 0, False
            self.action = self._force(self._forced[0])
        else:
            self._go_on()

    def _is_wait_due(self, schedule: ScheduleFollower, room: int | None) -> bool:
        """Whether the schedule writes a wait now. As for a swallowed stop, a token has to be left to think after it;
        and the model has to say something between two waits, also where the text itself ends in a break.
        """
        fits = room is None or room > len(schedule.plan.wait)
        return fits and not self._cooling and schedule.waits(self.thinking_tokens)

    def _go_on(self) -> None:
        """The next token is the model's own."""
        room = None if self.limit is None else self.limit - self.thinking_tokens
        count = self.thinking_tokens
        self.action = self._ban if self._cooling else self._on_stop(count < self.plan.min_tokens, room)
        if self._schedule is not None:
            self.action = self._schedule.added_to(self.action, count, may_end=not self._cooling)
        if self._bans is not None:
            self.action = self._bans.added_to(self.action)

    def _on_stop(self, too_short: bool, room: int | None) -> RowAction | None:
        """What becomes of an attempt to stop at the next token."""
        waits_left = len(self.swallowed) < self.plan.waits
        if self._to_wait and (waits_left or too_short):
            number = len(self.swallowed) % len(self._to_wait)
            # A wait with no token left to think after it would buy nothing.
            if room is None or room > len(self.plan.wait_texts[number]):
                return self._to_wait[number]
        elif waits_left:
            return self._suppress
        return self._ban if too_short else self._to_end

    def _cut(self, reason: str, *, unsure: bool = False) -> None:
        self.end_forced, self._unsure = reason, unsure
        newline = () if self._at_newline else self._newline
        ids, most = newline + self._cut_ids, self.plan.answer_max_tokens
        answer_at = len(newline) + self._answer_at
        if most is not None and self.answer_tokens + len(ids) - answer_at >= most:
            ids = ids[:answer_at]  # earlier parts of the answer have left no room for its forced beginning
        self._begin_end(ids, answer_at, 0)

    def _end_naturally(self, token_id: int) -> None:
        if not self.plan.wait_texts and len(self.swallowed) < self.plan.waits:
            # Only a replay gets here: the end was open, so all suppressions lie behind, at positions unknown to it.
            self.swallowed.extend([self._position - 1] * (self.plan.waits - len(self.swallowed)))
        end = self.plan.end
        begun = int(token_id == end[0])
        self._begin_end(end, len(end), begun)

    def _begin_end(self, ids: tuple[int, ...], answer_from: int, begun: int) -> None:
        self.phase, self._forced, self._forced_at, self._answer_from = Phase.END, ids, begun, answer_from
        self._answer_open = False
        self._continue_end()

    def _observe_end(self, token_id: int, share: float | None = None) -> None:
        unsure, self._unsure = self._unsure, False
        if unsure and token_id != self._forced[0]:
            self._take_cut_back(token_id, share)
            return
        if self._answer_open:
            self._answer_token()
        self._forced_at += token_id == self._forced[self._forced_at]
        self._continue_end()

    def _continue_end(self) -> None:
        if self._forced_at == self._answer_from and not self._answer_open:
            self._open_answer()
        if self._forced_at == len(self._forced):
            self._begin_answer()
        else:
            self.action = self._force(self._forced[self._forced_at])

    def _answer_token(self) -> None:
        """Count a token of the answer that the model has not chosen."""
        self._answer.tokens += 1
        self._answer_spans[-1] = self._answer_spans[-1][0], self._position

    def _open_answer(self) -> None:
        self._answer_open = True
        self._answer_spans.append((self._position, self._position))

    def _begin_answer(self) -> None:
        """From here on the answer is the model's own."""
        self.phase = Phase.ANSWER
        self._answer.begin(self._position, self._reopen_until())
        self.action = self._answer.action

    def _observe_answer(self, token_id: int) -> None:
        begin, plan = self._answer_spans[-1][0], self.plan
        if self._answer.observe(token_id, self._position):
            self._answer_spans[-1] = begin, max(begin, self._position - len(plan.reopen))
            self._set_limit(self._position + len(plan.start) - len(plan.reopen))
            self._forced, self._forced_at = plan.start, len(plan.reopen)
            self._continue_start()
            return
        self._answer_spans[-1] = begin, self._position
        self.action = self._answer.action
        if self._answer.full and plan.eos is not None:
            self.phase, self.action = Phase.CLOSE, self._force(plan.eos)

    def _set_limit(self, begin: int) -> None:
        """Thinking tokens at most where a block of thinking begins at this position of the output."""
        self.limit, self._limited_by = self.plan.max_tokens, "budget"
        if self._room is not None:
            left = self._room - begin - len(self._newline) - len(self._cut_ids) - self._reserve
            most = self.thinking_tokens + max(0, left)
            if self.limit is None or most < self.limit:
                self.limit, self._limited_by = most, "context"

    def _reopen_until(self) -> int:
        """Last position at which thinking may be opened again: one token of it, its end and the answer follow."""
        plan = self.plan
        spent = plan.max_tokens is not None and self.thinking_tokens >= plan.max_tokens
        if not plan.reopen or spent or self.end_forced is not None:
            return -1
        if self._room is None:
            return _MASK
        rest = len(plan.start) - len(plan.reopen)
        return self._room - 2 - rest - len(self._newline) - len(self._cut_ids) - self._reserve

    def _force(self, token_id: int) -> RowAction:
        action = self._forces.get(token_id)
        if action is None:
            action = self._forces[token_id] = RowAction(force=token_id)
        return action

    def _drawn(self, share: float | None, *, unknown: bool) -> bool:
        if share is None:
            return unknown
        mixed = self._hash ^ (self._hash >> 33)
        mixed = (mixed * 0xFF51AFD7ED558CCD) & _MASK
        return ((mixed ^ (mixed >> 33)) >> 11) / (1 << 53) < share
