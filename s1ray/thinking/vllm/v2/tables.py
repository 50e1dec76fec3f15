"""Forcing plans as flat tensors, for the device forcer.

All ids of a plan (delimiters, texts, triggers, bans) lie in one block of a long tensor, the *pool*; what a request
needs of it are offsets. Requests that write the same ids share a block, whatever their budgets, so the pool stays small
and no text is padded to the length of another. What an id means (does it end a line, does it end the thinking) is a
table over the vocabulary, shared by all requests that agree on it.

Everything here happens on the host when requests come and go; the device only receives finished tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from s1ray.thinking.plan import ForcingPlan

NEWLINE_FLAG = 1
"""The id's text ends in a line break."""

TRIGGER_FLAG = 2
"""Sampled while thinking, the id means that the model wants to stop."""

END_FLAG = 4
"""A trigger that begins no tool call: it ends an answer, and is none."""

BLANK_FLAG = 8
"""The id's text is white space."""

UNLIMITED = 1 << 40
"""Stands for no limit."""

SPARE_IDS = 4096
"""Ids that no request uses any more and that are kept all the same, so that blocks need not be moved often."""

ToDevice = Callable[[np.ndarray], torch.Tensor]


class SlotConfig(NamedTuple):
    """What one slot's request asks for: ints on the host, one [rows] tensor each on the device.

    Offsets count from `base`, where the plan's block begins in the pool. Tables hold (offset, length) pairs.
    """

    active: Any
    """1: the slot's request is forced."""
    prefill_len: Any
    """Tokens to be computed before the request's next token is sampled."""
    length: Any
    """Tokens that prompt and response may have together."""
    base: Any
    flags: Any
    """Row of the table of token flags."""
    end: Any
    end_len: Any
    cut: Any
    """The lone line break lies right before it."""
    answer: Any
    """Behind the delimiter in the cut: the answer's forced beginning."""
    eos: Any
    texts: Any
    """Table of wait texts."""
    n_texts: Any
    triggers: Any
    """`end[0]` comes first."""
    n_triggers: Any
    answer_ends: Any
    """Triggers that cannot begin an answer."""
    n_answer_ends: Any
    bans: Any
    """Single ids that are banned while thinking."""
    n_bans: Any
    answer_bans: Any
    """Single ids that are banned in the answer; behind them lie the ids whose text is white space."""
    n_answer_bans: Any
    n_blanks: Any
    sequences: Any
    """Longer texts that are banned while thinking, `reach + 2` places each: the last id, those before it from last to
    first, and -1 up to the next text."""
    n_sequences: Any
    answer_sequences: Any
    """Those that are banned in the answer."""
    n_answer_sequences: Any
    reach: Any
    """Ids that a longer text has before its last one, at most."""
    min_tokens: Any
    waits: Any
    grace: Any
    copies: Any
    """Copies of a passage that make a loop; 0: never."""
    answer_max: Any
    vocab_size: Any


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one step: [rows] tensors."""

    here: np.ndarray
    """Slots of the forced requests among them, on the host."""
    config: SlotConfig
    slots: torch.Tensor
    token: torch.Tensor
    """Fed to the model."""
    position: torch.Tensor
    """Of that token in the sequence."""


@dataclass(eq=False)
class _Block:
    """One plan's ids in the pool."""

    ids: np.ndarray
    layout: dict[str, int]
    base: int
    users: int = 0


def _lay_out(plan: ForcingPlan, triggers: frozenset[int]) -> tuple[list[int], dict[str, int]]:
    """A plan's ids in one list, and where what begins in it."""
    ids: list[int] = []
    layout: dict[str, int] = {}

    def put(name: str, values: Sequence[int]) -> None:
        layout[name] = len(ids)
        ids.extend(values)

    def put_table(name: str, texts: Sequence[Sequence[int]]) -> None:
        table = []
        for text in texts:
            table += [len(ids), len(text)]
            ids.extend(text)
        put(name, table)

    def put_sequences(name: str, texts: Sequence[Sequence[int]]) -> None:
        put(name, [i for text in texts for i in (*reversed(text), *[-1] * (reach + 2 - len(text)))])

    put("start", plan.start)
    put("end", plan.end)
    put("newline", plan.newline)
    put("cut", plan.cut)
    put("eos", () if plan.eos is None else (plan.eos,))
    put_table("texts", plan.wait_texts)
    put("triggers", [plan.end[0], *sorted(triggers - {plan.end[0]})])
    answer_ends = sorted(triggers.difference(plan.tool_calls))
    put("answer_ends", answer_ends)
    banned = (*plan.ban, *plan.end_spellings)
    bans, answer_bans = [[text[0] for text in texts if len(text) == 1] for texts in (banned, plan.answer_ban)]
    put("bans", bans)
    put("answer_bans", [*answer_bans, *plan.blank_ids])
    # A trigger is taken care of wherever the thinking goes on: it needs no ban, and while it moves must not have one.
    sequences = [text for text in banned if len(text) > 1 and text[-1] not in triggers]
    answer_sequences = [text for text in plan.answer_ban if len(text) > 1]
    reach = max((len(text) - 1 for text in (*sequences, *answer_sequences)), default=0)
    put_sequences("sequences", sequences)
    put_sequences("answer_sequences", answer_sequences)
    layout |= {
        "end_len": len(plan.end),
        "answer": layout["cut"] + plan.cut_answer,
        "n_texts": len(plan.wait_texts),
        "n_triggers": len(triggers),
        "n_answer_ends": len(answer_ends),
        "n_bans": len(bans),
        "n_answer_bans": len(answer_bans),
        "n_blanks": len(plan.blank_ids),
        "n_sequences": len(sequences),
        "n_answer_sequences": len(answer_sequences),
        "reach": reach,
    }
    del layout["start"], layout["newline"]
    return ids, layout


class PlanTables:
    """The plans of all slots.

    Args:
        slots: number of slots.
        vocab_size: of the model.
        device: where the tensors lie.
        to_device: copies an array there without waiting for the device.

    Attributes:
        host: [slots, fields of SlotConfig], int64, on the host; always current.
        config: the same on the device, as of the last `flush`.
        pool: ids of all plans.
        flags: [rows, vocab_size + 1], uint8; the last column is for ids beyond the vocabulary.
    """

    def __init__(self, slots: int, vocab_size: int, device: torch.device, to_device: ToDevice) -> None:
        self._to_device = to_device
        self._vocab_size = vocab_size
        self.host = np.zeros((slots, len(SlotConfig._fields)), dtype=np.int64)
        self.config = torch.zeros(self.host.shape, dtype=torch.int64, device=device)
        self.pool = torch.zeros(1, dtype=torch.int64, device=device)
        self.flags = torch.zeros((1, vocab_size + 1), dtype=torch.uint8, device=device)
        self._ids = np.zeros(0, dtype=np.int64)
        self._blocks: dict[object, _Block] = {}
        self._rows: dict[object, int] = {}
        self._row_users = [0]
        self._used: dict[int, tuple[_Block, int]] = {}
        """Block and row of flags, by slot."""
        self._config_changed = self._pool_changed = False
        self._new_rows: dict[int, np.ndarray] = {}

    def column(self, name: str) -> np.ndarray:
        """[slots], on the host: one field of every slot."""
        return self.host[:, SlotConfig._fields.index(name)]

    def ids(self, at: torch.Tensor, count: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, most] ids of the pool from `at`, and which of them count; the others are 0."""
        place = torch.arange(most, device=at.device)
        counts = place < count.unsqueeze(1)
        return self.pool[torch.where(counts, at.unsqueeze(1) + place, 0)].where(counts, 0), counts

    def clear(self, slot: int) -> None:
        """Make the slot one of a request that is not forced."""
        self.host[slot] = 0
        self._config_changed = True
        used = self._used.pop(slot, None)
        if used is not None:
            block, row = used
            block.users -= 1
            self._row_users[row] -= 1

    def assign(self, slot: int, plan: ForcingPlan, triggers: frozenset[int], prefill_len: int, length: int) -> None:
        """Give a cleared slot to a request of `length` tokens at most, `prefill_len` of which are known."""
        block, row = self._block(plan, triggers), self._row(plan, triggers)
        block.users += 1
        self._row_users[row] += 1
        self._used[slot] = block, row
        self.host[slot] = SlotConfig(
            active=1,
            prefill_len=prefill_len,
            length=length,
            base=block.base,
            flags=row,
            min_tokens=plan.min_tokens,
            waits=plan.waits,
            grace=plan.grace,
            copies=plan.loops,
            answer_max=UNLIMITED if plan.answer_max_tokens is None else plan.answer_max_tokens,
            vocab_size=plan.vocab_size,
            **block.layout,
        )
        self._config_changed = True

    def flush(self) -> None:
        """Bring what has changed to the device."""
        if len(self._ids) > SPARE_IDS + 2 * sum(len(block.ids) for block in self._blocks.values() if block.users):
            self._compact()
        if self._pool_changed:
            # One more: an offset just behind the last text is read, though never used.
            self.pool = self._to_device(np.append(self._ids, 0))
        if self._config_changed:
            self.config.copy_(self._to_device(self.host))
        missing = len(self._row_users) - self.flags.shape[0]
        if missing > 0:
            self.flags = torch.cat([self.flags, self.flags.new_zeros((missing, self.flags.shape[1]))])
        for row, flags in self._new_rows.items():
            self.flags[row] = self._to_device(flags)
        self._new_rows.clear()
        self._config_changed = self._pool_changed = False

    def _block(self, plan: ForcingPlan, triggers: frozenset[int]) -> _Block:
        key = (
            *(plan.start, plan.end, plan.newline, plan.cut, plan.cut_answer, plan.wait_texts, plan.ban),
            *(plan.end_spellings, plan.answer_ban, plan.blank_ids, plan.eos, plan.tool_calls, triggers),
        )
        block = self._blocks.get(key)
        if block is None:
            ids, layout = _lay_out(plan, triggers)
            block = self._blocks[key] = _Block(np.array(ids, dtype=np.int64), layout, len(self._ids))
            self._ids = np.append(self._ids, block.ids)
            self._pool_changed = True
        return block

    def _compact(self) -> None:
        self._blocks = {key: block for key, block in self._blocks.items() if block.users}
        length = 0
        for block in self._blocks.values():
            block.base = length
            length += len(block.ids)
        self._ids = np.concatenate([self._ids[:0], *(block.ids for block in self._blocks.values())])
        bases = self.column("base")
        for slot, (block, _) in self._used.items():
            bases[slot] = block.base
        self._pool_changed = self._config_changed = True

    def _row(self, plan: ForcingPlan, triggers: frozenset[int]) -> int:
        key = (plan.newline_ids, plan.blank_ids, plan.tool_calls, triggers)
        row = self._rows.get(key)
        if row is None:
            row = next((r for r, users in enumerate(self._row_users) if not users), len(self._row_users))
            if row == len(self._row_users):
                self._row_users.append(0)
            self._rows = {k: r for k, r in self._rows.items() if r != row} | {key: row}
            flags = np.zeros(self._vocab_size + 1, dtype=np.uint8)
            flags[list(plan.newline_ids)] |= NEWLINE_FLAG
            flags[list(plan.blank_ids)] |= BLANK_FLAG
            flags[list(triggers)] |= TRIGGER_FLAG
            flags[list(triggers.difference(plan.tool_calls))] |= END_FLAG
            self._new_rows[row] = flags
        return row
