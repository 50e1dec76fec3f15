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
    base: Any
    flags: Any
    """Row of the table of token flags."""
    end: Any
    end_len: Any
    cut: Any
    """The lone line break lies right before it."""
    cut_len: Any
    newline_len: Any
    texts: Any
    """Table of wait texts."""
    n_texts: Any
    triggers: Any
    """`end[0]` comes first."""
    n_triggers: Any
    answer_bans: Any
    """Triggers that cannot begin an answer."""
    n_answer_bans: Any
    bans: Any
    """Single ids."""
    n_bans: Any
    sequences: Any
    """Table of longer banned texts; those whose last id is a trigger come last."""
    n_sequences: Any
    n_clear_sequences: Any
    longest_sequence: Any
    min_tokens: Any
    waits: Any
    grace: Any
    copies: Any
    """Copies of a passage that make a loop; 0: never."""
    vocab_size: Any


@dataclass(eq=False)
class _Block:
    """One plan's ids in the pool."""

    ids: list[int]
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

    put("start", plan.start)
    put("end", plan.end)
    put("newline", plan.newline)
    put("cut", plan.cut)
    put_table("texts", plan.wait_texts)
    put("triggers", [plan.end[0], *sorted(triggers - {plan.end[0]})])
    no_empty_answer = sorted(triggers.difference(plan.tool_calls))
    put("answer_bans", no_empty_answer)
    single = [s[0] for s in plan.ban if len(s) == 1]
    longer = sorted((s for s in plan.ban if len(s) > 1), key=lambda sequence: sequence[-1] in triggers)
    put("bans", single)
    put_table("sequences", longer)
    layout |= {
        "end_len": len(plan.end),
        "cut_len": len(plan.cut),
        "newline_len": len(plan.newline),
        "n_texts": len(plan.wait_texts),
        "n_triggers": len(triggers),
        "n_answer_bans": len(no_empty_answer),
        "n_bans": len(single),
        "n_sequences": len(longer),
        "n_clear_sequences": sum(sequence[-1] not in triggers for sequence in longer),
        "longest_sequence": max((len(sequence) for sequence in longer), default=0),
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
        self._ids: list[int] = []
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

    def clear(self, slot: int) -> None:
        """Make the slot one of a request that is not forced."""
        self.host[slot] = 0
        self._config_changed = True
        used = self._used.pop(slot, None)
        if used is not None:
            block, row = used
            block.users -= 1
            self._row_users[row] -= 1

    def assign(self, slot: int, plan: ForcingPlan, triggers: frozenset[int], prefill_len: int) -> None:
        """Give a cleared slot to a request."""
        block, row = self._block(plan, triggers), self._row(plan, triggers)
        block.users += 1
        self._row_users[row] += 1
        self._used[slot] = block, row
        self.host[slot] = SlotConfig(
            active=1,
            prefill_len=prefill_len,
            base=block.base,
            flags=row,
            min_tokens=plan.min_tokens,
            waits=plan.waits,
            grace=plan.grace,
            copies=plan.loops,
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
            self.pool = self._to_device(np.array([*self._ids, 0], dtype=np.int64))
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
        key = (plan.start, plan.end, plan.newline, plan.cut, plan.wait_texts, plan.ban, plan.tool_calls, triggers)
        block = self._blocks.get(key)
        if block is None:
            ids, layout = _lay_out(plan, triggers)
            block = self._blocks[key] = _Block(ids, layout, len(self._ids))
            self._ids += ids
            self._pool_changed = True
        return block

    def _compact(self) -> None:
        self._blocks = {key: block for key, block in self._blocks.items() if block.users}
        self._ids = []
        for block in self._blocks.values():
            block.base = len(self._ids)
            self._ids += block.ids
        bases = self.column("base")
        for slot, (block, _) in self._used.items():
            bases[slot] = block.base
        self._pool_changed = self._config_changed = True

    def _row(self, plan: ForcingPlan, triggers: frozenset[int]) -> int:
        key = (plan.newline_ids, triggers)
        row = self._rows.get(key)
        if row is None:
            row = next((r for r, users in enumerate(self._row_users) if not users), len(self._row_users))
            if row == len(self._row_users):
                self._row_users.append(0)
            self._rows = {k: r for k, r in self._rows.items() if r != row} | {key: row}
            flags = np.zeros(self._vocab_size + 1, dtype=np.uint8)
            flags[list(plan.newline_ids)] |= NEWLINE_FLAG
            flags[list(triggers)] |= TRIGGER_FLAG
            self._new_rows[row] = flags
        return row
