"""Budget forcing from outside: the same forcer, driven call by call over an endpoint that takes and returns token ids.

For servers that no logits processor can be loaded into, and as the reference that the engine's own forcing is held
against. A call asks for a *segment*: as many tokens as may come before the forcer has to act. Its ids are observed one
by one, each as the model's own choice ("sample"); what the forcer does not want is replaced ("then replace"), and what
the endpoint wrote behind it is thrown away. Forced ids are appended without a call; the next one has them in its
prompt.

    complete: CompleteIds = ...
    response = await force_in_segments(complete, plan, prompt_ids, room=2048, eos_ids=[151645])

What is exact. At temperature 0 the ids are those of the processor in the engine. Above it they have the same
distribution: a sampled id that must not be is drawn again, alone, under its ban, which gives what renormalising would.
With top-k, top-p or min-p the replacement happens after the truncation, as in s1, while the processor in the engine
replaces before it; penalties do not see earlier segments as output.

Where it costs nothing to know in advance, ids are banned for a whole segment or end it, so that little is thrown away:
attempts to stop end a segment, and so do the last ids of banned texts and, within the grace window, line breaks.
Delimiters that are written as ordinary text are rare, and seen only behind them. So is a loop; segments are short where
loops are looked for.

Compared with the loop of s1's harness (two-phase generation in its `vllm_causallms.py`): a call asks for what is left
of the budget, not for all of it again; what is counted is what is returned; a maximum that cuts is told from a stop,
also after waits; room for the end and the answer is kept from the start, by the response's own limit and not by the
longest prompt of a batch; and no response waits for another.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from s1ray.errors import InputError, S1rayError
from s1ray.thinking.actions import RowAction
from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.plan import ForcingPlan

LOOP_SEGMENT = 512
"""Most tokens of a thinking segment where loops are looked for: this many may be thrown away behind a loop."""

_FREE = RowAction()


class SegmentError(S1rayError):
    """The endpoint did not do what it was asked to; the message says what it did."""


@dataclass(frozen=True)
class Segment:
    """What one call gave."""

    token_ids: list[int]
    """The generated ids, a stop id that ended them included."""
    finish_reason: str
    """Why it ended: "stop" or "length"."""


class CompleteIds(Protocol):
    """A completions endpoint that takes and returns token ids. Temperature, top-p, ... are bound inside."""

    async def __call__(
        self, prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        """Generate up to `max_tokens` ids after a prompt.

        Args:
            prompt_ids: the prompt.
            max_tokens: ids at most.
            stop_ids: sampled, they end the segment and are its last id.
            ban: ids that must not come (over HTTP: a logit bias of -100).
            seed: of this call's sampling.
        """


@dataclass(frozen=True)
class SegmentedResponse:
    """A response, and the work it was for the endpoint."""

    output_ids: list[int]
    finish_reason: str
    """Why it ended: "stop" (EOS or a stop id) or "length" (`room`)."""
    swallowed: list[int]
    """Positions in the output at which a stop was swallowed; what `account` takes."""
    requests: int
    """Calls made."""
    prompt_tokens_sent: int
    """Prompt ids of all calls together, cached by the endpoint or not."""
    generated_tokens: int
    """Ids that the endpoint generated, those included that were replaced or stood behind a replaced one."""


async def force_in_segments(
    complete: CompleteIds,
    plan: ForcingPlan,
    prompt_ids: Sequence[int],
    *,
    room: int,
    eos_ids: Collection[int],
    stop_ids: Collection[int] = (),
    seed: int | None = None,
    segment_tokens: int | None = None,
) -> SegmentedResponse:
    """Generate one response under a plan.

    Args:
        complete: the endpoint.
        plan: format and budget.
        prompt_ids: the prompt.
        room: tokens that the response may have: the request's own limit and what the context leaves.
        eos_ids: all ids at which the endpoint ends a response by itself (tokenizer and `generation_config.json`).
        stop_ids: the request's further stop ids.
        seed: makes the response repeatable where the endpoint's sampling is; every call gets another one made from it.
        segment_tokens: tokens of one call at most. None: as many as fit, thinking under loop detection excepted.

    Raises:
        ValueError: `room` or `segment_tokens` is below 1.
        InputError: a stop id is part of what the plan writes.
        SegmentError: the endpoint ignores a ban or a limit, or ends at an id that it should not end at.
    """
    if room < 1:
        raise ValueError(f"room: must be at least 1 token, got {room}")
    if segment_tokens is not None and segment_tokens < 1:
        raise ValueError(f"segment_tokens: must be at least 1, got {segment_tokens}")
    if clash := sorted(plan.written.intersection(stop_ids)):
        raise InputError(f"stop_ids: {clash} are part of the text that budget forcing writes; leave them out")
    final = frozenset([*eos_ids, *stop_ids, *([] if plan.eos is None else [plan.eos])])
    driver = _Driver(complete, plan, list(prompt_ids), room, final, seed)
    return await driver.run(segment_tokens)


class _Driver:
    """Generates one response."""

    def __init__(
        self,
        complete: CompleteIds,
        plan: ForcingPlan,
        prompt_ids: list[int],
        room: int,
        final_ids: frozenset[int],
        seed: int | None,
    ) -> None:
        self._complete, self._plan, self._room, self._final, self._seed = complete, plan, room, final_ids, seed
        # What the forcer draws a number for is certain here, so it needs no seed.
        self._forcer = BudgetForcer(plan, prompt_ids, room=room, stop_ids=final_ids)
        self._ids = prompt_ids
        self._prompt_tokens = len(prompt_ids)
        self._beyond: set[int] = set()
        """Ids beyond the vocabulary that the endpoint has sampled. The others need no ban."""
        self._requests = self._sent = self._generated = 0

    async def run(self, segment_tokens: int | None) -> SegmentedResponse:
        finished = False
        while not finished:
            action = self._forcer.action
            if action is not None and action.force is not None:
                finished = self._take(action.force, 0.0)
            else:
                finished = await self._segment(segment_tokens)
        output = self._ids[self._prompt_tokens :]
        return SegmentedResponse(
            output_ids=output,
            finish_reason="length" if self._forcer.accounting().answer_cut else "stop",
            swallowed=self._forcer.swallowed,
            requests=self._requests,
            prompt_tokens_sent=self._sent,
            generated_tokens=self._generated,
        )

    def _take(self, token_id: int, share: float) -> bool:
        """Append the next id; say whether it was the last."""
        self._forcer.observe(token_id, share)
        self._ids.append(token_id)
        return token_id in self._final or len(self._ids) - self._prompt_tokens == self._room

    async def _segment(self, most: int | None) -> bool:
        """Ask for a segment and take what the forcer lets through; say whether the response is finished."""
        left = self._room - (len(self._ids) - self._prompt_tokens)
        for sampled in await self._ask(min(left, most or left), *self._foreseen()):
            token_id, share = await self._replaced(sampled)
            if self._take(token_id, share):
                return True
            action = self._forcer.action
            if token_id != sampled or (action is not None and action.force is not None):
                break
        return False

    def _foreseen(self) -> tuple[int | None, set[int], set[int]]:
        """Of the next segment: tokens until the forcer acts by count, ids that it acts on, and ids banned all along."""
        plan, forcer, action = self._plan, self._forcer, self._forcer.action or _FREE
        if forcer.phase is not Phase.THINK:
            # The answer's first word has bans of its own. Ending at them later costs a call, and nothing else.
            most = None if plan.answer_max_tokens is None else plan.answer_max_tokens - forcer.answer_tokens
            bans = {text[0] for text in plan.answer_ban if len(text) == 1}
            return most, {*action.ban, *plan.reopen[-1:]} - bans, bans
        count = forcer.thinking_tokens
        stops = {*plan.end_triggers, *(text[-1] for text in plan.ban if len(text) > 1)}
        bans = {text[0] for text in plan.ban if len(text) == 1}
        limits = [LOOP_SEGMENT] if plan.loops else []
        if (schedule := plan.schedule) is not None:
            # Before the alpha moment a break may be followed by a wait, behind it slow-thinking words end the thinking.
            slow = {word[-1] for word in schedule.slow_words}
            stops |= {schedule.after[-1], *schedule.after_ids} if count < schedule.moment else slow
            limits += [schedule.moment - count] if count < schedule.moment else []
        if count < plan.min_tokens and not plan.wait_texts and len(forcer.swallowed) >= plan.waits:
            # Nothing but the minimum suppresses these stops, and nobody counts them.
            bans.update(action.ban)
            limits.append(plan.min_tokens - count)
        if forcer.limit is not None:
            limits.append(forcer.limit - count)
            window = max(forcer.limit - plan.grace, plan.min_tokens, 1)
            if plan.grace and count + 1 < window:
                limits.append(window - 1 - count)
            elif plan.grace:
                stops.update(plan.newline_ids)
        return min(limits, default=None), stops, bans

    async def _replaced(self, sampled: int) -> tuple[int, float]:
        """What comes in a sampled id's place (mostly itself), and the share that the forcer wants to know."""
        action = self._forcer.action or _FREE
        token_id = sampled
        if token_id in action.exclude or token_id >= self._plan.vocab_size:
            token_id = await self._one(token_id, set(action.exclude))
        if token_id not in action.ban:
            return token_id, 0.0
        if action.move_to is not None:
            return action.move_to, 1.0
        return await self._one(token_id, {*action.exclude, *action.ban}), 1.0

    async def _one(self, unwanted: int, ban: set[int]) -> int:
        """Draw one id again, under a ban."""
        while True:
            if unwanted >= self._plan.vocab_size:
                self._beyond.add(unwanted)
            (unwanted,) = await self._ask(1, 1, set(), ban)
            if unwanted < self._plan.vocab_size:
                return unwanted

    async def _ask(self, left: int, foreseen: int | None, stops: set[int], ban: set[int]) -> list[int]:
        """One call; its ids, of which none is banned."""
        most = left if foreseen is None else min(left, foreseen)
        stop_ids = sorted(stops | self._final)
        bans = sorted(ban | self._beyond)
        # A seed of its own: the same one would repeat the same luck in every call.
        seed = None if self._seed is None else zlib.crc32(f"{self._seed} {self._requests}".encode()) >> 1
        self._requests += 1
        self._sent += len(self._ids)
        segment = await self._complete(list(self._ids), max_tokens=most, stop_ids=stop_ids, ban=bans, seed=seed)
        ids = segment.token_ids
        self._generated += len(ids)
        if not 1 <= len(ids) <= most:
            raise SegmentError(f"the endpoint gave {len(ids)} token ids where 1 to {most} were asked for")
        if ignored := sorted(set(bans).intersection(ids)):
            raise SegmentError(
                f"the endpoint gave token {ignored[0]} in spite of a ban; it has to honour logit_bias, or budgets "
                "cannot be forced from outside"
            )
        if segment.finish_reason not in ("stop", "length"):
            raise SegmentError(f"the endpoint ended a segment for the reason {segment.finish_reason!r}")
        if segment.finish_reason == "stop" and ids[-1] not in stop_ids:
            raise SegmentError(
                f"the endpoint stopped at token {ids[-1]}, which is no stop id; if it ends the model's responses, "
                "eos_ids has to have it"
            )
        return ids
