"""What the device forcer knows of a slot's request, and how a request gets its first state.

A request that enters for the first time is read off its prompt (is thinking open? does a line end there?). One that
resumes after a preemption is looked up among the states that were kept, by what they are states of: see
`v2/forcer.py`. Both for several slots at once, on the device, once for each request and not in each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.room import fitting_end, reserve_of
from s1ray.thinking.vllm.v2.tables import NEWLINE_FLAG, TRIGGER_FLAG, UNLIMITED, PlanTables, SlotConfig, ToDevice

START, THINK, WAIT, END, ANSWER, CLOSE = range(len(Phase))
"""Phases, in `Phase`'s order."""

FREE, FORCE, BAN, TO_END, TO_WAIT, SUPPRESS, BEGIN_ANSWER, FIRST_WORD, GO_ON = range(9)
"""Modes: what happens to the next token. Of the thinking those from BAN on, of the answer those from BEGIN_ANSWER on:
it has no word yet, it must have one now, it has one."""

MULTIPLIER = 6364136223846793005
INCREMENT = 1442695040888963407
"""Of the hash that `BudgetForcer` draws shares with."""


class SlotState(NamedTuple):
    """Where one slot's response is: ints on the host, one [rows] int64 tensor each on the device."""

    ident: Any
    """Says which request it is: prompt, plan and room, hashed."""
    seen: Any
    """Tokens observed, the prompt's included."""
    hash: Any
    """Of the output ids, as in `BudgetForcer`."""
    phase: Any
    limit: Any
    newline_len: Any
    """Where the thinking is cut: the line break before the forced text, where one is due;"""
    cut: Any
    """the forced text in the plan's block: a part of its cut, or the bare end;"""
    cut_end: Any
    """and what lies behind it."""
    count: Any
    """Thinking tokens."""
    swallowed: Any
    at_newline: Any
    cooling: Any
    forced_at: Any
    """In the plan's block: the id of a forced text that comes next, and behind its last one."""
    forced_end: Any
    mode: Any
    target: Any
    """The id that is forced, or that probability moves to."""
    period: Any
    """Of a repetition, and how long it has gone on; see `LoopDetector`."""
    matched: Any
    own: Any
    """Answer tokens behind its forced beginning."""
    worded: Any
    """1: one of them is a word, and no white space."""
    answer_tokens: Any
    """All answer tokens; not counted where the answer has no maximum."""


class Allowance(NamedTuple):
    """The fields of a first state that depend on whether the prompt has opened the thinking."""

    limit: int
    newline_len: int
    cut: int
    cut_end: int


@dataclass(frozen=True, eq=False)
class DeviceRequest:
    """A request as it enters a slot."""

    plan: ForcingPlan
    prompt_len: int
    prefill_len: int
    """More than `prompt_len`: it resumes, with `prefill_len - prompt_len` tokens of output."""
    room: int
    temperature: float
    stop_ids: Collection[int] = ()
    seed: int | None = None
    """None: drawn from the prompt."""

    @property
    def triggers(self) -> frozenset[int]:
        """End triggers and those stop ids that no forced text contains, as `BudgetForcer` has them."""
        return frozenset(self.plan.end_triggers).union(frozenset(self.stop_ids) - self.plan.written)

    @property
    def never_thinks(self) -> bool:
        """A prompt without a block of thinking begins the answer, or there is no room to think and to answer."""
        begun = len(self.plan.start)
        return self.plan.begun_answer or self.room <= begun + len(fitting_end(self.plan, begun, self.room)[1])

    def allowance(self, opened: bool, config: SlotConfig) -> Allowance:
        """How long the request may think, and what ends it. `opened`: the prompt has a block of thinking."""
        plan = self.plan
        begun = 0 if opened or plan.begun_answer else len(plan.start)
        newline, ids, _ = fitting_end(plan, begun, self.room)
        most = max(0, self.room - begun - len(newline) - len(ids) - reserve_of(plan, self.room))
        cut = config.cut if newline or ids != plan.end else config.end
        limit = min(most, UNLIMITED if plan.max_tokens is None else plan.max_tokens)
        return Allowance(limit, len(newline), cut, cut + len(ids))

    def digest(self) -> int:
        """Equal for equal requests, apart from their prompts."""
        text = f"{self.plan.to_json()} {self.room} {self.seed} {sorted(self.stop_ids)}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Requests on their way into slots, on the device: one row each."""

    slots: torch.Tensor
    prompt_len: torch.Tensor
    prefill_len: torch.Tensor
    digest: torch.Tensor
    never_thinks: torch.Tensor
    """Where the prompt has no block of thinking, none is written either."""
    opened: torch.Tensor
    """[rows, 4] what is allowed where the prompt has a block of thinking; see `Allowance`."""
    absent: torch.Tensor
    """Where it has none."""
    unseeded: torch.Tensor
    hash: torch.Tensor
    """Of no output, by the seed."""
    temperature: torch.Tensor
    ids: torch.Tensor
    """[rows, longest prefill]"""

    @classmethod
    def of(
        cls,
        slots: Sequence[int],
        requests: Sequence[DeviceRequest],
        tables: PlanTables,
        history: torch.Tensor,
        to_device: ToDevice,
    ) -> Arrivals:
        """Bring requests to the device. Their slots have their plans already."""
        configs = [SlotConfig(*tables.host[slot].tolist()) for slot in slots]
        rows = [
            [
                slot,
                request.prompt_len,
                request.prefill_len,
                request.digest(),
                request.seed is None,
                signed(2 * (request.seed or 0) + 1),
                request.never_thinks,
                *request.allowance(True, config),
                *request.allowance(False, config),
            ]
            for slot, request, config in zip(slots, requests, configs, strict=True)
        ]
        single, opened, absent = to_device(np.array(rows, dtype=np.int64)).split([7, 4, 4], 1)
        places, prompt_len, prefill_len, digest, unseeded, seeded, never_thinks = single.unbind(1)
        temperature = to_device(np.array([request.temperature for request in requests], dtype=np.float32))
        longest = max(request.prefill_len for request in requests)
        return cls(
            slots=places,
            prompt_len=prompt_len,
            prefill_len=prefill_len,
            digest=digest,
            never_thinks=never_thinks,
            opened=opened,
            absent=absent,
            unseeded=unseeded,
            hash=seeded,
            temperature=temperature,
            ids=history[places, :longest].long(),
        )

    def first_states(self, tables: PlanTables, powers: torch.Tensor, longest_delimiter: int) -> SlotState:
        """The states of requests that have no output yet, read off their prompts."""
        config = SlotConfig(*tables.config[self.slots].unbind(1))
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        in_prompt = place < self.prompt_len.unsqueeze(1)
        flags = tables.flags[config.flags.unsqueeze(1), self.ids.clamp(0, tables.flags.shape[1] - 1)]
        flags = flags.where(in_prompt, 0)
        most = min(longest_delimiter, self.ids.shape[1])
        start = _last(self.ids, in_prompt, tables.pool, config.base, config.end, most)
        end = _last(self.ids, in_prompt, tables.pool, config.base + config.end, config.end_len, most)
        trigger = torch.where((flags & TRIGGER_FLAG) > 0, place, -1).amax(1)
        closed = (end >= 0) & (end >= start) & (end >= trigger)
        opened = (start >= 0) & (start >= trigger) & ~closed
        absent = ~(opened | closed)
        allowed = Allowance(*torch.where(absent.unsqueeze(1), self.absent, self.opened).unbind(1))
        begun = torch.where(closed | (self.never_thinks > 0), ANSWER, START)
        last_flag = flags.gather(1, (self.prompt_len - 1).clamp(min=0).unsqueeze(1)).squeeze(1)

        terms = (self.ids + INCREMENT) * powers[: self.ids.shape[1]]
        prompt_hash = terms.where(in_prompt, 0).sum(1)
        zero = torch.zeros_like(self.prompt_len)
        return SlotState(
            ident=(prompt_hash * MULTIPLIER) ^ self.digest,
            seen=self.prompt_len,
            hash=torch.where(self.unseeded > 0, prompt_hash * 2 + 1, self.hash),
            phase=torch.where(opened, THINK, begun),
            **allowed._asdict(),
            count=zero,
            swallowed=zero,
            at_newline=(last_flag & NEWLINE_FLAG).long(),
            cooling=zero,
            forced_at=zero,
            forced_end=config.end,
            mode=zero,
            target=zero,
            period=zero,
            matched=zero,
            own=zero,
            worded=zero,
            answer_tokens=zero,
        )

    def look_up(self, first: SlotState, kept: torch.Tensor, powers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each row, whether `kept` ([states, fields]) has a state of its history, and which: one of all its ids, or
        of all but the last (which was sampled and never fed).
        """
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        before_last = self.prefill_len - 1
        output = (place >= self.prompt_len.unsqueeze(1)) & (place < before_last.unsqueeze(1))
        rest = (before_last.unsqueeze(1) - 1 - place).clamp_(min=0)
        begun = first.hash * powers[(before_last - self.prompt_len).clamp(min=0)]
        begun += ((self.ids + INCREMENT) * powers[rest]).where(output, 0).sum(1)
        last = self.ids.gather(1, before_last.unsqueeze(1)).squeeze(1)
        whole = begun * MULTIPLIER + (last + INCREMENT)

        states = SlotState(*kept.unsqueeze(0).unbind(2))
        fits = (states.seen == before_last.unsqueeze(1)) & (states.hash == begun.unsqueeze(1))
        fits |= (states.seen == self.prefill_len.unsqueeze(1)) & (states.hash == whole.unsqueeze(1))
        fits &= states.ident == first.ident.unsqueeze(1)
        found = fits.any(1) & (self.prefill_len > self.prompt_len)
        return found, fits.long().argmax(1)


def _last(
    ids: torch.Tensor, in_prompt: torch.Tensor, pool: torch.Tensor, at: torch.Tensor, length: torch.Tensor, most: int
) -> torch.Tensor:
    """[rows] where the delimiter at `at` of the pool ends for the last time; -1: it does not occur."""
    place = torch.arange(ids.shape[1], device=ids.device)
    match = in_prompt & (place >= (length - 1).unsqueeze(1))
    for back in range(most):
        counts = back < length
        expected = pool[torch.where(counts, at + length - 1 - back, 0)]
        same = (ids[:, : ids.shape[1] - back] == expected.unsqueeze(1)) | ~counts.unsqueeze(1)
        match[:, back:] &= same
    return torch.where(match, place, -1).amax(1)


def powers_of_multiplier(count: int) -> np.ndarray:
    """[count] int64, modulo 2^64: a hash over a sequence is a sum with them."""
    powers = np.full(count, MULTIPLIER, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers).view(np.int64)


def as_state(forcer: BudgetForcer, first: SlotState, tables: PlanTables, slot: int) -> SlotState:
    """A host forcer's state as a row."""
    plan, config = forcer.plan, SlotConfig(*tables.host[slot].tolist())
    begin, length = 0, len(plan.start)
    if forcer.phase is Phase.WAIT:
        table = config.base + config.texts + 2 * ((len(forcer.swallowed) - 1) % config.n_texts)
        begin, length = tables.pool[table : table + 2].tolist()
    elif forcer.phase is Phase.END:
        length = len(forcer._forced)
        begin = config.end if forcer.end_forced is None else first.cut_end - length
    elif forcer.phase is Phase.CLOSE:
        begin = config.eos - forcer._forced_at
    detector, rules = forcer._loop, forcer._answer
    return first._replace(
        seen=first.seen + forcer.position,
        hash=signed(forcer._hash),
        phase=list(Phase).index(forcer.phase),
        count=forcer.thinking_tokens,
        swallowed=len(forcer.swallowed),
        at_newline=int(forcer._at_newline),
        cooling=int(forcer._cooling),
        forced_at=begin + forcer._forced_at,
        forced_end=begin + length,
        period=detector._period if detector else 0,
        matched=detector._matched if detector else 0,
        # All white space while there is no word; later only what may begin a banned text matters.
        own=rules._blanks if rules._wordless else len(rules._bans._tail),
        worded=int(not rules._wordless),
        answer_tokens=forcer.answer_tokens,
    )


def signed(value: int) -> int:
    """The 64-bit integer with a value's lowest bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
