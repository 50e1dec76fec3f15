"""Row actions on a batch of logits, as few sync-free tensor operations.

A `RowAction` says what happens to one request's next token; a step has one for every request in the batch. They become
index tensors once (`LogitEdits`) and are applied to every step until an action changes.

Moving probability: at temperature T the target's logit becomes T * logsumexp(l / T) over target and triggers, greedy
(T = 0) their maximum; then the triggers are banned. Sampling from the result is the same as sampling from the original
and replacing a trigger by the target.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from s1ray.thinking.actions import RowAction

FORCED = 1e9
"""Logit of a forced id. Finite, so that it survives penalties and temperature; the others' probability underflows."""


@dataclass(frozen=True, slots=True)
class RowEdit:
    """What happens to one row of the logits."""

    index: int
    action: RowAction | None
    temperature: float
    """Of the request's sampling; 0: greedy."""
    vocab_size: int
    """Ids that the tokenizer knows; columns beyond are banned."""


class Shares:
    """For every watched row of one step, what `BudgetForcer.observe` takes as `share`.

    Most steps' shares are never asked for, so they are computed when one is; asking waits for the device.
    """

    def __init__(self, compute: Callable[[], torch.Tensor]) -> None:
        self._compute = compute
        self._values: list[float] | None = None

    def __getitem__(self, place: int) -> float:
        if self._values is None:
            self._values = self._compute().tolist()
        share = self._values[place]
        return 0.0 if share != share else share  # NaN: neither triggers nor anything else was possible


ToDevice = Callable[[Sequence[float], torch.dtype], torch.Tensor]


class _Places:
    """(row, id) pairs as they are collected."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ids: list[int] = []

    def add(self, row: int, ids: Sequence[int]) -> None:
        self.rows += [row] * len(ids)
        self.ids += ids


class _Pool:
    """For several rows, the pooled logit of a few columns each.

    Its indices are given to `place` once they are on the device, together with those of everything else.
    """

    def __init__(self, edits: Sequence[RowEdit], columns: list[list[int]]) -> None:
        self.most = max(map(len, columns))
        self.greedy = all(edit.temperature == 0 for edit in edits)
        self.row_list = [edit.index for edit in edits]
        self.leading = self.row_list == list(range(len(edits)))
        """The rows are the first ones of the batch, in order."""
        # Shorter rows repeat their first column; `padding` keeps it from counting twice.
        self.column_list = [i for ids in columns for i in (*ids, *[ids[0]] * (self.most - len(ids)))]
        self.ragged = min(map(len, columns)) < self.most
        self.padding_list = [int(i >= len(ids)) for ids in columns for i in range(self.most)] if self.ragged else []
        self.temperature_list = [edit.temperature for edit in edits]

    def place(
        self, rows: torch.Tensor, columns: torch.Tensor, padding: torch.Tensor, temperature: torch.Tensor
    ) -> None:
        """Take the lists of the same names as tensors."""
        self.rows, self.temperature = rows, temperature
        self.columns = columns.view(-1, self.most)
        self.padding = padding.view(-1, self.most).bool() if self.ragged else padding
        self._places = (rows.unsqueeze(1), self.columns)

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """`pooled` at the rows' temperatures; for greedy rows alone it is one operation instead of eight."""
        return values.amax(1) if self.greedy else pooled(values, self.temperature)

    def gather(self, logits: torch.Tensor) -> torch.Tensor:
        """[rows, columns]; -inf where a row has fewer columns."""
        values = logits[self._places]
        return values.masked_fill_(self.padding, -torch.inf) if self.ragged else values


def _together(lists: Sequence[Sequence[float]], dtype: torch.dtype, to_device: ToDevice) -> list[torch.Tensor]:
    """A tensor for each list, in one copy to the device."""
    flat = to_device(list(itertools.chain.from_iterable(lists)), dtype)
    return list(flat.split([len(values) for values in lists]))


class LogitEdits:
    """One step's edits: at most one scatter each for bans, moved probability and forced ids.

    Within a scatter no (row, id) pair occurs twice, so the result does not depend on the order of writes.

    Args:
        edits: one for each row to be edited.
        width: columns of the logits.
        to_device: makes a tensor of a dtype from a list, where the logits are.

    Attributes:
        watched: row indices in the order of the shares that `apply` gives.
    """

    def __init__(self, edits: Sequence[RowEdit], width: int, to_device: ToDevice) -> None:
        force, ban, exclude = _Places(), _Places(), _Places()
        moves: list[tuple[RowEdit, RowAction, int]] = []
        suppressions: list[tuple[RowEdit, RowAction]] = []
        beyond: dict[int, list[int]] = {}
        for edit in edits:
            action = edit.action
            if edit.vocab_size < width:
                beyond.setdefault(edit.vocab_size, []).append(edit.index)
            if action is None:
                continue
            if action.force is not None:
                force.add(edit.index, (action.force,))
            ban.add(edit.index, action.ban)
            exclude.add(edit.index, action.exclude)
            if action.move_to is not None:
                moves.append((edit, action, action.move_to))
            elif action.wants_share:
                suppressions.append((edit, action))

        self._moves: _Pool | None = None
        self._suppressions: _Pool | None = None
        self.watched: list[int] = []
        watched: list[int] = []
        if moves:
            # Column 0 is the target, the triggers follow.
            self._moves = _Pool([edit for edit, _, _ in moves], [[target, *action.ban] for _, action, target in moves])
            watched = [place for place, (_, action, _) in enumerate(moves) if action.wants_share]
            self.watched += [moves[place][0].index for place in watched]
        if suppressions:
            self._suppressions = _Pool(
                [edit for edit, _ in suppressions], [list(action.ban) for _, action in suppressions]
            )
            self.watched += [edit.index for edit, _ in suppressions]
        self._place(force, ban, exclude, watched, beyond, to_device)

    def _place(
        self,
        force: _Places,
        ban: _Places,
        exclude: _Places,
        watched: list[int],
        beyond: dict[int, list[int]],
        to_device: ToDevice,
    ) -> None:
        """Bring all indices to the device, in one copy, and all numbers in another."""
        pools = [pool for pool in (self._moves, self._suppressions) if pool is not None]
        lists = [force.rows, force.ids, ban.rows, ban.ids, exclude.rows, exclude.ids, watched]
        lists += [values for pool in pools for values in (pool.row_list, pool.column_list, pool.padding_list)]
        tensors = _together([*lists, *beyond.values()], torch.int64, to_device)
        # Constants are made here, too, because making one on a GPU takes a copy to it.
        numbers = [[-torch.inf], [FORCED], *(pool.temperature_list for pool in pools)]
        impossible, certain, *temperatures = _together(numbers, torch.float32, to_device)
        self._impossible, self._certain = impossible[0], certain[0]
        self._force, self._ban, self._exclude = (
            tuple(tensors[at : at + 2]) if places.ids else () for at, places in ((0, force), (2, ban), (4, exclude))
        )
        self._watched_moves = tensors[6] if watched else None
        for number, pool in enumerate(pools):
            rows, columns, padding = tensors[7 + 3 * number : 10 + 3 * number]
            pool.place(rows, columns, padding, temperatures[number])
        self._beyond = list(zip(beyond, tensors[len(lists) :], strict=True))

    def apply(self, logits: torch.Tensor) -> Shares | None:
        """Edit `logits` ([requests, vocabulary], float32) in place; give the shares of the watched rows."""
        shares: list[Callable[[], torch.Tensor]] = []
        targets: torch.Tensor | None = None
        for size, rows in self._beyond:
            logits[:, size:].index_fill_(0, rows, -torch.inf)
        if self._exclude:
            logits.index_put_(self._exclude, self._impossible)
        if self._moves is not None:
            values = self._moves.gather(logits)
            targets = self._moves.pooled(values)
            if self._watched_moves is not None:
                shares.append(partial(_moved_shares, values, targets, self._moves.temperature, self._watched_moves))
        if self._suppressions is not None:
            triggers = self._suppressions.pooled(self._suppressions.gather(logits))
        if self._ban:
            logits.index_put_(self._ban, self._impossible)
        if self._suppressions is not None:
            # Not later: it would have to keep the whole rows, and every one of them is asked for.
            suppressed = _suppressed_shares(self._suppressions, triggers, logits)
            shares.append(lambda: suppressed)
        if self._moves is not None and targets is not None:
            logits.index_put_((self._moves.rows, self._moves.columns[:, 0]), targets)
        if self._force:
            logits.index_put_(self._force, self._certain)
        return Shares(lambda: torch.cat([compute() for compute in shares])) if self.watched else None


def _moved_shares(
    values: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor, watched: torch.Tensor
) -> torch.Tensor:
    """Shares of the rows `watched`, from the logits of target and triggers before the move ([rows, columns])."""
    return share_of(pooled(values[:, 1:], temperature), targets, values[:, 0], temperature).index_select(0, watched)


def _suppressed_shares(pool: _Pool, triggers: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Shares of a pool's rows, from the pooled triggers and the logits in which these are banned by now."""
    # Whole rows are large: they are copied only where the batch has others among them.
    others = logits[: len(pool.rows)] if pool.leading else logits.index_select(0, pool.rows)
    best = others.amax(1)
    if pool.greedy:
        return (triggers > best).to(triggers.dtype)
    everything = pool.pooled(torch.stack([triggers, pool.pooled(others)], 1))
    return share_of(triggers, everything, best, pool.temperature)


def pooled(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """The logit, per row, of an id that would have the probability of all of the row's columns together."""
    positive = torch.where(temperature > 0, temperature, 1.0)
    together = positive * torch.logsumexp(logits / positive.unsqueeze(1), 1)
    return torch.where(temperature > 0, together, logits.amax(1))


def share_of(
    triggers: torch.Tensor, everything: torch.Tensor, best_other: torch.Tensor, temperature: torch.Tensor
) -> torch.Tensor:
    """How much of the probability behind `everything` the triggers have; greedy: whether they beat the best other."""
    positive = torch.where(temperature > 0, temperature, 1.0)
    drawn = torch.exp((triggers - everything) / positive)
    return torch.where(temperature > 0, drawn, (triggers > best_other).to(drawn.dtype))
