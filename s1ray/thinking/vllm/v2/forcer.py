"""`BudgetForcer` for a whole batch at once, on the device: the same machine, token for token, in tensors.

An engine that never brings sampled ids to the host before the next forward pass cannot ask a Python object what to do
next. Here each *slot* of the engine's persistent batch has a row of integers (`SlotState`), and one step is a fixed
sequence of small tensor operations for all rows: observe the id that was fed to the model (it is the one sampled last),
decide, edit the logits, and remember the share that the next observation needs. Nothing waits for the device: no value
is read back, no shape depends on one, and no loop runs over rows.

A step, for a row whose prompt is computed to the end (other rows are left alone, and so are their slots):

    observe   if the fed token is one that the state has not seen: the transition of `BudgetForcer.observe`
    decide    a cut, or what becomes of an attempt to stop: `BudgetForcer._decide`. It depends on the state alone and
              may be repeated, so a row that is computed twice (its sample was thrown away) gets the same logits twice
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

from s1ray.thinking.forcer import replay
from s1ray.thinking.logit_edits import FORCED, pooled, share_of
from s1ray.thinking.repetition import MAX_PASSAGE, MIN_LOOP, NGRAM
from s1ray.thinking.vllm.v2.state import (
    ANSWER,
    BAN,
    BEGIN_ANSWER,
    DONE,
    END,
    FORCE,
    FREE,
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
from s1ray.thinking.vllm.v2.tables import NEWLINE_FLAG, TRIGGER_FLAG, PlanTables, SlotConfig, ToDevice

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
                self._tables.assign(slot, request.plan, request.triggers, request.prefill_len)
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
        before = self._state[slots]
        share = self._share[slots]
        live = (config.active > 0) & (position + 1 >= config.prefill_len)

        state = SlotState(*before.unbind(1))
        observed = self._observe(state, config, token, share)
        if self._tables.column("copies")[here].any():
            observed = self._repetitions(observed, state, config, slots, token, position)
        advance = live & (position >= state.seen)
        observed = observed._replace(seen=position + 1)
        state = SlotState(*torch.where(advance.unsqueeze(1), torch.stack(observed, 1), before).unbind(1))
        state = self._decide(state, config)
        self._state[slots] = torch.where(live.unsqueeze(1), torch.stack(state, 1), before)

        mode = torch.where(live, state.mode, FREE)
        target = torch.where(live, state.target, 0)
        for size in np.unique(self._tables.column("vocab_size")[here]).tolist():
            if size < logits.shape[1]:
                logits[:, size:].masked_fill_((live & (config.vocab_size == size)).unsqueeze(1), -torch.inf)
        self._exclude(logits, here, config, state, mode, target, slots, position)
        new_share = self._apply(logits, here, config, mode, target, self._temperature[slots])
        self._share[slots] = torch.where(live, new_share, share)

    def _observe(self, state: SlotState, config: SlotConfig, token: torch.Tensor, share: torch.Tensor) -> SlotState:
        """The states after their tokens; loops aside."""
        pool = self._tables.pool
        flags = self._tables.flags[config.flags, token.clamp(0, self._vocab_size)]
        newline, trigger = (flags & NEWLINE_FLAG).long(), (flags & TRIGGER_FLAG) > 0
        thinking, waiting = state.phase == THINK, state.phase == WAIT
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
        phase = torch.where(complete, after, torch.where(phase == ANSWER, DONE, phase))
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
        )

    def _repetitions(
        self,
        observed: SlotState,
        before: SlotState,
        config: SlotConfig,
        slots: torch.Tensor,
        token: torch.Tensor,
        position: torch.Tensor,
    ) -> SlotState:
        """What `LoopDetector` does with a thinking token. `observed` is the state after it."""
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
        newline = torch.where(state.at_newline > 0, 0, config.newline_len)
        forced_at = torch.where(cut, config.cut - newline, state.forced_at)
        forced_end = torch.where(cut, config.cut + config.cut_len, state.forced_end)

        text_at, text_len, has_texts = self._wait_text(config, state.swallowed)
        waits_left, too_short = state.swallowed < config.waits, state.count < config.min_tokens
        # A wait with no token left to think after it would buy nothing.
        to_wait = has_texts & (waits_left | too_short) & (room > text_len)
        on_stop = torch.where(too_short, BAN, TO_END)
        on_stop = torch.where(waits_left & ~has_texts, SUPPRESS, on_stop)
        on_stop = torch.where(to_wait, TO_WAIT, on_stop)
        on_stop = torch.where(state.cooling > 0, BAN, on_stop)
        mode = torch.where(phase < ANSWER, FORCE, torch.where(phase == ANSWER, BEGIN_ANSWER, FREE))
        mode = torch.where(phase == THINK, on_stop, mode)
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

    def _ids(self, at: torch.Tensor, count: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, most] ids of the pool from `at`, and which of them count; the others are 0."""
        place = torch.arange(most, device=at.device)
        counts = place < count.unsqueeze(1)
        return self._tables.pool[torch.where(counts, at.unsqueeze(1) + place, 0)].where(counts, 0), counts

    def _exclude(
        self,
        logits: torch.Tensor,
        here: np.ndarray,
        config: SlotConfig,
        state: SlotState,
        mode: torch.Tensor,
        target: torch.Tensor,
        slots: torch.Tensor,
        position: torch.Tensor,
    ) -> None:
        """Take banned texts out of the rows that think."""
        column = self._tables.column
        singles, longer = int(column("n_bans")[here].max()), int(column("n_sequences")[here].max())
        if not singles and not longer:
            return
        thinks = ((mode >= BAN) & (mode <= SUPPRESS)).unsqueeze(1)
        if longer:
            places = torch.arange(longer, device=logits.device)
            counts = places < config.n_sequences.unsqueeze(1)
            entry = torch.where(counts, (config.base + config.sequences).unsqueeze(1) + 2 * places, 0)
            pool = self._tables.pool
            length = torch.where(counts, pool[entry + 1], 2)
            last = torch.where(counts, config.base.unsqueeze(1) + pool[entry] + length - 1, 0)
            back = torch.arange(int(column("longest_sequence")[here].max()) - 1, device=logits.device)
            tail = self._history[slots.unsqueeze(1), (position.unsqueeze(1) - back).clamp_(min=0)]
            beyond = back >= (length - 1).unsqueeze(2)
            begun = (pool[(last.unsqueeze(2) - 1 - back).clamp_(min=0)] == tail.unsqueeze(1)) | beyond
            begun = begun.all(2) & counts & (length - 1 <= state.count.unsqueeze(1))
            # The first id of a wait text may come in its place although it would complete a banned text.
            ids = pool[last]
            begun &= thinks & (ids != target.unsqueeze(1)) & (places < config.n_clear_sequences.unsqueeze(1))
            _make_impossible(logits, ids.where(begun, 0), begun)
        if singles:
            ids, counts = self._ids(config.base + config.bans, config.n_bans, singles)
            _make_impossible(logits, ids, counts & thinks)

    def _apply(
        self,
        logits: torch.Tensor,
        here: np.ndarray,
        config: SlotConfig,
        mode: torch.Tensor,
        target: torch.Tensor,
        temperature: torch.Tensor,
    ) -> torch.Tensor:
        """Move, ban and force; give the share of every row ([rows], meaningless where none is wanted)."""
        column = self._tables.column
        to_end, answers = mode == TO_END, mode == BEGIN_ANSWER
        stops = (mode == BAN) | (mode == TO_WAIT) | (mode == SUPPRESS)
        count = torch.where(stops, config.n_triggers, torch.where(to_end, config.n_triggers - 1, 0))
        count = torch.where(answers, config.n_answer_bans, count)
        at = config.base + torch.where(answers, config.answer_bans, config.triggers + to_end)
        ids, counts = self._ids(at, count, int(column("n_triggers")[here].max()))

        target = target.unsqueeze(1)
        wanted, unwanted = logits.gather(1, target), logits.gather(1, ids).masked_fill_(~counts, -torch.inf)
        moved = pooled(torch.cat([wanted, unwanted], 1), temperature)
        triggers = pooled(unwanted, temperature)
        share = share_of(triggers, moved, wanted.squeeze(1), temperature)
        suppresses = (column("waits")[here] > 0) & (column("n_texts")[here] == 0)
        everything = pooled(logits, temperature) if suppresses.any() else None
        _make_impossible(logits, ids, counts)
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
        rows = Arrivals.of(slots, requests, self._history, self._to_device)
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


def _make_impossible(logits: torch.Tensor, ids: torch.Tensor, counts: torch.Tensor) -> None:
    """Ban [rows, k] ids where they count. Ids may repeat: of two writes the lower one stays, whatever the order."""
    value = torch.where(counts, -torch.inf, torch.inf).to(logits.dtype)
    logits.scatter_reduce_(1, ids, value, "amin")


def _drawn(hashed: torch.Tensor) -> torch.Tensor:
    """The number in [0, 1) that a share is compared with, as `BudgetForcer` draws it."""
    mixed = (hashed ^ _shifted(hashed, 33)) * _MIX
    return _shifted(mixed ^ _shifted(mixed, 33), 11).double() * 2.0**-53


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Right shift of 64 bits without a sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
