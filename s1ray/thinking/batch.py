"""The rows of a batch that are being forced, and the edits of its logits; for whatever engine has the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from s1ray.thinking.actions import RowAction
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.logit_edits import LogitEdits, RowEdit, Shares, ToDevice


@dataclass(eq=False, kw_only=True)
class ForcedRow:
    """One response in the batch."""

    forcer: BudgetForcer
    temperature: float
    """Of its sampling; 0: greedy."""
    shares: Shares | None = None
    """Shares of the last step in which the row was watched, and the row's place in them."""
    place: int = 0

    def observe(self, token_id: int, *, from_last_step: bool = True) -> None:
        """Take the token that came; its share is known only where it was sampled in the last step that was edited."""
        share, action = None, self.forcer.action
        if action is not None and action.wants_share and from_last_step and self.shares is not None:
            # Asking waits for the device, so only where the answer matters.
            share = self.shares[self.place] if action.move_to in (None, token_id) else 0.0
        self.forcer.observe(token_id, share)


class BatchEditor:
    """Edits the logits of a batch, step by step.

    Args:
        to_device: makes a tensor of a dtype from a list, where the logits are.
    """

    def __init__(self, to_device: ToDevice) -> None:
        self._to_device = to_device
        self._edits: LogitEdits | None = None
        self._edits_for: list[tuple[int, RowAction | None]] = []

    def forget(self) -> None:
        """The rows have changed: make the next step's edits anew."""
        self._edits = None

    def edit(self, logits: torch.Tensor, rows: Mapping[int, ForcedRow]) -> None:
        """Apply each forcer's action to its row of the logits ([rows, vocabulary], float32), in place."""
        actions = [(index, row.forcer.action) for index, row in rows.items()]
        # Most steps change no row's action: then the index tensors are still right.
        if self._edits is None or actions != self._edits_for:
            edits = [
                RowEdit(index, row.forcer.action, row.temperature, row.forcer.plan.vocab_size)
                for index, row in rows.items()
            ]
            self._edits, self._edits_for = LogitEdits(edits, logits.shape[1], self._to_device), actions
        shares = self._edits.apply(logits)
        for place, index in enumerate(self._edits.watched):
            rows[index].shares, rows[index].place = shares, place
