"""What the next token must not be, in tensors: `Bans` of the thinking and of the answer for all rows of a step."""

from __future__ import annotations

import torch

from s1ray.thinking.vllm.v2.state import BAN, BEGIN_ANSWER, FIRST_WORD, TO_WAIT, SlotState
from s1ray.thinking.vllm.v2.tables import PlanTables, Rows


def exclude(
    logits: torch.Tensor,
    tables: PlanTables,
    history: torch.Tensor,
    rows: Rows,
    state: SlotState,
    mode: torch.Tensor,
) -> None:
    """Take banned texts out of the rows that think or answer, and white space where an answer needs a word.

    Args:
        logits: [rows, vocabulary], edited in place.
        tables: the plans.
        history: [slots, longest sequence] ids.
        rows: of the step.
        state: of the rows, after the fed tokens.
        mode: [rows] what happens to the next tokens.
    """
    column, here, config = tables.column, rows.here, rows.config
    n_answer = column("n_answer_bans")[here] + column("n_blanks")[here]
    singles = int(max(column("n_bans")[here].max(), n_answer.max()))
    longer = int(max(column("n_sequences")[here].max(), column("n_answer_sequences")[here].max()))
    if not singles and not longer:
        return
    thinks, answers = mode >= BAN, mode >= BEGIN_ANSWER
    if longer:
        reach = int(column("reach")[here].max())
        ids, counts = _completing(tables, history, rows, state, mode, thinks, answers, longer, reach)
        make_impossible(logits, ids, counts)
    if singles:
        count = torch.where(answers, config.n_answer_bans, config.n_bans.where(thinks, 0))
        count = count + config.n_blanks.where(mode == FIRST_WORD, 0)
        at = config.base + torch.where(answers, config.answer_bans, config.bans)
        make_impossible(logits, *tables.ids(at, count, singles))


def _completing(
    tables: PlanTables,
    history: torch.Tensor,
    rows: Rows,
    state: SlotState,
    mode: torch.Tensor,
    thinks: torch.Tensor,
    answers: torch.Tensor,
    most: int,
    reach: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, most] last ids of longer texts, and which of them would complete one; the others are 0."""
    config, pool = rows.config, tables.pool
    place, back = torch.arange(most, device=pool.device), torch.arange(reach, device=pool.device)
    count = torch.where(answers, config.n_answer_sequences, config.n_sequences.where(thinks, 0))
    at = config.base + torch.where(answers, config.answer_sequences, config.sequences)
    counts = place < count.unsqueeze(1)
    entry = torch.where(counts, at.unsqueeze(1) + place * (config.reach + 2).unsqueeze(1), 0)
    ids = pool[entry]
    # Behind each text's own ids lies -1, which every id fits.
    before = pool[entry.unsqueeze(2) + 1 + torch.minimum(back, config.reach.unsqueeze(1)).unsqueeze(1)]
    written = torch.where(answers, state.own, state.count)
    tail = history[rows.slots.unsqueeze(1), (rows.position.unsqueeze(1) - back).clamp_(min=0)]
    tail = tail.where(back < written.unsqueeze(1), -2)
    begun = ((before == tail.unsqueeze(1)) | (before < 0)).all(2) & counts
    # The first id of a wait text may come in its place although it would complete a banned text.
    begun &= ids != state.target.where(mode == TO_WAIT, -1).unsqueeze(1)
    return ids.where(begun, 0), begun


def make_impossible(logits: torch.Tensor, ids: torch.Tensor, counts: torch.Tensor) -> None:
    """Ban [rows, k] ids where they count. Ids may repeat: of two writes the lower one stays, whatever the order."""
    value = torch.where(counts, -torch.inf, torch.inf).to(logits.dtype)
    logits.scatter_reduce_(1, ids, value, "amin")
