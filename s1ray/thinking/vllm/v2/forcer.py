"""`BudgetForcer` for a whole batch at once, on the device: the same machine, token for token, in tensors.

An engine that never brings sampled ids to the host before the next forward pass cannot ask a Python object what to do
next. Here each *slot* of the engine's persistent batch has a row of integers (`SlotState`), and one step is a fixed
sequence of small tensor operations for all rows: observe the id that was fed to the model (it is the one sampled last),
decide, edit the logits, and remember the share that the next observation needs. Nothing waits for the device: no value
is read back, no shape depends on one, and no loop runs over rows.

A step, for a row whose prompt is computed to the end (other rows are left alone, and so are their slots):

    observe   if the fed token is one that the state has not seen: the transition of `BudgetForcer.observe`
    decide    a cut, what becomes of an attempt to stop, what an answer may begin with: `BudgetForcer._decide` and
              `AnswerRules._decide`. It depends on the state alone and may be repeated, so a row that is computed twice
              (its sample was thrown away) gets the same logits twice
    edit      as in `logit_edits.py`: exclude, pool, ban, then one id moved to or forced

Coming and going. Slots are recycled without notice, and a preempted request comes back in another one, its output now
part of what is to be prefilled. Its ids alone do not tell an inserted "Wait" from the model's own, so its state must be
found again. It is found by what it is the state of: prompt, plan and every output id, all in two 64-bit numbers that
the state carries anyway (the number that shares are drawn with is a hash of the output). No request id is needed, which
children of one request (n > 1) would share; two requests with equal histories may take each other's state, as it is
the same. What a recycled slot held is parked in a ring first. If a state is gone all the same (more requests than the
ring has places came and went meanwhile), the host replays the ids, and every wait that may be an inserted one counts as
such; that, and asking whether a state was found, waits for the device, once for each request that resumes.
"""

from __future__ import annotations

import numpy as np
import torch

from s1ray.thinking.answer import MAX_BLANKS
from s1ray.thinking.logit_edits import FORCED, pooled, share_of
from s1ray.thinking.repetition import MAX_PASSAGE, MIN_LOOP, NGRAM
from s1ray.thinking.replaying import replay
from s1ray.thinking.vllm.v2.bans import exclude, make_impossible
from s1ray.thinking.vllm.v2.state import (
    ANSWER,
    BAN,
    BEGIN_ANSWER,
    CLOSE,
    END,
    FIRST_WORD,
    FORCE,
    FREE,
    GO_ON,
    INCREMENT,
    MULTIPLIER,
    START,
    SUPPRESS,
    THINK,
    TO_END,
    TO_WAIT,
    WAIT,
    Arrivals,
    DeviceRequest,
    SlotState,
    as_state,
    powers_of_multiplier,
)
from s1ray.thinking.vllm.v2.tables import (
    BLANK_FLAG,
    END_FLAG,
    NEWLINE_FLAG,
    TRIGGER_FLAG,
    UNLIMITED,
    PlanTables,
    Rows,
    SlotConfig,
    ToDevice,
)

_MIX = 0xFF51AFD7ED558CCD - (1 << 64)


class DeviceForcer:
    """Follows the requests of all slots.

    Args:
        slots: number of slots.
        vocab_size: of the model; columns of the logits.
        history: [slots, longest sequence] on the device: prompt and output ids of every slot, kept by the engine and
            current up to the token that a step feeds.
        to_device: copies an array to where `history` is without waiting for the device.
    """

    def __init__(self, slots: int, vocab_size: int, history: torch.Tensor, to_device: ToDevice) -> None:
        device = history.device
        self._slots, self._vocab_size, self._history, self._to_device = slots, vocab_size, history, to_device
        self._tables = PlanTables(slots, vocab_size, device, to_device)
        # Behind the slots' own states lies the ring of parked ones.
        self._state = torch.zeros((2 * slots, len(SlotState._fields)), dtype=torch.int64, device=device)
        self._share = torch.zeros(2 * slots, dtype=torch.float32, device=device)
        self._temperature = torch.zeros(slots, dtype=torch.float32, device=device)
        self._parked = 0
        self._staged: dict[int, DeviceRequest | None] = {}
        self._active = np.zeros(slots, dtype=bool)
        self._powers = to_device(powers_of_multiplier(history.shape[1] + 1))

    def stage(self, slot: int, request: DeviceRequest | None) -> None:
        """A request enters the slot; None: one that is not forced. Takes effect with `flush`."""
        self._staged[slot] = request

    def flush(self) -> int:
        """Bring staged requests to the device, after the engine has written their ids to `history`.

        Returns:
            How many of them resumed and had to be replayed without knowing which waits were inserted.
        """
        staged, self._staged = self._staged, {}
        if not staged:
            return 0
        self._park([slot for slot in staged if self._active[slot]])
        for slot, request in staged.items():
            self._tables.clear(slot)
            self._active[slot] = request is not None
            if request is not None:
                length = request.prompt_len + request.room
                self._tables.assign(slot, request.plan, request.triggers, request.prefill_len, length)
        self._tables.flush()
        entering = {slot: request for slot, request in staged.items() if request is not None}
        return self._enter(entering) if entering else 0

    def edit(
        self,
        logits: torch.Tensor,
        slots: torch.Tensor,
        slots_on_host: np.ndarray,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
    ) -> None:
        """One step: follow the token that each row feeds to the model, and edit its logits in place.

        Args:
            logits: [rows, vocabulary], float32.
            slots: [rows] slot of each row; no slot twice.
            slots_on_host: the same ids, in any order.
            input_ids: [rows] the token fed.
            positions: [rows] its position in the sequence.
        """
        here = slots_on_host[self._active[slots_on_host]]
        if not here.size:
            return
        slots, token, position = slots.long(), input_ids.long(), positions.long()
        config = SlotConfig(*self._tables.config[slots].unbind(1))
        rows, column = Rows(here, config, slots, token, position), self._tables.column
        before = self._state[slots]
        share = self._share[slots]
        live = (config.active > 0) & (position + 1 >= config.prefill_len)

        state = SlotState(*before.unbind(1))
        flags = self._tables.flags[config.flags, token.clamp(0, self._vocab_size)]
        observed = self._observe(state, config, token, flags, share)
        if column("copies")[here].any():
            observed = self._repetitions(observed, state, rows)
        if (column("answer_max")[here] < UNLIMITED).any():
            observed = _count_answer(observed, state, config, flags)
        advance = live & (position >= state.seen)
        observed = observed._replace(seen=position + 1)
        state = SlotState(*torch.where(advance.unsqueeze(1), torch.stack(observed, 1), before).unbind(1))
        state = self._decide(state, config)
        self._state[slots] = torch.where(live.unsqueeze(1), torch.stack(state, 1), before)

        mode = torch.where(live, state.mode, FREE)
        target = torch.where(live, state.target, 0)
        for size in np.unique(column("vocab_size")[here]).tolist():
            if size < logits.shape[1]:
                logits[:, size:].masked_fill_((live & (config.vocab_size == size)).unsqueeze(1), -torch.inf)
        exclude(logits, self._tables, self._history, rows, state, mode)
        new_share = self._apply(logits, rows, mode, target, self._temperature[slots])
        self._share[slots] = torch.where(live, new_share, share)

    def _observe(
        self, state: SlotState, config: SlotConfig, token: torch.Tensor, flags: torch.Tensor, share: torch.Tensor
    ) -> SlotState:
        """The states after their tokens; loops and the answer's maximum aside."""
        pool = self._tables.pool
        newline, trigger = (flags & NEWLINE_FLAG).long(), (flags & TRIGGER_FLAG) > 0
        thinking, waiting, answering = state.phase == THINK, state.phase == WAIT, state.phase == ANSWER
        mixed_in = state.hash * MULTIPLIER + (token + INCREMENT)

        natural, goes_on = thinking & trigger, thinking & ~trigger
        offered = (state.mode == SUPPRESS) | ((state.mode == TO_WAIT) & (token == state.target))
        swallowed = goes_on & offered & (_drawn(mixed_in) < share)
        inserted = swallowed & (state.mode == TO_WAIT)
        text_at, text_len, _ = self._wait_text(config, state.swallowed)

        hit = (token == pool[config.base + state.forced_at]) & (waiting | (state.phase == START) | (state.phase == END))
        began_end = (token == pool[config.base + config.end]).long()
        forced_at = torch.where(inserted, text_at + 1, state.forced_at + hit)
        forced_at = torch.where(natural, config.end + began_end, forced_at)
        forced_end = torch.where(inserted, text_at + text_len, state.forced_end)
        forced_end = torch.where(natural, config.end + config.end_len, forced_end)

        phase = torch.where(inserted, WAIT, torch.where(natural, END, state.phase))
        complete = (forced_at == forced_end) & (phase < ANSWER) & (phase != THINK)
        after = torch.where(phase == END, ANSWER, THINK)
        cooling = complete & (phase == WAIT)
        phase = torch.where(complete, after, phase)
        thought = goes_on | waiting
        return state._replace(
            hash=mixed_in,
            phase=phase,
            count=state.count + thought,
            swallowed=state.swallowed + swallowed,
            at_newline=torch.where(thought | (state.phase == START), newline, state.at_newline),
            cooling=cooling.long(),
            forced_at=forced_at,
            forced_end=forced_end,
            own=state.own + answering,
            worded=state.worded | (answering & ((flags & BLANK_FLAG) == 0)),
        )

    def _repetitions(self, observed: SlotState, before: SlotState, rows: Rows) -> SlotState:
        """What `LoopDetector` does with a thinking token. `observed` is the state after it."""
        config, slots, token, position = rows.config, rows.slots, rows.token, rows.position
        back = torch.arange(MAX_PASSAGE + NGRAM - 1, -1, -1, device=token.device)
        window = self._history[slots.unsqueeze(1), (position.unsqueeze(1) - back).clamp_(min=0)]
        grams = window.unfold(1, NGRAM, 1)
        lags = torch.arange(MAX_PASSAGE, 0, -1, device=token.device)
        again = (grams[:, :-1] == grams[:, -1:]).all(2) & (lags <= (observed.count - NGRAM).unsqueeze(1))
        nearest = torch.where(again, lags, MAX_PASSAGE + 1).amin(1)
        nearest = torch.where(nearest > MAX_PASSAGE, 0, nearest)

        seen = (observed.count > before.count) & (observed.count >= NGRAM)
        earlier = self._history[slots, (position - before.period).clamp_(min=0)]
        sticks = (before.period > 0) & (earlier == token)
        period = torch.where(sticks, before.period, nearest)
        matched = torch.where(sticks, before.matched + 1, NGRAM)
        seen &= config.copies > 0
        return observed._replace(
            period=torch.where(seen, period, before.period), matched=torch.where(seen, matched, before.matched)
        )

    def _decide(self, state: SlotState, config: SlotConfig) -> SlotState:
        """What has to happen to the next token; may cut the thinking."""
        pool = self._tables.pool
        thinking = state.phase == THINK
        room = state.limit - state.count
        stretch = state.matched + state.period
        copies = (config.copies * state.period).clamp(min=MIN_LOOP)
        loop = (config.copies > 0) & (state.period > 0) & (stretch >= copies)
        landed = (room <= config.grace) & (state.at_newline > 0) & (state.count >= config.min_tokens.clamp(min=1))
        cut = ((room <= 0) & (thinking | (state.phase == WAIT))) | (thinking & (loop | landed))
        phase = torch.where(cut, END, state.phase)
        newline = torch.where(state.at_newline > 0, 0, state.newline_len)
        forced_at = torch.where(cut, state.cut - newline, state.forced_at)
        forced_end = torch.where(cut, state.cut_end, state.forced_end)

        text_at, text_len, has_texts = self._wait_text(config, state.swallowed)
        waits_left, too_short = state.swallowed < config.waits, state.count < config.min_tokens
        # A wait with no token left to think after it would buy nothing.
        to_wait = has_texts & (waits_left | too_short) & (room > text_len)
        on_stop = torch.where(too_short, BAN, TO_END)
        on_stop = torch.where(waits_left & ~has_texts, SUPPRESS, on_stop)
        on_stop = torch.where(to_wait, TO_WAIT, on_stop)
        on_stop = torch.where(state.cooling > 0, BAN, on_stop)
        last = (state.seen >= config.length - 1) | (state.answer_tokens >= config.answer_max - 1)
        answer = torch.where(last | (state.own >= MAX_BLANKS), FIRST_WORD, BEGIN_ANSWER)
        answer = torch.where(state.worded > 0, GO_ON, answer)
        mode = torch.where(phase == THINK, on_stop, torch.where(phase == ANSWER, answer, FORCE))
        place = torch.where(mode == FORCE, forced_at, torch.where(mode == TO_WAIT, text_at, config.end))
        return state._replace(
            phase=phase, forced_at=forced_at, forced_end=forced_end, mode=mode, target=pool[config.base + place]
        )

    def _wait_text(self, config: SlotConfig, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Offset and length of the wait text with this number, and whether there are any."""
        entry = config.base + config.texts + 2 * (number % config.n_texts.clamp(min=1))
        has_texts = config.n_texts > 0
        entry = torch.where(has_texts, entry, 0)
        return self._tables.pool[entry], self._tables.pool[entry + 1], has_texts

    def _apply(
        self,
        logits: torch.Tensor,
        rows: Rows,
        mode: torch.Tensor,
        target: torch.Tensor,
        temperature: torch.Tensor,
    ) -> torch.Tensor:
        """Move, ban and force; give the share of every row ([rows], meaningless where none is wanted)."""
        column, here, config = self._tables.column, rows.here, rows.config
        to_end, wordless = mode == TO_END, (mode == BEGIN_ANSWER) | (mode == FIRST_WORD)
        stops = (mode == BAN) | (mode == TO_WAIT) | (mode == SUPPRESS)
        count = torch.where(stops, config.n_triggers, torch.where(to_end, config.n_triggers - 1, 0))
        count = torch.where(wordless, config.n_answer_ends, count)
        at = config.base + torch.where(wordless, config.answer_ends, config.triggers + to_end)
        ids, counts = self._tables.ids(at, count, int(column("n_triggers")[here].max()))

        target = target.unsqueeze(1)
        wanted, unwanted = logits.gather(1, target), logits.gather(1, ids).masked_fill_(~counts, -torch.inf)
        moved = pooled(torch.cat([wanted, unwanted], 1), temperature)
        triggers = pooled(unwanted, temperature)
        share = share_of(triggers, moved, wanted.squeeze(1), temperature)
        suppresses = (column("waits")[here] > 0) & (column("n_texts")[here] == 0)
        everything = pooled(logits, temperature) if suppresses.any() else None
        make_impossible(logits, ids, counts)
        if everything is not None:
            suppressed = share_of(triggers, everything, logits.amax(1), temperature)
            share = torch.where(mode == SUPPRESS, suppressed, share)
        moves = (mode == TO_WAIT) | (to_end & (count > 0))
        value = torch.where(moves, moved, logits.gather(1, target).squeeze(1))
        logits.scatter_(1, target, torch.where(mode == FORCE, FORCED, value).unsqueeze(1))
        return share

    def _park(self, slots: list[int]) -> None:
        """Keep the states of slots that are about to be overwritten."""
        if not slots:
            return
        ring = [self._slots + (self._parked + i) % self._slots for i in range(len(slots))]
        self._parked += len(slots)
        source, target = self._to_device(np.array([slots, ring])).unbind(0)
        self._state[target] = self._state[source]
        self._share[target] = self._share[source]
        self._state[source] = 0

    def _enter(self, entering: dict[int, DeviceRequest]) -> int:
        """Give each slot its request's first state, or the one that it left with."""
        slots, requests = list(entering), list(entering.values())
        rows = Arrivals.of(slots, requests, self._tables, self._history, self._to_device)
        longest_delimiter = max(max(len(r.plan.start), len(r.plan.end)) for r in requests)
        first = rows.first_states(self._tables, self._powers, longest_delimiter)
        states = torch.stack(first, 1)
        self._temperature[rows.slots] = rows.temperature
        resumed = [r for r, request in enumerate(requests) if request.prefill_len > request.prompt_len]
        if not resumed:
            self._state[rows.slots] = states
            return 0

        found, left_as = rows.look_up(first, self._state, self._powers)
        share = torch.where(found, self._share[left_as], 0.0)
        self._state[rows.slots] = torch.where(found.unsqueeze(1), self._state[left_as], states)
        self._share[rows.slots] = share
        known = found.tolist()
        lost = [r for r in resumed if not known[r]]
        for r in lost:
            self._replay(slots[r], requests[r])
        return len(lost)

    def _replay(self, slot: int, request: DeviceRequest) -> None:
        """Bring a slot's first state to the end of the output, from the ids alone."""
        ids = self._history[slot, : request.prefill_len].tolist()
        state = SlotState(*self._state[slot].tolist())
        prompt, output = ids[: request.prompt_len], ids[request.prompt_len :]
        seed = (state.hash & ((1 << 64) - 1)) >> 1
        forcer = replay(request.plan, prompt, output, room=request.room, stop_ids=request.stop_ids, seed=seed)
        row = as_state(forcer, state, self._tables, slot)
        self._state[slot] = self._to_device(np.array(row, dtype=np.int64))
        self._share[slot] = 0.0

    def state_of(self, slot: int) -> dict[str, int]:
        """A slot's state by name, for tests and debugging. Waits for the device."""
        return dict(zip(SlotState._fields, self._state[slot].tolist(), strict=True))


def _count_answer(observed: SlotState, before: SlotState, config: SlotConfig, flags: torch.Tensor) -> SlotState:
    """Count answer tokens, the forced beginning's too, and close the answer at its maximum."""
    answering = before.phase == ANSWER
    begins = (before.phase == END) & (before.forced_at >= config.answer)
    count = before.answer_tokens + (answering | begins)
    full = answering & (count >= config.answer_max) & ((flags & END_FLAG) == 0)
    return observed._replace(
        phase=torch.where(full, CLOSE, observed.phase),
        forced_at=torch.where(full, config.eos, observed.forced_at),
        answer_tokens=count,
    )


def _drawn(hashed: torch.Tensor) -> torch.Tensor:
    """The number in [0, 1) that a share is compared with, as `BudgetForcer` draws it."""
    mixed = (hashed ^ _shifted(hashed, 33)) * _MIX
    return _shifted(mixed ^ _shifted(mixed, 33), 11).double() * 2.0**-53


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Right shift of 64 bits without a sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
